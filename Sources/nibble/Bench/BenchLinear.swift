internal import ArgumentParser
internal import NibbleCheckpoints
internal import NibbleTensors

/// `nibble bench linear`: one linear layer.
struct BenchLinear: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "linear", abstract: "One linear layer.", usage: "nibble bench linear [options]")

    @Option(help: "Rows of the input.")
    var tokens: Int = 768
    @Option(name: .customLong("in"), help: "Input channels.")
    var input: Int = 3072
    @Option(name: .customLong("out"), help: "Output channels.")
    var output: Int = 3072
    @Option(help: "Numbers to compute in.")
    var precision: Precision = .bf16
    @Option(help: "Measure a 4-bit layer instead, with inputs quantized to these bits; the limit is that of bytes.")
    var activations: ActivationBits?
    @Option(help: "Rank of a 4-bit layer's low-rank branch; 0: none.")
    var rank: Int = 32
    @OptionGroup var options: BenchOptions

    mutating func validate() throws {
        for (name, value) in [("--tokens", tokens), ("--in", input), ("--out", output)] {
            try checkSize(name, value, 1...1 << 20)
        }
        try checkSize("--rank", rank, 0...4096)
        if activations != nil, input % QuantizedWeights.groupSize != 0 {
            throw ValidationError(
                "--in: found \(input); a 4-bit layer's is a multiple of \(QuantizedWeights.groupSize)")
        }
        // 64 GiB of weights are beyond any layer.
        try checkSize("--in times --out", input * output, 1...1 << 34)
    }

    func run() async throws {
        let compute = Compute(precision: precision, pool: ThreadPool(threadCount: options.threads))
        if let activations { return try measureQuantized(activations, on: compute) }
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

    /// Everything included: smoothing and quantizing the input, the product, the branch, the bias.
    private func measureQuantized(_ bits: ActivationBits, on compute: Compute) throws {
        let weights = try randomQuantizedWeights()
        let x = try RandomWeights(dtype: precision.activation).tensor("x", expecting: [tokens, input])
        let y = Tensor(zeros: [tokens, output], precision.activation)
        try BenchReport(
            "4-bit linear \(tokens) × \(input) → \(output), rank \(weights.rank), \(bits) activations",
            macs: Double(tokens) * Double(input) * Double(output), on: compute, options, operand: .int8
        ) { compute.quantizedProduct(x, weights, into: y, bits: bits) }.print(json: options.json)
    }

    private func randomQuantizedWeights() throws -> QuantizedWeights {
        func multiple(_ count: Int, of unit: Int) -> Int { (count + unit - 1) / unit * unit }
        let tiles = multiple(output, of: QuantizedWeights.tileOutputs) / QuantizedWeights.tileOutputs
        let rank = multiple(rank, of: QuantizedWeights.rankMultiple)
        let codes = Tensor(zeros: [tiles, input / 8, 64], .uint8)
        var generator = SystemRandomNumberGenerator()
        for offset in stride(from: 0, to: codes.elementCount, by: 8) {
            codes.mutableAddress.storeBytes(of: generator.next() as UInt64, toByteOffset: offset, as: UInt64.self)
        }
        let halves = RandomWeights(dtype: .bfloat16)
        let floats = RandomWeights(dtype: .float32)
        let groups = input / QuantizedWeights.groupSize
        return QuantizedWeights(
            output: output, codes: codes,
            scales: try halves.tensor("scales", expecting: [tiles, groups, QuantizedWeights.tileOutputs]),
            // All ones: a gain in the eyes of the generator.
            smooth: try floats.tensor("weight", expecting: [input]),
            down: try halves.tensor("down", expecting: [input / 2, rank, 2]),
            up: try halves.tensor("up", expecting: [tiles, rank, QuantizedWeights.tileOutputs]),
            bias: try floats.tensor("bias", expecting: [output]), inputCodes: .signed)
    }
}
