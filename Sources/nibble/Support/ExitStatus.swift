internal import ArgumentParser
internal import Foundation
internal import NibbleCheckpoints
internal import NibbleHub
internal import NibbleImages
internal import NibbleModels
internal import NibblePipelines
internal import NibbleTensors
internal import NibbleTokenizers

/// What the shell is told at the end; numbers are those of sysexits.h and, for a cancelled run, the shells' own.
enum ExitStatus: Int32 {
    case success = 0
    case badUsage = 64
    case badInput = 65
    case internalError = 70
    case cancelled = 130

    /// Ends the process with success.
    static func leave() -> Never { Foundation.exit(success.rawValue) }

    /// Prints what went wrong, once, to standard error, and ends the process.
    static func leave(because error: any Error, of command: any ParsableCommand.Type) -> Never {
        switch error {
        case is CancellationError:
            printError("cancelled")
            Foundation.exit(cancelled.rawValue)
        case is CheckpointError, is TokenizerError, is ImageError, is MetadataError, is SchedulerError,
            is ModelError, is StorageError, is HubError, is InputError:
            printError("\(error)")
            Foundation.exit(badInput.rawValue)
        case let error as PipelineError:
            printError("\(error)")
            if case .invalidRequest = error { Foundation.exit(badUsage.rawValue) }
            Foundation.exit(badInput.rawValue)
        default:
            // The parser's own: help, version, a word that it does not know; anything else is our fault.
            let code = command.exitCode(for: error)
            if code == .success || code == .validationFailure || code.rawValue == badUsage.rawValue {
                command.exit(withError: error)
            }
            printError("internal error: \(error)")
            Foundation.exit(internalError.rawValue)
        }
    }

    private static func printError(_ message: String) {
        FileHandle.standardError.write(Data("error: \(message)\n".utf8))
    }
}

/// A file given on the command line that cannot be used.
struct InputError: Error, CustomStringConvertible {
    let description: String

    init(_ path: String, _ reason: String) { description = "\(path): \(reason)" }
}
