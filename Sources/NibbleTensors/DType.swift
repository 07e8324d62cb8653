/// The type of a tensor's elements. Raw values are the names that a safetensors header uses.
public enum DType: String, Sendable, CaseIterable {
    /// IEEE binary32.
    case float32 = "F32"
    /// IEEE binary16.
    case float16 = "F16"
    /// The upper half of a binary32.
    case bfloat16 = "BF16"
    /// 8-bit float of 4 exponent and 3 fraction bits, no infinities (OCP FP8, E4M3FN).
    case float8E4M3 = "F8_E4M3"
    /// 8-bit float of 5 exponent and 2 fraction bits.
    case float8E5M2 = "F8_E5M2"
    /// IEEE binary64.
    case float64 = "F64"
    /// Signed integers.
    case int8 = "I8"
    case int16 = "I16"
    case int32 = "I32"
    case int64 = "I64"
    /// Unsigned integers.
    case uint8 = "U8"
    case uint16 = "U16"
    case uint32 = "U32"
    case uint64 = "U64"
    /// One byte per truth value.
    case bool = "BOOL"

    /// Bytes of one element.
    public var byteSize: Int {
        switch self {
        case .float8E4M3, .float8E5M2, .int8, .uint8, .bool: 1
        case .float16, .bfloat16, .int16, .uint16: 2
        case .float32, .int32, .uint32: 4
        case .float64, .int64, .uint64: 8
        }
    }

    /// Whether the elements are floating-point numbers, that is, can be NaN.
    public var isFloatingPoint: Bool {
        switch self {
        case .float32, .float16, .bfloat16, .float8E4M3, .float8E5M2, .float64: true
        default: false
        }
    }
}
