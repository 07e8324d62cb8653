internal import CNibbleSystem

#if canImport(Glibc)
    internal import Glibc
#else
    internal import Darwin
#endif

/// What this process has used of the machine.
public enum ProcessMemory {
    /// The largest resident size so far, in bytes, mapped files included.
    public static var peakBytes: Int {
        #if canImport(Glibc)
            // Not `ru_maxrss`, which Linux keeps across exec: it begins with what the process that started this one had.
            Machine.byteCount(of: "VmHWM", in: "/proc/self/status") ?? usage.ru_maxrss * 1024
        #else
            usage.ru_maxrss
        #endif
    }

    /// What is resident now, in bytes, mapped files included; nil where the system does not tell.
    public static var residentBytes: Int? { Machine.byteCount(of: "VmRSS", in: "/proc/self/status") }

    /// Lets `peakBytes` begin again from what is resident now, so that the parts of a work can be told apart; on systems
    /// that cannot do it the peak stays that of the whole.
    public static func forgetPeak() {
        // 5 resets the peak (Linux, Documentation/filesystems/proc.rst, "clear_refs").
        guard let file = fopen("/proc/self/clear_refs", "w") else { return }
        fputs("5", file)
        fclose(file)
    }

    /// Has the C library's allocator keep what is given back to it, so that a step takes no page anew. For the start of a
    /// program.
    public static func keepFreed() { nibble_keep_freed_memory() }

    /// Page faults so far that did not wait for a disk.
    public static var minorFaults: Int { usage.ru_minflt }

    private static var usage: rusage {
        var usage = rusage()
        #if canImport(Glibc)
            getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        #else
            getrusage(RUSAGE_SELF, &usage)
        #endif
        return usage
    }
}
