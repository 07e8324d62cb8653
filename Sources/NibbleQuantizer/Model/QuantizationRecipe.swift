public import NibbleTensors

/// How a model is quantized, in the words of the command line. A preset is a recipe that one can print, change and give
/// back.
public struct QuantizationRecipe: Codable, Sendable, Equatable {
    /// Where smoothing factors come from.
    public enum Smoothing: String, Codable, Sendable, CaseIterable {
        /// All are 1.
        case none
        /// The weights alone.
        case weights
        /// The output error over a grid.
        case search
    }

    /// What the low-rank branch approximates.
    public enum Branch: String, Codable, Sendable, CaseIterable {
        /// There is none.
        case none
        /// The smoothed weights, as SVDQuant does.
        case weights
        /// The smoothed weights, and then what rounding did to the layer's outputs.
        case outputs
        /// The quantization error, as LoRC does.
        case error
    }

    /// The low-rank branch's rank, a multiple of 16.
    public var rank = 32
    /// Where smoothing factors come from.
    public var smoothing = Smoothing.search
    /// Points of the grid in each direction, where it is searched.
    public var grid = 20
    /// What the low-rank branch approximates.
    public var branch = Branch.outputs
    /// How often the branch is fitted at most.
    public var iterations = 20
    /// Whether the residual is rounded with GPTQ, or else to the nearest code.
    public var gptq = false
    /// What a layer's inputs are quantized to where output errors are compared.
    public var activations = ActivationBits.int4
    /// How many of the model's steps over all prompts are observed; 0: none, the model is not run.
    public var samples = 128
    /// Steps of each prompt's picture.
    public var steps = 16
    /// Pixels of the pictures' sides; nil: what the model was made for, at most 512.
    public var size: Int?
    /// Tokens of a layer's input that are kept to compare output errors.
    public var tokens = 1024
    /// Where noise, the choice of prompts and that of tokens come from.
    public var seed: UInt64 = 0
    /// A file with a prompt on each line, for whoever runs the recipe; nil: the model's, or those of the program.
    public var prompts: String?
    /// The blocks that are to be made, such as "0-3", for whoever runs the recipe; nil: all.
    public var blocks: String?

    /// The recipes that have names.
    public enum Preset: String, Sendable, Codable, CaseIterable {
        /// Without running the model: smoothing from the weights alone, one fit of the branch.
        case dataFree = "data-free"
        /// 32 steps observed, a coarse grid, few fits.
        case fast
        /// 128 steps observed, the paper's grid, many fits, GPTQ.
        case full
    }

    /// The paper's grid, a branch fitted to outputs, rounding to nearest.
    public init() {}

    /// A recipe that has a name.
    public init(_ preset: Preset) {
        switch preset {
        case .dataFree:
            smoothing = .weights
            branch = .weights
            iterations = 1
            samples = 0
        case .fast:
            grid = 10
            iterations = 4
            samples = 32
            steps = 8
        case .full:
            gptq = true
        }
    }
}

// MARK: - Checks

extension QuantizationRecipe {
    /// Whether the model has to run.
    public var isCalibrated: Bool { samples > 0 }

    /// How many prompts are drawn for the samples.
    public var promptCount: Int { (samples + steps - 1) / max(steps, 1) }

    /// Throws where a value is out of range, or asks for what others make impossible.
    ///
    /// - Throws: `QuantizationError.invalidRecipe`.
    public func check() throws(QuantizationError) {
        func check(_ key: String, _ value: Int, _ range: ClosedRange<Int>) throws(QuantizationError) {
            guard range.contains(value) else {
                throw .invalidRecipe(
                    key: key, found: "\(value)", expected: "a number from \(range.lowerBound) to \(range.upperBound)")
            }
        }
        try check("rank", rank, 16...1024)
        guard rank.isMultiple(of: 16) else {
            throw .invalidRecipe(key: "rank", found: "\(rank)", expected: "a multiple of 16: no kernel has others")
        }
        try check("grid", grid, 2...100)
        try check("iterations", iterations, 1...1000)
        try check("samples", samples, 0...65_536)
        try check("steps", steps, 1...1000)
        try check("tokens", tokens, 16...65_536)
        guard isCalibrated || smoothing != .search else {
            throw .invalidRecipe(
                key: "smoothing", found: "search with 0 samples",
                expected: "'weights' or 'none', or samples to compare output errors on")
        }
        guard isCalibrated || !gptq else {
            throw .invalidRecipe(
                key: "gptq", found: "true with 0 samples", expected: "samples: GPTQ needs inputs")
        }
        guard isCalibrated || branch != .outputs else {
            throw .invalidRecipe(
                key: "branch", found: "outputs with 0 samples", expected: "weights, or samples to fit outputs of")
        }
        guard isCalibrated || branch != .weights || iterations == 1 else {
            throw .invalidRecipe(
                key: "iterations", found: "\(iterations) with 0 samples",
                expected: "1: without inputs no fit can be told to be better than another")
        }
    }

    /// All values by name, for a journal.
    public var arguments: [String: String] {
        [
            "rank": "\(rank)", "smoothing": smoothing.rawValue, "grid": "\(grid)", "branch": branch.rawValue,
            "iterations": "\(iterations)", "gptq": "\(gptq)", "activations": activations.rawValue,
            "samples": "\(samples)", "steps": "\(steps)", "size": size.map { "\($0)" } ?? "the model's",
            "tokens": "\(tokens)", "seed": "\(seed)",
        ]
    }

    /// The numbers below `count` in an order that follows from the seed.
    public func permutation(of count: Int) -> [Int] {
        var generator = SplitMix(state: seed)
        return (0..<count).shuffled(using: &generator)
    }

    /// What it says about a single layer.
    var layer: LayerRecipe {
        var recipe = LayerRecipe()
        recipe.rank = rank
        recipe.smoothing =
            switch smoothing {
            case .none: .none
            // What diffusers' calibration-free SVDQuant takes.
            case .weights: .weightsOnly(beta: 0.5)
            case .search: .search(points: grid)
            }
        recipe.branch =
            switch branch {
            case .none: .none
            case .weights: .weights(iterations: iterations)
            case .outputs: .outputs(iterations: iterations)
            case .error: .error
            }
        recipe.rounding = gptq ? .gptq : .nearest
        recipe.activations = activations
        return recipe
    }
}
