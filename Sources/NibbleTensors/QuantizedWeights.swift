internal import CNibbleKernels

/// Bits that the input of a 4-bit layer is quantized to, token by token and in groups of 64 channels. Both run the same
/// weights: codes are bytes when they are multiplied.
public enum ActivationBits: String, Sendable, Codable, CaseIterable {
    /// SVDQuant's W4A4, which a Nunchaku file was made for.
    case int4
    /// The same file nearer to 16 bits.
    case int8
}

/// The codes that inputs of a 4-bit layer become.
public enum InputCodes: Sendable {
    /// With a sign.
    case signed
    /// Without one: 0.171875 is added to inputs behind a GELU, which the bias takes back.
    case shifted
    /// With a sign, and 8 bits end at ±112 instead of ±127: room for products in pairs.
    case signedInPairs
}

/// The weights of a 4-bit layer in the order that the kernels read, which is the same for every instruction set and
/// every file (`nibble_quantized.h` states it): W = code · scale, y = Q(x / smooth) Wᵀ + (x downᵀ) upᵀ + bias.
public struct QuantizedWeights: Sendable {
    /// Inputs that share a scale.
    public static let groupSize = Int(NIBBLE_GROUP)
    /// Outputs that lie together.
    public static let tileOutputs = KernelOrder.tileOutputs
    /// What ranks are padded to.
    public static let rankMultiple = Int(NIBBLE_RANK_MULTIPLE)

    /// Input channels, a multiple of 64.
    public let input: Int
    /// Output channels.
    public let output: Int
    /// Rank of the low-rank branch, padded to a multiple of 16; 0: none.
    public let rank: Int
    /// What inputs become.
    public let inputCodes: InputCodes
    /// `[⌈output / 16⌉, input / 8, 64]` U8.
    public let codes: Tensor
    /// `[⌈output / 16⌉, input / 64, 16]` BF16.
    public let scales: Tensor
    /// `[input]` F32.
    public let smooth: Tensor
    /// `[input / 2, rank, 2]` BF16.
    public let down: Tensor
    /// `[⌈output / 16⌉, rank, 16]` BF16.
    public let up: Tensor
    /// `[output]` F32.
    public let bias: Tensor

    /// Packs the logical form.
    ///
    /// - Parameters:
    ///   - codes: `[output, input]` I8, -8 to 7; input a multiple of 64.
    ///   - scales: `[output, input / 64]` BF16.
    ///   - smooth: `[input]` F32.
    ///   - down: `[rank, input]` BF16; rank 0: no branch.
    ///   - up: `[output, rank]` BF16.
    ///   - bias: `[output]` F32.
    ///   - inputCodes: what inputs become.
    ///   - pool: threads that share the work; nil: the caller alone.
    public init(
        packing codes: Tensor, scales: Tensor, smooth: Tensor, down: Tensor, up: Tensor, bias: Tensor,
        inputCodes: InputCodes, on pool: ThreadPool? = nil
    ) {
        let (output, input, rank) = (codes.rows, codes.width, down.rows)
        precondition(codes.dtype == .int8 && input % Self.groupSize == 0)
        precondition(scales.dtype == .bfloat16 && scales.shape == [output, input / Self.groupSize])
        precondition(down.dtype == .bfloat16 && (rank == 0 || down.width == input))
        precondition(up.dtype == .bfloat16 && up.elementCount == output * rank)
        let tiles = KernelOrder.tiles(output)
        let padded = KernelOrder.paddedRank(rank)
        let packed = (
            codes: Tensor(zeros: [tiles, input / 8, 64], .uint8),
            scales: Tensor(zeros: [tiles, input / Self.groupSize, Self.tileOutputs], .bfloat16),
            down: Tensor(zeros: [input / 2, padded, 2], .bfloat16),
            up: Tensor(zeros: [tiles, padded, Self.tileOutputs], .bfloat16)
        )
        KernelOrder.pack(codes: codes, into: packed.codes, on: pool)
        KernelOrder.pack(scales: scales, into: packed.scales)
        KernelOrder.pack(down: down, into: packed.down)
        KernelOrder.pack(up: up, into: packed.up)
        self.init(
            output: output, codes: packed.codes, scales: packed.scales, smooth: smooth, down: packed.down,
            up: packed.up, bias: bias, inputCodes: inputCodes)
    }

    /// Takes tensors that are in the kernels' order already, such as those of a mapped file.
    public init(
        output: Int, codes: Tensor, scales: Tensor, smooth: Tensor, down: Tensor, up: Tensor, bias: Tensor,
        inputCodes: InputCodes
    ) {
        let tiles = KernelOrder.tiles(output)
        let input = codes.shape[1] * 8
        let rank = down.shape[1]
        precondition(codes.dtype == .uint8 && codes.shape == [tiles, input / 8, 64] && input % Self.groupSize == 0)
        precondition(
            scales.dtype == .bfloat16 && scales.shape == [tiles, input / Self.groupSize, Self.tileOutputs])
        precondition(down.dtype == .bfloat16 && down.shape == [input / 2, rank, 2] && rank % Self.rankMultiple == 0)
        precondition(up.dtype == .bfloat16 && up.shape == [tiles, rank, Self.tileOutputs])
        precondition(smooth.dtype == .float32 && smooth.elementCount == input)
        precondition(bias.dtype == .float32 && bias.elementCount == output)
        (self.input, self.output, self.rank) = (input, output, rank)
        self.inputCodes = inputCodes
        (self.codes, self.scales, self.smooth) = (codes, scales, smooth)
        (self.down, self.up, self.bias) = (down, up, bias)
    }

    /// What the kernels take. Its addresses are good as long as the tensors' storages are.
    var layer: nibble_quantized_layer {
        nibble_quantized_layer(
            in: input, out: output, rank: rank, codes: codes.readable(UInt8.self),
            scales: scales.readable(UInt16.self), smooth: smooth.readable(Float.self),
            down: down.readable(UInt16.self), up: up.readable(UInt16.self), bias: bias.readable(Float.self))
    }

    /// The codes that inputs become.
    func kind(_ bits: ActivationBits) -> nibble_activation_codes {
        switch (bits, inputCodes) {
        case (.int4, .signed), (.int4, .signedInPairs): NIBBLE_CODES_S4
        case (.int4, .shifted): NIBBLE_CODES_U4
        case (.int8, .signed): NIBBLE_CODES_S8
        case (.int8, .shifted): NIBBLE_CODES_S8_SHIFTED
        case (.int8, .signedInPairs): NIBBLE_CODES_S8_PAIRED
        }
    }
}

/// Weights of 4 bits with zero points, for layers that see one row (W4A16): W = code · scale + zero, codes 0 to 15, in
/// the order of `nibble_quantized.h`.
public struct QuantizedRowWeights: Sendable {
    /// Output channels.
    public let output: Int
    /// `[⌈output / 16⌉, input / 8, 64]` U8.
    public let codes: Tensor
    /// `[⌈output / 16⌉, input / 64, 16]` BF16.
    public let scales: Tensor
    /// `[⌈output / 16⌉, input / 64, 16]` BF16.
    public let zeros: Tensor
    /// `[output]` F32.
    public let bias: Tensor

    /// Input channels.
    public var input: Int { codes.shape[1] * 8 }

    /// Packs the logical form.
    ///
    /// - Parameters:
    ///   - codes: `[output, input]` U8, 0 to 15; input a multiple of 64.
    ///   - scales: `[output, input / 64]` BF16.
    ///   - zeros: `[output, input / 64]` BF16.
    ///   - bias: `[output]` F32.
    public init(packing codes: Tensor, scales: Tensor, zeros: Tensor, bias: Tensor) {
        let (output, input) = (codes.rows, codes.width)
        let groups = input / QuantizedWeights.groupSize
        precondition(codes.dtype == .uint8 && input % QuantizedWeights.groupSize == 0)
        let tiles = KernelOrder.tiles(output)
        let packed = Tensor(zeros: [tiles, input / 8, 64], .uint8)
        KernelOrder.pack(codes: codes, into: packed)
        let pair = [scales, zeros].map { values in
            precondition(values.dtype == .bfloat16 && values.shape == [output, groups])
            let tensor = Tensor(zeros: [tiles, groups, QuantizedWeights.tileOutputs], .bfloat16)
            KernelOrder.pack(scales: values, into: tensor)
            return tensor
        }
        self.init(output: output, codes: packed, scales: pair[0], zeros: pair[1], bias: bias)
    }

    /// Takes tensors that are in the kernels' order already.
    public init(output: Int, codes: Tensor, scales: Tensor, zeros: Tensor, bias: Tensor) {
        let tiles = KernelOrder.tiles(output)
        let groups = codes.shape[1] / 8
        precondition(codes.dtype == .uint8 && codes.shape == [tiles, groups * 8, 64])
        for tensor in [scales, zeros] {
            precondition(tensor.dtype == .bfloat16 && tensor.shape == [tiles, groups, QuantizedWeights.tileOutputs])
        }
        precondition(bias.dtype == .float32 && bias.elementCount == output)
        (self.output, self.codes, self.scales, self.zeros, self.bias) = (output, codes, scales, zeros, bias)
    }
}
