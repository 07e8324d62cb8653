/// A recipe as a file: keys are the names of its properties, which are those of the command line's options, and `preset`,
/// the recipe that it changes.
extension QuantizationRecipe {
    private enum CodingKeys: String, CodingKey, CaseIterable {
        case preset, rank, smoothing, grid, branch, iterations, gptq, activations, samples, steps, size, tokens, seed
        case prompts, blocks
    }

    /// What a decoder's `userInfo` names the component with that the recipe is for; a transformer where it does not.
    public static let componentKey = CodingUserInfoKey(rawValue: "component")

    /// Reads a recipe. A missing key has the preset's value, or that of `fast`; a key that is not one is refused, since it
    /// would be a slip.
    public init(from decoder: any Decoder) throws {
        let known = try decoder.container(keyedBy: CodingKeys.self)
        for key in try decoder.container(keyedBy: AnyKey.self).allKeys
        where CodingKeys(stringValue: key.stringValue) == nil {
            let names = CodingKeys.allCases.map(\.stringValue).joined(separator: ", ")
            throw DecodingError.dataCorrupted(
                DecodingError.Context(codingPath: [key], debugDescription: "one of \(names)"))
        }
        let component = Self.componentKey.flatMap { decoder.userInfo[$0] as? Component } ?? .transformer
        self.init(try known.decodeIfPresent(Preset.self, forKey: .preset) ?? .fast, for: component)
        func read<Value: Decodable>(_ key: CodingKeys, into value: inout Value) throws {
            if let found = try known.decodeIfPresent(Value.self, forKey: key) { value = found }
        }
        try read(.rank, into: &rank)
        try read(.smoothing, into: &smoothing)
        try read(.grid, into: &grid)
        try read(.branch, into: &branch)
        try read(.iterations, into: &iterations)
        try read(.gptq, into: &gptq)
        try read(.activations, into: &activations)
        try read(.samples, into: &samples)
        try read(.steps, into: &steps)
        try read(.tokens, into: &tokens)
        try read(.seed, into: &seed)
        size = try known.decodeIfPresent(Int.self, forKey: .size)
        prompts = try known.decodeIfPresent(String.self, forKey: .prompts)
        blocks = try known.decodeIfPresent(String.self, forKey: .blocks)
    }

    /// Writes all values.
    public func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        try values.encode(rank, forKey: .rank)
        try values.encode(smoothing, forKey: .smoothing)
        try values.encode(grid, forKey: .grid)
        try values.encode(branch, forKey: .branch)
        try values.encode(iterations, forKey: .iterations)
        try values.encode(gptq, forKey: .gptq)
        try values.encode(activations, forKey: .activations)
        try values.encode(samples, forKey: .samples)
        try values.encode(steps, forKey: .steps)
        try values.encodeIfPresent(size, forKey: .size)
        try values.encode(tokens, forKey: .tokens)
        try values.encode(seed, forKey: .seed)
        try values.encodeIfPresent(prompts, forKey: .prompts)
        try values.encodeIfPresent(blocks, forKey: .blocks)
    }

    private struct AnyKey: CodingKey {
        let stringValue: String
        let intValue: Int? = nil
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }
}
