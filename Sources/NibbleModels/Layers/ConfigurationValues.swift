internal import NibbleCheckpoints
internal import NibbleTensors

/// Values that networks' configurations alone have.
extension KeyedDecodingContainer {
    /// What a norm adds to a mean square; a missing key has the standard value. Not 0: a row of zeros would become NaN.
    func epsilon(_ key: Key, standard: Float) throws -> Float {
        guard let value = try decodeIfPresent(Double.self, forKey: key) else { return standard }
        // Below the least normal number a float keeps only some of the digits, or none.
        guard value >= Double(Float.leastNormalMagnitude), value < 1 else {
            throw refusal(of: key, found: value, expected: "a number above 0 and below 1")
        }
        return Float(value)
    }

    /// An activation under the name that transformers gives to it.
    func activation(named name: String, from key: Key) throws -> Activation {
        switch name {
        case "gelu": .gelu
        case "gelu_new", "gelu_pytorch_tanh": .geluTanh
        case "quick_gelu": .quickGelu
        default:
            throw refusal(of: key, found: name, expected: "gelu, gelu_new, gelu_pytorch_tanh or quick_gelu")
        }
    }
}
