internal import Glibc
internal import Synchronization

/// Time, as the store asks for it. Order never comes from the wall clock: versions are ordered by sequence.
package protocol StoreClock: Sendable {
    /// Nanoseconds of a clock that never goes back, from an arbitrary origin.
    func monotonicNanoseconds() -> UInt64
    /// The wall clock.
    func now() -> Timestamp
    /// Returns when the monotonic clock has passed `duration`, or throws when the task is cancelled.
    func sleep(for duration: Duration) async throws
}

/// Randomness, as the store asks for it.
package protocol RandomSource: Sendable {
    /// 64 uniform random bits.
    func next() -> UInt64
}

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
package struct Timestamp: Hashable, Sendable, BitwiseCopyable, Comparable {
    package let milliseconds: Int64
    package init(milliseconds: Int64) { self.milliseconds = milliseconds }
    package static func < (left: Timestamp, right: Timestamp) -> Bool {
        left.milliseconds < right.milliseconds
    }
}

/// The operating system's clocks.
package struct SystemClock: StoreClock {
    private let start = ContinuousClock.now

    package init() {}

    package func monotonicNanoseconds() -> UInt64 {
        let (seconds, attoseconds) = start.duration(to: .now).components
        return UInt64(clamping: seconds) &* 1_000_000_000 &+ UInt64(clamping: attoseconds / 1_000_000_000)
    }

    package func now() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
    }

    package func sleep(for duration: Duration) async throws { try await Task.sleep(for: duration) }
}

/// The operating system's generator, asked for many words at a time: every mutation takes three words, each of which would
/// be a system call.
package struct SystemRandom: RandomSource {
    private static let stock = Mutex<[UInt64]>([])
    /// As many as the system gives in one call: 256 bytes.
    private static let stockCount = 32

    package init() {}

    package func next() -> UInt64 {
        Self.stock.withLock { stock in
            if let word = stock.popLast() { return word }
            stock = [UInt64](unsafeUninitializedCapacity: Self.stockCount) { buffer, count in
                let status = getentropy(buffer.baseAddress, Self.stockCount * MemoryLayout<UInt64>.size)
                precondition(status == 0, "The system's generator always answers.")
                count = Self.stockCount
            }
            guard let word = stock.popLast() else { preconditionFailure("The stock was just filled.") }
            return word
        }
    }
}
