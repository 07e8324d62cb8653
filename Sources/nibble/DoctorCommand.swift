internal import ArgumentParser
internal import Foundation
internal import NibbleTensors

/// `nibble doctor`: what this machine is and what it can do.
struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Tell what this machine is and measure what it can do.",
        discussion: "Takes a few seconds. Other programs that run meanwhile make the limits smaller.")

    @Flag(help: "Print one JSON object.")
    var json = false

    func run() async throws {
        let limits = MachineLimits.measure(on: ThreadPool())
        try Task.checkCancellation()
        let report = DoctorReport(machine: .current(), limits: limits)
        print(json ? try report.json() : report.text)
    }
}

/// What `nibble doctor` prints.
struct DoctorReport {
    let machine: Machine
    let limits: MachineLimits
    var instructionSet = InstructionSet.current.description
    var supported = InstructionSet.supported.map(\.description)
    /// What the environment variable `NIBBLE_ISA` asks for.
    var wanted = ProcessInfo.processInfo.environment["NIBBLE_ISA"]

    /// For people.
    var text: String {
        let threads = machine.coreCount == 1 ? "1 thread" : "\(machine.coreCount) threads"
        let ignored = wanted.map { supported.contains($0) ? "" : "; NIBBLE_ISA=\($0) is not, and was ignored" } ?? ""
        let memory =
            "\(decimals(Double(machine.memoryBytes) / 1e9)) GB, "
            + "\(decimals(Double(machine.availableMemoryBytes) / 1e9)) GB available"
        let rows = Self.names.map { operand, name, _ in
            guard let rate = limits.multiplyAdds[operand] else {
                return "  \(name.padded(to: 34))not in this instruction set"
            }
            return "  \(name.padded(to: 26))\(giga(rate.oneThread).padded(left: 14))"
                + giga(rate.allThreads).padded(left: 14)
        }
        return """
            Instruction set   \(instructionSet) (supported: \(supported.joined(separator: ", "))\(ignored))
            Processor         \(machine.processor)
            Cores             \(machine.coreCount)
            Memory            \(memory)
            oneDNN            \(oneDNNVersion)

            \("G multiply-adds a second".padded(to: 28))\("1 thread".padded(left: 14))\(threads.padded(left: 14))
            \(rows.joined(separator: "\n"))
            \("GB read from memory a second".padded(to: 42))\(giga(limits.memoryBandwidth).padded(left: 14))

            Limits are what dependent-free loops reach on this machine right now.
            """
    }

    /// For programs.
    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }

    /// Of each operand, its name for people and its key for programs.
    fileprivate static let names: [(MachineLimits.Operand, String, Key)] = [
        (.int8, "int8", "int8Gmacs"), (.bfloat16, "bf16", "bf16Gmacs"), (.float32, "f32", "f32Gmacs"),
    ]
}

extension DoctorReport: Encodable {
    /// A key of the JSON, before its conversion to snake case.
    struct Key: CodingKey, ExpressibleByStringLiteral {
        let stringValue: String
        var intValue: Int? { nil }

        init(stringLiteral value: String) { stringValue = value }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(instructionSet, forKey: "instructionSet")
        try container.encode(supported, forKey: "supported")
        try container.encode(machine.processor, forKey: "processor")
        try container.encode(machine.coreCount, forKey: "cores")
        try container.encode(machine.memoryBytes, forKey: "memoryBytes")
        try container.encode(machine.availableMemoryBytes, forKey: "availableMemoryBytes")
        try container.encode(oneDNNVersion, forKey: "onednnVersion")
        try container.encode(tenths(limits.memoryBandwidth), forKey: "memoryGbytesPerSecond")
        var rates = container.nestedContainer(keyedBy: Key.self, forKey: "limits")
        for (operand, _, key) in Self.names {
            // What the instruction set has not is null, so that every key is always there.
            guard let rate = limits.multiplyAdds[operand] else {
                try rates.encodeNil(forKey: key)
                continue
            }
            var threads = rates.nestedContainer(keyedBy: Key.self, forKey: key)
            try threads.encode(tenths(rate.oneThread), forKey: "oneThread")
            try threads.encode(tenths(rate.allThreads), forKey: "allThreads")
        }
    }
}

/// Thousand millions, to one decimal: more is not reproducible.
private func tenths(_ value: Double) -> Double { (value / 1e8).rounded() / 10 }

private func giga(_ value: Double) -> String { decimals(value / 1e9) }

private func decimals(_ value: Double) -> String { String(format: "%.1f", value) }

extension String {
    fileprivate func padded(to width: Int) -> String { padding(toLength: width, withPad: " ", startingAt: 0) }

    fileprivate func padded(left width: Int) -> String { String(repeating: " ", count: max(0, width - count)) + self }
}
