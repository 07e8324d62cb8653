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
