public import Foundation

/// A golden 4-bit model: a folder `svdq-*` with a single file, the same as a legacy folder, and what both hold.
public struct GoldenInt4Model: Sendable, CustomStringConvertible {
    /// A layer, as `layers.json` lists it.
    public struct Layer: Decodable, Sendable {
        /// `w4a4` or `w4a16`.
        public let kind: String
        /// Outputs and inputs.
        public let n, k: Int
        /// Of the low-rank pair; nil for w4a16.
        public let rank: Int?
        /// What is added to the input; nil for w4a16.
        public let shift: Float?
        /// Whether the input is quantized without sign; nil for w4a16.
        public let unsigned: Bool?
        /// Vectors that the outputs are made of; nil for w4a4.
        public let splits: Int?
    }

    /// The folder.
    public let folder: URL
    /// The single file.
    public let file: String
    /// The legacy folder.
    public var legacy: String { folder.appending(path: "legacy").path }
    /// The folder's name.
    public var description: String { folder.lastPathComponent }

    /// The folders of all roots.
    public static let all: [GoldenInt4Model] = Goldens.roots.flatMap { root in
        names(in: root).filter { $0.hasPrefix("svdq-") }.compactMap { name in
            let folder = root.appending(path: name)
            return names(in: folder).first { $0.hasPrefix("svdq-") && $0.hasSuffix(".safetensors") }
                .map { GoldenInt4Model(folder: folder, file: folder.appending(path: $0).path) }
        }
    }

    private static func names(in folder: URL) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
    }

    /// The quantized layers by name.
    public func layers() throws -> [String: Layer] {
        try JSONDecoder().decode([String: Layer].self, from: Data(contentsOf: folder.appending(path: "layers.json")))
    }

    /// What went into the packer.
    public func logical() throws -> GoldenTensors {
        try GoldenTensors(folder.appending(path: "logical.safetensors"))
    }

    /// The folder with `model` and `golden` of the model that was quantized: this one, or flux-tiny beside it.
    public var original: URL? {
        let beside = folder.deletingLastPathComponent().appending(path: "flux-tiny")
        return [folder, beside].first { FileManager.default.fileExists(atPath: $0.appending(path: "model").path) }
    }

    /// The folder of the whole model that was quantized, text encoders and autoencoder included; nil where only its
    /// transformer is there.
    public var pipeline: String? {
        let model = original?.appending(path: "model").path
        return model.flatMap { FileManager.default.fileExists(atPath: $0 + "/model_index.json") ? $0 : nil }
    }

    /// Those that a picture can be drawn with.
    public static let drawable = all.filter { $0.pipeline != nil }
}
