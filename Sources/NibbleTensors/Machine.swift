internal import Foundation

#if canImport(Darwin)
    internal import Darwin
#endif

/// The machine as this process sees it at one moment.
public struct Machine: Sendable {
    /// The processor's name as the system tells it; the architecture where it tells none.
    public let processor: String
    /// Cores that this process may run on.
    public let coreCount: Int
    /// Memory that this process may have at most, in bytes: the machine's, or its control group's where that is less.
    public let memoryBytes: Int
    /// Memory that it can still get without anything being swapped out, in bytes.
    public let availableMemoryBytes: Int

    /// The machine now.
    public static func current() -> Machine {
        var total = Int(clamping: ProcessInfo.processInfo.physicalMemory)
        var available = systemAvailableMemory ?? total
        if let group = ControlGroup.current {
            total = min(total, group.memoryBytes)
            available = min(available, group.availableMemoryBytes)
        }
        return Machine(
            processor: processorName ?? architecture, coreCount: ProcessInfo.processInfo.activeProcessorCount,
            memoryBytes: total, availableMemoryBytes: available)
    }

    private static var architecture: String {
        #if arch(x86_64)
            "x86-64"
        #elseif arch(arm64)
            "arm64"
        #else
            "unknown"
        #endif
    }

    #if canImport(Darwin)
        private static var processorName: String? {
            var size = 0
            guard sysctlbyname("machdep.cpu.brand_string", nil, &size, nil, 0) == 0, size > 0 else { return nil }
            var bytes = [UInt8](repeating: 0, count: size)
            guard sysctlbyname("machdep.cpu.brand_string", &bytes, &size, nil, 0) == 0 else { return nil }
            return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }

        private static var systemAvailableMemory: Int? {
            var statistics = vm_statistics64()
            let words = MemoryLayout<vm_statistics64>.size / MemoryLayout<integer_t>.size
            var count = mach_msg_type_number_t(words)
            let result = withUnsafeMutablePointer(to: &statistics) { pointer in
                pointer.withMemoryRebound(to: integer_t.self, capacity: words) {
                    host_statistics64(mach_host_self(), HOST_VM_INFO64, $0, &count)
                }
            }
            guard result == KERN_SUCCESS else { return nil }
            return (Int(statistics.free_count) + Int(statistics.inactive_count)) * Int(getpagesize())
        }
    #else
        private static var processorName: String? { value(of: "model name", in: "/proc/cpuinfo") }

        private static var systemAvailableMemory: Int? {
            byteCount(of: "MemAvailable", in: "/proc/meminfo")
        }

        /// What a line such as `VmHWM:  46012 kB` says, in bytes.
        static func byteCount(of name: String, in path: String) -> Int? {
            value(of: name, in: path)?.split(separator: " ").first.flatMap { Int($0) }.map { $0 * 1024 }
        }

        /// What stands after a name and a colon, in a file of such lines.
        private static func value(of name: String, in path: String) -> String? {
            guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return nil }
            for line in text.split(separator: "\n") {
                let parts = line.split(separator: ":", maxSplits: 1)
                guard parts.count == 2, parts[0].trimmingCharacters(in: .whitespaces) == name else { continue }
                return parts[1].trimmingCharacters(in: .whitespaces)
            }
            return nil
        }
    #endif
}

/// The memory limits of Linux control groups, version 2: a container's.
struct ControlGroup: Equatable {
    /// The least limit of the group and of those above it.
    let memoryBytes: Int
    /// What is left below those limits. Pages of files count as free: the system drops them when it must.
    let availableMemoryBytes: Int

    /// This process's; nil where there is no limit.
    static var current: ControlGroup? {
        guard let membership = try? String(contentsOfFile: "/proc/self/cgroup", encoding: .utf8) else { return nil }
        return ControlGroup(membership: membership, root: "/sys/fs/cgroup")
    }

    /// Reads the limits.
    ///
    /// - Parameters:
    ///   - membership: the text of `/proc/self/cgroup`; version 2 has a line `0::PATH`.
    ///   - root: where the groups' folders are.
    init?(membership: String, root: String) {
        guard let line = membership.split(separator: "\n").first(where: { $0.hasPrefix("0::") }) else { return nil }
        var names = line.dropFirst("0::".count).split(separator: "/")
        var limit = Int.max
        var available = Int.max
        while true {
            let folder = URL(filePath: ([root] + names.map(String.init)).joined(separator: "/"))
            func read(_ file: String) -> String? {
                (try? String(contentsOf: folder.appending(path: file), encoding: .utf8))?
                    .trimmingCharacters(in: .whitespacesAndNewlines)
            }
            if let maximum = read("memory.max").flatMap({ Int($0) }) {
                let used = read("memory.current").flatMap { Int($0) } ?? 0
                let files =
                    read("memory.stat")?.split(separator: "\n").first { $0.hasPrefix("file ") }
                    .flatMap { Int($0.dropFirst("file ".count)) } ?? 0
                limit = min(limit, maximum)
                available = min(available, max(0, maximum - max(0, used - files)))
            }
            if names.isEmpty { break }
            names.removeLast()
        }
        guard limit < .max else { return nil }
        memoryBytes = limit
        availableMemoryBytes = available
    }
}
