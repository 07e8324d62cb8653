import Foundation
import NibbleCheckpoints
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleQuantizer

/// Modulations against those that DeepCompressor's converter made of the same weights: every number is equal.
@Suite struct ModulationQuantizerTests {
    private static let models = GoldenInt4Model.all

    @Test(.enabled(if: !models.isEmpty, "no svdq-* goldens beside the repository"), arguments: models)
    func modulationsAreEqual(_ model: GoldenInt4Model) throws {
        let original = try #require(model.original)
        let source = try ModelFolder(original.appending(path: "model").path).weights(.transformer)
        let golden = try model.logical()
        let quantizer = ModulationQuantizer(on: Compute(precision: .f32))
        var compared = 0
        for (name, layer) in try model.layers() where layer.kind == "w4a16" {
            let weights = try quantizer(
                try source.tensor(name + ".weight"), bias: try source.tensor(name + ".bias"),
                splits: try #require(layer.splits), name: name)
            #expect(weights.codes.floats() == (try golden.floats(name + ".q")), "\(name)")
            #expect(weights.scales.floats() == (try golden.floats(name + ".wscales")), "\(name)")
            #expect(weights.zeros.floats() == (try golden.floats(name + ".wzeros")), "\(name)")
            #expect(weights.bias.floats() == (try golden.floats(name + ".bias")), "\(name)")
            compared += 1
        }
        #expect(compared > 0)
    }

    @Test func badLayersAreNamed() {
        let quantizer = ModulationQuantizer(on: Compute(precision: .f32))
        let bias = Tensor(zeros: [6], .float32)
        func error(_ weight: Tensor, splits: Int = 3) -> LayerError? {
            do throws(LayerError) {
                _ = try quantizer(weight, bias: bias, splits: splits, name: "norm")
                return nil
            } catch {
                return error
            }
        }
        #expect(
            error(Tensor([Float](repeating: .nan, count: 6 * 64), shape: [6, 64]))
                == .notFinite(layer: "norm", what: "its weights"))
        for (shape, splits) in [([6, 60], 3), ([6, 64], 4), ([9, 64], 3)] as [(Shape, Int)] {
            guard case .wrongShape = error(Tensor(zeros: shape, .float32), splits: splits) else {
                Issue.record("\(shape) in \(splits) vectors was taken")
                continue
            }
        }
    }
}
