public import NibbleTensors

/// A layer with 4-bit weights of a FLUX.1: of its transformer or of its text encoder.
public struct Int4Layer: Sendable, Hashable {
    /// How it computes.
    public enum Kind: Sendable, Hashable {
        /// 4-bit weights with a low-rank branch, and inputs quantized as they come; without sign behind a GELU.
        case w4a4(isUnsigned: Bool)
        /// 4-bit weights and 16-bit inputs: a modulation, whose outputs are `splits` vectors.
        case w4a16(splits: Int)
        /// 4-bit weights without a bias, with or without a low-rank branch, and inputs in 8 bits whatever others are quantized
        /// to: T5's, whose few channels of hundreds take all of 4 bits from the rest.
        case w4a8
    }

    /// Its name without the tensors' keys, such as `transformer_blocks.0.qkv_proj`.
    public let name: String
    /// How it computes.
    public let kind: Kind
    /// Output channels.
    public let outputs: Int
    /// Input channels.
    public let inputs: Int

    /// See the properties.
    public init(name: String, kind: Kind, outputs: Int, inputs: Int) {
        self.name = name
        self.kind = kind
        self.outputs = outputs
        self.inputs = inputs
    }

    /// What is added to the input before it is quantized without sign: a little more than the least value of GELU,
    /// -0.16997; 11/64 is exact in bfloat16.
    public static let unsignedShift: Float = 0.171875

    /// What its inputs become.
    public var inputCodes: InputCodes {
        switch kind {
        case .w4a4(let isUnsigned): isUnsigned ? .shifted : .signed
        case .w4a16: .signed
        case .w4a8: .signedInPairs
        }
    }

    /// What is added to this layer's input before it is quantized.
    public var shift: Float { inputCodes == .shifted ? Self.unsignedShift : 0 }

    /// Whether its inputs take 8 bits whatever others are quantized to.
    public var takesEightBits: Bool { kind == .w4a8 }

    /// The tensors of the layer.
    ///
    /// - Parameters:
    ///   - rank: of the low-rank pair; without effect for a modulation. A layer of the kind W4A8 may have 0: no pair.
    ///   - form: of the file.
    /// - Returns: types and shapes, by that form's keys; BF16 stands for either 16-bit type.
    func tensors(rank: Int, form: Int4Form = .nunchaku) -> [String: (dtype: DType, shape: Shape)] {
        let groups = inputs / Int4Weights.groupSize
        let tile = KernelOrder.tileOutputs
        let tiles = KernelOrder.tiles(outputs)
        switch (kind, form) {
        case (.w4a4, .nunchaku), (.w4a4, .nunchakuLite):
            let list: [String: (dtype: DType, shape: Shape)] = [
                "qweight": (.int8, [outputs, inputs / 2]), "wscales": (.bfloat16, [groups, outputs]),
                "smooth_orig": (.bfloat16, [inputs]), "smooth": (.bfloat16, [inputs]),
                "lora_down": (.bfloat16, [inputs, rank]), "lora_up": (.bfloat16, [outputs, rank]),
                "bias": (.bfloat16, [outputs]),
            ]
            return Dictionary(list.map { (form.key($0.key), $0.value) }) { first, _ in first }
        case (.w4a16, .nunchaku), (.w4a16, .nunchakuLite):
            // No kernel reads the rows that the engine's files are filled up with, and diffusers' form has none.
            let rows = form == .nunchaku ? ModulationLayout.storedGroups(inputs: inputs) : groups
            return [
                "qweight": (.int32, [outputs / 4, inputs / 2]), "wscales": (.bfloat16, [rows, outputs]),
                "wzeros": (.bfloat16, [rows, outputs]), "bias": (.bfloat16, [outputs]),
            ]
        case (.w4a4, .nibble):
            return [
                "codes": (.uint8, [tiles, inputs / 8, 64]), "scales": (.bfloat16, [tiles, groups, tile]),
                "down": (.bfloat16, [inputs / 2, rank, 2]), "up": (.bfloat16, [tiles, rank, tile]),
                "smooth": (.bfloat16, [inputs]), "smooth_orig": (.bfloat16, [inputs]), "bias": (.bfloat16, [outputs]),
            ]
        case (.w4a8, _):
            var list: [String: (dtype: DType, shape: Shape)] = [
                "codes": (.uint8, [tiles, inputs / 8, 64]), "scales": (.bfloat16, [tiles, groups, tile]),
                "smooth": (.bfloat16, [inputs]),
            ]
            if rank > 0 {
                list["down"] = (.bfloat16, [inputs / 2, rank, 2])
                list["up"] = (.bfloat16, [tiles, rank, tile])
            }
            return list
        case (.w4a16, .nibble):
            return [
                "codes": (.uint8, [tiles, inputs / 8, 64]), "scales": (.bfloat16, [tiles, groups, tile]),
                "zeros": (.bfloat16, [tiles, groups, tile]), "bias": (.bfloat16, [outputs]),
            ]
        }
    }
}
