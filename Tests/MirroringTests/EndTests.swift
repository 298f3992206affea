import Catalog
import HoldfastNode
import Logging
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@testable import Mirroring

/// The ends of tasks: written together, and what happens while they are, or when they can't be.
@Suite struct EndTests {
    /// A store that writes no end of a task until it is told to, or refuses the next ones.
    private final class SlowWriter: ForwardingStore {
        private struct State {
            var refusals = 0
            /// How many tasks each write of ends has ended.
            var ends: [Int] = []
            /// No write of this key is possible.
            var poisoned: [UInt8]?
        }

        let store: MirroredStore
        private let gate = Gate()
        private let state = Mutex(State())

        init(_ store: MirroredStore) { self.store = store }

        var isWaiting: Bool { gate.isWaitedAt }
        var ends: [Int] { state.withLock { $0.ends } }

        func poison(_ key: [UInt8]) { state.withLock { $0.poisoned = key } }
        func refuse(_ count: Int) { state.withLock { $0.refusals = count } }

        func letGo() { gate.open() }

        func write(_ documents: [DocumentWrite]) async throws {
            let ended = documents.count { write in
                guard case .remove = write.change else { return false }
                return write.key.starts(with: MirrorKey.pendingPrefix)
            }
            guard ended > 0 else { return try await store.write(documents) }
            await gate.wait()
            let isRefused = state.withLock { state in
                state.ends.append(ended)
                defer { state.refusals = max(0, state.refusals - 1) }
                return state.refusals > 0
            }
            guard !isRefused else { throw StoreError(.notEnoughReplicas, "no quorum") }
            let poisoned = state.withLock { $0.poisoned }
            guard !documents.contains(where: { $0.key == poisoned }) else {
                throw StoreError(.invalidArgument, "a document that is too large")
            }
            try await store.write(documents)
        }
    }

    private static func worker(_ fixture: MirrorFixture, _ store: SlowWriter) async throws -> MirrorWorker {
        var limits = MirrorWorkerLimits()
        limits.giveUp = .seconds(60)
        limits.backoff = Backoff(base: .milliseconds(1), cap: .milliseconds(10))
        return MirrorWorker(
            try await fixture.directory.mirror(fixture.mirror),
            store: store,
            make: { [backend = fixture.backend] _, _ in backend },
            clock: SystemClock(),
            random: SystemRandom(),
            isAlone: true,
            limits: limits,
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
        )
    }

    private static func wait(until isReached: () -> Bool) async throws {
        while !isReached() { try await Task.sleep(for: .milliseconds(2)) }
    }

    @Test(.timeLimit(.minutes(1))) func otherTasksGoOnWhileEndsAreWrittenUpToABound() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        for number in 0..<150 { try await fixture.put("k\(number)", [UInt8(number)]) }
        let store = SlowWriter(MirroredStore(objects: fixture.objects))
        let worker = try await Self.worker(fixture, store)
        let work = Task { await worker.runUntilIdle() }
        // Eight at a time go to the backend; no more than the bound wait for their ends.
        try await Self.wait { fixture.backend.putCount >= 64 }
        try await Task.sleep(for: .milliseconds(100))
        #expect(store.isWaiting && store.ends.isEmpty)
        #expect((64..<64 + 8).contains(fixture.backend.putCount))
        #expect(try await fixture.tasks().count == 150)
        #expect(worker.state.doneCount == 0)
        store.letGo()
        await work.value
        #expect(fixture.backend.putCount == 150 && !fixture.backend.hasOverlapped)
        #expect(try await fixture.tasks().isEmpty)
        #expect(worker.state.doneCount == 150)
        #expect(store.ends.reduce(0, +) == 150 && store.ends.contains { $0 > 8 })
        let status = try await fixture.drain()
        #expect(status.isUpToDate && fixture.backend.putCount == 150)
        try await fixture.close()
    }

    @Test(.timeLimit(.minutes(1))) func theNextVersionOfAKeyWaitsForTheEndOfTheOneBefore() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        for number in 0..<5 as Range<UInt8> { try await fixture.put("k", [number]) }
        let store = SlowWriter(MirroredStore(objects: fixture.objects))
        let worker = try await Self.worker(fixture, store)
        let work = Task { await worker.runUntilIdle() }
        try await Self.wait { store.isWaiting }
        try await Task.sleep(for: .milliseconds(50))
        #expect(fixture.backend.putCount == 1)
        store.letGo()
        await work.value
        #expect(fixture.backend.history("models/k").map(\.bytes) == [[0], [1], [2], [3], [4]])
        #expect(store.ends == [1, 1, 1, 1, 1])
        try await fixture.close()
    }

    @Test(.timeLimit(.minutes(1))) func endsThatCouldNotBeWrittenMakeNoSecondVersion() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        for number in 0..<40 { try await fixture.put("k\(number)", [UInt8(number)]) }
        let store = SlowWriter(MirroredStore(objects: fixture.objects))
        let worker = try await Self.worker(fixture, store)
        store.refuse(3)
        store.letGo()
        await worker.runUntilIdle()
        #expect(try await fixture.tasks().isEmpty)
        #expect(worker.state.doneCount == 40)
        for number in 0..<40 {
            #expect(fixture.backend.history("models/k\(number)").map(\.bytes) == [[UInt8(number)]])
        }
        #expect(fixture.backend.putCount == 40)
        try await fixture.close()
    }

    @Test(.timeLimit(.minutes(1))) func anEndThatIsRefusedTakesNoOtherWithIt() async throws {
        let fixture = try await MirrorFixture()
        let id = try await fixture.add().id
        for number in 0..<40 { try await fixture.put("k\(number)", [UInt8(number)]) }
        let bad = try #require(try await fixture.tasks().dropFirst(20).first)
        let store = SlowWriter(MirroredStore(objects: fixture.objects))
        store.poison(MirrorKey.pending(id, bad.sequence))
        let worker = try await Self.worker(fixture, store)
        let work = Task { await worker.run() }
        try await Self.wait { fixture.backend.putCount == 40 }
        store.letGo()
        try await Self.wait { worker.state.doneCount == 39 }
        #expect(try await fixture.tasks() == [bad])
        #expect(store.ends.contains { $0 > 1 } && store.ends.contains(1))
        work.cancel()
        await work.value
        // Alone, and nobody else, it is looked for again.
        #expect(fixture.backend.putCount == 40)
        let status = try await fixture.drain()
        #expect(status.isUpToDate && fixture.backend.putCount == 40)
        try await fixture.close()
    }

    @Test(.timeLimit(.minutes(1))) func whatEndsWhileTheMirrorIsPausedIsWritten() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        for number in 0..<20 { try await fixture.put("k\(number)", [UInt8(number)]) }
        fixture.backend.hold(true)
        let store = SlowWriter(MirroredStore(objects: fixture.objects))
        store.letGo()
        let worker = try await Self.worker(fixture, store)
        let work = Task { await worker.run() }
        try await Self.wait { fixture.backend.heldKeys.count == 8 }
        try await fixture.directory.setPaused(fixture.mirror, true)
        try await Self.wait { worker.state.activity == .paused }
        fixture.backend.hold(false)
        try await Self.wait { worker.state.doneCount == 8 }
        #expect(try await fixture.tasks().count == 12)
        #expect(fixture.backend.putCount == 8)
        work.cancel()
        await work.value
        try await fixture.close()
    }

    @Test(.timeLimit(.minutes(1))) func moreFromBeforeGoOnWhileEndsAreWritten() async throws {
        let fixture = try await MirrorFixture()
        for number in 0..<100 { try await fixture.put("k\(number)", [UInt8(number)]) }
        try await fixture.add()
        let store = SlowWriter(MirroredStore(objects: fixture.objects))
        let worker = try await Self.worker(fixture, store)
        let work = Task { await worker.runUntilIdle() }
        try await Self.wait { fixture.backend.putCount >= 64 }
        #expect(store.isWaiting && store.ends.isEmpty)
        store.letGo()
        await work.value
        #expect(fixture.backend.putCount == 100 && !fixture.backend.hasOverlapped)
        #expect(try await fixture.tasks().isEmpty)
        #expect(try await fixture.drain().isUpToDate)
        try await fixture.close()
    }

    @Test func anObjectInPartsThatATagBringsLeavesNoRow() async throws {
        let fixture = try await MirrorFixture(keepsVersions: false)
        try await fixture.add(rules: [MirrorRule(tag: NamedValue("tier", "gold"))])
        try await fixture.put("k", noise(6 << 20, 1))
        #expect(try await fixture.drain().isUpToDate)
        #expect(fixture.backend.putCount == 0 && fixture.backend.partCount == 0)
        _ = try await fixture.objects.setTags(of: fixture.address("k"), to: [NamedValue("tier", "gold")])
        #expect(try await fixture.drain().isUpToDate)
        #expect(fixture.backend.partCount == 2)
        #expect(fixture.backend.history("models/k").map(\.bytes) == [noise(6 << 20, 1)])
        #expect(try await fixture.objects.documents(.outbox, prefix: MirrorKey.uploadPrefix).isEmpty)
        try await fixture.close()
    }

    @Test func theRowOfAnUploadGoesWithItsTaskAndNoneIsRemovedThatWasNeverThere() async throws {
        let fixture = try await MirrorFixture()
        let id = try await fixture.add().id
        try await fixture.put("k", [1])
        let task = try #require(try await fixture.tasks().first)
        let (pending, upload) = (MirrorKey.pending(id, task.sequence), MirrorKey.upload(id, task.sequence))
        let note = DocumentWrite(space: .outbox, key: [1], body: [2])
        let removal = DocumentWrite(space: .outbox, key: upload, body: nil)
        func keys(_ writes: [DocumentWrite], _ mayHaveUpload: Bool) -> [[UInt8]] {
            let outcome = MirrorOutcome(writes: writes)
            return MirrorLoop.Ending(task: task, outcome: outcome, mayHaveUpload: mayHaveUpload)
                .writes(id).map(\.key)
        }
        #expect(keys([note], false) == [[1], pending])
        #expect(keys([note], true) == [[1], pending, upload])
        #expect(keys([removal, note], false) == [[1], pending, upload])
        #expect(keys([removal, note], true) == [[1], pending, upload])
        try await fixture.close()
    }
}
