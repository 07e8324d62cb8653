internal import ArgumentParser
internal import NibbleCheckpoints
internal import NibbleTensors

/// `nibble bench linear`: one linear layer.
struct BenchLinear: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "linear", abstract: "One linear layer.")

    @Option(help: "Rows of the input.")
    var tokens: Int = 768
    @Option(name: .customLong("in"), help: "Input channels.")
    var input: Int = 3072
    @Option(name: .customLong("out"), help: "Output channels.")
    var output: Int = 3072
    @Option(help: "Numbers to compute in.")
    var precision: Precision = .bf16
    @OptionGroup var options: BenchOptions

    mutating func validate() throws {
        for (name, value) in [("--tokens", tokens), ("--in", input), ("--out", output)] {
            try checkSize(name, value, 1...1 << 20)
        }
        // 64 GiB of weights are beyond any layer.
        try checkSize("--in times --out", input * output, 1...1 << 34)
    }

    func run() async throws {
        let compute = Compute(precision: precision, pool: ThreadPool(threadCount: options.threads))
        let type = precision.activation
        let weights = RandomWeights(dtype: type)
        let weight = try weights.tensor("weight", expecting: [output, input])
        let bias = try RandomWeights(dtype: .float32).tensor("bias", expecting: [output])
        let x = try weights.tensor("x", expecting: [tokens, input])
        let y = Tensor(zeros: [tokens, output], type)
        try BenchReport(
            "linear \(tokens) × \(input) → \(output)", macs: Double(tokens) * Double(input) * Double(output),
            on: compute,
            options
        ) { compute.product(x, weight, bias: bias, into: y) }.print(json: options.json)
    }
}
