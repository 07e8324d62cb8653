import Foundation
import NibbleCheckpoints
import NibbleModels
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleQuantizer

/// Which weights become which 4-bit layers, against what DeepCompressor's converter says that it took.
@Suite struct FluxNetworkTests {
    private struct Layer: Decodable {
        let sources: [String]
    }

    private static func network(_ golden: GoldenInt4Model) throws -> (FluxNetwork, any TensorSource) {
        let folder = try ModelFolder(#require(golden.original).appending(path: "model").path)
        let plain = try folder.weights(.transformer)
        let text = try String(contentsOfFile: folder.folder(.transformer) + "/config.json", encoding: .utf8)
        let network = try FluxNetwork(
            plain, config: folder.config(.transformer, as: FluxConfig.self),
            schema: Int4FluxSchema(configuration: text, path: folder.path), calibration: nil)
        return (network, plain)
    }

    @Test(
        .enabled(if: !GoldenInt4Model.all.isEmpty, "no golden root holds a 4-bit model"), arguments: GoldenInt4Model.all
    )
    func `every layer is made of the weights that it is in the published files`(_ golden: GoldenInt4Model) throws {
        let (network, source) = try Self.network(golden)
        let text = try Data(contentsOf: golden.folder.appending(path: "layers.json"))
        var left = try JSONDecoder().decode([String: Layer].self, from: text)
        for block in 0..<network.blockCount {
            let layers = network.layers(of: block)
            for layer in layers.groups.flatMap(\.layers) + layers.modulations {
                let entry = left.removeValue(forKey: layer.name)
                let expected = try #require(entry)
                let member = try network.member(layer)
                let weights = try expected.sources.map { try Self.weight($0, source) }
                #expect(member.weights.map { $0.floats() } == weights, "\(layer.name)")
            }
        }
        #expect(left.isEmpty, "\(left.keys.sorted())")
    }

    /// A name such as `proj_out[:, 128:]` stands for some inputs of a layer.
    private static func weight(_ name: String, _ source: any TensorSource) throws -> [Float] {
        let parts = name.split(separator: "[")
        let whole = try source.tensor("\(parts[0]).weight")
        guard parts.count == 2 else { return whole.floats() }
        let ends = parts[1].dropFirst(2).dropLast().split(separator: ":", omittingEmptySubsequences: false)
            .map { Int($0.trimmingCharacters(in: .whitespaces)) }
        return whole.columns((ends[0] ?? 0)..<(ends[1] ?? whole.width)).floats()
    }
}
