import CNibbleKernels
import Testing

/// The logical form of a 4-bit layer, and the same packed in guarded memory.
final class QuantizedCase {
    let input: Int
    let output: Int
    let rank: Int
    let codes: [Int8]
    let scales: [Float]
    let smooth: [Float]
    let down: [Float]
    let up: [Float]
    let bias: [Float]

    private let packedCodes: GuardedMemory
    private let packedScales: GuardedMemory
    private let packedDown: GuardedMemory
    private let packedUp: GuardedMemory
    private let smoothMemory: Matrix
    private let biasMemory: Matrix

    /// codes [output, input], scales [output, input / 64], smooth [input], down [rank, input], up [output, rank], bias
    /// [output]; all but the codes, smooth and bias are rounded to bf16.
    init(
        input: Int, output: Int, rank: Int, codes: [Int8], scales: [Float], smooth: [Float], down: [Float],
        up: [Float], bias: [Float]
    ) {
        (self.input, self.output, self.rank, self.codes, self.smooth, self.bias) =
            (input, output, rank, codes, smooth, bias)
        self.scales = scales.map(Self.rounded)
        self.down = down.map(Self.rounded)
        self.up = up.map(Self.rounded)
        packedCodes = GuardedMemory(byteCount: nibble_packed_codes_bytes(input, output), alignment: 64)
        packedScales = GuardedMemory(byteCount: nibble_packed_scales_bytes(input, output), alignment: 64)
        packedDown = GuardedMemory(byteCount: nibble_packed_down_bytes(input, rank), alignment: 64)
        packedUp = GuardedMemory(byteCount: nibble_packed_up_bytes(output, rank), alignment: 64)
        smoothMemory = Matrix(smooth, type: NIBBLE_F32)
        biasMemory = Matrix(bias, type: NIBBLE_F32)
        nibble_pack_codes(codes, 8, input, output, packedCodes.bytes)
        nibble_pack_scales(scales.map(bfloat16), input, output, packedScales.halves)
        nibble_pack_down(down.map(bfloat16), input, rank, packedDown.halves)
        nibble_pack_up(up.map(bfloat16), output, rank, packedUp.halves)
    }

    /// Random codes of all sixteen values, scales as of weights near 1.
    convenience init(input: Int, output: Int, rank: Int, _ random: inout Random) {
        var codes: [Int8] = []
        for _ in 0..<output * input { codes.append(Int8(random.bits() % 16) - 8) }
        self.init(
            input: input, output: output, rank: rank, codes: codes,
            scales: (0..<output * input / 64).map { _ in Float(random.uniform() * 0.2 + 0.01) },
            smooth: (0..<input).map { _ in Float(random.uniform() + 0.5) },
            down: random.normal(rank * input, scale: 0.1), up: random.normal(output * rank, scale: 0.1),
            bias: random.normal(output))
    }

    private static func rounded(_ value: Float) -> Float { Float(bitPattern: UInt32(bfloat16(value)) << 16) }

    var isIntact: Bool {
        packedCodes.isIntact && packedScales.isIntact && packedDown.isIntact && packedUp.isIntact
            && smoothMemory.isIntact && biasMemory.isIntact
    }

    /// What the kernels take.
    var layer: nibble_quantized_layer {
        nibble_quantized_layer(
            in: input, out: output, rank: rank, codes: packedCodes.bytes,
            scales: packedScales.halves, smooth: smoothMemory.floats,
            down: packedDown.halves,
            up: packedUp.halves, bias: biasMemory.floats)
    }

    /// The same weights without scales, branch and bias, so that a product is the sum of codes.
    func bareCodes() -> QuantizedCase {
        QuantizedCase(
            input: input, output: output, rank: 0, codes: codes,
            scales: [Float](repeating: 1, count: scales.count), smooth: smooth, down: [], up: [],
            bias: [Float](repeating: 0, count: output))
    }
}

extension GuardedMemory {
    var bytes: UnsafeMutablePointer<UInt8> { start.assumingMemoryBound(to: UInt8.self) }
    var halves: UnsafeMutablePointer<UInt16> { start.assumingMemoryBound(to: UInt16.self) }
}

/// How outputs meet what their matrix holds.
struct Merge {
    var kind = NIBBLE_REPLACE
    /// Of all outputs.
    var gate: Matrix?
    /// nil: where outputs are f32.
    var branchInF32: Bool?

    /// For outputs from `first` on.
    func destination(_ y: Matrix, from first: Int, gelu: Bool) -> nibble_destination {
        nibble_destination(
            y: y.pointer + first * (y.type == NIBBLE_F32 ? 4 : 2), type: y.type, stride: y.stride, gelu: gelu,
            merge: kind, gate: gate.map { UnsafePointer($0.floats) },
            branch_in_f32: branchInF32 ?? (y.type == NIBBLE_F32))
    }
}

/// Quantized rows in guarded memory.
final class QuantizedInput {
    let rows: Int
    let input: Int
    let rank: Int
    private let codesMemory: GuardedMemory
    private let scalesMemory: Matrix
    private let startsMemory: GuardedMemory
    private let branchMemory: Matrix

    init(rows: Int, input: Int, rank: Int) {
        (self.rows, self.input, self.rank) = (rows, input, rank)
        let height = Int(NIBBLE_TILE_ROWS)
        let padded = (rows + height - 1) / height * height
        codesMemory = GuardedMemory(byteCount: padded * input, alignment: 64)
        scalesMemory = Matrix(columns: padded * input / 64, type: NIBBLE_F32)
        startsMemory = GuardedMemory(byteCount: padded * input / 16)
        branchMemory = Matrix(columns: padded * rank, type: NIBBLE_F32)
    }

    /// Quantizes all rows of x for a case, in two calls where there are several.
    convenience init(_ set: KernelSet, _ weights: QuantizedCase, _ kind: nibble_activation_codes, _ x: Matrix) {
        self.init(rows: x.rows, input: weights.input, rank: weights.rank)
        var layer = weights.layer
        var view = view
        let first = x.rows / 3
        set.table.quantize_rows(&layer, kind, x.pointer, x.type, x.stride, &view, 0, first)
        let rest = x.pointer + first * x.stride * (x.type == NIBBLE_F32 ? 4 : 2)
        set.table.quantize_rows(&layer, kind, rest, x.type, x.stride, &view, first, x.rows - first)
    }

    var isIntact: Bool {
        codesMemory.isIntact && scalesMemory.isIntact && startsMemory.isIntact && branchMemory.isIntact
    }

    var view: nibble_quantized_rows {
        nibble_quantized_rows(
            codes: codesMemory.start.assumingMemoryBound(to: Int8.self), scales: scalesMemory.floats,
            starts: startsMemory.start.assumingMemoryBound(to: Int32.self), branch: branchMemory.floats,
            pair_starts: nil)
    }

    func code(_ row: Int, _ channel: Int) -> Int8 {
        view.codes[index(row, channel / 64) * 64 + channel % 64]
    }
    func scale(_ row: Int, _ group: Int) -> Float { view.scales[index(row, group)] }
    func start(_ row: Int, _ group: Int) -> Int32 { view.starts[index(row, group)] }
    /// [⌈rows / 12⌉, input / 64, 12], as `nibble_quantized.h` says.
    private func index(_ row: Int, _ group: Int) -> Int { (row / 12 * (input / 64) + group) * 12 + row % 12 }
    func branch(_ row: Int, _ rank: Int) -> Float { view.branch[row * self.rank + rank] }

    /// Row by row.
    var codes: [Int8] { (0..<rows).flatMap { row in (0..<input).map { code(row, $0) } } }
    var scales: [Float] { (0..<rows).flatMap { row in (0..<input / 64).map { scale(row, $0) } } }
    var starts: [Int32] { (0..<rows).flatMap { row in (0..<input / 64).map { start(row, $0) } } }

    /// y [rows, output] of NaN.
    private func outputs(_ weights: QuantizedCase, _ type: nibble_float) -> Matrix {
        Matrix(rows: rows, columns: weights.output, stride: weights.output + 3, type: type)
    }

    /// The two ranges of rows, and of outputs, that products are worked in.
    private func halves(of count: Int, tile: Int32) -> [Range<Int>] {
        let first = count / 2 / Int(tile) * Int(tile)
        return [0..<first, first..<count]
    }

    /// y [rows, output], merged with what it holds.
    @discardableResult func product(
        _ set: KernelSet, _ weights: QuantizedCase, gelu: Bool = false, type: nibble_float, merge: Merge = Merge(),
        into y: Matrix? = nil
    ) -> Matrix {
        let y = y ?? outputs(weights, type)
        var layer = weights.layer
        var view = view
        for rows in halves(of: rows, tile: Int32(NIBBLE_TILE_ROWS)) {
            for outputs in halves(of: weights.output, tile: Int32(NIBBLE_TILE_OUTPUTS)) {
                var destination = merge.destination(y, from: outputs.lowerBound, gelu: gelu)
                set.table.quantized_product(
                    &layer, &view, rows.lowerBound, rows.count, outputs.lowerBound, outputs.count, &destination)
            }
        }
        return y
    }

    /// The same in pairs.
    @discardableResult func pairedProduct(
        _ paired: nibble_paired_product, _ weights: QuantizedCase, gelu: Bool = false, type: nibble_float,
        merge: Merge = Merge(), into y: Matrix? = nil
    ) -> Matrix {
        let y = y ?? outputs(weights, type)
        let starts = GuardedMemory(byteCount: startsMemory.byteCount)
        var layer = weights.layer
        var view = view
        view.pair_starts = starts.start.assumingMemoryBound(to: Int32.self)
        let parts = halves(of: rows, tile: Int32(NIBBLE_TILE_ROWS))
        for rows in parts { paired.starts(input, &view, rows.lowerBound, rows.count) }
        for rows in parts {
            for outputs in halves(of: weights.output, tile: Int32(NIBBLE_TILE_OUTPUTS)) {
                let scratch = GuardedMemory(
                    byteCount: paired.scratch_bytes(input, rows.count, outputs.count), alignment: 64)
                var destination = merge.destination(y, from: outputs.lowerBound, gelu: gelu)
                paired.run(
                    &layer, &view, rows.lowerBound, rows.count, outputs.lowerBound, outputs.count, &destination,
                    scratch.start)
                if !scratch.isIntact || !starts.isIntact { Issue.record("written outside of its memory") }
            }
        }
        return y
    }

    /// The exact sums of one group, [rows, output]: all other groups are scaled by zero, this one by 1.
    func sums(_ set: KernelSet, _ bare: QuantizedCase, group: Int) -> [Int32] {
        let kept = scales
        defer { setScales { kept[$0 * (input / 64) + $1] } }
        setScales { $1 == group ? 1 : 0 }
        return product(set, bare, type: NIBBLE_F32).values.map { Int32($0) }
    }

    private func setScales(_ value: (_ row: Int, _ group: Int) -> Float) {
        for row in 0..<rows {
            for group in 0..<input / 64 { scalesMemory.floats[index(row, group)] = value(row, group) }
        }
    }
}
