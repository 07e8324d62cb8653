internal import Foundation
internal import Synchronization

/// A value that a thread of its own makes while its owner does something else.
final class Meanwhile<Value: Sendable>: Sendable {
    private let result = Mutex<Result<Value, any Error>?>(nil)
    private let condition = NSCondition()

    /// Begins.
    init(_ make: @escaping @Sendable () throws -> Value) {
        Thread.detachNewThread { [self] in
            let made = Result { try make() }
            condition.lock()
            result.withLock { $0 = made }
            condition.broadcast()
            condition.unlock()
        }
    }

    /// The value, as soon as it is there, or what its making threw.
    var value: Value {
        get throws {
            condition.lock()
            defer { condition.unlock() }
            while true {
                if let result = result.withLock({ $0 }) { return try result.get() }
                condition.wait()
            }
        }
    }
}
