import Foundation
import Testing

/// What stands on standard error while a picture is drawn.
@Suite struct ProgressTests {
    static let command = Drawing.arguments("x", "--steps", "3", "--output", "x.png")

    @Test func `elsewhere than on a terminal progress is plain lines`() async throws {
        let outcome = try await Tool.nibble(Self.command)
        #expect(outcome.status == 0 && outcome.output == "")
        #expect(!outcome.error.contains("\r") && !outcome.error.contains("\u{1b}"))
        let lines = outcome.error.split(separator: "\n").map(String.init)
        #expect(lines.first == "0% reading the prompt")
        #expect(lines.contains { $0.wholeMatch(of: /100% step 3\/3, \d+\.\d\d s a step/) != nil }, "\(lines)")
        #expect(lines.last == "x.png  seed 7, 16 × 16")
    }

    /// util-linux's program that runs a command under a pseudo-terminal; the BSD one takes other options.
    static let hasScript: Bool = {
        #if os(Linux)
            FileManager.default.isExecutableFile(atPath: "/usr/bin/script")
        #else
            false
        #endif
    }()

    /// Runs the command on a pseudo-terminal; returns what the terminal was sent.
    private func onTerminal(
        _ environment: [String: String] = [:], columns: Int = 80, _ options: String = ""
    ) async throws -> String {
        let words = Self.command.map { "'\($0)'" }.joined(separator: " ")
        let outcome = try await Tool.shell(
            "script -qec \"stty cols \(columns); \\\"$NIBBLE\\\" \(words) \(options)\" /dev/null",
            environment: environment)
        #expect(outcome.status == 0, "\(outcome.output)\(outcome.error)")
        return outcome.output
    }

    @Test(.enabled(if: hasScript, "util-linux's script is not installed: there is no pseudo-terminal to test on"))
    func `on a terminal progress is one line that is written again and again`() async throws {
        let text = try await onTerminal()
        #expect(text.contains("\r\u{1b}[2K") && text.contains("\u{1b}[36m") && text.contains("step 3/3"))
        // Every line feed belongs to the line that stays.
        #expect(text.utf8.count { $0 == UInt8(ascii: "\n") } == 1 && text.hasSuffix("x.png  seed 7, 16 × 16\r\n"))
    }

    @Test(
        .enabled(if: hasScript, "util-linux's script is not installed: there is no pseudo-terminal to test on"),
        arguments: [["NO_COLOR": "1"], ["TERM": "dumb"]])
    func `without color there is no color`(_ environment: [String: String]) async throws {
        let text = try await onTerminal(environment)
        #expect(text.contains("\r") && text.contains("step 3/3"))
        #expect(text.firstMatch(of: /\x1b\[[0-9;]*m/) == nil, "\(text.debugDescription)")
    }

    @Test(.enabled(if: hasScript, "util-linux's script is not installed: there is no pseudo-terminal to test on"))
    func `an empty NO_COLOR is none`() async throws {
        #expect(try await onTerminal(["NO_COLOR": ""]).contains("\u{1b}[36m"))
    }

    @Test(
        .enabled(if: hasScript, "util-linux's script is not installed: there is no pseudo-terminal to test on"),
        arguments: [20, 40, 60])
    func `a narrow terminal gets lines that do not wrap`(_ columns: Int) async throws {
        let text = try await onTerminal(["NO_COLOR": "1"], columns: columns)
        for line in text.components(separatedBy: "\r\u{1b}[2K").dropLast() {
            #expect(line.count < columns, "\(line.debugDescription)")
        }
    }

    @Test(.enabled(if: hasScript, "util-linux's script is not installed: there is no pseudo-terminal to test on"))
    func `an error stands on a line of its own`() async throws {
        let text = try await onTerminal([:], "--output /dev/full || true")
        #expect(text.contains("\r\u{1b}[2Kerror: cannot write /dev/full"), "\(text.debugDescription)")
    }
}
