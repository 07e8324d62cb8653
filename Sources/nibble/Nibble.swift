internal import ArgumentParser
internal import Foundation
internal import NibblePipelines

/// The command line: parse, call, print.
@main
struct Nibble: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nibble",
        abstract: "FLUX.1 pictures on the processor that you have.",
        discussion: """
            Exit status: 0 success, 64 bad usage, 65 bad input (a file, a model, a prompt), 70 internal error, \
            130 cancelled.
            """,
        version: FluxPipeline.version,
        groupedSubcommands: [
            CommandGroup(name: "Pictures", subcommands: [GenerateCommand.self, DecodeCommand.self]),
            CommandGroup(
                name: "Models",
                subcommands: [PullCommand.self, InspectCommand.self, ConvertCommand.self, TokenizeCommand.self]),
            CommandGroup(name: "This machine", subcommands: [DoctorCommand.self, BenchCommand.self]),
        ])

    static func main() async {
        let work = Task<Void, Never> {
            do {
                var command = try parseAsRoot()
                if var command = command as? any AsyncParsableCommand {
                    try await command.run()
                } else {
                    try command.run()
                }
                ExitStatus.leave()
            } catch {
                ExitStatus.leave(because: error, of: Self.self)
            }
        }
        let interruption = Interruption(cancelling: work)
        await work.value
        withExtendedLifetime(interruption) {}
    }
}
