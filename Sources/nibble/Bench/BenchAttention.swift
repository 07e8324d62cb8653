internal import ArgumentParser
internal import NibbleCheckpoints
internal import NibbleTensors

/// `nibble bench attention`: attention of a sequence to itself.
struct BenchAttention: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attention", abstract: "Attention of a sequence to itself.",
        usage: "nibble bench attention [options]")

    @Option(help: "Length of the sequence.")
    var tokens: Int = 1536
    @Option(help: "Heads.")
    var heads: Int = 24
    @Option(help: "Width of a head.")
    var headDim: Int = 128
    @Option(help: "Numbers to compute in.")
    var precision: Precision = .bf16
    @Option(
        help: ArgumentHelp(
            "What is multiplied: int8 includes quantization, and the norms and rotation of queries and keys, and stands "
                + "beside the limit of bytes. Default: that of --precision.", valueName: "attention"))
    var attention = AttentionPrecision.bf16
    @OptionGroup var options: BenchOptions

    mutating func validate() throws {
        try checkSize("--tokens", tokens, 1...1 << 20)
        try checkSize("--heads", heads, 1...4096)
        try checkSize("--head-dim", headDim, 1...4096)
        try checkSize("--tokens times --heads times --head-dim", tokens * heads * headDim, 1...1 << 32)
    }

    func run() async throws {
        try checkAttention(attention, precision)
        let compute = Compute(precision: precision, pool: ThreadPool(threadCount: options.threads))
        let weights = RandomWeights(dtype: precision.activation)
        let shape: Shape = [tokens, heads * headDim]
        let q = try weights.tensor("q", expecting: shape)
        let k = try weights.tensor("k", expecting: shape)
        let v = try weights.tensor("v", expecting: shape)
        let out = Tensor(zeros: shape, precision.activation)
        let isInt8 = attention == .int8
        let norm = isInt8 && headDim.isMultiple(of: 2) ? try norm(RandomWeights(dtype: .float32)) : nil
        try BenchReport(
            (isInt8 ? "int8 " : "") + "attention \(tokens) tokens, \(heads) heads of \(headDim)",
            macs: 2 * Double(tokens) * Double(tokens) * Double(heads * headDim), on: compute, options,
            operand: isInt8 ? .int8 : nil
        ) {
            if isInt8 {
                compute.int8Attention(q, k, v, heads: heads, queryNorm: norm, keyNorm: norm, into: out)
            } else {
                compute.attention(q, k, v, heads: heads, into: out)
            }
        }.print(json: options.json)
    }

    private func norm(_ weights: RandomWeights) throws -> HeadNorm {
        let gain = try weights.tensor("gain", expecting: [headDim])
        let rotary = RotaryAngles(
            cosine: try weights.tensor("cosine", expecting: [tokens, headDim / 2]),
            sine: try weights.tensor("sine", expecting: [tokens, headDim / 2]))
        return HeadNorm(gains: (gain, gain), boundary: tokens, epsilon: 1e-6, rotary: rotary)
    }
}
