public import NibbleTensors

/// The weights of one linear layer that SVDQuant made (Li et al., arXiv 2411.05007, §4), in plain row-major order:
///
///     y = Ŵ · quantized(x' / smooth) + up · (down · x) + bias,   Ŵ[n, k] = codes[n, k] · scales[n, k / 64]
///
/// where x' is x, or x + `Int4Layer.shift` for a layer whose input is quantized without sign. The 16-bit tensors keep
/// the type that the file has, so that nothing is lost on the way to a file again.
public struct Int4Weights: Sendable {
    /// Inputs that share a scale.
    public static let groupSize = NunchakuLayout.groupSize
    /// Ranks that the format allows for: Nunchaku pads to 16, and composes LoRAs up to this.
    public static let ranks = stride(from: 16, through: 1024, by: 16)

    /// `[out, in]` I8, -8...7.
    public var codes: Tensor
    /// `[out, in / 64]` BF16 or F16, finite; not zero where a code is not.
    public var scales: Tensor
    /// What inputs are divided by before they are quantized: `[in]` BF16 or F16, finite, not zero.
    public var smooth: Tensor
    /// What the weights were multiplied by when they were quantized, for the record: `[in]` BF16 or F16. Where a form
    /// keeps no record it is `smooth` again.
    public var originalSmooth: Tensor
    /// The first of the low-rank pair, of inputs that were not divided by `smooth`: `[rank, in]` BF16 or F16.
    public var down: Tensor
    /// The second of the low-rank pair: `[out, rank]` BF16 or F16.
    public var up: Tensor
    /// `[out]` BF16 or F16, as the kernels add it: with what undoes the shift.
    public var bias: Tensor

    /// Weights of known parts; shapes as the properties say.
    public init(
        codes: Tensor, scales: Tensor, smooth: Tensor, originalSmooth: Tensor, down: Tensor, up: Tensor, bias: Tensor
    ) {
        let (outputs, inputs, rank) = (codes.shape[0], codes.shape[1], down.shape[0])
        precondition(codes.dtype == .int8 && scales.shape == [outputs, inputs / Self.groupSize])
        precondition(smooth.shape == [inputs] && originalSmooth.shape == [inputs] && bias.shape == [outputs])
        precondition(down.shape == [rank, inputs] && up.shape == [outputs, rank])
        self.codes = codes
        self.scales = scales
        self.smooth = smooth
        self.originalSmooth = originalSmooth
        self.down = down
        self.up = up
        self.bias = bias
    }

    /// Output channels.
    public var outputs: Int { codes.shape[0] }
    /// Input channels.
    public var inputs: Int { codes.shape[1] }
    /// The low-rank pair's rank.
    public var rank: Int { down.shape[0] }
}

// MARK: - Nunchaku's order

extension Int4Weights {
    /// Reads Nunchaku's order.
    ///
    /// - Parameters:
    ///   - rows: which of the outputs, multiples of 128.
    ///   - part: gives the stored tensor of a key: `qweight`, `wscales`, `smooth`, `smooth_orig`, `lora_down`, `lora_up`,
    ///     `bias`; of shapes that fit each other.
    /// - Throws: what `part` throws.
    init(
        rows: Range<Int>, packed part: (_ key: String) throws(CheckpointError) -> Tensor
    ) throws(CheckpointError) {
        let tile = NunchakuLayout.tileRows
        precondition(rows.lowerBound.isMultiple(of: tile) && rows.upperBound.isMultiple(of: tile))
        // Tiles of 128 outputs lie one behind the other, whatever the shape says.
        let scales = try part("wscales")
        let groups = scales.shape[0]
        let tiles = scales.reshaped([scales.shape[1], groups]).rows(rows).reshaped([groups, rows.count])
        self.init(
            codes: NunchakuLayout.unpackCodes(try part("qweight").rows(rows)),
            scales: NunchakuLayout.unpackScales(tiles),
            smooth: NunchakuLayout.unpackVector(try part("smooth")),
            originalSmooth: NunchakuLayout.unpackVector(try part("smooth_orig")),
            down: NunchakuLayout.unpackLowRank(try part("lora_down"), .down),
            up: NunchakuLayout.unpackLowRank(try part("lora_up").rows(rows), .up),
            bias: NunchakuLayout.unpackVector(try part("bias").rows(rows)))
    }

    /// Reads Nunchaku's order, all outputs.
    init(packed part: (_ key: String) throws(CheckpointError) -> Tensor) throws(CheckpointError) {
        try self.init(rows: 0..<(try part("qweight").rows), packed: part)
    }

    /// The tensors of a Nunchaku file by their keys. Outputs and inputs must be multiples of 128, the rank of 16, and
    /// the codes -8...7.
    public func packed() -> [String: Tensor] {
        [
            "qweight": NunchakuLayout.packCodes(codes), "wscales": NunchakuLayout.packScales(scales),
            "smooth": NunchakuLayout.packVector(smooth), "smooth_orig": NunchakuLayout.packVector(originalSmooth),
            "lora_down": NunchakuLayout.packLowRank(down, .down), "lora_up": NunchakuLayout.packLowRank(up, .up),
            "bias": NunchakuLayout.packVector(bias),
        ]
    }
}

// MARK: - Checks

/// A part of a layer that no engine could compute with.
struct Int4Fault: Equatable {
    /// Nunchaku's key of the part.
    let key: String
    /// What is wrong.
    let reason: String
}

extension Int4Weights {
    /// The first number that cannot be computed with; nil where all is well.
    ///
    /// - Parameter firstRow: which output of the layer the first one here is.
    /// - Returns: what is wrong.
    func fault(firstRow: Int = 0) -> Int4Fault? {
        let groups = scales.shape[1]
        let codes = codes.address.assumingMemoryBound(to: Int8.self)
        for (index, scale) in scales.floats().enumerated() where !scale.isFinite || scale == 0 {
            let first = index * Self.groupSize
            let isUsed = (first..<first + Self.groupSize).contains { codes[$0] != 0 }
            guard !scale.isFinite || isUsed else { continue }
            return Int4Fault(
                key: "wscales",
                reason: "the scale of output \(firstRow + index / groups), group \(index % groups) is \(scale)"
                    + (scale == 0 ? ", but its codes are not" : ""))
        }
        return Self.fault(smooth: smooth) ?? Self.fault(in: ["lora_down": down, "lora_up": up, "bias": bias])
    }

    /// What is wrong with a smoothing vector.
    static func fault(smooth: Tensor) -> Int4Fault? {
        if NonFiniteScan.isFinite(smooth), !hasZero(smooth) { return nil }
        let values = smooth.floats()
        return values.firstIndex { !$0.isFinite || $0 == 0 }.map { place in
            Int4Fault(key: "smooth", reason: "input \(place) would be divided by \(values[place])")
        }
    }

    /// Whether one of some 16-bit floats is zero, of either sign.
    private static func hasZero(_ vector: Tensor) -> Bool {
        precondition(vector.isContiguous && vector.dtype.byteSize == 2)
        return vector.bytes.bindMemory(to: UInt16.self).contains { $0 & 0x7fff == 0 }
    }

    /// The first part, in the order of its key, with numbers that are not finite.
    static func fault(in parts: [String: Tensor]) -> Int4Fault? {
        parts.sorted { $0.key < $1.key }.first { !NonFiniteScan.isFinite($0.value) }.map {
            Int4Fault(key: $0.key, reason: "it holds NaN or infinity")
        }
    }
}
