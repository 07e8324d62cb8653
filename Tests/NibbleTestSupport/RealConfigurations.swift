public import Foundation

extension Goldens {
    /// The folders with the configurations and weight indexes of the real FLUX.1 models, without weights; none where
    /// `shared/data` is not beside the repository.
    public static let realConfigurations: [URL] = {
        let folder = repository.deletingLastPathComponent().appending(path: "shared/data/flux-configs")
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.filter { $0.hasPrefix("FLUX.1-") }.sorted().map { folder.appending(path: $0) }
    }()
}

/// What `*.safetensors.index.json` says of a checkpoint.
public struct WeightIndex: Decodable, Sendable {
    /// The names of all tensors.
    public var names: Set<String> { Set(weightMap.keys) }
    /// Bytes of all tensors together.
    public var totalSize: Int { metadata.totalSize }

    private let weightMap: [String: String]
    private let metadata: Metadata

    private struct Metadata: Decodable, Sendable {
        let totalSize: Int
        enum CodingKeys: String, CodingKey { case totalSize = "total_size" }
    }

    private enum CodingKeys: String, CodingKey {
        case weightMap = "weight_map"
        case metadata
    }

    /// Reads an index.
    public init(_ url: URL) throws {
        self = try JSONDecoder().decode(WeightIndex.self, from: Data(contentsOf: url))
    }
}
