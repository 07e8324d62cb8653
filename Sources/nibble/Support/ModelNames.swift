internal import Foundation
internal import NibbleHub
internal import Synchronization

/// Models of the Hub on the command line: fetched with a bar.
struct ModelFetcher {
    /// No progress.
    let isQuiet: Bool

    /// What a text means: a path that exists, else a model's name, whose missing files are fetched.
    ///
    /// - Parameters:
    ///   - text: a path, or `OWNER/NAME[/FILE][@REVISION]`.
    ///   - choose: among a model's files.
    /// - Returns: a path.
    /// - Throws: `HubError`, `CancellationError`.
    func path(
        of text: String, choose: @escaping FileChoice = { NeededFiles.toRun($0) }
    ) async throws -> String {
        let bar = FetchBar(text, isQuiet: isQuiet)
        defer { bar.clear() }
        return try await Hub.path(of: text, choose: choose, progress: { bar.show($0) })
    }

    /// The transformer that a text means: as `path`, but of a name that means a collection of Nunchaku's files the INT4
    /// one, which is then said.
    func transformer(_ text: String) async throws -> String {
        let bar = FetchBar(text, isQuiet: isQuiet)
        defer { bar.clear() }
        let path = try await Hub.path(of: text, as: .transformer, progress: { bar.show($0) })
        let file = URL(filePath: path).lastPathComponent
        if path != text, file.hasSuffix(".safetensors"), !text.contains(file) { bar.say("\(text): takes \(file)") }
        return path
    }

    /// The folder of a model.
    ///
    /// - Parameters:
    ///   - text: what `--model` says; nil: the embedded model.
    ///   - skipped: components of a pipeline whose weights something else replaces.
    /// - Returns: a path.
    /// - Throws: `HubError`, `InputError`, `CancellationError`.
    func modelFolder(_ text: String?, withoutWeightsOf skipped: Set<String> = []) async throws -> String {
        if let text { return try await path(of: text) { NeededFiles.toRun($0, withoutWeightsOf: skipped) } }
        guard FileManager.default.fileExists(atPath: EmbeddedModel.path) else {
            throw InputError(
                EmbeddedModel.path,
                "the model that comes with Nibble lies neither here nor beside the program; name one with --model")
        }
        return EmbeddedModel.path
    }

    /// Fetches what is missing of a model's files.
    ///
    /// - Parameters:
    ///   - name: the model.
    ///   - choose: among its files.
    /// - Returns: where they are.
    /// - Throws: `HubError`, `CancellationError`.
    func snapshot(of name: HubName, choose: @escaping FileChoice) async throws -> Hub.Snapshot {
        let bar = FetchBar("\(name)", isQuiet: isQuiet)
        defer { bar.clear() }
        return try await Hub(HubSettings()).snapshot(
            of: name, choose: choose, freshness: .current, progress: { bar.show($0) })
    }
}

/// The bar of a download, which pieces from several threads move.
private final class FetchBar: Sendable {
    private let name: String
    private let line: Mutex<ProgressLine>

    init(_ name: String, isQuiet: Bool) {
        self.name = name
        line = Mutex(ProgressLine(isQuiet: isQuiet))
    }

    func show(_ now: HubProgress) {
        var text =
            "\(name): \(ByteCount(now.bytes)) of \(ByteCount(now.totalBytes)), file \(now.files)/\(now.totalFiles)"
        if let left = now.secondsLeft { text += ", \(spoken(seconds: left)) left" }
        let fraction = now.totalBytes == 0 ? 1 : Double(now.bytes) / Double(now.totalBytes)
        // The line itself sees to it that a log gets one now and then; the last one is that of the last file.
        let isAlmostAll = fraction >= 1 && now.files < now.totalFiles
        line.withLock { $0.show(min(1, fraction), text, isMilestone: !$0.isTerminal && !isAlmostAll) }
    }

    func say(_ text: String) { line.withLock { $0.say(text) } }

    func clear() { line.withLock { $0.clear() } }
}
