import HoldfastNode
import Replication
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@testable import Mirroring

/// A mirror's work beside clients.
@Suite struct YieldTests {
    private static let rates = WorkBudget.Rates(
        bytesPerSecond: 1000,
        operationsPerSecond: 10,
        isUnlimitedWhenIdle: true
    )

    private static func waited(_ yield: MirrorYield) -> Double { Double(yield.waitedNanoseconds) / 1e9 }

    @Test func itGoesAsFastAsItCanAloneAndAtItsRatesBesideClients() async throws {
        let (load, clock) = (ClientLoad(), HurriedClock())
        let yield = MirrorYield(Self.rates, load: load, clock: clock)
        for _ in 0..<1000 { try await yield.spend(requests: 1, bytes: 1000) }
        #expect(!yield.isYielding && Self.waited(yield) == 0)
        try await load.run {
            #expect(yield.isYielding)
            // The bucket holds a quarter of a second: 2.5 requests, and 250 bytes.
            for _ in 0..<22 { try await yield.spend(requests: 1) }
            #expect((1.9...2.1).contains(Self.waited(yield)), "\(Self.waited(yield))")
            try await yield.spend(bytes: 3250)
            #expect((4.9...5.1).contains(Self.waited(yield)), "\(Self.waited(yield))")
            // However much is asked for: a minute is the longest, and it goes on.
            try await yield.spend(bytes: 1_000_000_000)
            #expect((64.9...65.1).contains(Self.waited(yield)), "\(Self.waited(yield))")
        }
    }

    @Test func whoeverWaitsForTheMirrorIsNotHeldUp() async throws {
        let (load, clock) = (ClientLoad(), HurriedClock())
        let yield = MirrorYield(Self.rates, load: load, clock: clock)
        try await load.run {
            yield.noteAwaited()
            #expect(!yield.isYielding)
            for _ in 0..<1000 { try await yield.spend(requests: 1, bytes: 1_000_000) }
            #expect(Self.waited(yield) == 0)
            // Nobody has looked for a while: whoever waited has gone.
            try await clock.sleep(for: .milliseconds(1001))
            #expect(yield.isYielding)
            for _ in 0..<22 { try await yield.spend(requests: 1) }
            #expect(Self.waited(yield) > 1.8)
        }
    }

    /// A clock at which something happens while somebody sleeps.
    private final class EventfulClock: StoreClock {
        private let base = HurriedClock()
        private let events = Mutex<[(UInt64, @Sendable () -> Void)]>([])

        func at(_ time: Duration, _ event: @escaping @Sendable () -> Void) {
            events.withLock { $0.append((time.nanoseconds, event)) }
        }
        func monotonicNanoseconds() -> UInt64 { base.monotonicNanoseconds() }
        func now() -> Timestamp { base.now() }
        func sleep(for duration: Duration) async throws {
            try await base.sleep(for: duration)
            let now = base.monotonicNanoseconds()
            let due = events.withLock { events in
                defer { events.removeAll { $0.0 <= now } }
                return events.filter { $0.0 <= now }.map(\.1)
            }
            for event in due { event() }
        }
    }

    @Test func aPauseEndsWhenSomebodyBeginsToWait() async throws {
        let (load, clock) = (ClientLoad(), EventfulClock())
        let yield = MirrorYield(Self.rates, load: load, clock: clock)
        clock.at(.seconds(3)) { yield.noteAwaited() }
        try await load.run {
            try await yield.spend(bytes: 1_000_000)
            #expect((2.9...3.1).contains(Self.waited(yield)), "\(Self.waited(yield))")
        }
    }

    @Test func whatIsReadInTheBackgroundIsNoClients() async throws {
        let load = ClientLoad()
        await ClientLoad.inBackground {
            await load.run { #expect(!load.isBusy) }
            // Nor what it starts for it.
            await Task { await load.run { #expect(!load.isBusy) } }.value
        }
        #expect(!load.isBusy)
        await load.run { #expect(load.isBusy) }
        #expect(load.isBusy)
    }

    @Test func aWorkerYieldsToTheStoresClientsAndDrainsAllTheSame() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        fixture.limits.besideClients = WorkBudget.Rates(
            bytesPerSecond: 1_000_000,
            operationsPerSecond: 10,
            isUnlimitedWhenIdle: true
        )
        for number in 0..<40 { try await fixture.put("k\(number)", noise(1000, UInt64(number))) }
        let load = fixture.store.replicator.clientLoad
        while load.isBusy { await Task.yield() }
        // What it reads itself makes nobody wait.
        try await fixture.service().runUntilIdle()
        #expect(!load.isBusy)
        for number in 0..<40 { try await fixture.put("k\(number)", noise(1001, UInt64(number))) }
        let service = fixture.service()
        let row = try await fixture.directory.mirror(fixture.mirror)
        let before = fixture.clock.monotonicNanoseconds()
        try await load.run {
            try await service.runUntilIdle()
            let status = try await service.status(of: row)
            #expect(status.isUpToDate && status.worker.doneCount == 40)
            #expect(status.worker.yieldedNanoseconds > 3_000_000_000)
        }
        #expect(fixture.clock.monotonicNanoseconds() - before > 3_000_000_000)
        for number in 0..<40 {
            let key = "k\(number)"
            #expect(try await fixture.expectedHistory(key) == fixture.mirroredHistory(key))
        }
        // Alone again, it is as fast as it can be.
        while load.isBusy { await Task.yield() }
        for number in 0..<40 { try await fixture.put("k\(number)", noise(1002, UInt64(number))) }
        while load.isBusy { await Task.yield() }
        let fast = fixture.service()
        try await fast.runUntilIdle()
        #expect(try await fast.status(of: row).worker.yieldedNanoseconds == 0)
        try await fixture.close()
    }
}
