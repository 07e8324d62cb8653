internal import Foundation
internal import NibbleTestSupport

/// A text file of the repository, by lines.
struct SourceFile {
    /// From the repository's root.
    let path: String
    let lines: [Substring]

    /// The text files below a folder of the repository, by name; binary files are left out.
    static func all(below folder: String) -> [SourceFile] {
        let root = Goldens.repository.appending(path: folder).standardizedFileURL
        let keys: [URLResourceKey] = [.isRegularFileKey, .isDirectoryKey]
        guard let files = FileManager.default.enumerator(at: root, includingPropertiesForKeys: keys) else { return [] }
        var found: [SourceFile] = []
        for case let file as URL in files {
            if isBuildProduct(file.lastPathComponent) {
                files.skipDescendants()
            } else if let file = SourceFile(file) {
                found.append(file)
            }
        }
        return found.sorted { $0.path < $1.path }
    }

    /// Folders that tools make: they are never committed.
    private static func isBuildProduct(_ name: String) -> Bool {
        name == ".git" || name == ".swiftpm" || name.hasPrefix(".build")
    }

    private init?(_ file: URL) {
        guard let data = try? Data(contentsOf: file), let text = String(data: data, encoding: .utf8) else { return nil }
        let root = Goldens.repository.standardizedFileURL.path
        path = String(file.standardizedFileURL.path.dropFirst(root.count + 1))
        lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    }

    /// The folder below `Sources`: the target.
    var target: String { String(path.split(separator: "/").dropFirst().first ?? "") }

    func hasExtension(_ extensions: String...) -> Bool { extensions.contains { path.hasSuffix("." + $0) } }

    /// The lines that match, with the first group's text, as `path:line`.
    func matches(of pattern: Regex<(Substring, Substring)>) -> [(place: String, text: String)] {
        lines.enumerated().compactMap { index, line in
            line.firstMatch(of: pattern).map { ("\(path):\(index + 1)", String($0.1)) }
        }
    }
}
