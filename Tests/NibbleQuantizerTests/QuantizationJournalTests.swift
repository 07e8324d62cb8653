import Foundation
import NibbleCheckpoints
import NibbleTensors
import Testing

@testable import NibbleQuantizer

@Suite struct QuantizationJournalTests {
    private let folder = FileManager.default.temporaryDirectory.appending(path: "journal-\(UUID().uuidString)").path
    private let report = QuantizationReport(layers: [
        QuantizationReport.Layer(name: "a", naiveError: 0.5, error: 0.25, alpha: 0.5, beta: 0.5, seconds: 1),
        QuantizationReport.Layer(name: "b", naiveError: nil, error: nil, alpha: 0, beta: 0, seconds: 1),
    ])

    @Test func `a block that was kept is there for the next run with the same arguments`() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let first = try QuantizationJournal(folder, arguments: ["rank": "32"])
        #expect(!first.contains(2))
        try first.keep(2, ["x": Tensor([1, 2], shape: [2])], report)
        let second = try QuantizationJournal(folder, arguments: ["rank": "32"])
        #expect(second.contains(2) && !second.contains(1))
        #expect(try second.tensors(of: 2).tensor("x").floats() == [1, 2])
        #expect(try second.report(of: 0..<5) == report)
        second.remove()
        #expect(!FileManager.default.fileExists(atPath: folder))
    }

    @Test func `one of several processes finishes`() async throws {
        let journal = try QuantizationJournal(folder, arguments: [:])
        let finished = try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<4 { group.addTask { try journal.finish { journal.remove() } } }
            return try await group.reduce(into: [Bool]()) { $0.append($1) }
        }
        #expect(finished.count { $0 } == 1 && finished.count == 4)
        #expect(journal.isGone && !FileManager.default.fileExists(atPath: folder))
    }

    @Test func `other arguments are refused with what differs, and nothing is lost`() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let journal = try QuantizationJournal(folder, arguments: ["rank": "32", "seed": "0"])
        try journal.keep(0, ["x": Tensor([1], shape: [1])], report)
        let differences = [
            ["rank": "64", "seed": "0"]: ("rank", "32", "64"), ["rank": "32"]: ("seed", "0", "not given"),
            ["rank": "32", "seed": "0", "x": "1"]: ("x", "not given", "1"),
        ]
        for (arguments, (key, found, expected)) in differences {
            #expect(
                throws: QuantizationError.otherArguments(path: folder, key: key, found: found, expected: expected)
            ) { try QuantizationJournal(folder, arguments: arguments) }
        }
        #expect(journal.contains(0))
    }

    @Test(arguments: [#"{"version": 7, "arguments": {}}"#, "{", #"{"arguments": {}}"#])
    func `a journal of another version, or none, is refused and left alone`(_ text: String) throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try Data(text.utf8).write(to: URL(filePath: folder + "/journal.json"))
        let error = #expect(throws: QuantizationError.self) { try QuantizationJournal(folder, arguments: [:]) }
        guard case .unreadableJournal = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try String(contentsOfFile: folder + "/journal.json", encoding: .utf8) == text)
    }
}
