internal import ArgumentParser

/// The command line: parse, call, print.
@main
struct Nibble: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nibble",
        abstract: "FLUX.1 pictures on the processor that you have.",
        version: "0.1.0",
        subcommands: [DoctorCommand.self],
        groupedSubcommands: [])
}
