internal import Foundation

/// Turns the first Ctrl-C into the cancellation of the work, which then ends in good order; a second one ends the process
/// at once.
///
/// The main thread waits for the signals and does nothing else: none is lost, not even while the program starts, and what
/// follows is not bound by the few things that a signal handler may do.
enum Interruption {
    private static var signals: sigset_t {
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGINT)
        sigaddset(&signals, SIGTERM)
        return signals
    }

    /// Has the signals wait until somebody asks for them. Threads inherit this: call it before there are any.
    static func hold() {
        // A shell starts the background jobs of a script with SIGINT ignored: then none would ever come.
        signal(SIGINT, SIG_DFL)
        signal(SIGTERM, SIG_DFL)
        var held = signals
        pthread_sigmask(SIG_BLOCK, &held, nil)
    }

    /// Waits for the signals as long as the process lives.
    ///
    /// - Parameter work: what the first one cancels.
    static func wait(cancelling work: Task<Void, Never>) -> Never {
        next()
        work.cancel()
        next()
        _exit(ExitStatus.cancelled.rawValue)
    }

    private static func next() {
        var awaited = signals
        var number: Int32 = 0
        // Fails only for signals that do not exist.
        _ = sigwait(&awaited, &number)
    }
}
