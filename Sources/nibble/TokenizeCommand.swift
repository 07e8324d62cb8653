internal import ArgumentParser
internal import Foundation
internal import NibbleHub
internal import NibbleTokenizers

/// `nibble tokenize`: the ids of prompts.
struct TokenizeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tokenize",
        abstract: "Print the token ids of prompts.",
        usage: """
            nibble tokenize <prompt> [--clip <model>] [--t5 <model>]
            nibble tokenize --file <json> [--clip <model>] [--t5 <model>]
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
        help: ArgumentHelp(
            "A CLIP tokenizer: its folder, 'tokenizer' of a model, or the model's own; or a name of the Hugging Face Hub "
                + "(OWNER/NAME[@REVISION]).", valueName: "model"),
        completion: .directory)
    var clip: String?

    @Option(
        help: ArgumentHelp(
            "A T5 tokenizer: its folder, 'tokenizer_2' of a model, or the model's own; or a name of the Hugging Face Hub "
                + "(OWNER/NAME[@REVISION]).", valueName: "model"),
        completion: .directory)
    var t5: String?

    func validate() throws {
        guard (prompt == nil) != (file == nil) else {
            throw ValidationError("Give either a prompt or --file with a JSON list of prompts.")
        }
        guard clip != nil || t5 != nil else {
            throw ValidationError("Name a tokenizer with --clip, --t5 or both.")
        }
    }

    /// The ids of one prompt; a tokenizer that was not named is left out.
    private struct Row: Encodable {
        let clip: [Int32]?
        let t5: [Int32]?
    }

    func run() async throws {
        var clip: CLIPTokenizer?
        if let named = self.clip { clip = try await CLIPTokenizer(folder: folder(named, "tokenizer")) }
        var t5: T5Tokenizer?
        if let named = self.t5 { t5 = try await T5Tokenizer(folder: folder(named, "tokenizer_2")) }
        let rows = try prompts().map { Row(clip: clip?.encode($0), t5: t5?.encode($0)) }
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        print(String(decoding: try encoder.encode(rows), as: UTF8.self))
    }

    /// The folder of a tokenizer: the one that is named, or the component of the model that is.
    private func folder(_ named: String, _ component: String) async throws -> URL {
        let path = try await ModelFetcher(isQuiet: false).path(of: named, choose: NeededFiles.tokenizer(component))
        let nested = URL(filePath: path).appending(path: component)
        return FileManager.default.fileExists(atPath: nested.path) ? nested : URL(filePath: path)
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
