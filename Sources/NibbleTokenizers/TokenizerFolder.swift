internal import Foundation

/// The files of a tokenizer folder.
struct TokenizerFolder {
    /// No file of a tokenizer is near this size; what is larger would only fill the memory.
    private static let maximumFileSize = 256 << 20

    let url: URL

    func path(_ name: String) -> String { url.appending(path: name).path }

    /// The contents of a file, or nil where there is none.
    func contents(_ name: String) throws(TokenizerError) -> Data? {
        let path = path(name)
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        do {
            let attributes = try FileManager.default.attributesOfItem(
                atPath: URL(filePath: path).resolvingSymlinksInPath().path)
            guard attributes[.type] as? FileAttributeType == .typeRegular else {
                throw TokenizerError.inaccessible(path: path, reason: "it is not a file")
            }
            let size = attributes[.size] as? Int ?? 0
            guard size <= Self.maximumFileSize else {
                throw TokenizerError.malformed(path: path, reason: "\(size) bytes are no tokenizer's file")
            }
            return try Data(contentsOf: URL(filePath: path))
        } catch let error as TokenizerError {
            throw error
        } catch {
            throw .inaccessible(path: path, reason: error.localizedDescription)
        }
    }

    /// What the two files of settings say, either of which may be missing.
    func configuration() throws(TokenizerError) -> TokenizerConfiguration {
        let config = try contents("tokenizer_config.json")
        let map = try contents("special_tokens_map.json")
        // Read by itself first, so that its errors name it.
        _ = try reading(path("special_tokens_map.json")) { try TokenizerConfiguration(specialTokensMap: map) }
        return try reading(path("tokenizer_config.json")) {
            try TokenizerConfiguration(config: config, specialTokensMap: map)
        }
    }
}
