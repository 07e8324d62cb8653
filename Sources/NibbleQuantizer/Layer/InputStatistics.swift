public import NibbleTensors

/// What is kept of all inputs that a group of layers saw while the model ran: never all of them.
public struct InputStatistics: Sendable {
    /// The largest magnitude of each channel over all tokens, `[in]` f32; of x + shift where the input is shifted.
    public let maxima: Tensor
    /// Some of the tokens, `[tokens, in]`, f32 or bf16; not shifted.
    public let sample: Tensor
    /// Xᵀ X / tokens over all tokens, `[in, in]` f32, of x + shift where the input is shifted; nil where no method that
    /// was asked for reads it.
    public let secondMoment: Tensor?

    /// See the properties.
    public init(maxima: Tensor, sample: Tensor, secondMoment: Tensor?) {
        self.maxima = maxima
        self.sample = sample
        self.secondMoment = secondMoment
    }
}
