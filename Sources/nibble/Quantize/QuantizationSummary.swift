internal import Foundation
internal import NibbleQuantizer
internal import NibbleTensors

/// What is said at the end of a quantization.
struct QuantizationSummary: Encodable {
    /// The file.
    let output: String
    /// Its size.
    let bytes: Int
    /// Of this run.
    let seconds: Double
    /// The most memory that the process had.
    let peakRssBytes: Int
    /// Each layer.
    let layers: [QuantizationReport.Layer]

    init(_ report: QuantizationReport, output: String, seconds: Double) {
        self.output = output
        self.seconds = seconds
        layers = report.layers
        bytes = (try? FileManager.default.attributesOfItem(atPath: output)[.size] as? Int).flatMap { $0 } ?? 0
        peakRssBytes = ProcessMemory.peakBytes
    }

    /// Writes the report as JSON beside the file.
    func write(besides output: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        let ending = ".safetensors"
        let path = (output.hasSuffix(ending) ? output.dropLast(ending.count) : output[...]) + ".report.json"
        do {
            try encoder.encode(self).write(to: URL(filePath: String(path)), options: .atomic)
        } catch {
            throw InputError(String(path), "the report cannot be written: \(error.localizedDescription)")
        }
    }

    /// Prints a line for each kind of layer: errors are means over the blocks.
    func print(isQuiet: Bool) {
        guard !isQuiet else { return }
        Swift.print(
            "layer                                            layers  naive error  error  seconds")
        for kind in kinds {
            let name = kind.name.padding(toLength: 48, withPad: " ", startingAt: 0)
            func percent(_ value: Float?) -> String { value.map { String(format: "%.2f %%", 100 * $0) } ?? "-" }
            Swift.print(
                name, String(format: "%6d", kind.count), percent(kind.naive).leftPadded(to: 12),
                percent(kind.error).leftPadded(to: 8), String(format: "%8.1f", kind.seconds))
        }
        Swift.print(
            "\(output): \(ByteCount(bytes)) in \(spoken(seconds: seconds)), peak memory \(ByteCount(peakRssBytes))")
    }

    private var kinds: [(name: String, count: Int, naive: Float?, error: Float?, seconds: Double)] {
        var order: [String] = []
        var members: [String: [QuantizationReport.Layer]] = [:]
        for layer in layers {
            let name = layer.name.split(separator: ".").map { Int($0) == nil ? String($0) : "*" }.joined(separator: ".")
            if members[name] == nil { order.append(name) }
            members[name, default: []].append(layer)
        }
        func mean(_ values: [Float]) -> Float? { values.isEmpty ? nil : values.reduce(0, +) / Float(values.count) }
        return order.map { name in
            let own = members[name] ?? []
            return (
                name, own.count, mean(own.compactMap(\.naiveError)), mean(own.compactMap(\.error)),
                own.reduce(0) { $0 + $1.seconds }
            )
        }
    }
}

extension String {
    fileprivate func leftPadded(to width: Int) -> String {
        String(repeating: " ", count: max(0, width - count)) + self
    }
}
