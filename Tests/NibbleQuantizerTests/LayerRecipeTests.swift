internal import NibbleQuantizer
internal import Testing

@Suite struct LayerRecipeTests {
    /// The published settings: DeepCompressor's svdquant/__default__.yaml.
    @Test func theDefaultIsThePapers() {
        let recipe = LayerRecipe()
        #expect(recipe.rank == 32)
        #expect(recipe.smoothing == .search(points: 20))
        #expect(recipe.branch == .weights(iterations: 100))
        #expect(recipe.rounding == .nearest)
    }
}
