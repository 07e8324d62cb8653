internal import ArgumentParser
internal import Foundation
internal import NibbleCheckpoints
internal import NibbleHub
internal import NibbleImages
internal import NibbleModels
internal import NibblePipelines
internal import NibbleQuantizer
internal import NibbleTensors
internal import NibbleTokenizers

/// What the shell is told at the end; numbers are those of sysexits.h and, for a cancelled run, the shells' own.
enum ExitStatus: Int32 {
    case success = 0
    case badUsage = 64
    case badInput = 65
    case internalError = 70
    case cancelled = 130

    /// Ends the process with success, if all that was printed could be written.
    static func leave() -> Never {
        do {
            try StandardStreams.flush()
        } catch {
            badInput.leave("\(error)")
        }
        Foundation.exit(success.rawValue)
    }

    /// Prints what went wrong, once, to standard error, and ends the process.
    static func leave(because error: any Error, of command: any ParsableCommand.Type) -> Never {
        switch error {
        case is CancellationError: cancelled.leave("cancelled")
        case PipelineError.invalidRequest(let parameter, let found, let expected):
            badUsage.leave("--\(parameter): found \(found); expected \(expected)")
        case QuantizationError.invalidRecipe(let key, let found, let expected):
            badUsage.leave("--\(key): found \(found); expected \(expected)")
        case is CheckpointError, is TokenizerError, is ImageError, is MetadataError, is SchedulerError, is ModelError,
            is StorageError, is PipelineError, is QuantizationError, is LayerError, is HubError, is InputError:
            badInput.leave("\(error)")
        default: leaveParser(because: error, of: command)
        }
    }

    /// The parser's own: help, version, a word that it does not know. Anything else is our fault.
    private static func leaveParser(because error: any Error, of command: any ParsableCommand.Type) -> Never {
        switch command.exitCode(for: error) {
        case .success:
            print(command.fullMessage(for: error))
            leave()
        case .validationFailure:
            // Like all other messages, without the parser's capital letter.
            let message = command.fullMessage(for: error)
            let mark = "Error: "
            badUsage.leave(message.hasPrefix(mark) ? String(message.dropFirst(mark.count)) : message)
        default: internalError.leave("internal error: \(error)")
        }
    }

    private func leave(_ message: String) -> Never {
        StandardStreams.writeError("error: \(message)\n")
        fflush(nil)
        // Not `exit`: it would take down the libraries' globals while other threads may still compute with them.
        _exit(rawValue)
    }
}

/// A file given on the command line that cannot be used.
struct InputError: Error, CustomStringConvertible {
    let description: String

    init(_ path: String, _ reason: String) { description = "\(path): \(reason)" }
}
