import NibbleTensors
import Testing

@testable import NibbleCheckpoints

/// Random weights: of the normal distribution, the same on any number of threads.
@Suite struct RandomWeightsTests {
    /// Moments of n normal numbers of variance 1/in: the mean has the standard error 1/√(in n), the variance √(2/n) of
    /// itself, the fourth moment √(96/n); five of them are one in a million. The tails beyond 3.7 deviations, which 4096 quantiles
    /// lack, are one part in a thousand of the variance and one in 70 of the fourth moment, 3.
    @Test(arguments: [DType.float32, .bfloat16])
    func matricesAreNormal(_ dtype: DType) throws {
        let (inputs, count) = (400, 1_200_000)
        let values = try RandomWeights(dtype: dtype).tensor("a.weight", expecting: [count / inputs, inputs]).floats()
        let scaled = values.map { Double($0) * Double(inputs).squareRoot() }
        let n = Double(count)
        func moment(_ power: Int) -> Double {
            scaled.reduce(0) { sum, value in sum + (0..<power).reduce(1.0) { product, _ in product * value } } / n
        }
        #expect(abs(moment(1)) < 5 / n.squareRoot())
        #expect(abs(moment(2) - 1) < 5 * (2 / n).squareRoot() + 0.001)
        #expect(abs(moment(4) - 3) < 5 * (96 / n).squareRoot() + 3.0 / 70)
    }

    /// Seven inputs of three outputs: rows, and the last few numbers, that no whole 64 bits fill.
    @Test(arguments: [[3, 7], [2000, 301], [1024, 1024]])
    func threadsDoNotMatter(_ shape: [Int]) throws {
        let alone = try RandomWeights(dtype: .bfloat16, seed: 5).tensor("x", expecting: Shape(shape))
        let pool = ThreadPool(threadCount: 3)
        let shared = try RandomWeights(dtype: .bfloat16, seed: 5, on: pool).tensor("x", expecting: Shape(shape))
        #expect(alone.copiedBytes == shared.copiedBytes)
        let other = try RandomWeights(dtype: .bfloat16, seed: 6).tensor("x", expecting: Shape(shape))
        #expect(alone.copiedBytes != other.copiedBytes)
    }

    @Test func gainsAreOneAndBiasesSmall() throws {
        let weights = RandomWeights(dtype: .float32)
        #expect(try weights.tensor("norm.weight", expecting: [100]).floats().allSatisfy { $0 == 1 })
        let biases = try weights.tensor("linear.bias", expecting: [100]).floats()
        #expect(biases.allSatisfy { abs($0) < 0.1 } && Set(biases).count > 90)
    }

    @Test func whatNoNetworkHasIsRefused() throws {
        let asked = ZeroWeights(location: "config.json")
        #expect {
            _ = try asked.tensor("huge", expecting: [1 << 20, 1 << 20])
        } throws: { error in
            guard case CheckpointError.wrongConfiguration("config.json", "huge", _, _) = error else { return false }
            return true
        }
        #expect(throws: CheckpointError.self) {
            for index in 0..<20_000 { _ = try asked.tensor("\(index)", expecting: [1]) }
        }
    }
}

/// Weights in one file or in several.
@Suite struct ShardedWriterTests {
    @Test func sharesOutAndReadsBack() throws {
        let folder = try TemporaryFolder()
        // 100 bytes each; 250 have room for two.
        let tensors = (0..<5).map { TensorDeclaration(name: "t\($0)", dtype: .bfloat16, shape: [5, 10]) }
        let random = RandomWeights(dtype: .bfloat16)
        try ShardedWriter(folder: folder.path, stem: "model", tensors: tensors, shardBytes: 250).write { writer in
            for tensor in writer.declarations {
                try writer.write(tensor.name, random.tensor(tensor.name, expecting: tensor.shape))
            }
        }
        #expect(
            folder.names == [
                "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                "model-00003-of-00003.safetensors", "model.safetensors.index.json",
            ])
        let read = try Checkpoint.open(folder.path)
        #expect(read.tensorNames == Set(tensors.map(\.name)))
        for tensor in tensors {
            #expect(
                try read.tensor(tensor.name).copiedBytes
                    == random.tensor(tensor.name, expecting: tensor.shape).copiedBytes)
        }
    }

    @Test func oneFileNeedsNoIndex() throws {
        let folder = try TemporaryFolder()
        let tensors = [TensorDeclaration(name: "a", dtype: .bfloat16, shape: [2, 3])]
        try ShardedWriter(folder: folder.path, stem: "model", tensors: tensors, shardBytes: 1).write { writer in
            try writer.write("a", Tensor(zeros: [2, 3], .bfloat16))
        }
        #expect(folder.names == ["model.safetensors"])
    }
}
