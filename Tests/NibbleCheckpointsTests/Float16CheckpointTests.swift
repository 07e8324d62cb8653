import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// Checkpoints whose 16-bit numbers are float16: Nunchaku's loader makes the model's bfloat16 of them.
@Suite(.enabled(if: !GoldenInt4Model.all.isEmpty, "no svdq-* goldens beside the repository"))
struct Float16CheckpointTests {
    private let folder: TemporaryFolder
    private let pool = ThreadPool(threadCount: 2)

    init() throws { folder = try TemporaryFolder() }

    /// The tensors of a golden file in float16, with a last digit that bfloat16 has no place for.
    static func edited(_ path: String) throws -> EditedCheckpoint {
        let edited = try EditedCheckpoint(path)
        for (name, tensor) in edited.tensors where tensor.dtype == .bfloat16 && name.contains("transformer_blocks.") {
            let copy = Tensor(zeros: tensor.shape, .float16)
            let target = copy.mutableAddress.assumingMemoryBound(to: UInt16.self)
            for (index, value) in tensor.floats().enumerated() {
                let bits = Float16(value).bitPattern
                target[index] = bits & 0x7fff == 0 ? bits : bits ^ UInt16(index % 2)
            }
            edited.tensors[name] = copy
        }
        return edited
    }

    @Test(arguments: GoldenInt4Model.all) func whatTheKernelsReadIsRoundedAndNothingElse(
        _ model: GoldenInt4Model
    ) throws {
        let edited = try Self.edited(model.file)
        let source = try NunchakuCheckpoint(edited.write(to: folder))
        let target = folder.path + "/nibble.safetensors"
        try source.writeNibble(to: target, on: pool)
        let nibble = try NibbleCheckpoint(target)
        for layer in source.layers where source.rank(of: layer) != nil {
            let (stored, found) = (try source.weights(layer), try nibble.weights(layer))
            #expect(stored.scales.dtype == .float16 && found.scales.dtype == .bfloat16)
            for (part, rounded) in [
                (stored.scales, found.scales), (stored.down, found.down), (stored.up, found.up),
            ] { #expect(rounded.floats() == part.floats().map(\.roundedToBFloat16), "\(layer.name)") }
            #expect(found.smooth.dtype == .float16 && found.smooth.copiedBytes == stored.smooth.copiedBytes)
            #expect(found.bias.copiedBytes == stored.bias.copiedBytes)
        }
        // Written again in its own form it stays as it is.
        let again = folder.path + "/again.safetensors"
        try source.writeNunchaku(to: again, on: pool)
        let file = try SafetensorsFile(again)
        for (name, tensor) in edited.tensors {
            #expect(try file.tensor(name).dtype == tensor.dtype && file.tensor(name).copiedBytes == tensor.copiedBytes)
        }
    }
}
