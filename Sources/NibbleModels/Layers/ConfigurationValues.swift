internal import NibbleTensors

/// Values of a network's configuration file, which anyone may have written: each is bounded.
extension KeyedDecodingContainer {
    /// A size; a missing key has the standard value.
    ///
    /// The standard range is far above every real model, and small enough that the product of three sizes does not
    /// overflow.
    func size(_ key: Key, standard: Int, in range: ClosedRange<Int> = 1...1 << 20) throws -> Int {
        let value = try integer(key, standard: standard)
        guard range.contains(value) else {
            throw refusal(of: key, found: value, expected: "\(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// An integer; a missing key has the standard value.
    func integer(_ key: Key, standard: Int) throws -> Int {
        // Foundation says no more than "not valid JSON" of a number that does not fit the type: so the widest is asked for.
        guard let value = try decodeIfPresent(Double.self, forKey: key) else { return standard }
        guard let integer = Int(exactly: value) else {
            throw refusal(of: key, found: value, expected: "an integer")
        }
        return integer
    }

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

    /// The error for a value that is not understood. The decoder's path and the key are part of it.
    func refusal(of key: Key, found: some CustomStringConvertible, expected: String) -> DecodingError {
        .dataCorruptedError(
            forKey: key, in: self, debugDescription: "'\(key.stringValue)': found \(found); expected \(expected)")
    }
}
