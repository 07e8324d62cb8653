import CNibbleKernels
import Testing

/// One instruction set's kernels, with a name for test reports.
struct KernelSet: Sendable, CustomTestStringConvertible {
    let isa: nibble_isa
    let table: nibble_kernels

    var name: String { String(cString: table.name) }
    var testDescription: String { name }

    init?(_ isa: nibble_isa) {
        guard let table = nibble_kernels_for(isa) else { return nil }
        self.isa = isa
        self.table = table.pointee
    }

    /// All that this processor has; `InstructionSetTests` says which are missing.
    static let supported = (0..<UInt32(NIBBLE_ISA_COUNT)).compactMap { KernelSet(nibble_isa(rawValue: $0)) }

    /// The plain C that the others are compared with.
    static let plain = supported.first { $0.isa == NIBBLE_ISA_PLAIN }

    func attention(_ type: nibble_float) -> nibble_attention {
        type == NIBBLE_F32 ? table.attention_f32 : table.attention_bf16
    }
}

/// The unit roundoff of a type: the most that rounding to nearest changes a normal number, relative to it.
func unitRoundoff(_ type: nibble_float) -> Double { type == NIBBLE_F32 ? 0x1p-24 : 0x1p-8 }

/// The most that a type's subnormal numbers are off by; also covers results that are flushed to zero.
let smallestNormal = 0x1p-126

extension nibble_float {
    var label: String { ["f32", "bf16", "f16", "f8e4m3"][Int(rawValue)] }
}
