import StoreModel
import StoreTestKit
import Synchronization
import Testing

private final class Awake: Sendable { let seconds = Mutex<[Int]>([]) }

@Suite("VirtualClock")
struct VirtualClockTests {
    @Test("Time stands still until it is advanced")
    func advance() {
        let clock = VirtualClock(start: Timestamp(milliseconds: 1000))
        #expect(clock.monotonicNanoseconds() == 0 && clock.now() == Timestamp(milliseconds: 1000))
        clock.advance(by: .milliseconds(1500))
        #expect(clock.monotonicNanoseconds() == 1_500_000_000 && clock.now() == Timestamp(milliseconds: 2500))
        clock.jumpWallClock(milliseconds: -2000)
        #expect(clock.monotonicNanoseconds() == 1_500_000_000 && clock.now() == Timestamp(milliseconds: 500))
    }

    @Test("Sleepers wake when their time has come, and not before")
    func sleepers() async throws {
        let clock = VirtualClock()
        let awake = Awake()
        try await withThrowingTaskGroup { group in
            for seconds in [3, 1, 2] {
                group.addTask {
                    try await clock.sleep(for: .seconds(seconds))
                    awake.seconds.withLock { $0.append(seconds) }
                }
            }
            await clock.sleepers(atLeast: 3)
            clock.advance(by: .milliseconds(999))
            #expect(clock.sleeperCount == 3)
            for seconds in 1...3 {
                clock.advance(by: seconds == 1 ? .milliseconds(1) : .seconds(1))
                #expect(clock.sleeperCount == 3 - seconds)
                try await group.next()
                #expect(awake.seconds.withLock { $0 } == Array(1...seconds))
            }
        }
    }

    @Test("A cancelled sleeper throws and is forgotten")
    func cancellation() async throws {
        let clock = VirtualClock()
        await withTaskGroup { group in
            group.addTask {
                await #expect(throws: CancellationError.self) { try await clock.sleep(for: .seconds(1)) }
            }
            await clock.sleepers(atLeast: 1)
            group.cancelAll()
            // One that is cancelled before it falls asleep.
            group.addTask {
                await #expect(throws: CancellationError.self) { try await clock.sleep(for: .seconds(1)) }
            }
            await group.waitForAll()
        }
        #expect(clock.sleeperCount == 0)
    }

    @Test("A sleep of nothing returns at once")
    func zero() async throws {
        try await VirtualClock().sleep(for: .zero)
    }

    @Test("Seeded randomness repeats with its seed and is a source for the store")
    func random() {
        let source: any RandomSource = SeededRandom(seed: 7)
        let again = SeededRandom(seed: 7)
        let other = SeededRandom(seed: 8)
        let numbers = (0..<10).map { _ in source.next() }
        #expect(numbers == (0..<10).map { _ in again.next() })
        #expect(numbers != (0..<10).map { _ in other.next() })
    }
}
