internal import ArgumentParser
internal import Foundation
internal import NibblePipelines
internal import NibbleTensors

/// The command line and its verbs.
struct Nibble: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nibble",
        abstract: "FLUX.1 pictures on the processor that you have.",
        usage: "nibble <subcommand> [options]",
        discussion: """
            To begin: nibble generate "red apple"

            Exit status: 0 success, 64 bad usage, 65 bad input (a model, a picture, a place to write to), 70 internal \
            error, 130 cancelled.
            """,
        version: FluxPipeline.version,
        groupedSubcommands: [
            CommandGroup(
                name: "Pictures", subcommands: [GenerateCommand.self, DecodeCommand.self, CompareCommand.self]),
            CommandGroup(
                name: "Models",
                subcommands: [
                    PullCommand.self, QuantizeCommand.self, InspectCommand.self, ConvertCommand.self,
                    SynthesizeCommand.self, TokenizeCommand.self,
                ]),
            CommandGroup(
                name: "This machine", subcommands: [DoctorCommand.self, BenchCommand.self, ProfileCommand.self]),
        ])
}

/// Parse, call, print.
@main
enum Program {
    static func main() {
        ProcessMemory.keepFreed()
        StandardStreams.prepare()
        Interruption.hold()
        // Detached: the main thread, which `main` belongs to, is busy with waiting.
        let work = Task<Void, Never>.detached {
            do {
                var command = try Nibble.parseAsRoot()
                if var command = command as? any AsyncParsableCommand {
                    try await command.run()
                } else {
                    try command.run()
                }
                ExitStatus.leave()
            } catch {
                ExitStatus.leave(because: error, of: Nibble.self)
            }
        }
        Interruption.wait(cancelling: work)
    }
}
