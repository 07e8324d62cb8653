internal import ArgumentParser
internal import Foundation
internal import NibbleHub

/// `nibble pull`: a model of the Hugging Face Hub onto this machine.
struct PullCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pull",
        abstract: "Fetch a model from the Hugging Face Hub, and print the folder that it is in.",
        usage: "nibble pull <name> [options]",
        discussion: """
            Files go to the cache that Python's huggingface_hub uses too, and are not fetched again. What a broken \
            connection or Ctrl-C leaves is gone on with the next time. Wherever a model is taken, its name is too; pull \
            fetches it beforehand, and brings a branch up to date.

            Environment: HF_TOKEN for models that ask who you are, HF_ENDPOINT for a mirror, HF_HOME or HF_HUB_CACHE for \
            another place, HF_HUB_OFFLINE=1 for the cache alone.
            """)

    @Argument(
        help: ArgumentHelp(
            "OWNER/NAME[/FILE][@REVISION], such as black-forest-labs/FLUX.1-schnell.", valueName: "name"))
    var name: String

    @Option(help: "A branch, a tag or a commit. Default: main.")
    var revision: String?

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Files to fetch, as patterns of the shell: '*.json' 'vae/*'. Default: what is needed to run the model.",
            valueName: "pattern"))
    var include: [String] = []

    @OptionGroup var report: ReportOptions

    func run() async throws {
        var wanted = try HubName(name)
        if let revision {
            guard wanted.revision == HubName.defaultRevision || wanted.revision == revision else {
                throw ValidationError("--revision: found '\(revision)', but the name says '@\(wanted.revision)'")
            }
            wanted = try HubName(model: wanted.model, file: wanted.file, revision: revision)
        }
        var choose: FileChoice = { NeededFiles.toRun($0) }
        if !include.isEmpty { choose = NeededFiles.matching(include) }
        let snapshot = try await ModelFetcher(isQuiet: report.quiet).snapshot(of: wanted, choose: choose)
        guard report.json else {
            print(snapshot.path)
            return
        }
        try printJSON(
            Report(
                model: wanted.model, revision: wanted.revision, commit: snapshot.commit, path: snapshot.path,
                files: snapshot.files, bytes: snapshot.byteCount, fetchedBytes: snapshot.missingByteCount))
    }

    private struct Report: Encodable {
        let model: String
        let revision: String
        let commit: String
        let path: String
        let files: [String]
        let bytes: Int
        let fetchedBytes: Int
    }
}
