public import Foundation
internal import NibbleTensors

/// A golden set of layers to quantize: a folder `svdquant-layers` with `errors.json` and what it names.
public struct GoldenLayers: Sendable, CustomStringConvertible {
    /// Relative errors on the test tokens by activations, `w4a4` and `w4a8`.
    public typealias Errors = [String: Double]

    /// A layer, as `errors.json` lists it.
    public struct Layer: Decodable, Sendable {
        /// The files of its weights and of its inputs.
        public let file, inputs: String
        /// Outputs and inputs.
        public let n, k: Int
        /// Of the low-rank pair.
        public let rank: Int
        /// Outputs of the original layers that it is made of.
        public let parts: [Int]
        /// Whether its input is shifted and quantized without sign.
        public let isUnsigned: Bool
        /// The greater error of two implementations, by method.
        public let bar: [String: Errors]
        /// What one of them tried and chose.
        public let reference: Reference
        /// Checksums of naive rounding.
        public let rounding: Rounding
        /// The largest of the weights, descending.
        public let singularValues: [Double]

        private enum CodingKeys: String, CodingKey {
            case file, inputs, n, k, rank, parts, bar, reference
            case isUnsigned = "shifted_unsigned"
            case rounding = "rtn_crc32"
            case singularValues = "singular_values"
        }
    }

    /// What the reference implementation tried.
    public struct Reference: Decodable, Sendable {
        /// By method.
        public let chosen: [String: Choice]
    }

    /// What was chosen in a search.
    public struct Choice: Decodable, Sendable {
        /// The powers of the smoothing factors.
        public let alpha, beta: Double?
        /// Alpha, beta and squared output error on the calibration tokens, of every pair that was tried.
        public let grid: [[Double]]?
    }

    /// zlib's CRC-32 of naive rounding.
    public struct Rounding: Decodable, Sendable {
        /// Of the codes, int8, and of the scales, bf16.
        public let codes, scales: UInt32

        private enum CodingKeys: String, CodingKey {
            case codes = "codes_int8"
            case scales = "scales_bf16"
        }
    }

    /// The folder.
    public let folder: URL
    /// The layers by name.
    public let layers: [String: Layer]
    /// The folder's path, for reports.
    public var description: String {
        folder.deletingLastPathComponent().lastPathComponent + "/" + folder.lastPathComponent
    }

    /// The folders of all roots that can be read.
    public static let all: [GoldenLayers] = Goldens.all("svdquant-layers").compactMap { folder in
        guard let data = try? Data(contentsOf: folder.appending(path: "errors.json")),
            let layers = try? JSONDecoder().decode([String: Layer].self, from: data)
        else { return nil }
        return GoldenLayers(folder: folder, layers: layers)
    }

    /// The tensors of a layer: `W`, `bias`.
    public func weights(_ layer: Layer) throws -> GoldenTensors {
        try GoldenTensors(folder.appending(path: layer.file))
    }

    /// Its inputs: `X_calib`, `X_test`.
    public func inputs(_ layer: Layer) throws -> GoldenTensors {
        try GoldenTensors(folder.appending(path: layer.inputs))
    }
}
