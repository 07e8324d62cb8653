import Foundation
import NibbleQuantizer
import Testing

@Suite struct QuantizationRecipeTests {
    @Test(arguments: QuantizationRecipe.Preset.allCases)
    func `presets are possible, and the same after being written and read`(_ preset: QuantizationRecipe.Preset) throws {
        let recipe = QuantizationRecipe(preset)
        try recipe.check()
        let data = try JSONEncoder().encode(recipe)
        #expect(try JSONDecoder().decode(QuantizationRecipe.self, from: data) == recipe)
    }

    @Test func `a missing key has the default, and an unknown one is refused`() throws {
        let recipe = try JSONDecoder().decode(QuantizationRecipe.self, from: Data(#"{"rank": 64}"#.utf8))
        #expect(recipe.rank == 64 && recipe.grid == QuantizationRecipe(.fast).grid)
        let full = try JSONDecoder().decode(
            QuantizationRecipe.self,
            from: Data(#"{"preset": "full", "seed": 3, "prompts": "p.txt", "blocks": "0-3"}"#.utf8))
        #expect(full.gptq && full.seed == 3 && full.prompts == "p.txt" && full.blocks == "0-3")
        let error = #expect(throws: DecodingError.self) {
            try JSONDecoder().decode(QuantizationRecipe.self, from: Data(#"{"rnak": 64}"#.utf8))
        }
        guard case .dataCorrupted(let context) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(context.codingPath.map(\.stringValue) == ["rnak"] && context.debugDescription.contains("rank"))
    }

    static let impossible: [(String, @Sendable (inout QuantizationRecipe) -> Void)] = [
        ("rank", { $0.rank = 0 }), ("rank", { $0.rank = 24 }), ("rank", { $0.rank = 2000 }), ("grid", { $0.grid = 1 }),
        ("iterations", { $0.iterations = 0 }), ("samples", { $0.samples = -1 }), ("steps", { $0.steps = 0 }),
        ("tokens", { $0.tokens = 1 }), ("smoothing", { $0.samples = 0 }),
        ("gptq", { ($0.samples, $0.smoothing, $0.branch, $0.gptq) = (0, .weights, .none, true) }),
        ("iterations", { ($0.samples, $0.smoothing, $0.branch) = (0, .none, .weights) }),
        ("branch", { ($0.samples, $0.smoothing) = (0, .none) }),
    ]

    @Test(arguments: impossible.indices)
    func `what is impossible is refused by name`(_ index: Int) {
        let (key, change) = Self.impossible[index]
        var recipe = QuantizationRecipe()
        change(&recipe)
        let error = #expect(throws: QuantizationError.self) { try recipe.check() }
        guard case .invalidRecipe(let found, _, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(found == key)
    }

    @Test func `prompts are chosen by the seed`() {
        var recipe = QuantizationRecipe()
        let first = recipe.permutation(of: 100)
        #expect(first.sorted() == Array(0..<100) && first != Array(0..<100) && first == recipe.permutation(of: 100))
        recipe.seed = 1
        #expect(recipe.permutation(of: 100) != first)
    }
}
