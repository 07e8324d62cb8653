internal import Foundation
internal import Testing

/// Rules of the house that hold for every file; see CONTRIBUTING.md.
@Suite struct HouseRuleTests {
    @Test func noFileIsOver600Lines() {
        for folder in ["Sources", "Tests", "Fuzz", "Scripts"] {
            for file in SourceFile.all(below: folder) where file.hasExtension("swift", "c", "h", "py") {
                #expect(file.lines.count <= 601, "\(file.path):601: \(file.lines.count - 1) lines; split it by concept")
            }
        }
    }

    /// What is true on one machine only. Written in two parts, or this file would name them.
    @Test func nothingNamesAPathOfOneMachine() {
        let foreign = ["/wo" + "rk/", "/opt/sw" + "ift", "/ro" + "ot/", "/home" + "/"]
        let files = SourceFile.all(below: "")
        #expect(files.count > 50, "the repository was not found")
        for file in files {
            for (index, line) in file.lines.enumerated() {
                for path in foreign where line.contains(path) {
                    Issue.record("\(file.path):\(index + 1): '\(path)' is a path of one machine")
                }
            }
        }
    }

    /// Two files may promise the compiler what it cannot check; each says why.
    @Test func uncheckedSendableStaysInItsTwoFiles() {
        let permitted = ["Sources/NibbleTensors/Storage.swift", "Sources/NibbleTensors/ThreadPool.swift"]
        for file in SourceFile.all(below: "Sources") where file.hasExtension("swift") && !permitted.contains(file.path)
        {
            for (place, _) in file.matches(of: #/^[^\/]*(@unchecked\s+Sendable)/#) {
                Issue.record("\(place): @unchecked Sendable; only Storage and ThreadPool may")
            }
        }
    }

    @Test func nothingIsForced() {
        let pattern = #/^(?!\s*\/\/).*\b(try!|as!)/#
        for file in SourceFile.all(below: "Sources") where file.hasExtension("swift") {
            for (place, word) in file.matches(of: pattern) {
                Issue.record("\(place): '\(word)' ends the process where an error should be thrown")
            }
        }
    }
}
