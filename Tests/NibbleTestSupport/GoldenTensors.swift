public import Foundation
internal import NibbleCheckpoints
public import NibbleTensors

/// The tensors of a golden safetensors file, by name.
public struct GoldenTensors: Sendable {
    private let file: SafetensorsFile

    /// Opens a file.
    public init(_ url: URL) throws { file = try SafetensorsFile(url.path) }

    /// All names.
    public var names: Set<String> { file.tensorNames }

    /// The strings of the file's `__metadata__`.
    public var metadata: [String: String] { file.metadata }

    /// A tensor as it is stored.
    public func tensor(_ name: String) throws -> Tensor { try file.tensor(name) }

    /// The extents of a tensor.
    public func shape(_ name: String) throws -> [Int] { try file.tensor(name).shape.dimensions }

    /// A tensor of any type as 32-bit floats.
    public func floats(_ name: String) throws -> [Float] { try file.tensor(name).floats() }

    /// A tensor of an integer type, or one of floats without fractions. `UInt64` wraps.
    public func integers(_ name: String) throws -> [Int] {
        let tensor = try file.tensor(name)
        switch tensor.dtype {
        case .int8: return Self.convert(tensor, Int8.self)
        case .int16: return Self.convert(tensor, Int16.self)
        case .int32: return Self.convert(tensor, Int32.self)
        case .int64: return Self.convert(tensor, Int64.self)
        case .uint8, .bool: return Self.convert(tensor, UInt8.self)
        case .uint16: return Self.convert(tensor, UInt16.self)
        case .uint32: return Self.convert(tensor, UInt32.self)
        case .uint64: return Self.convert(tensor, UInt64.self)
        default: return tensor.floats().map { Int($0) }
        }
    }

    private static func convert<Element: FixedWidthInteger>(_ tensor: Tensor, _: Element.Type) -> [Int] {
        tensor.bytes.bindMemory(to: Element.self).map { Int(truncatingIfNeeded: $0) }
    }
}

/// The largest absolute difference of two arrays; infinity where the counts differ or a difference is not a number, so
/// that no comparison passes by accident.
public func maximumDifference(_ found: [Float], _ expected: [Float]) -> Float {
    guard found.count == expected.count else { return .infinity }
    var largest: Float = 0
    for (left, right) in zip(found, expected) where left != right {
        let difference = abs(left - right)
        largest = difference.isNaN ? .infinity : max(largest, difference)
    }
    return largest
}

/// The largest absolute difference of a tensor's elements and an array.
public func maximumDifference(_ found: Tensor, _ expected: [Float]) -> Float {
    maximumDifference(found.floats(), expected)
}

/// ‖found - expected‖ / ‖expected‖; infinity where the counts differ.
public func relativeError(_ found: [Float], _ expected: [Float]) -> Double {
    guard found.count == expected.count else { return .infinity }
    var difference = 0.0
    var norm = 0.0
    for (left, right) in zip(found, expected) {
        difference += Double(left - right) * Double(left - right)
        norm += Double(right) * Double(right)
    }
    return (difference / norm).squareRoot()
}
