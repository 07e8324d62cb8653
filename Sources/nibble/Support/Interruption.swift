internal import Dispatch
internal import Foundation

/// Turns the first Ctrl-C into the cancellation of the work, which then ends in good order; a second one ends the process
/// at once.
final class Interruption {
    private let sources: [any DispatchSourceSignal]

    init(cancelling work: Task<Void, Never>) {
        sources = [SIGINT, SIGTERM].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number)
            source.setEventHandler {
                work.cancel()
                signal(number, SIG_DFL)
            }
            source.resume()
            return source
        }
    }
}
