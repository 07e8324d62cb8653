import Foundation
import Testing

/// What the shell is told, and what stands on standard error beside it.
@Suite struct ExitStatusTests {
    static let usages: [([String], String)] = [
        (["--nothing"], "--nothing"), (["nothing"], "nothing"), (["generate"], "nibble generate \"red apple\""),
        (["generate", "x", "--width", "100"], "--width: found 100; expected a multiple of 16"),
        (["generate", "x", "--height", "0"], "--height: found 0"),
        (["generate", "x", "--width", "1099511627776"], "--width"),
        (["generate", "x", "--width", "99999999999999999999"], "--width"),
        (["generate", "x", "--steps", "0"], "--steps: found 0; expected a number from 1"),
        (["generate", "x", "--steps", "many"], "many"), (["generate", "x", "--guidance", "nan"], "--guidance"),
        (["generate", "x", "--seed", "18446744073709551616"], "--seed"),
        (["generate", "x", "--count", "0"], "--count: found 0"),
        (["generate", "x", "--count", "-9223372036854775808"], "--count"),
        (["generate", "x", "--max-sequence-length", "513"], "--max-sequence-length: found 513"),
        (["generate", "x", "--memory", "lots"], "--memory: found 'lots'"),
        (["generate", "x", "--memory", "0"], "--memory"), (["generate", "x", "--memory", "-1G"], "--memory"),
        (["generate", "x", "--memory", "1e999"], "--memory"), (["generate", "x", "--memory", "nan"], "--memory"),
        (["generate", "x", "--threads", "0"], "--threads: found 0"),
        (["generate", "x", "--precision", "int3"], "int3"),
        (["generate", "x", "--output", "x.jpg"], "--output: found x.jpg; expected a name that ends in .png"),
        (["generate", "x", "y"], "y"), (["generate", "x", "--wdith", "64"], "--width"),
        (["decode"], "latents"), (["decode", "x.safetensors"], "--output"), (["tokenize"], "--file"),
        (["tokenize", "x"], "--clip"), (["tokenize", "x", "--file", "y", "--clip", "z"], "--file"),
        (["inspect"], "path"), (["bench", "linear", "--tokens", "0"], "--tokens: found 0"),
        (["bench", "attention", "--heads", "-3"], "--heads"), (["bench", "step", "--runs", "0"], "--runs"),
        (["bench", "step", "--inputs", "x"], "--inputs"), (["bench", "nothing"], "nothing"),
    ]

    @Test(arguments: usages)
    func `bad usage is 64, names the option and draws nothing`(_ arguments: [String], _ words: String) async throws {
        let scratch = try Scratch()
        let outcome = try await Tool.nibble(arguments, in: scratch.folder)
        #expect(outcome.status == 64, "\(outcome.error)")
        #expect(outcome.output == "" && outcome.error.hasPrefix("error: "), "\(outcome.error)")
        #expect(outcome.firstErrorLine.contains(words), "'\(words)' in: \(outcome.error)")
        #expect(try scratch.names == [])
    }

    @Test(arguments: [SIGINT, SIGTERM], [["--quiet"], []])
    func `cancelling ends at once and leaves nothing behind`(
        _ signal: Int32, _ options: [String]
    ) async throws {
        let scratch = try Scratch()
        let arguments = Drawing.arguments("x", "--steps", "10000", "--width", "128", "--height", "128") + options
        let outcome = try await Tool.nibble(arguments, in: scratch.folder) { process in
            Thread.sleep(forTimeInterval: 1.5)
            #expect(process.isRunning)
            kill(process.processIdentifier, signal)
            let clock = ContinuousClock()
            let began = clock.now
            while process.isRunning, began.duration(to: clock.now) < .seconds(60) {
                Thread.sleep(forTimeInterval: 0.005)
            }
            // It stops before the next block, which takes milliseconds; on a quiet machine it is gone in 20. The picture
            // would take minutes: whatever keeps a busy machine from this for half a minute is not waiting for a step.
            #expect(began.duration(to: clock.now) < .seconds(30))
        }
        #expect(outcome.status == 130)
        #expect(outcome.error.hasSuffix("error: cancelled\n"), "\(outcome.error)")
        #expect(try scratch.names == [])
    }

    @Test func `cancelling at any moment is 130`() async throws {
        for delay in stride(from: 20, through: 300, by: 20) {
            let scratch = try Scratch()
            let outcome = try await Tool.nibble(
                Drawing.arguments("x", "--steps", "10000", "-q"), in: scratch.folder
            ) { process in
                Thread.sleep(forTimeInterval: Double(delay) / 1000)
                kill(process.processIdentifier, SIGINT)
            }
            // Before the program has set its signals up the system ends it: 130 as well.
            #expect(outcome.status == 130, "after \(delay) ms: \(outcome.error)")
            #expect(try scratch.names == [])
        }
    }

    @Test(arguments: [
        ["bench", "linear", "--runs", "1000000", "--tokens", "256", "--in", "256", "--out", "256"],
        ["bench", "attention", "--runs", "1000000", "--tokens", "256", "--heads", "1"],
    ])
    func `measuring can be cancelled`(_ arguments: [String]) async throws {
        let outcome = try await Tool.nibble(arguments) { process in
            Thread.sleep(forTimeInterval: 0.2)
            kill(process.processIdentifier, SIGINT)
        }
        // On a busy machine the signal may come before the program listens; the system then ends it without a word.
        #expect(outcome.status == 130 && ["", "error: cancelled\n"].contains(outcome.error))
        #expect(outcome.output == "")
    }

    @Test func `a reader that goes away is no error`() async throws {
        let outcome = try await Tool.shell(
            "(\"$NIBBLE\" inspect --tensors '\(Drawing.model)'; echo $? > status) | head -1; cat status")
        #expect(outcome.output.hasSuffix("\n0\n") && outcome.error == "", "\(outcome.output)\(outcome.error)")
    }

    @Test func `standard error that is closed stops nothing`() async throws {
        let scratch = try Scratch()
        let command = Drawing.arguments("x", "--output", "x.png").map { "'\($0)'" }.joined(separator: " ")
        let outcome = try await Tool.shell("\"$NIBBLE\" \(command) 2>&-", in: scratch.folder)
        #expect(outcome.status == 0)
        #expect(try scratch.names == ["x.png"])
    }

    @Test(
        .enabled(
            if: FileManager.default.fileExists(atPath: "/dev/full"), "this system has no device that is always full"))
    func `standard output that cannot be written is an error`() async throws {
        for verb in ["inspect '\(Drawing.model)'", "inspect --json '\(Drawing.model)'", "--help"] {
            let outcome = try await Tool.shell("\"$NIBBLE\" \(verb) > /dev/full")
            #expect(outcome.status == 65 && outcome.error.hasPrefix("error: standard output"), "\(verb)")
        }
    }

    @Test func `a limit on the size of files is a full disk`() async throws {
        let scratch = try Scratch()
        let command = Drawing.arguments("x", "--width", "128", "--height", "128", "--output", "x.png", "--quiet")
            .map { "'\($0)'" }.joined(separator: " ")
        // Blocks of 512 bytes: less than any picture of 128 × 128.
        let outcome = try await Tool.shell(
            "ulimit -f 1; \"$NIBBLE\" \(command) 2> /dev/stdout | cat", in: scratch.folder)
        #expect(
            outcome.output.contains("error: cannot write x.png") && outcome.output.contains("no room"), "\(outcome)")
        #expect(try scratch.names == [])
    }
}
