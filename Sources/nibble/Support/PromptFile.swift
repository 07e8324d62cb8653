internal import Foundation

/// A text file with a prompt on each line.
enum PromptFile {
    /// More is no list of prompts: ten thousand long ones have a tenth of it.
    private static let maximumSize = 64 << 20

    /// Reads the prompts: lines without the spaces around them, but for empty ones and those that begin with #.
    ///
    /// - Parameter path: the file, in UTF-8.
    /// - Returns: at least one prompt.
    /// - Throws: `InputError`.
    static func read(_ path: String) throws -> [String] {
        let data: Data
        do {
            let file = try FileHandle(forReadingFrom: URL(filePath: path))
            data = try file.read(upToCount: maximumSize + 1) ?? Data()
        } catch {
            throw InputError(path, "cannot be read; expected a text file with a prompt on each line")
        }
        guard data.count <= maximumSize else {
            throw InputError(
                path, "has more than \(maximumSize >> 20) MiB; expected a text file with a prompt on each line")
        }
        guard let text = String(data: data, encoding: .utf8) else {
            throw InputError(path, "is not UTF-8 text; save it as UTF-8, with a prompt on each line")
        }
        // Some editors begin a file with a byte order mark.
        let lines = text.drop { $0 == "\u{feff}" }.split(whereSeparator: \.isNewline)
        let prompts = lines.map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty && !$0.hasPrefix("#") }
        guard !prompts.isEmpty else {
            throw InputError(path, "holds no prompt; write one on each line (lines that begin with # are skipped)")
        }
        return prompts
    }

    /// The prompts that a model brings along in its folder, `prompts.txt`; nil where it brings none.
    static func ofModel(_ folder: String) throws -> [String]? {
        let path = folder + "/prompts.txt"
        return FileManager.default.fileExists(atPath: path) ? try read(path) : nil
    }
}
