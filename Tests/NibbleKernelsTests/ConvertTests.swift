import CNibbleKernels
import Foundation
import Testing

/// Conversions are exact: every code of the small types, and f32 numbers around every rounding.
@Suite struct ConvertTests {
    /// Runs a conversion and gives its result's bits, widened to f32's.
    private func convert<Source>(
        _ set: KernelSet, _ source: [Source], _ type: nibble_float, to target: nibble_float
    ) -> [UInt32] {
        let stride = MemoryLayout<Source>.stride
        let x = GuardedMemory(byteCount: source.count * stride)
        source.withUnsafeBytes { UnsafeMutableRawBufferPointer(start: x.start, count: $0.count).copyMemory(from: $0) }
        let y = GuardedMemory(byteCount: source.count * (target == NIBBLE_F32 ? 4 : 2))
        set.table.convert(x.start, type, y.start, target, source.count)
        #expect(x.isIntact && y.isIntact, "\(set.name) \(type.label) to \(target.label) n \(source.count)")
        if target == NIBBLE_F32 {
            return (0..<source.count).map { y.start.assumingMemoryBound(to: UInt32.self)[$0] }
        }
        return (0..<source.count).map { UInt32(y.start.assumingMemoryBound(to: UInt16.self)[$0]) << 16 }
    }

    /// The bits that are wanted, where both being NaN is as good as being equal.
    private func expectSame(_ actual: [UInt32], _ expected: [Float], _ label: String) {
        let wrong = actual.indices.filter { index in
            let value = Float(bitPattern: actual[index])
            return value.isNaN ? !expected[index].isNaN : actual[index] != expected[index].bitPattern
        }
        guard let first = wrong.first else { return }
        Issue.record("\(label): \(wrong.count) differ, first \(first): \(actual[first]), expected \(expected[first])")
    }

    private func check<Source>(_ source: [Source], _ type: nibble_float, _ expected: [Float]) {
        for set in KernelSet.supported {
            let name = "\(set.name) \(type.label)"
            expectSame(convert(set, source, type, to: NIBBLE_F32), expected, "\(name) to f32")
            let rounded = expected.map { Float(bitPattern: UInt32(bfloat16($0)) << 16) }
            expectSame(convert(set, source, type, to: NIBBLE_BF16), rounded, "\(name) to bf16")
        }
    }

    /// OCP 8-bit floating point specification 1.0, table 1.
    @Test func everyFloat8() {
        let codes = (0..<256).map { UInt8($0) }
        let values = codes.map { code -> Float in
            let exponent = Int(code >> 3 & 15)
            let fraction = Double(code & 7) / 8
            if code & 0x7f == 0x7f { return .nan }
            let magnitude = exponent == 0 ? fraction * pow(2, -6) : (1 + fraction) * pow(2, Double(exponent - 7))
            return Float(code >> 7 == 0 ? magnitude : -magnitude)
        }
        #expect(values[0x7e] == 448 && values[1] == 0x1p-9)
        check(codes, NIBBLE_F8E4M3, values)
    }

    /// IEEE 754-2019, binary16.
    @Test func everyFloat16() {
        let codes = (0..<65536).map { UInt16($0) }
        let values = codes.map { code -> Float in
            let exponent = Int(code >> 10 & 31)
            let fraction = Double(code & 0x3ff) / 1024
            if exponent == 31 && fraction > 0 { return .nan }
            let magnitude =
                exponent == 31
                ? .infinity : exponent == 0 ? fraction * pow(2, -14) : (1 + fraction) * pow(2, Double(exponent - 15))
            return Float(code >> 15 == 0 ? magnitude : -magnitude)
        }
        check(codes, NIBBLE_F16, values)
    }

    @Test func everyBFloat16() {
        let codes = (0..<65536).map { UInt16($0) }
        check(codes, NIBBLE_BF16, codes.map { Float(bitPattern: UInt32($0) << 16) })
    }

    /// For every upper half, the lower halves just below, at and just above a tie: zeros, subnormal numbers,
    /// infinities, NaNs whose payload lies in the lower half only, and the largest number, included.
    @Test func float32() {
        let bits = (0..<65536).flatMap { upper in
            [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map { UInt32(upper) << 16 | $0 }
        }
        check(bits, NIBBLE_F32, bits.map { Float(bitPattern: $0) })
    }

    @Test func everyLength() {
        for n in 1...70 {
            let values = (0..<n).map { Float($0) + 0.3 }
            check(values, NIBBLE_F32, values)
            check(values.map(bfloat16), NIBBLE_BF16, values.map { Float(bitPattern: UInt32(bfloat16($0)) << 16) })
            check([UInt16](repeating: 0x3c00, count: n), NIBBLE_F16, [Float](repeating: 1, count: n))
            check([UInt8](repeating: 0x38, count: n), NIBBLE_F8E4M3, [Float](repeating: 1, count: n))
        }
    }
}
