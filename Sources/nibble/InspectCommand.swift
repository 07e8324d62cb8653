internal import ArgumentParser
internal import Foundation
internal import NibbleCheckpoints
internal import NibbleTensors

/// `nibble inspect`: what a checkpoint or a model folder holds.
struct InspectCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Show what a checkpoint or a model folder holds: its kind, types, sizes, tensors.",
        usage: "nibble inspect <path> [options]",
        discussion: "With '--verify' the exit status is 65 where anything is wrong.")

    @Argument(
        help: "A .safetensors file, an index of shards, a folder, or a name of the Hugging Face Hub.",
        completion: .file())
    var path: String

    @Flag(help: "Print one JSON object instead of a table.")
    var json = false

    @Flag(
        help: ArgumentHelp(
            "Read every byte and look for NaN and infinity; fail if there is any. In a 4-bit transformer also look for "
                + "whatever an engine could not compute with: layers missing, left over or of wrong shapes, scales of zero."
        ))
    var verify = false

    @Flag(help: "List every tensor.")
    var tensors = false

    @Flag(name: .shortAndLong, help: "Nothing on standard error but errors.")
    var quiet = false

    func run() async throws {
        let inspection = try Inspection(try await ModelFetcher(isQuiet: json).transformer(path))
        let findings = verify ? try verified(inspection) : nil
        let int4 = int4Checkpoint(inspection)
        if json {
            let groups = try? int4?.get().layerGroups
            try printJSON(InspectionReport(inspection, int4: groups, findings: findings, listsTensors: tensors))
        } else {
            if let int4 { for line in InspectionTable.lines(int4) { print(line) } }
            for line in InspectionTable.lines(inspection, findings: findings, listsTensors: tensors) { print(line) }
        }
        if let findings, !findings.isEmpty {
            throw CheckpointError.verificationFailed(path: path, names: findings.map(\.tensor))
        }
        guard verify, let int4 else { return }
        let checkpoint = try int4.get()
        try showingProgress { show in
            try checkpoint.verifyLayers(on: ThreadPool()) { done, total in
                show(done, total, "verifying 4-bit layer \(done) of \(total)")
            }
        }
        if !json { print("verified: an engine can compute with all \(checkpoint.layers.count) 4-bit layers") }
    }

    /// A 4-bit transformer or text encoder, opened, or what is wrong with it; nil for anything else.
    private func int4Checkpoint(_ inspection: Inspection) -> Result<any Int4Checkpoint, CheckpointError>? {
        let component = inspection.components.first { component in
            switch component.kind {
            case .svdQuant(.int4, _, _), .nunchakuLite(.int4, _), .nibble, .nibbleT5: true
            default: false
            }
        }
        // A legacy folder's tensors are in two files; other folders may hold several models.
        let isFolder = inspection.components.contains { $0.name == "unquantized_layers.safetensors" }
        guard let component, inspection.pipeline == nil, isFolder || inspection.components.count == 1 else {
            return nil
        }
        do throws(CheckpointError) {
            return .success(try Checkpoint.openInt4(isFolder ? path : component.path))
        } catch {
            return .failure(error)
        }
    }

    private func verified(_ inspection: Inspection) throws -> [Inspection.Finding] {
        try showingProgress { show in
            try inspection.verify(on: ThreadPool()) { done, total in
                show(done, total, "verifying \(ByteCount(done)) of \(ByteCount(total))")
            }
        }
    }

    /// Shows what the body says of its progress, and ends the process where the work is cancelled: it leaves nothing behind.
    private func showingProgress<Result>(
        _ body: ((_ done: Int, _ total: Int, _ text: String) -> Void) throws -> Result
    ) rethrows -> Result {
        var progress = ProgressLine(isQuiet: quiet)
        defer { progress.clear() }
        return try body { done, total, text in
            guard !Task.isCancelled else {
                progress.clear()
                ExitStatus.leave(because: CancellationError(), of: Self.self)
            }
            progress.show(Double(done) / Double(max(total, 1)), text, isMilestone: true)
        }
    }
}

/// A number of bytes for people: three digits and a decimal unit, as model cards state sizes.
struct ByteCount: CustomStringConvertible {
    let bytes: Int

    init(_ bytes: Int) { self.bytes = bytes }

    var description: String {
        var value = Double(bytes)
        var unit = 0
        let units = ["B", "kB", "MB", "GB", "TB"]
        while value >= 999.5, unit + 1 < units.count {
            value /= 1000
            unit += 1
        }
        return unit == 0
            ? "\(bytes) B"
            : String(format: value < 9.995 ? "%.2f %@" : value < 99.95 ? "%.1f %@" : "%.0f %@", value, units[unit])
    }
}

/// What `--json` prints.
private struct InspectionReport: Encodable {
    struct Component: Encodable {
        let name: String
        let path: String
        let kind: String
        let parameters: Int
        let bytes: Int
        let dtypes: [String: Total]
        let metadata: [String: String]
        let tensors: [StoredTensor]?
    }

    struct Total: Encodable {
        let tensors: Int
        let elements: Int
        let bytes: Int
    }

    struct StoredTensor: Encodable {
        let name: String
        let dtype: String
        let shape: [Int]
        let bytes: Int
        let file: String
    }

    struct Int4Layers: Encodable {
        let name: String
        let count: Int
        let outputs: Int
        let inputs: Int
        let rank: Int?
        let description: String
    }

    struct Finding: Encodable {
        let component: String
        let tensor: String
        let file: String
        let nan: Int
        let infinite: Int
    }

    let path: String
    let pipeline: String?
    let missingComponents: [String]
    let parameters: Int
    let bytes: Int
    let components: [Component]
    /// Absent where this is no 4-bit transformer that an engine could take.
    let int4Layers: [Int4Layers]?
    /// Absent where nothing was verified, empty where all is well.
    let notFinite: [Finding]?

    init(
        _ inspection: Inspection, int4: [Int4LayerGroup]?, findings: [Inspection.Finding]?, listsTensors: Bool
    ) {
        path = inspection.path
        pipeline = inspection.pipeline
        missingComponents = inspection.missingComponents
        parameters = inspection.components.reduce(0) { $0 + $1.parameterCount }
        bytes = inspection.components.reduce(0) { $0 + $1.byteCount }
        components = inspection.components.map { component in
            let totals = component.totalsByType.map { dtype, total in
                (dtype.rawValue, Total(tensors: total.tensors, elements: total.elements, bytes: total.bytes))
            }
            let list = component.tensors.map { tensor in
                StoredTensor(
                    name: tensor.entry.name, dtype: tensor.entry.dtype.rawValue, shape: tensor.entry.shape.dimensions,
                    bytes: tensor.entry.byteRange.count, file: tensor.file)
            }
            return Component(
                name: component.name, path: component.path, kind: component.kind.description,
                parameters: component.parameterCount, bytes: component.byteCount,
                dtypes: Dictionary(uniqueKeysWithValues: totals), metadata: component.metadata,
                tensors: listsTensors ? list : nil)
        }
        int4Layers = int4?.map {
            Int4Layers(
                name: $0.name, count: $0.count, outputs: $0.layer.outputs, inputs: $0.layer.inputs, rank: $0.rank,
                description: $0.description)
        }
        notFinite = findings?.map {
            Finding(
                component: $0.component, tensor: $0.tensor, file: $0.file, nan: $0.count.nan,
                infinite: $0.count.infinite)
        }
    }
}

/// What is printed for people.
private enum InspectionTable {
    /// The layers of a 4-bit transformer, or why they cannot be listed.
    static func lines(_ int4: Result<any Int4Checkpoint, CheckpointError>) -> [String] {
        switch int4 {
        case .success(let checkpoint):
            let rows = checkpoint.layerGroups.map { [$0.name, "\($0.count) x", $0.description] }
            return ["4-bit layers (outputs × inputs):"] + columns(rows) + [""]
        case .failure(let error): return ["not usable as it is: \(error)", ""]
        }
    }

    static func lines(_ inspection: Inspection, findings: [Inspection.Finding]?, listsTensors: Bool) -> [String] {
        var lines: [String] = []
        if let pipeline = inspection.pipeline { lines += ["\(pipeline.printable) in \(inspection.path)", ""] }
        for component in inspection.components {
            lines += heading(component)
            lines += listsTensors ? tensorTable(component) : groupTable(component)
            lines.append("")
        }
        if inspection.components.count > 1 {
            let parameters = inspection.components.reduce(0) { $0 + $1.parameterCount }
            let bytes = inspection.components.reduce(0) { $0 + $1.byteCount }
            lines.append("together: \(count(parameters)) parameters, \(ByteCount(bytes))")
        }
        lines += inspection.missingComponents.map { "missing: \($0.printable)" }
        if let findings {
            lines += findings.map { finding in
                "\(finding.component.printable): \(finding.tensor.printable): "
                    + "\(finding.count.nan) NaN, \(finding.count.infinite) infinite"
            }
            if findings.isEmpty { lines.append("verified: every byte was read, every number is finite") }
        }
        return lines
    }

    private static func heading(_ component: Inspection.Component) -> [String] {
        let dtypes = component.totalsByType.sorted { $0.value.bytes > $1.value.bytes }
            .map { "\($0.key.rawValue) \(ByteCount($0.value.bytes))" }.joined(separator: ", ")
        return [
            "\(component.name.printable): \(component.kind)",
            "  \(count(component.parameterCount)) parameters, \(ByteCount(component.byteCount)) (\(dtypes))",
        ]
    }

    private static func groupTable(_ component: Inspection.Component) -> [String] {
        columns(
            component.totalsByGroup.sorted { $0.key < $1.key }.map { group, total in
                let dtypes = total.dtypes.map(\.rawValue).sorted().joined(separator: " ")
                return [
                    group.printable, total.tensors == 1 ? "1 tensor" : "\(total.tensors) tensors", dtypes,
                    "\(ByteCount(total.bytes))",
                ]
            })
    }

    private static func tensorTable(_ component: Inspection.Component) -> [String] {
        columns(
            component.tensors.map { tensor in
                let entry = tensor.entry
                return [
                    entry.name.printable, entry.dtype.rawValue, "\(entry.shape)", "\(ByteCount(entry.byteRange.count))",
                ]
            })
    }

    /// Rows with their columns below each other.
    private static func columns(_ rows: [[String]]) -> [String] {
        let widths = (0..<(rows.first?.count ?? 0)).map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
            return "  " + cells.joined(separator: "  ").trimmingCharacters(in: .whitespaces)
        }
    }

    /// A count of parameters in the field's units.
    private static func count(_ parameters: Int) -> String {
        switch parameters {
        case 1_000_000_000...: String(format: "%.2f B", Double(parameters) / 1e9)
        case 1_000_000...: String(format: "%.1f M", Double(parameters) / 1e6)
        default: "\(parameters)"
        }
    }
}
