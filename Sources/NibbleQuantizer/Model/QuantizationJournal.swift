internal import Foundation
internal import NibbleCheckpoints
internal import NibbleTensors

/// What is kept while a model is quantized, so that nothing done is lost: a folder beside the output with the arguments,
/// the calibration, and a file for each block that is done. Each file is written beside its place, brought to the disk
/// and renamed; what has its name is complete.
///
/// Several processes may work on one journal at once, also on several machines that share the folder: a block has the
/// same bytes whoever makes it.
public struct QuantizationJournal: Sendable {
    /// Changes whenever another version of the program could not go on with what this one wrote.
    private static let version = 1

    /// The folder.
    public let folder: String

    /// Opens or begins a journal.
    ///
    /// - Parameters:
    ///   - folder: made where it is not there.
    ///   - arguments: all that the result depends on.
    /// - Throws: `QuantizationError.otherArguments` or `.unreadableJournal` for one that this run cannot go on with, or
    ///   `CheckpointError`.
    public init(_ folder: String, arguments: [String: String]) throws {
        self.folder = folder
        let path = folder + "/journal.json"
        guard FileManager.default.fileExists(atPath: path) else {
            try Self.accessing(folder) {
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                try Self.encoded(Head(version: Self.version, arguments: arguments)).write(
                    to: URL(filePath: path), options: .atomic)
            }
            return
        }
        let head: Head
        do {
            head = try JSONDecoder().decode(Head.self, from: Data(contentsOf: URL(filePath: path)))
        } catch {
            throw QuantizationError.unreadableJournal(path: folder, reason: "journal.json cannot be understood")
        }
        guard head.version == Self.version else {
            throw QuantizationError.unreadableJournal(
                path: folder, reason: "it is of version \(head.version); this program knows version \(Self.version)")
        }
        for key in Set(head.arguments.keys).union(arguments.keys).sorted() {
            let (found, expected) = (head.arguments[key] ?? "not given", arguments[key] ?? "not given")
            guard found == expected else {
                throw QuantizationError.otherArguments(path: folder, key: key, found: found, expected: expected)
            }
        }
    }

    private struct Head: Codable {
        let version: Int
        let arguments: [String: String]
    }

    /// Whether another process has put the output in its place and taken the journal away.
    public var isGone: Bool { !FileManager.default.fileExists(atPath: folder + "/journal.json") }

    /// Does the last of the work, what only one of several processes may do; the others wait, and then find it done.
    ///
    /// - Parameter body: puts the output in its place and removes the journal.
    /// - Returns: whether the body ran; or else another process has done it.
    /// - Throws: `CheckpointError`, or what the body throws.
    public func finish(_ body: () throws -> Void) throws -> Bool {
        let lock = open(folder + "/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
        guard lock >= 0 else {
            if isGone { return false }
            throw CheckpointError.inaccessible(path: folder, reason: String(cString: strerror(errno)))
        }
        defer { close(lock) }
        while flock(lock, LOCK_EX) != 0 {
            guard errno == EINTR else {
                throw CheckpointError.inaccessible(path: folder, reason: String(cString: strerror(errno)))
            }
        }
        guard !isGone else {
            remove()  // the folder may have outlived its removal, because of this process's lock
            return false
        }
        try body()
        return true
    }

    /// Removes it, when its output is in its place.
    public func remove() {
        // First what says that it is one: whoever looks in the meantime finds it gone.
        try? FileManager.default.removeItem(atPath: folder + "/journal.json")
        try? FileManager.default.removeItem(atPath: folder)
    }

    private static func encoded(_ value: some Encodable) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        return try encoder.encode(value)
    }

    private static func accessing<Result>(_ path: String, _ body: () throws -> Result) throws -> Result {
        do {
            return try body()
        } catch let error as CocoaError where error.code == .fileWriteOutOfSpace {
            throw CheckpointError.diskFull(path: path)
        } catch {
            throw CheckpointError.inaccessible(path: path, reason: error.localizedDescription)
        }
    }
}

// MARK: - Calibration

extension QuantizationJournal {
    private var calibrationPath: String { folder + "/calibration.safetensors" }

    /// What the model saw, if an earlier process recorded it.
    public func calibration() throws -> CalibrationInputs? {
        guard FileManager.default.fileExists(atPath: calibrationPath) else { return nil }
        return try CalibrationInputs(reading: calibrationPath)
    }

    /// Keeps what the model saw.
    public func keep(_ calibration: CalibrationInputs) throws { try calibration.write(to: calibrationPath) }
}

// MARK: - Blocks

extension QuantizationJournal {
    private func path(_ block: Int, _ ending: String) -> String {
        "\(folder)/block-\(String(repeating: "0", count: max(0, 3 - "\(block)".count)))\(block).\(ending)"
    }

    /// Whether a block is done.
    public func contains(_ block: Int) -> Bool {
        FileManager.default.fileExists(atPath: path(block, "safetensors"))
    }

    /// Keeps a block: its report, and then its tensors, whose presence says that it is done.
    func keep(_ block: Int, _ tensors: [String: Tensor], _ report: QuantizationReport) throws {
        let reportPath = path(block, "json")
        try Self.accessing(reportPath) {
            try Self.encoded(report).write(to: URL(filePath: reportPath), options: .atomic)
        }
        try SafetensorsWriter.write(tensors, to: path(block, "safetensors"))
    }

    /// A block's tensors.
    func tensors(of block: Int) throws(CheckpointError) -> SafetensorsFile {
        try SafetensorsFile(path(block, "safetensors"))
    }

    /// The reports of blocks that are done.
    public func report(of blocks: Range<Int>) throws -> QuantizationReport {
        var layers: [QuantizationReport.Layer] = []
        for block in blocks {
            let path = path(block, "json")
            guard FileManager.default.fileExists(atPath: path) else { continue }
            layers += try Self.accessing(path) {
                try JSONDecoder().decode(QuantizationReport.self, from: Data(contentsOf: URL(filePath: path))).layers
            }
        }
        return QuantizationReport(layers: layers)
    }
}
