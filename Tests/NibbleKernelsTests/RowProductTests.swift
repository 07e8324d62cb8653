import CNibbleKernels
import Testing

/// The product of a matrix and one row, for every type of weights.
@Suite struct RowProductTests {
    private static let inputs = [1, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 65, 256, 1021]

    @Test(arguments: [NIBBLE_F32, NIBBLE_BF16, NIBBLE_F16, NIBBLE_F8E4M3], [false, true])
    func product(type: nibble_float, withBias: Bool) throws {
        let plain = try #require(KernelSet.plain)
        for (inputs, outputs) in Self.inputs.flatMap({ n in [1, 3, 4, 5, 8, 11].map { (n, $0) } }) {
            var random = Random(inputs * 61 + outputs)
            let stride = inputs + 2
            let codes = (0..<(outputs - 1) * stride + inputs).map { _ in Self.code(type, &random) }
            let elementBytes = type == NIBBLE_F32 ? 4 : type == NIBBLE_F8E4M3 ? 1 : 2
            let weights = GuardedMemory(byteCount: codes.count * elementBytes)
            for index in 0..<codes.count * elementBytes {
                let shift = 8 * (index % elementBytes)
                let byte = UInt8(truncatingIfNeeded: codes[index / elementBytes] >> shift)
                weights.start.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
            }
            // The conversions have a test of their own.
            let widened = Matrix(columns: codes.count, type: NIBBLE_F32)
            plain.table.convert(weights.start, type, widened.pointer, NIBBLE_F32, codes.count)

            let x = Matrix(random.normal(inputs), type: NIBBLE_F32)
            let bias = withBias ? Matrix(random.normal(outputs), type: NIBBLE_F32) : nil
            var expected: [Double] = []
            var bound: [Double] = []
            for output in 0..<outputs {
                let products = (0..<inputs).map { Double(x[0, $0]) * Double(widened[0, output * stride + $0]) }
                let added = Double(bias?[0, output] ?? 0)
                expected.append(products.reduce(added, +))
                let magnitude = products.reduce(abs(added)) { $0 + abs($1) }
                bound.append(storedBound(sumRoundoff(inputs) * magnitude, expected[output], NIBBLE_F32))
            }
            var checker = RowChecker()
            for set in KernelSet.supported {
                let y = Matrix(columns: outputs, type: NIBBLE_F32)
                set.table.row_product(x.floats, weights.start, type, stride, bias?.floats, y.floats, inputs, outputs)
                checker.check(set, y.values, expected, bound, "\(type.label) in \(inputs) out \(outputs)")
                #expect(x.isIntact && y.isIntact && weights.isIntact, "\(set.name) in \(inputs)")

                // A row's result does not depend on the rows beside it.
                let last = Matrix(columns: 1, type: NIBBLE_F32)
                let row = weights.start + (outputs - 1) * stride * elementBytes
                set.table.row_product(
                    x.floats, row, type, stride, bias.map { $0.floats + (outputs - 1) }, last.floats, inputs, 1)
                #expect(last[0, 0].bitPattern == y[0, outputs - 1].bitPattern, "\(set.name) in \(inputs)")
            }
        }
    }

    /// A code of a number between about -8 and 8.
    private static func code(_ type: nibble_float, _ random: inout Random) -> UInt32 {
        let value = Float(random.uniform() * 2 - 1)
        return switch type {
        case NIBBLE_F32: value.bitPattern
        case NIBBLE_BF16: UInt32(bfloat16(value))
        case NIBBLE_F16: UInt32(random.bits() & 0x8000) | UInt32(random.bits() % 0x4400)
        default: UInt32(random.bits() & 0x80) | UInt32(random.bits() % 0x51)
        }
    }
}
