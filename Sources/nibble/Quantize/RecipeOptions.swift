public import ArgumentParser
internal import Foundation
public import NibbleQuantizer
internal import NibbleTensors
internal import Yams

extension QuantizationRecipe.Component: ExpressibleByArgument {}
extension QuantizationRecipe.Preset: ExpressibleByArgument {}
extension QuantizationRecipe.Smoothing: ExpressibleByArgument {}
extension QuantizationRecipe.Branch: ExpressibleByArgument {}

/// How to quantize: a preset, a file, and single values over both.
struct RecipeOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "data-free: from the weights alone, minutes. fast: the model draws a few pictures and is observed, an hour or "
                + "two for FLUX.1-dev. full: the best, a night. Default: fast."))
    var preset: QuantizationRecipe.Preset?

    @Option(
        help: ArgumentHelp(
            "A recipe in YAML, as --print-recipe prints it; options beside it change a part.", valueName: "yaml"),
        completion: .file(extensions: ["yaml", "yml"]))
    var recipe: String?

    @Flag(help: "Print the recipe in YAML and do nothing.")
    var printRecipe = false

    @Option(help: "Rank of the low-rank branch, a multiple of 16: more is better and larger.")
    var rank: Int?

    @Option(
        help:
            "Where smoothing factors come from: search (output errors over a grid), weights (no inputs needed), none.")
    var smoothing: QuantizationRecipe.Smoothing?

    @Option(help: "Points of the smoothing grid in each direction.")
    var grid: Int?

    @Option(
        help: ArgumentHelp(
            "What the low-rank branch approximates: weights (SVDQuant), outputs (then also what rounding did to outputs), "
                + "error (LoRC), none."))
    var branch: QuantizationRecipe.Branch?

    @Option(help: "How often the low-rank branch is fitted at most.")
    var iterations: Int?

    @Flag(
        inversion: .prefixedNo,
        help: "Round with GPTQ, which makes good in one column what another lost, instead of to the nearest.")
    var gptq: Bool?

    @Option(help: "What inputs are quantized to where output errors are compared.")
    var activations: ActivationBits?

    @Option(help: "How many of the model's steps are observed, over all prompts.")
    var samples: Int?

    @Option(help: "Steps of each prompt's picture while the model is observed.")
    var steps: Int?

    @Option(help: "Pixels of those pictures' sides. Default: what the model was made for, at most 512.")
    var size: Int?

    @Option(help: "Tokens of a layer's input that are kept to compare output errors.")
    var tokens: Int?

    @Option(help: "Where noise and all choices come from.")
    var seed: UInt64?

    /// The recipe that all of these make, checked.
    func resolved(for component: QuantizationRecipe.Component) throws -> QuantizationRecipe {
        if preset != nil, recipe != nil {
            throw ValidationError(
                "--preset and --recipe are both recipes; name one, and change a part with other options")
        }
        var resolved =
            try recipe.map { try read($0, for: component) } ?? QuantizationRecipe(preset ?? .fast, for: component)
        func set<Value>(_ key: WritableKeyPath<QuantizationRecipe, Value>, _ value: Value?) {
            if let value { resolved[keyPath: key] = value }
        }
        set(\.rank, rank)
        set(\.smoothing, smoothing)
        set(\.grid, grid)
        set(\.branch, branch)
        set(\.iterations, iterations)
        set(\.gptq, gptq)
        set(\.activations, activations)
        set(\.samples, samples)
        set(\.steps, steps)
        if let size { resolved.size = size }
        set(\.tokens, tokens)
        set(\.seed, seed)
        try resolved.check(for: component)
        return resolved
    }

    /// The recipe as a file.
    static func yaml(_ recipe: QuantizationRecipe) throws -> String { try YAMLEncoder().encode(recipe) }

    private func read(
        _ path: String, for component: QuantizationRecipe.Component
    ) throws -> QuantizationRecipe {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw InputError(path, "there is no such file; expected a recipe as --print-recipe prints it")
        }
        do {
            let key = QuantizationRecipe.componentKey
            return try YAMLDecoder().decode(
                QuantizationRecipe.self, from: data, userInfo: key.map { [$0: component] } ?? [:])
        } catch DecodingError.dataCorrupted(let context) where !context.codingPath.isEmpty {
            let key = context.codingPath.map(\.stringValue).joined(separator: ".")
            throw InputError(path, "'\(key)' is not understood; expected \(context.debugDescription)")
        } catch DecodingError.typeMismatch(_, let context) {
            let key = context.codingPath.map(\.stringValue).joined(separator: ".")
            throw InputError(path, "'\(key)': \(context.debugDescription)")
        } catch {
            throw InputError(path, "it is no recipe in YAML: \(error)")
        }
    }
}
