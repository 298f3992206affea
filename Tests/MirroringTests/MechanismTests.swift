import Catalog
import Mirroring
import StoreModel
import StoreTestKit
import Testing

/// The parts that decide, one by one.
@Suite struct MechanismTests {
    private func task(_ sequence: UInt64, _ key: String) throws -> MirrorTask {
        let row = VersionRow(
            bucket: BucketID(rawValue: 1),
            key: try ObjectKey(key),
            id: VersionID(sequence: sequence, nonce: 1),
            isNull: false,
            kind: .object,
            createdAt: Timestamp(milliseconds: 5),
            content: ObjectContent(size: 3, etag: "e", checksums: ObjectChecksums(), manifest: .inline([])),
            operation: UniqueID(high: 1, low: 2)
        )
        return MirrorTask(
            mirror: MirrorID(rawValue: 9),
            sequence: sequence,
            change: .made,
            bucketName: try BucketName("bucket"),
            row: row,
            replaced: sequence % 2 == 0 ? VersionID(sequence: 1, nonce: 2) : nil,
            time: row.createdAt
        )
    }

    @Test func aTaskReadsBackAsItWasWrittenAndNothingElseDoes() throws {
        for sequence in [1, 2] as [UInt64] {
            let task = try task(sequence, "a/b")
            #expect(try MirrorTask(task.pendingRow) == task)
            for count in 0..<task.body.count {
                let cut = DocumentRow(
                    space: .outbox,
                    key: task.pendingRow.key,
                    body: Array(task.body.prefix(count))
                )
                #expect(throws: CatalogError.self) { try MirrorTask(cut) }
            }
            var newer = task.body
            newer[0] = 2
            let other = DocumentRow(space: .outbox, key: task.pendingRow.key, body: newer)
            #expect(throws: CatalogError.self) { try MirrorTask(other) }
        }
    }

    @Test func rulesReadBackAsTheyWereWritten() throws {
        let route = MirrorRoute(
            id: MirrorID(rawValue: 3),
            rules: [
                MirrorRule(), MirrorRule(bucketPattern: "a*", keyPrefix: [1, 2], tag: NamedValue("k", "v")),
            ]
        )
        #expect(try MirrorRoute(route.document) == route)
    }

    @Test func aWindowKeepsTheOrderOfAKeyAndLetsOthersPass() throws {
        var window = TaskWindow()
        window.add([try task(1, "a"), try task(2, "a"), try task(3, "b")])
        let taken1 = window.next(at: 0)
        let first = try #require(taken1)
        let taken2 = window.next(at: 0)
        let second = try #require(taken2)
        #expect([first.sequence, second.sequence] == [1, 3])
        let taken3 = window.next(at: 0)
        #expect(taken3 == nil)
        window.delay(first, until: 100)
        let taken4 = window.next(at: 99)
        #expect(taken4 == nil)
        let taken5 = window.next(at: 100)
        #expect(taken5?.sequence == 1)
        window.finish(first)
        let taken6 = window.next(at: 100)
        #expect(taken6?.sequence == 2)
        window.finish(second)
        #expect(window.count == 1)
    }

    @Test func aWindowLeavesOutWhatIsTooMuchOfOneKeyAndReadsItAgain() throws {
        var window = TaskWindow(countMax: 100, perKeyMax: 4)
        let tasks = try (1...20).map { try task(UInt64($0), "a") }
        var done: [UInt64] = []
        var reads = 0
        while done.count < 20, reads < 100 {
            reads += 1
            window.add(tasks.filter { $0.sequence >= window.scanFrom && !done.contains($0.sequence) })
            while let next = window.next(at: 0) {
                done.append(next.sequence)
                window.finish(next)
            }
        }
        #expect(done == Array(1...20))
    }

    @Test func ofFourTasksOneIsFromBefore() throws {
        var window = TaskWindow(boundary: 100)
        window.add(try (1...40).map { try task(UInt64($0), "old\($0)") })
        window.add(try (101...140).map { try task(UInt64($0), "new\($0)") })
        #expect(window.count(of: .before) == 40 && window.count(of: .new) == 40)
        #expect(window.scanFrom == 141 && window.scanBeforeFrom == 41)
        var sequences: [UInt64] = []
        for _ in 0..<16 {
            let taken = window.next(at: 0)
            let next = try #require(taken)
            sequences.append(next.sequence)
            window.finish(next)
        }
        #expect(sequences == [101, 102, 103, 1, 104, 105, 106, 2, 107, 108, 109, 3, 110, 111, 112, 4])
    }

    @Test func placesAreKeptFreeForWhatIsNew() throws {
        var window = TaskWindow(boundary: 100)
        window.add(try (1...9).map { try task(UInt64($0), "old\($0)") })
        var taken: [MirrorTask] = []
        while let next = window.next(at: 0, beforeMax: 3) { taken.append(next) }
        #expect(taken.map(\.sequence) == [1, 2, 3] && window.runningBeforeCount == 3)
        window.add([try task(101, "new")])
        let new = window.next(at: 0, beforeMax: 3)
        #expect(new?.sequence == 101)
        window.delay(taken[0], until: 50)
        window.hold(TaskWindow.Name(taken[1]))
        window.finish(taken[2])
        #expect(window.runningBeforeCount == 0)
    }

    @Test func aKeyThatSomethingNewWaitsForGoesFirstAndInOrder() throws {
        var window = TaskWindow(boundary: 100)
        window.add(try (1...20).map { try task(UInt64($0), "old\($0)") })
        let running = window.next(at: 0)
        #expect(running?.sequence == 1)
        // Two that the back-fill has not come to, one that runs already.
        window.addAhead([try task(1, "old1"), try task(51, "k"), try task(52, "k"), try task(20, "old20")])
        window.add([try task(101, "k"), try task(102, "old1")])
        var sequences: [UInt64] = []
        for _ in 0..<3 {
            let taken = window.next(at: 0)
            let next = try #require(taken)
            sequences.append(next.sequence)
            window.finish(next)
        }
        #expect(sequences == [51, 52, 101])
        window.finish(try #require(running))
        let behind = window.next(at: 0)
        #expect(behind?.sequence == 2 || behind?.sequence == 102)
        #expect(window.count(of: .before) == 19)
    }

    @Test func aHeldKeyWaitsUntilItIsLetGo() throws {
        var window = TaskWindow()
        window.add([try task(1, "a"), try task(2, "a"), try task(3, "b")])
        let taken7 = window.next(at: 0)
        let first = try #require(taken7)
        window.hold(TaskWindow.Name(first))
        let taken8 = window.next(at: 0)
        #expect(taken8?.key.description == "b")
        window.add([try task(4, "a")])
        let taken9 = window.next(at: 0)
        #expect(taken9 == nil)
        window.releaseAll()
        window.add([try task(2, "a"), try task(4, "a")])
        let taken10 = window.next(at: 0)
        #expect(taken10?.sequence == 2)
    }

    @Test func theBreakerOpensProbesAndCloses() {
        var breaker = CircuitBreaker(failureCountMax: 3)
        let random = SeededRandom(seed: 1)
        let failure = MirrorFailure(.fault, "500")
        breaker.noteFailure(failure, at: 0, random: random)
        breaker.noteFailure(failure, at: 0, random: random)
        #expect(breaker.isClosed)
        breaker.noteFailure(failure, at: 0, random: random)
        let early = breaker.takeProbe(at: 0)
        #expect(breaker.state == .open && !early)
        let first = breaker.opensAgainAt
        #expect(first >= 500_000_000 && first <= 1_000_000_000)
        // What was under way before may yet succeed; only the probe tells.
        breaker.noteSuccess()
        #expect(breaker.state == .open)
        let mayProbe = breaker.takeProbe(at: first)
        #expect(mayProbe && breaker.state == .halfOpen)
        let again = breaker.takeProbe(at: first)
        #expect(!again, "one probe at a time")
        breaker.noteFailure(failure, at: first, random: random)
        #expect(breaker.state == .open && breaker.opensAgainAt - first >= 1_000_000_000, "longer each time")
        let later = breaker.takeProbe(at: .max)
        #expect(later)
        breaker.noteSuccess()
        #expect(breaker.isClosed && breaker.lastFailure == nil && breaker.openCount == 2)
        // What needs a person opens it at once.
        breaker.noteFailure(MirrorFailure(.denied, "403"), at: 0, random: random)
        #expect(breaker.state == .open)
    }

    @Test func pausesGrowWithFullJitterAndHonourTheOtherSide() {
        let backoff = Backoff(base: .milliseconds(100), cap: .seconds(5))
        let random = SeededRandom(seed: 2)
        #expect(backoff.ceiling(failures: 1) == .milliseconds(100))
        #expect(backoff.ceiling(failures: 4) == .milliseconds(800))
        #expect(backoff.ceiling(failures: 1000) == .seconds(5))
        let delays = (0..<1000).map { _ in backoff.delay(failures: 4, random: random) }
        #expect(delays.allSatisfy { $0 <= .milliseconds(800) })
        #expect(delays.contains { $0 < .milliseconds(100) } && delays.contains { $0 > .milliseconds(700) })
        #expect(backoff.delay(failures: 1, retryAfter: .seconds(7), random: random) >= .seconds(7))
        var budget = RetryBudget(share: 0.5, most: 2, initial: 1)
        let taken = (0..<2).map { _ in budget.takeRetry() }
        #expect(taken == [true, false])
        budget.noteSuccess()
        budget.noteSuccess()
        let afterwards = budget.takeRetry()
        #expect(afterwards)
    }

    @Test func aRateIsKept() {
        var budget = RateBudget(perSecond: 10)
        var now: UInt64 = 0
        var waited: UInt64 = 0
        for _ in 0..<100 {
            let pause = budget.take(1, at: now).nanoseconds
            now += pause
            waited += pause
        }
        // A second's worth is in reserve.
        #expect((8_900_000_000...9_100_000_000).contains(waited))
        var none = RateBudget(perSecond: 0)
        let pause = none.take(1e9, at: 0)
        #expect(pause == .zero)
    }
}
