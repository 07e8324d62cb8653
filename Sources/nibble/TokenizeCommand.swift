internal import ArgumentParser
internal import Foundation
internal import NibbleTokenizers

/// `nibble tokenize`: the ids of prompts.
struct TokenizeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tokenize",
        abstract: "Print the token ids of prompts.",
        usage: """
            nibble tokenize <prompt> [--clip <folder>] [--t5 <folder>]
            nibble tokenize --file <json> [--clip <folder>] [--t5 <folder>]
            """,
        discussion: """
            Prints a JSON list with an object for each prompt: the ids of the tokenizers that were named, with special \
            tokens, neither truncated nor padded.
            """)

    @Argument(help: "The prompt.")
    var prompt: String?

    @Option(
        help: ArgumentHelp("A file with a JSON list of prompts, in place of one prompt.", valueName: "json"),
        completion: .file(extensions: ["json"]))
    var file: String?

    @Option(
        help: ArgumentHelp("The folder of a CLIP tokenizer, 'tokenizer' of a model.", valueName: "folder"),
        completion: .directory)
    var clip: String?

    @Option(
        help: ArgumentHelp("The folder of a T5 tokenizer, 'tokenizer_2' of a model.", valueName: "folder"),
        completion: .directory)
    var t5: String?

    func validate() throws {
        guard (prompt == nil) != (file == nil) else {
            throw ValidationError("Give either a prompt or --file with a JSON list of prompts.")
        }
        guard clip != nil || t5 != nil else {
            throw ValidationError("Name a tokenizer's folder with --clip, --t5 or both.")
        }
    }

    /// The ids of one prompt; a tokenizer that was not named is left out.
    private struct Row: Encodable {
        let clip: [Int32]?
        let t5: [Int32]?
    }

    func run() async throws {
        let clip = try clip.map { try CLIPTokenizer(folder: URL(filePath: $0)) }
        let t5 = try t5.map { try T5Tokenizer(folder: URL(filePath: $0)) }
        let rows = try prompts().map { Row(clip: clip?.encode($0), t5: t5?.encode($0)) }
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        print(String(decoding: try encoder.encode(rows), as: UTF8.self))
    }

    private func prompts() throws(TokenizerError) -> [String] {
        if let prompt { return [prompt] }
        let path = file ?? ""
        let contents: Data
        do {
            contents = try Data(contentsOf: URL(filePath: path))
        } catch {
            throw .inaccessible(path: path, reason: error.localizedDescription)
        }
        do {
            return try JSONDecoder().decode([String].self, from: contents)
        } catch {
            throw .notPrompts(path: path)
        }
    }
}
