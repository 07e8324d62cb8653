internal import Foundation

/// A text file with a prompt on each line; empty lines and those that begin with # are left out.
enum PromptFile {
    /// Far above any list of captions.
    private static let maximumBytes = 64 << 20

    /// Reads a file.
    ///
    /// - Parameter path: the file.
    /// - Returns: at least one prompt.
    /// - Throws: `InputError`.
    static func read(_ path: String) throws -> [String] {
        guard let size = try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int else {
            throw InputError(path, "there is no such file; expected a text file with a prompt on each line")
        }
        guard size <= maximumBytes, let data = FileManager.default.contents(atPath: path),
            let text = String(validating: data, as: UTF8.self)
        else { throw InputError(path, "it is no UTF-8 text; expected a prompt on each line") }
        let prompts = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
            .filter { !$0.isEmpty && !$0.hasPrefix("#") }
        guard !prompts.isEmpty else { throw InputError(path, "it has no prompt; expected one on each line") }
        return prompts
    }

    /// The prompts that a model brings along in its folder, `prompts.txt`; nil where it brings none.
    static func ofModel(_ folder: String) throws -> [String]? {
        let path = folder + "/prompts.txt"
        return FileManager.default.fileExists(atPath: path) ? try read(path) : nil
    }
}
