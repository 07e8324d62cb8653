/// What the name of one of Nunchaku's single files says: `svdq-{int4|fp4}_r{RANK}-{MODEL}.safetensors`.
struct NunchakuFileName {
    enum Precision {
        /// Runs on any processor.
        case int4
        /// NVIDIA's 4-bit floats.
        case nvfp4
    }

    let precision: Precision

    /// - Returns: `nil` for a path that is not of this form, or not at the model's root.
    init?(_ path: String) {
        guard path.hasSuffix(".safetensors") else { return nil }
        if path.hasPrefix("svdq-int4") {
            precision = .int4
        } else if path.hasPrefix("svdq-fp4") || path.hasPrefix("svdq-nvfp4") {
            precision = .nvfp4
        } else {
            return nil
        }
    }
}
