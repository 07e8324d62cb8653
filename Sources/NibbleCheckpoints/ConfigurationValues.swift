/// Values of a configuration file, which anyone may have written: each is bounded.
extension KeyedDecodingContainer {
    /// A size; a missing key has the standard value.
    ///
    /// The standard range is far above every real model, and small enough that the product of three sizes does not
    /// overflow.
    package func size(_ key: Key, standard: Int, in range: ClosedRange<Int> = 1...1 << 20) throws -> Int {
        let value = try integer(key, standard: standard)
        guard range.contains(value) else {
            throw refusal(of: key, found: value, expected: "\(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// An integer; a missing key has the standard value.
    package func integer(_ key: Key, standard: Int) throws -> Int {
        // Foundation says no more than "not valid JSON" of a number that does not fit the type: so the widest is asked for.
        guard let value = try decodeIfPresent(Double.self, forKey: key) else { return standard }
        guard let integer = Int(exactly: value) else {
            throw refusal(of: key, found: value, expected: "an integer")
        }
        return integer
    }

    /// The error for a value that is not understood. The decoder's path and the key are part of it.
    package func refusal(of key: Key, found: some CustomStringConvertible, expected: String) -> DecodingError {
        .dataCorruptedError(
            forKey: key, in: self, debugDescription: "'\(key.stringValue)': found \(found); expected \(expected)")
    }
}
