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
    @OptionGroup var options: BenchOptions

    mutating func validate() throws {
        try checkSize("--tokens", tokens, 1...1 << 20)
        try checkSize("--heads", heads, 1...4096)
        try checkSize("--head-dim", headDim, 1...4096)
        try checkSize("--tokens times --heads times --head-dim", tokens * heads * headDim, 1...1 << 32)
    }

    func run() async throws {
        let compute = Compute(precision: precision, pool: ThreadPool(threadCount: options.threads))
        let weights = RandomWeights(dtype: precision.activation)
        let shape: Shape = [tokens, heads * headDim]
        let q = try weights.tensor("q", expecting: shape)
        let k = try weights.tensor("k", expecting: shape)
        let v = try weights.tensor("v", expecting: shape)
        let out = Tensor(zeros: shape, precision.activation)
        try BenchReport(
            "attention \(tokens) tokens, \(heads) heads of \(headDim)",
            macs: 2 * Double(tokens) * Double(tokens) * Double(heads * headDim), on: compute, options
        ) { compute.attention(q, k, v, heads: heads, into: out) }.print(json: options.json)
    }
}
