import Catalog
import Encryption
import HoldfastNode
import Logging
import Mirroring
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

/// Two workers, one outbox: who may work, and what one that comes late can still do.
@Suite struct LeaseTests {
    /// A worker's view of the lease: its own name, its own clock.
    private struct Side {
        let lease: MirrorLease
        let clock = VirtualClock()
        let store: MirroredStore

        init(_ fixture: MirrorFixture, _ row: MirrorRow, number: UInt64) {
            lease = MirrorLease(id: row.id, holder: UniqueID(high: number, low: number), isAlone: false)
            store = MirroredStore(objects: fixture.objects)
        }

        /// - Parameter reading: how long the documents are read.
        func take(reading: Duration = .zero) async throws -> Bool {
            try await lease.take(
                store,
                now: clock.now(),
                monotonic: clock.monotonicNanoseconds(),
                later: {
                    clock.advance(by: reading)
                    return clock.monotonicNanoseconds()
                }
            )
        }

        var isValid: Bool { lease.isValid(at: clock.monotonicNanoseconds()) }

        /// Writes something as only the holder may.
        func write() async throws {
            let key = [UInt8]("test/written".utf8)
            try await store.write([DocumentWrite(space: .outbox, key: key, body: [1]), lease.proof])
        }
    }

    private static func sides(_ fixture: MirrorFixture) async throws -> (Side, Side) {
        let row = try await fixture.add()
        return (Side(fixture, row, number: 1), Side(fixture, row, number: 2))
    }

    @Test func aLeaseThatIsRenewedIsNobodyElses() async throws {
        let fixture = try await MirrorFixture()
        let (a, b) = try await Self.sides(fixture)
        #expect(try await a.take())
        for _ in 0..<30 {
            for side in [a, b] { side.clock.advance(by: .seconds(10)) }
            #expect(try await !b.take())
            #expect(a.isValid && !b.isValid)
            #expect(try await a.take())
            try await a.write()
            await #expect(throws: StoreError.self) { try await b.write() }
        }
        try await fixture.close()
    }

    @Test func oneThatIsNotRenewedGoesToTheNextWhoHasWaitedLongEnough() async throws {
        let fixture = try await MirrorFixture()
        let (a, b) = try await Self.sides(fixture)
        #expect(try await a.take())
        // Known from here on.
        #expect(try await !b.take())
        b.clock.advance(by: .milliseconds(29_999))
        #expect(try await !b.take())
        b.clock.advance(by: .milliseconds(1))
        #expect(try await b.take())
        try await b.write()
        // A wakes up late: nothing of what it writes counts, and it gets the lease no more.
        let error = await #expect(throws: StoreError.self) { try await a.write() }
        #expect(error?.code == .cancelled)
        #expect(try await !a.take())
        #expect(!a.isValid)
        try await b.write()
        try await fixture.close()
    }

    @Test func aHolderThatSleptSendsNothingBeforeItHasTheLeaseAgain() async throws {
        let fixture = try await MirrorFixture()
        let (a, _) = try await Self.sides(fixture)
        #expect(try await a.take())
        a.clock.advance(by: .seconds(30))
        #expect(!a.isValid)
        #expect(try await a.take(), "nobody took it meanwhile")
        #expect(a.isValid)
        try await fixture.close()
    }

    @Test(arguments: [-365 * 86_400_000, -1, 1, 365 * 86_400_000] as [Int64])
    func wallClocksThatJumpDecideNothing(milliseconds: Int64) async throws {
        let fixture = try await MirrorFixture()
        let (a, b) = try await Self.sides(fixture)
        #expect(try await a.take())
        #expect(try await !b.take())
        // The holder's clock: its lease ends no later and no earlier.
        a.clock.jumpWallClock(milliseconds: milliseconds)
        #expect(a.isValid)
        #expect(try await a.take())
        b.clock.advance(by: .seconds(29))
        #expect(try await !b.take(), "it was renewed since")
        // The other one's.
        b.clock.jumpWallClock(milliseconds: milliseconds)
        #expect(try await !b.take())
        b.clock.advance(by: .seconds(29))
        #expect(try await !b.take())
        b.clock.advance(by: .seconds(1))
        #expect(try await b.take())
        await #expect(throws: StoreError.self) { try await a.write() }
        try await fixture.close()
    }

    @Test func whatWasReadSlowlyWasSeenWhenItWasRead() async throws {
        let fixture = try await MirrorFixture()
        let (a, b) = try await Self.sides(fixture)
        // The one renews while the other one reads: what is seen then holds from the end of the reading on.
        a.clock.advance(by: .seconds(20))
        #expect(try await a.take())
        #expect(try await !b.take(reading: .seconds(20)))
        for side in [a, b] { side.clock.advance(by: .seconds(29)) }
        #expect(a.isValid)
        #expect(try await !b.take(), "29 seconds were seen, not 49")
        for side in [a, b] { side.clock.advance(by: .seconds(2)) }
        #expect(!a.isValid)
        #expect(try await b.take())
        try await fixture.close()
    }

    @Test func aClockThatStandsStillRenewsAllTheSame() async throws {
        let fixture = try await MirrorFixture()
        let (a, b) = try await Self.sides(fixture)
        for _ in 0..<10 {
            #expect(try await a.take())
            #expect(try await !b.take())
            b.clock.advance(by: .seconds(29))
        }
        try await fixture.close()
    }

    @Test func oneOfManyGetsWhatHasRunOut() async throws {
        let fixture = try await MirrorFixture()
        let row = try await fixture.add()
        let (dead, others) = (Side(fixture, row, number: 99), (1...8).map { Side(fixture, row, number: $0) })
        #expect(try await dead.take())
        for side in others {
            #expect(try await !side.take())
            side.clock.advance(by: .seconds(31))
        }
        let winners = try await withThrowingTaskGroup(of: Bool.self) { group in
            for side in others { group.addTask { try await side.take() } }
            return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(winners == 1)
        #expect(others.filter(\.isValid).count == 1)
        try await fixture.close()
    }

    // MARK: Workers

    private static func worker(
        _ fixture: MirrorFixture,
        _ row: MirrorRow,
        _ store: any MirrorStore,
        _ clock: any StoreClock
    ) -> MirrorWorker {
        var limits = MirrorWorkerLimits()
        limits.giveUp = .seconds(600)
        return MirrorWorker(
            row,
            store: store,
            make: { [backend = fixture.backend] _, _ in backend },
            clock: clock,
            random: SystemRandom(),
            isAlone: false,
            limits: limits,
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
        )
    }

    @Test func aWorkerThatEndsGivesItsLeaseBack() async throws {
        let fixture = try await MirrorFixture()
        let row = try await fixture.add()
        let store = MirroredStore(objects: fixture.objects)
        for number in 0..<3 {
            try await fixture.put("k\(number)", [1])
            let clock = HurriedClock()
            await Self.worker(fixture, row, store, clock).runUntilIdle()
            #expect(fixture.backend.keys.count == number + 1)
            #expect(clock.monotonicNanoseconds() < 10_000_000_000, "nobody waited for the end of a lease")
        }
        try await fixture.close()
    }

    /// A is stopped between reading the bytes and sending them, B takes over and does the work; then A goes on.
    @Test(arguments: [true, false])
    func aWorkerThatWakesUpLateFinishesNothing(knowsTheTime: Bool) async throws {
        let fixture = try await MirrorFixture()
        let row = try await fixture.add()
        let store = MirroredStore(objects: fixture.objects)
        let slow = SlowStore(store)
        for number in 0..<3 { try await fixture.put("k", [UInt8(number)]) }
        let (clockA, clockB) = (VirtualClock(), HurriedClock())
        let a = Self.worker(fixture, row, slow, clockA)
        let workOfA = Task { await a.run() }
        while !slow.isWaiting {
            clockA.advance(by: .milliseconds(20))
            try await Task.sleep(for: .milliseconds(1))
        }
        let b = Self.worker(fixture, row, store, clockB)
        await b.runUntilIdle()
        #expect(clockB.monotonicNanoseconds() >= MirrorLease.duration.nanoseconds, "B has waited")
        #expect(fixture.backend.history("models/k").map(\.bytes) == [[0], [1], [2]])
        let first = try #require(fixture.backend.history("models/k").first)
        let task = try #require(fixture.backend.history("models/k").first?.properties.holdfastVersion)
        let note = MirrorKey.mirrored(row.id, task)
        // A's own clock tells it, or not: then its request leaves, and what it makes of the answer is refused.
        if knowsTheTime { clockA.advance(by: .seconds(31)) }
        slow.letGo()
        try await Self.until { slow.hasGoneOn && (knowsTheTime || fixture.backend.putCount == 4) }
        for _ in 0..<50 {
            clockA.advance(by: .milliseconds(20))
            try await Task.sleep(for: .milliseconds(1))
        }
        workOfA.cancel()
        await workOfA.value
        #expect(fixture.backend.putCount == (knowsTheTime ? 3 : 4))
        let noted = try await store.read { try $0.document(.outbox, note)?.body }
        #expect(noted == [UInt8](first.versionID.utf8), "what B has written stands")
        #expect(try await fixture.tasks().isEmpty)
        #expect(a.state.doneCount == 0)
        try await fixture.close()
    }

    private static func until(_ condition: () -> Bool) async throws {
        for _ in 0..<30_000 where !condition() { try await Task.sleep(for: .milliseconds(1)) }
        #expect(condition())
    }
}

/// A store whose bytes are a long time in coming.
private final class SlowStore: ForwardingStore {
    let store: MirroredStore
    private let gate = Gate()
    private let passed = Atomic(false)

    init(_ store: MirroredStore) { self.store = store }

    var isWaiting: Bool { gate.isWaitedAt }
    var hasGoneOn: Bool { passed.load(ordering: .acquiring) }

    func letGo() { gate.open() }

    func bytes(of version: VersionRow, _ range: ByteRange) async throws -> [UInt8] {
        let bytes = try await store.bytes(of: version, range)
        await gate.wait()
        passed.store(true, ordering: .releasing)
        return bytes
    }
}
