import Foundation
import NibbleTestSupport
import Testing

/// What the program says of itself, word for word, so that a change of the texts is seen and read.
@Suite struct HelpTests {
    /// A run whose output is kept in `Snapshots/NAME.txt`.
    struct Snapshot: Sendable, CustomTestStringConvertible {
        let name: String
        let arguments: [String]
        var testDescription: String { name }

        var file: URL {
            URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Snapshots/\(name).txt")
        }
    }

    static let verbs = [
        [], ["generate"], ["decode"], ["compare"], ["pull"], ["quantize"], ["inspect"], ["convert"], ["tokenize"],
        ["synthesize"], ["doctor"],
        ["bench"], ["bench", "linear"],
        ["bench", "attention"], ["bench", "step"], ["bench", "picture"], ["bench", "load"], ["profile"],
    ]
    static let snapshots =
        verbs.map { Snapshot(name: (["help"] + $0).joined(separator: "-"), arguments: $0 + ["--help"]) }
        + [Snapshot(name: "version", arguments: ["--version"])]

    /// Writes the snapshots instead of comparing them (CONTRIBUTING.md).
    static let isUpdating = ProcessInfo.processInfo.environment["NIBBLE_UPDATE_SNAPSHOTS"] == "1"

    @Test(arguments: snapshots)
    func `help is as it was last read`(_ snapshot: Snapshot) async throws {
        let outcome = try await Tool.nibble(snapshot.arguments)
        #expect(outcome.status == 0 && outcome.error == "")
        if Self.isUpdating {
            try Data(outcome.output.utf8).write(to: snapshot.file)
        } else {
            let expected = try String(contentsOf: snapshot.file, encoding: .utf8)
            #expect(
                outcome.output == expected, "wanted: NIBBLE_UPDATE_SNAPSHOTS=1 swift test …, and read the difference")
        }
    }

    @Test(.enabled(if: !isUpdating, "the snapshots are being written"))
    func `help fits a terminal of 80 columns`() throws {
        for snapshot in Self.snapshots {
            for line in try String(contentsOf: snapshot.file, encoding: .utf8).split(separator: "\n") {
                #expect(line.count <= 80, "\(snapshot.name): \(line)")
            }
        }
    }

    @Test func `nothing at all is a wish for help`() async throws {
        let (nothing, help) = (try await Tool.nibble([]), try await Tool.nibble(["--help"]))
        #expect(nothing.output == help.output && nothing.status == 0)
    }

    @Test(.enabled(if: !isUpdating, "the snapshots are being written"), arguments: ["bash", "zsh", "fish"])
    func `completions know every verb and every option of generate`(_ shell: String) async throws {
        let outcome = try await Tool.nibble(["--generate-completion-script", shell])
        #expect(outcome.status == 0 && outcome.error == "")
        let options = try String(contentsOf: Self.snapshots[1].file, encoding: .utf8).matches(of: /--([a-z0-9-]+)/)
        for word in Self.verbs.flatMap(\.self) + options.map({ String($0.1) }) {
            #expect(outcome.output.contains(word), "\(word)")
        }
    }

    @Test(arguments: ["bash", "zsh", "fish"])
    func `the shell takes its completions`(_ shell: String) async throws {
        let outcome = try await Tool.shell(
            "command -v \(shell) > /dev/null || exit 99; \"$NIBBLE\" --generate-completion-script \(shell) > c && \(shell) -n c"
        )
        guard outcome.status != 99 else { return print("skipped: \(shell) is not installed") }
        #expect(outcome.status == 0, "\(outcome.error)")
    }
}
