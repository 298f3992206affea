internal import Mirroring
package import StoreModel
internal import Synchronization

/// Time that passes as soon as somebody waits for it.
package final class HurriedClock: StoreClock {
    private let nanoseconds = Mutex<UInt64>(0)

    package init() {}

    package func monotonicNanoseconds() -> UInt64 { nanoseconds.withLock { $0 } }
    package func now() -> Timestamp {
        Timestamp(milliseconds: 1_700_000_000_000 + Int64(monotonicNanoseconds() / 1_000_000))
    }
    package func sleep(for duration: Duration) async throws {
        for _ in 0..<4 { await Task.yield() }
        try Task.checkCancellation()
        nanoseconds.withLock { $0 += duration.nanoseconds }
    }
}
