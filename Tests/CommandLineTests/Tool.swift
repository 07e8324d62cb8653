import Foundation
import Testing

/// The built program, run as a script runs it: a process of its own, nothing on standard input, its own environment.
enum Tool {
    /// What became of a run.
    struct Outcome {
        /// The exit status; of a process that a signal ended, 128 and the signal's number, as shells say it.
        let status: Int32
        /// Standard output.
        let output: String
        /// Standard error.
        let error: String
        /// Seconds that it ran.
        let seconds: Double

        /// The first line of standard error.
        var firstErrorLine: String { error.split(separator: "\n").first.map(String.init) ?? "" }
    }

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// The program lies beside the bundle of tests.
    static let path: URL = {
        let places = ([Bundle.main.executablePath, Bundle.main.bundlePath] + CommandLine.arguments).compactMap { $0 }
        let folders = places.map { URL(filePath: $0).deletingLastPathComponent() }
        // On macOS the executable lies three folders deep in the bundle.
        let candidates = folders.flatMap { folder in
            [folder, folder.appending(path: "../../..").standardizedFileURL]
        }.map { $0.appending(path: "nibble") }
        return candidates.first { FileManager.default.isExecutableFile(atPath: $0.path) } ?? candidates[0]
    }()

    /// What the program sees of the environment: of this process's only what it takes to run at all, and on what
    /// instructions the tests themselves run.
    static func environment(adding added: [String: String] = [:]) -> [String: String] {
        let needed = ProcessInfo.processInfo.environment.filter {
            ["PATH", "LD_LIBRARY_PATH", "NIBBLE_ISA"].contains($0.key)
        }
        let own = ["COLUMNS": "80", "HOME": "/nonexistent", "LANG": "C.UTF-8", "TERM": "xterm"]
        return needed.merging(own) { $1 }.merging(added) { $1 }
    }

    /// Runs `nibble`.
    ///
    /// - Parameters:
    ///   - arguments: what stands after its name.
    ///   - environment: variables beside the usual ones.
    ///   - folder: the working directory.
    ///   - timeout: seconds after which it is killed and the test fails.
    ///   - meanwhile: called once, when it runs, on a thread of its own.
    /// - Returns: what became of it.
    /// - Throws: `Failure` after the timeout, and what `meanwhile` throws.
    static func nibble(
        _ arguments: [String], environment: [String: String] = [:], in folder: URL? = nil, timeout: Double = 120,
        meanwhile: @escaping @Sendable (Process) throws -> Void = { _ in }
    ) async throws -> Outcome {
        try await run(path, arguments, environment: environment, in: folder, timeout: timeout, meanwhile: meanwhile)
    }

    /// Runs a line of shell, in which `$NIBBLE` is the program.
    static func shell(
        _ line: String, environment: [String: String] = [:], in folder: URL? = nil, timeout: Double = 120
    ) async throws -> Outcome {
        try await run(
            URL(filePath: "/bin/sh"), ["-c", line],
            environment: environment.merging(["NIBBLE": path.path]) { $1 }, in: folder, timeout: timeout)
    }

    /// Waits on a thread of its own: those of Swift's pool, one for each core, are busy for many seconds at a time with the
    /// tests that compute, and whoever wants to send a signal after a second would send it after forty.
    private static func run(
        _ program: URL, _ arguments: [String], environment: [String: String], in folder: URL?, timeout: Double,
        meanwhile: @escaping @Sendable (Process) throws -> Void = { _ in }
    ) async throws -> Outcome {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                continuation.resume(
                    with: Result {
                        try runAndWait(
                            program, arguments, environment: environment, in: folder, timeout: timeout,
                            meanwhile: meanwhile)
                    })
            }
        }
    }

    private static func runAndWait(
        _ program: URL, _ arguments: [String], environment: [String: String], in folder: URL?, timeout: Double,
        meanwhile: (Process) throws -> Void
    ) throws -> Outcome {
        // Shells start background jobs with SIGINT ignored, and the program would inherit that: a signal that comes before
        // it listens would then be lost instead of ending it.
        signal(SIGINT, SIG_DFL)
        let scratch = try Scratch()
        let (output, error) = (try scratch.stream("output"), try scratch.stream("error"))
        let process = Process()
        process.executableURL = program
        process.arguments = arguments
        process.environment = Self.environment(adding: environment)
        process.currentDirectoryURL = folder ?? scratch.folder
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = error
        let clock = ContinuousClock()
        let began = clock.now
        try process.run()
        do {
            try meanwhile(process)
            while process.isRunning {
                guard began.duration(to: clock.now) < .seconds(timeout) else {
                    throw Failure(description: "\(arguments) still runs after \(timeout) seconds")
                }
                Thread.sleep(forTimeInterval: 0.005)
            }
        } catch {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            throw error
        }
        let seconds = began.duration(to: clock.now) / .seconds(1)
        let isSignal = process.terminationReason == .uncaughtSignal
        return Outcome(
            status: process.terminationStatus + (isSignal ? 128 : 0), output: try scratch.text("output"),
            error: try scratch.text("error"), seconds: seconds)
    }
}

/// A folder that goes away with this object.
final class Scratch: Sendable {
    let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "nibble-tests-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    /// The path of something in the folder.
    func path(_ name: String) -> String { folder.appending(path: name).path }

    /// The names of all files in the folder, hidden ones too.
    var names: [String] { get throws { try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() } }

    /// Writes a file and returns its path.
    @discardableResult
    func write(_ text: String, to name: String) throws -> String {
        try Data(text.utf8).write(to: folder.appending(path: name))
        return path(name)
    }

    fileprivate func stream(_ name: String) throws -> FileHandle {
        _ = FileManager.default.createFile(atPath: path(name), contents: nil)
        return try FileHandle(forWritingTo: folder.appending(path: name))
    }

    fileprivate func text(_ name: String) throws -> String {
        String(decoding: try Data(contentsOf: folder.appending(path: name)), as: UTF8.self)
    }
}
