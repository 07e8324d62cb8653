internal import NibbleTensors

extension QuantizationRecipe {
    /// The parts of a model that can be quantized; raw values are the folders' names.
    public enum Component: String, Sendable, CaseIterable {
        /// FLUX.1's transformer.
        case transformer
        /// T5.
        case textEncoder2 = "text_encoder_2"
    }

    /// A recipe that has a name, for a component.
    public init(_ preset: Preset, for component: Component) {
        self.init(preset)
        guard component == .textEncoder2 else { return }
        activations = .int8
        // A prompt is one run.
        steps = 1
        guard isCalibrated else { return }
        // Inputs of 8 bits have little noise to round for, and the weights' error is all that is left: docs/quality.md.
        gptq = true
        // T5's layers are four times as large as a transformer's: half the tokens keep the search as short.
        if preset == .fast { tokens = 512 }
    }

    /// Throws where a value is out of range, asks for what others make impossible, or what the component has not.
    ///
    /// - Parameter component: what is quantized.
    /// - Throws: `QuantizationError.invalidRecipe`.
    public func check(for component: Component) throws(QuantizationError) {
        try check()
        guard component == .textEncoder2 else { return }
        guard activations == .int8 else {
            throw .invalidRecipe(
                key: "activations", found: activations.rawValue,
                expected: "int8: a 4-bit text encoder runs with no others")
        }
        guard steps == 1 else {
            throw .invalidRecipe(
                key: "steps", found: "\(steps)", expected: "1: a text encoder reads each prompt once")
        }
        guard size == nil else {
            throw .invalidRecipe(
                key: "size", found: "\(size ?? 0)", expected: "nothing: a text encoder sees no picture")
        }
    }
}
