internal import CNibbleKernels
internal import Foundation

/// The instruction set whose kernels do the arithmetic.
public struct InstructionSet: Sendable, Equatable, CustomStringConvertible {
    let isa: nibble_isa

    /// All that this processor and this build support, worst first.
    public static let supported: [InstructionSet] = (0..<UInt32(NIBBLE_ISA_COUNT)).map(nibble_isa.init(rawValue:))
        .filter(nibble_isa_supported).map(InstructionSet.init)

    /// The one in use: the best supported, or the one that the environment variable `NIBBLE_ISA` names
    /// (`plain`, `neon`, `neondot`, `neoni8mm`, `avx2`, `avxvnni`, `avx512`, `avx512bf16`) if it is supported.
    public static let current: InstructionSet = {
        let wanted = ProcessInfo.processInfo.environment["NIBBLE_ISA"]
        return supported.first { $0.description == wanted } ?? supported.last ?? InstructionSet(isa: NIBBLE_ISA_PLAIN)
    }()

    /// Its name.
    public var description: String { nibble_kernels_for(isa).map { String(cString: $0.pointee.name) } ?? "none" }
}

/// The kernels in use, chosen once.
let kernels: nibble_kernels = {
    guard let table = nibble_kernels_for(InstructionSet.current.isa) else { fatalError("no kernels in this build") }
    return table.pointee
}()

extension DType {
    /// The kernels' name of a float type.
    var kernelFloat: nibble_float {
        switch self {
        case .float32: NIBBLE_F32
        case .bfloat16: NIBBLE_BF16
        case .float16: NIBBLE_F16
        case .float8E4M3: NIBBLE_F8E4M3
        default: preconditionFailure("\(rawValue) is no float type of the kernels")
        }
    }
}

/// Converts contiguous elements to 32-bit floats. Integers of up to 24 bits and all float types are exact.
func widenElements(_ source: UnsafeRawPointer, _ dtype: DType, into target: UnsafeMutablePointer<Float>, count: Int) {
    func integers<Integer: BinaryInteger>(_: Integer.Type) {
        let source = source.assumingMemoryBound(to: Integer.self)
        for index in 0..<count { target[index] = Float(source[index]) }
    }
    switch dtype {
    case .float32, .bfloat16, .float16, .float8E4M3:
        kernels.convert(source, dtype.kernelFloat, target, NIBBLE_F32, count)
    case .float64:
        let source = source.assumingMemoryBound(to: Double.self)
        for index in 0..<count { target[index] = Float(source[index]) }
    case .int8: integers(Int8.self)
    case .int16: integers(Int16.self)
    case .int32: integers(Int32.self)
    case .int64: integers(Int64.self)
    case .uint8, .bool: integers(UInt8.self)
    case .uint16: integers(UInt16.self)
    case .uint32: integers(UInt32.self)
    case .uint64: integers(UInt64.self)
    case .float8E5M2: preconditionFailure("F8_E5M2 is recognized but not computed with")
    }
}
