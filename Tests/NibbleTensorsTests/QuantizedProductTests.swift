import NibbleTensors
import Testing

/// 4-bit layers through `Compute`. The arithmetic has its oracles in the kernels' tests; here it is the splitting.
@Suite struct QuantizedProductTests {
    /// A layer whose product is known: all codes 1, scales 1/4, smoothing 2, a branch of rank 16 in which only the first
    /// rank counts, with down 1/8 and up 1/2.
    private static func weights(input: Int, output: Int, inputCodes: InputCodes = .signed) -> QuantizedWeights {
        let down = filled([16, input], .bfloat16) { $0 < input ? 0x3e00 : 0 }
        let up = filled([output, 16], .bfloat16) { $0 % 16 == 0 ? 0x3f00 : 0 }
        return QuantizedWeights(
            packing: bytes([output, input], .int8) { _ in 1 },
            scales: filled([output, input / 64], .bfloat16) { _ in 0x3e80 },
            smooth: Tensor([Float](repeating: 2, count: input), shape: [input]), down: down, up: up,
            bias: Tensor((0..<output).map(Float.init), shape: [output]), inputCodes: inputCodes)
    }

    private static func filled(_ shape: Shape, _ dtype: DType, _ value: (Int) -> UInt16) -> Tensor {
        let tensor = Tensor(zeros: shape, dtype)
        for index in 0..<shape.elementCount {
            tensor.mutableAddress.storeBytes(of: value(index), toByteOffset: 2 * index, as: UInt16.self)
        }
        return tensor
    }

    private static func bytes(_ shape: Shape, _ dtype: DType, _ value: (Int) -> Int8) -> Tensor {
        let tensor = Tensor(zeros: shape, dtype)
        for index in 0..<shape.elementCount {
            tensor.mutableAddress.storeBytes(of: value(index), toByteOffset: index, as: Int8.self)
        }
        return tensor
    }

    /// A row of ones (times its number) is quantized without error but for its scale. In 8 bits the scale is an f32, so
    /// that y = input · row / 2 / 4 + input · row / 8 / 2 + bias up to the rounding of f32: 1e-5 of it.
    @Test(arguments: [1, 5, 193, 800])
    func knownProduct(rows: Int) {
        let (input, output) = (128, 420)
        let weights = Self.weights(input: input, output: output)
        let x = Tensor(
            (0..<rows * input).map { Float($0 / input % 100 + 1) }, shape: [rows, input])
        let compute = Compute(precision: .f32)
        // A block of columns of a wider matrix.
        let wide = Tensor(zeros: [rows, output + 20], .float32)
        compute.quantizedProduct(x, weights, into: wide.columns(10..<10 + output), bits: .int8)
        let found = wide.floats()
        for row in 0..<rows {
            for column in 0..<output + 20 {
                let value = found[row * (output + 20) + column]
                let inside = (10..<10 + output).contains(column)
                let expected = inside ? Float(input * (row % 100 + 1)) * 0.1875 + Float(column - 10) : 0
                if abs(value - expected) > 1e-5 * expected { Issue.record("row \(row), column \(column): \(value)") }
            }
        }
    }

    @Test(arguments: ActivationBits.allCases, [DType.float32, .bfloat16])
    func sameBytesForAnyThreadCount(bits: ActivationBits, dtype: DType) {
        let (rows, input, output) = (800, 192, 900)
        let weights = Self.weights(input: input, output: output, inputCodes: .shifted)
        let numbers = Tensor(
            (0..<rows * input).map { Float($0 &* 7919 % 1000) / 500 - 0.17 }, shape: [rows, input])
        let outputs = [1, 2, 3].map { threads in
            let compute = Compute(precision: .bf16, pool: ThreadPool(threadCount: threads))
            let x = Tensor(zeros: [rows, input], dtype)
            compute.convert(numbers, into: x)
            let y = Tensor(zeros: [rows, output], dtype)
            compute.quantizedProduct(x, weights, into: y, bits: bits, activation: .geluTanh)
            let reserved = compute.workspace.reservedBytes
            compute.quantizedProduct(x, weights, into: y, bits: bits, activation: .geluTanh)
            #expect(compute.workspace.reservedBytes == reserved, "a second product allocates nothing")
            return Array(y.bytes)
        }
        #expect(outputs[0] == outputs[1] && outputs[0] == outputs[2])
        #expect(outputs[0].contains { $0 != 0 })
    }

    /// Few rows are multiplied code by code, many in pairs, where the processor is faster at that: no bit may tell.
    @Test func manyRowsHaveTheBytesOfFew() {
        let (rows, input, output) = (200, 3200, 130)
        let weights = Self.weights(input: input, output: output)
        let x = Tensor((0..<rows * input).map { Float($0 &* 7919 % 1000) / 500 - 1 }, shape: [rows, input])
        let compute = Compute(precision: .bf16, pool: ThreadPool(threadCount: 2))
        let (all, apart) = (Tensor(zeros: [rows, output], .bfloat16), Tensor(zeros: [rows, output], .bfloat16))
        compute.quantizedProduct(x, weights, into: all, bits: .int4)
        for first in stride(from: 0, to: rows, by: 20) {
            let few = first..<first + 20
            compute.quantizedProduct(x.rows(few), weights, into: apart.rows(few), bits: .int4)
        }
        #expect(Array(all.bytes) == Array(apart.bytes))
    }

    /// Against the product and the pass that it saves, which in f32 make the same bits.
    @Test(arguments: [5, 700], [false, true])
    func addsToAStream(rows: Int, hasGate: Bool) {
        let (input, output) = (192, 420)
        let weights = Self.weights(input: input, output: output)
        let x = Tensor((0..<rows * input).map { Float($0 &* 7919 % 1000) / 500 - 1 }, shape: [rows, input])
        let gate = hasGate ? Tensor((0..<output).map { Float($0 % 7) - 3 }, shape: [output]) : nil
        let before = (0..<rows * output).map { Float($0 % 13) }
        let (stream, expected) = (Tensor(before, shape: [rows, output]), Tensor(before, shape: [rows, output]))
        let compute = Compute(precision: .f32, pool: ThreadPool(threadCount: 2))
        compute.quantizedProduct(x, weights, addedTo: stream, gate: gate, bits: .int4)
        let branch = Tensor(zeros: [rows, output], .float32)
        compute.quantizedProduct(x, weights, into: branch, bits: .int4)
        compute.add(branch, to: expected, gate: gate)
        #expect(Array(stream.bytes) == Array(expected.bytes))
    }

    /// The same for the two halves of a gated feed-forward layer.
    @Test(arguments: [5, 700])
    func gatesOneHalfByTheOther(rows: Int) {
        let (input, width) = (128, 208)
        let weights = Self.weights(input: input, output: 2 * width)
        let x = Tensor((0..<rows * input).map { Float($0 &* 7919 % 1000) / 500 - 1 }, shape: [rows, input])
        let compute = Compute(precision: .f32, pool: ThreadPool(threadCount: 2))
        let gated = Tensor(zeros: [rows, width], .float32)
        compute.gatedQuantizedProduct(x, weights, into: gated, bits: .int8, activation: .geluTanh)
        let plain = Tensor(zeros: [rows, 2 * width], .float32)
        let activated = Tensor(zeros: [rows, 2 * width], .float32)
        compute.quantizedProduct(x, weights, into: plain, bits: .int8)
        compute.quantizedProduct(x, weights, into: activated, bits: .int8, activation: .geluTanh)
        let gate = activated.columns(0..<width)
        compute.multiply(gate, by: plain.columns(width..<2 * width))
        #expect(gated.floats() == gate.floats())
    }

    /// W = 3 · 1/4 + 2 for every weight: y = 2.75 Σx + bias, exact in f32.
    @Test(arguments: [1, 2]) func rowProduct(rows: Int) {
        let (input, output) = (128, 600)
        let weights = QuantizedRowWeights(
            packing: Self.bytes([output, input], .uint8) { _ in 3 },
            scales: Self.filled([output, 2], .bfloat16) { _ in 0x3e80 },
            zeros: Self.filled([output, 2], .bfloat16) { _ in 0x4000 },
            bias: Tensor((0..<output).map(Float.init), shape: [output]))
        let x = Tensor((0..<rows * input).map { Float($0 / input + 1) }, shape: [rows, input])
        let y = Tensor(zeros: [rows, output], .float32)
        Compute(precision: .f32).quantizedRowProduct(x, weights, into: y)
        let expected = (0..<rows * output).map { 2.75 * Float(input * ($0 / output + 1)) + Float($0 % output) }
        #expect(y.floats() == expected)
    }
}
