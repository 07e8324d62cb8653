import ArgumentParser
import Foundation
import NibbleTensors
import Testing

@testable import nibble

@Suite struct DoctorCommandTests {
    static let limits = MachineLimits(
        multiplyAdds: [
            .int8: .init(oneThread: 535.04e9, allThreads: 1_070e9),
            .float32: .init(oneThread: 133e9, allThreads: 267e9),
        ], memoryBandwidth: 48.26e9)

    @Test func isACommand() throws {
        let command = try Nibble.parseAsRoot(["doctor", "--json"])
        #expect((command as? DoctorCommand)?.json == true)
    }

    @Test func jsonHasItsKeys() throws {
        let report = DoctorReport(machine: .current(), limits: Self.limits)
        let object = try #require(
            JSONSerialization.jsonObject(with: Data(try report.json().utf8)) as? [String: Any])
        #expect(
            Set(object.keys) == [
                "instruction_set", "supported", "processor", "cores", "memory_bytes", "available_memory_bytes",
                "onednn_version", "limits", "memory_gbytes_per_second",
            ])
        #expect(object["memory_gbytes_per_second"] as? Double == 48.3)
        let limits = try #require(object["limits"] as? [String: Any])
        #expect(limits["int8_gmacs"] as? [String: Double] == ["one_thread": 535, "all_threads": 1070])
        #expect(limits["f32_gmacs"] as? [String: Double] == ["one_thread": 133, "all_threads": 267])
        #expect(limits["bf16_gmacs"] is NSNull)
    }

    @Test func textSaysWhatIsMissing() {
        let report = DoctorReport(
            machine: .current(), limits: Self.limits, instructionSet: "avx2", supported: ["plain", "avx2"],
            wanted: "avx1024")
        #expect(report.text.contains("avx2 (supported: plain, avx2; NIBBLE_ISA=avx1024 is not, and was ignored)"))
        #expect(report.text.contains("bf16                              not in this instruction set"))
        #expect(report.text.contains("int8                               535.0        1070.0"))
    }
}
