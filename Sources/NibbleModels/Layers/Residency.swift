/// What becomes of a block's mapped weights after its use.
public enum Residency: Sendable {
    /// They stay in memory as long as the system lets them.
    case keep
    /// They leave this process's memory, and those of the next block are fetched ahead: a model larger than memory runs,
    /// at the speed of the disk.
    case stream
}
