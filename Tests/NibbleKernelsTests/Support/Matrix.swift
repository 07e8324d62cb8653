import CNibbleKernels

/// Rows of floats of a kernel's type in guarded memory. Between the rows, where the stride is larger than the width, lie
/// NaNs, which must neither be read into a result nor be changed.
final class Matrix {
    let rows: Int
    let columns: Int
    let stride: Int
    let type: nibble_float
    let memory: GuardedMemory

    var pointer: UnsafeMutableRawPointer { memory.start }
    var floats: UnsafeMutablePointer<Float> { memory.start.assumingMemoryBound(to: Float.self) }

    /// All NaN at first.
    init(rows: Int = 1, columns: Int, stride: Int? = nil, type: nibble_float) {
        self.rows = rows
        self.columns = columns
        self.stride = stride ?? columns
        self.type = type
        memory = GuardedMemory(byteCount: ((rows - 1) * self.stride + columns) * Self.bytes(type))
    }

    /// Values are rounded to the type.
    convenience init(_ values: [Float], rows: Int = 1, stride: Int? = nil, type: nibble_float) {
        self.init(rows: rows, columns: values.count / rows, stride: stride, type: type)
        for (index, value) in values.enumerated() { self[index / columns, index % columns] = value }
    }

    private static func bytes(_ type: nibble_float) -> Int { type == NIBBLE_F32 ? 4 : 2 }

    subscript(row: Int, column: Int) -> Float {
        get { element(row * stride + column) }
        set {
            let index = row * stride + column
            if type == NIBBLE_F32 {
                floats[index] = newValue
            } else {
                memory.start.assumingMemoryBound(to: UInt16.self)[index] = bfloat16(newValue)
            }
        }
    }

    private func element(_ index: Int) -> Float {
        guard type != NIBBLE_F32 else { return floats[index] }
        return Float(bitPattern: UInt32(memory.start.assumingMemoryBound(to: UInt16.self)[index]) << 16)
    }

    /// All rows, one after the other.
    var values: [Float] { (0..<rows).flatMap { row in (0..<columns).map { self[row, $0] } } }

    /// Whether nothing outside of the rows was written.
    var isIntact: Bool {
        let gaps = (0..<rows - 1).allSatisfy { row in
            (columns..<stride).allSatisfy { element(row * stride + $0).isNaN }
        }
        return gaps && memory.isIntact
    }
}

/// The nearest bfloat16, ties to even, found by trying both neighbors.
func bfloat16(_ value: Float) -> UInt16 {
    let below = UInt16(value.bitPattern >> 16)
    guard value.isFinite else { return value.isNaN ? 0x7fc0 : below }
    func number(_ bits: UInt16) -> Double {
        // Beyond the largest number, rounding behaves as if the next power of two were there.
        bits & 0x7fff == 0x7f80 ? (bits >> 15 == 0 ? 0x1p128 : -0x1p128) : Double(Float(bitPattern: UInt32(bits) << 16))
    }
    let toBelow = abs(Double(value) - number(below))
    let toAbove = abs(Double(value) - number(below + 1))
    if toBelow == toAbove { return below % 2 == 0 ? below : below + 1 }
    return toBelow < toAbove ? below : below + 1
}
