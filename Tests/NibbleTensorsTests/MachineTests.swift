import Foundation
import Testing

@testable import NibbleTensors

@Suite struct MachineTests {
    @Test func theMachineIsThere() {
        let machine = Machine.current()
        #expect(!machine.processor.isEmpty && machine.coreCount >= 1)
        #expect(machine.availableMemoryBytes > 0 && machine.availableMemoryBytes <= machine.memoryBytes)
        #expect(machine.memoryBytes <= ProcessInfo.processInfo.physicalMemory)
    }

    @Test func limitsAreMeasured() throws {
        let pool = ThreadPool(threadCount: 2)
        for operand in MachineLimits.Operand.allCases {
            guard let rate = MachineLimits.rate(of: operand, on: pool) else { continue }
            #expect(rate.oneThread > 0 && rate.oneThread.isFinite)
            #expect(rate.allThreads > 0 && rate.allThreads.isFinite)
        }
        // Every instruction set multiplies 32-bit floats.
        #expect(MachineLimits.rate(of: .float32, on: pool) != nil)
        let bandwidth = MachineLimits.memoryBandwidth(on: pool)
        #expect(bandwidth > 0 && bandwidth.isFinite)
    }

    /// Folders as the kernel lays them out (its Documentation/admin-guide/cgroup-v2.rst).
    @Test func controlGroupsLimitMemory() throws {
        let root = FileManager.default.temporaryDirectory.appending(path: "cgroup-\(UUID())")
        defer { try? FileManager.default.removeItem(at: root) }
        func write(_ group: String, _ files: [String: String]) throws {
            let folder = root.appending(path: group)
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            for (name, text) in files { try Data(text.utf8).write(to: folder.appending(path: name)) }
        }
        try write("a/b", ["memory.max": "max\n", "memory.current": "300\n"])
        #expect(ControlGroup(membership: "0::/a/b\n", root: root.path) == nil)

        try write("a", ["memory.max": "1000\n", "memory.current": "600\n", "memory.stat": "anon 350\nfile 250\n"])
        let group = try #require(ControlGroup(membership: "12:cpu:/x\n0::/a/b\n", root: root.path))
        #expect(group.memoryBytes == 1000 && group.availableMemoryBytes == 650)

        // The least of the limits holds, and the least of what is left: here of different groups.
        try write("a/b", ["memory.max": "900\n", "memory.current": "100\n"])
        let inner = try #require(ControlGroup(membership: "0::/a/b", root: root.path))
        #expect(inner.memoryBytes == 900 && inner.availableMemoryBytes == 650)

        try write("a", ["memory.max": "500\n", "memory.stat": "file many\n"])
        #expect(ControlGroup(membership: "0::/a", root: root.path)?.availableMemoryBytes == 0)
        #expect(ControlGroup(membership: "", root: root.path) == nil)
        #expect(ControlGroup(membership: "0::/no/such", root: root.path) == nil)
    }
}
