import Foundation
import NibbleImages
import NibbleTestSupport
import Testing

/// `nibble compare`, in the forms that scripts rely on.
@Suite struct CompareTests {
    static let transformer = Drawing.model + "/transformer"

    /// A comparison of the embedded model with itself, in small pictures of one step.
    static func arguments(_ options: String...) -> [String] {
        [
            "compare", "--model", Drawing.model, "--transformer", transformer, "--steps", "1", "--width", "32",
            "--height", "16",
        ] + options
    }

    @Test func `the folder gets the pictures, the sheet and the report`() async throws {
        let scratch = try Scratch()
        try scratch.write("\u{feff}# two prompts\r\n\r\n  red apple \r\n#\r\npenguin, in snow", to: "prompts.txt")
        let outcome = try await Tool.nibble(
            Self.arguments("--prompts", "prompts.txt", "--seeds", "2", "-o", "a/b", "--json"), in: scratch.folder)
        #expect(outcome.status == 0, "\(outcome.error)")
        #expect(outcome.error.hasSuffix("a/b/contact-sheet.png\n"))
        let pictures = [
            "01-red-apple-seed-1", "01-red-apple-seed-2", "02-penguin-in-snow-seed-1", "02-penguin-in-snow-seed-2",
        ]
        let files = try FileManager.default.contentsOfDirectory(atPath: scratch.path("a/b/pictures")).sorted()
        #expect(files == pictures.flatMap { ["\($0).full-precision.png", "\($0).transformer.png"] }.sorted())
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path("a/b")).count == 3)

        let printed = try #require(
            try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? NSDictionary)
        let written = try JSONSerialization.jsonObject(with: Drawing.bytes(scratch.path("a/b/report.json")))
        #expect(printed == written as? NSDictionary)
        let named = try #require(printed["pictures"] as? [[String: Any]])
        #expect(named.compactMap { $0["name"] as? String } == pictures)

        let sheet = try PNG.read(scratch.path("a/b/contact-sheet.png")).bitmap
        // Two pictures of 32 × 8 pixels a row, four rows.
        #expect(sheet.width > 512 && sheet.height > 4 * 128)
        // A picture tells how it was made.
        let texts = try Drawing.texts(scratch.path("a/b/pictures/\(files[0])"))
        #expect(try #require(texts["parameters"]).hasPrefix("red apple\n"))
    }

    @Test func `the table names every transformer`() async throws {
        let scratch = try Scratch()
        let outcome = try await Tool.nibble(Self.arguments("-q", "-o", "out"), in: scratch.folder)
        #expect(outcome.status == 0 && outcome.error == "", "\(outcome.error)")
        let lines = outcome.output.split(separator: "\n")
        #expect(lines.count == 4 && lines[1].hasPrefix("full-precision  18.6 MB"), "\(outcome.output)")
        #expect(lines[2].hasPrefix("transformer") && lines[2].contains("equal  1.0000"), "\(outcome.output)")
        #expect(lines[3].hasPrefix("means over 4 pictures; peak memory"), "\(outcome.output)")
        #expect(lines.allSatisfy { $0.count <= 80 })
    }

    @Test func `pictures that are done stay when the rest is cancelled`() async throws {
        let scratch = try Scratch()
        let arguments = Self.arguments("--seeds", "10000", "-o", "out")
        let outcome = try await Tool.nibble(arguments, in: scratch.folder) { process in
            let third = scratch.path("out/pictures/01-red-apple-seed-3.full-precision.png")
            while process.isRunning, !FileManager.default.fileExists(atPath: third) {
                Thread.sleep(forTimeInterval: 0.005)
            }
            kill(process.processIdentifier, SIGINT)
        }
        #expect(outcome.status == 130 && outcome.error.hasSuffix("error: cancelled\n"), "\(outcome.error)")
        let report = try #require(
            try JSONSerialization.jsonObject(with: Drawing.bytes(scratch.path("out/report.json"))) as? [String: Any])
        let done = try #require(report["pictures"] as? [[String: Any]]).count
        #expect(done >= 2 && outcome.error.contains("of the pictures that are done: \(done)"))
        #expect(try PNG.read(scratch.path("out/contact-sheet.png")).bitmap.width > 512)
    }

    static let usages: [([String], String)] = [
        (["compare", "-o", "x"], "--transformer"), (["compare", "--transformer", "x"], "--output"),
        (arguments("-o", "x", "--seeds", "0"), "--seeds: found 0"),
        (arguments("-o", "x", "--seeds", "9223372036854775807"), "--seeds"),
        (arguments("-o", "x", "--steps", "0"), "--steps: found 0"), (arguments("-o", "x", "--width", "17"), "--width"),
        (arguments("-o", "x", "--activations", "int2"), "int2"), (arguments("-o", "x", "--threads", "0"), "--threads"),
        (arguments("-o", "x", "--precision", "int3"), "int3"),
    ]

    @Test(arguments: usages)
    func `bad usage is 64 and leaves nothing behind`(_ arguments: [String], _ words: String) async throws {
        let scratch = try Scratch()
        let outcome = try await Tool.nibble(arguments, in: scratch.folder)
        #expect(outcome.status == 64 && outcome.output == "", "\(outcome.error)")
        #expect(outcome.firstErrorLine.contains(words), "\(outcome.error)")
        #expect(try scratch.names == [])
    }

    @Test func `files and folders that cannot be used are named`() async throws {
        let scratch = try Scratch()
        try scratch.write("text", to: "file")
        try scratch.write("\n# nothing\n   \n", to: "empty.txt")
        try Data([0x72, 0xe9, 0x64]).write(to: scratch.folder.appending(path: "latin1.txt"))
        var cases: [([String], [String])] = [
            (["-o", "file"], ["file: is a file"]), (["-o", "file/x"], ["file/x", "cannot be made"]),
            (["-o", "x", "--prompts", "empty.txt"], ["empty.txt", "holds no prompt"]),
            (["-o", "x", "--prompts", "latin1.txt"], ["latin1.txt", "is not UTF-8"]),
            (["-o", "x", "--prompts", "nowhere.txt"], ["nowhere.txt", "cannot be read"]),
            (["-o", "x", "--prompts", "."], [".: cannot be read"]),
            (["-o", "x", "--transformer", "nowhere"], ["nowhere"]),
            (["-o", "x", "--transformer", "file"], ["file"]),
        ]
        for model in GoldenInt4Model.all where model.original?.lastPathComponent == "flux-tiny" {
            cases.append((["-o", "x", "--transformer", model.file], [model.file, "made from this model"]))
        }
        for (options, words) in cases {
            let outcome = try await Tool.nibble(Self.arguments() + options, in: scratch.folder)
            #expect(outcome.status == 65 && outcome.output == "", "\(options): \(outcome.error)")
            for word in ["error: "] + words { #expect(outcome.error.contains(word), "\(outcome.error)") }
            #expect(try scratch.names == ["empty.txt", "file", "latin1.txt"], "\(options)")
        }
    }
}
