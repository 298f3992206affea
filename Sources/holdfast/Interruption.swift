internal import Dispatch
internal import Foundation
internal import Synchronization

/// SIGINT and SIGTERM: the first asks the running command to stop cleanly, the second ends the process at
/// once.
enum Interruption {
    private static let received = Atomic<Int32>(0)
    /// Keeps the sources alive.
    /// `nonisolated(unsafe)` is right: written by `signals()` at the start of the process and by
    /// `hangups()`, which one command calls once after it; never read.
    private nonisolated(unsafe) static var sources: [any DispatchSourceSignal] = []

    /// Whether the process was asked to stop.
    static var isRequested: Bool { received.load(ordering: .relaxed) != 0 }

    /// What to report when the process was asked to stop; nil when it was not.
    static var error: CommandError? {
        switch received.load(ordering: .relaxed) {
        case 0: nil
        case SIGTERM: CommandError(.terminated, "Stopped by SIGTERM.")
        default: CommandError(.interrupted, "Stopped by SIGINT.")
        }
    }

    /// A command that serves ends by itself when it is asked to, instead of being cancelled.
    private static let gentle = Mutex<AsyncStream<Void>.Continuation?>(nil)

    /// From now on a signal to stop comes out here, and does not cancel the command.
    static func gentleStops() -> AsyncStream<Void> {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
        gentle.withLock { $0 = continuation }
        if isRequested { continuation.yield() }
        return stream
    }

    /// - Returns: whether the command ends by itself.
    static func stopGently() -> Bool {
        gentle.withLock { continuation in
            continuation?.yield()
            return continuation != nil
        }
    }

    /// SIGHUP, once for each.
    static func hangups() -> AsyncStream<Void> {
        AsyncStream { continuation in
            signal(SIGHUP, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: SIGHUP, queue: .global())
            source.setEventHandler { continuation.yield() }
            source.resume()
            sources.append(source)
        }
    }

    /// Takes the signals over for the rest of the process. Broken pipes and file size limits become ordinary
    /// errors of write(2).
    static func signals() -> AsyncStream<Int32> {
        signal(SIGPIPE, SIG_IGN)
        signal(SIGXFSZ, SIG_IGN)
        return AsyncStream { continuation in
            for number in [SIGINT, SIGTERM] {
                signal(number, SIG_IGN)
                let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
                source.setEventHandler {
                    let previous = received.exchange(number, ordering: .relaxed)
                    if previous != 0 { _exit(128 + number) }
                    continuation.yield(number)
                }
                source.resume()
                sources.append(source)
            }
        }
    }
}
