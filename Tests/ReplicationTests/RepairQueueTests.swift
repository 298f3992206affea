import ContentHashing
import StoreModel
import Synchronization
import Testing

@testable import Replication

/// Which of the copies that wait is repaired first.
@Suite(.timeLimit(.minutes(1))) struct RepairQueueTests {
    private final class Count: Sendable {
        private let value = Mutex(0)
        func increase() { value.withLock { $0 += 1 } }
        var now: Int { value.withLock { $0 } }
    }

    private func chunk(_ number: Int) -> Digest {
        SHA256Hasher.hash((0..<3).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) })
    }

    private func finding(_ number: Int, volume: UInt64 = 1) -> Finding {
        Finding(
            chunk: chunk(number),
            volume: VolumeID(high: 0, low: volume),
            kind: .missing,
            foundBy: .audit,
            foundAt: Timestamp(milliseconds: 1)
        )
    }

    private func drained(_ queue: RepairQueue) async -> [RepairQueue.Item] {
        var items: [RepairQueue.Item] = []
        while queue.counts.waiting > items.count, let (item, _) = await queue.next() { items.append(item) }
        return items
    }

    private func item(_ number: Int, volume: UInt64 = 1) -> RepairQueue.Item {
        RepairQueue.Item(chunk: chunk(number), volume: VolumeID(high: 0, low: volume))
    }

    @Test func thoseWithTheFewestGoodCopiesComeFirst() async {
        let queue = RepairQueue()
        // Number of the chunk, good copies that are left.
        for (number, good) in [(1, 2), (2, 1), (3, 7), (4, 0), (5, 1), (6, 2), (7, 0), (8, 3)] {
            #expect(queue.add(finding(number), goodCopies: good))
        }
        // Among equals the one that was found first; from three copies on nobody is in more danger than another.
        #expect(await drained(queue) == [4, 7, 2, 5, 1, 6, 3, 8].map { item($0) })
    }

    @Test func aSecondCopyThatIsLostMakesTheFirstMoreUrgent() async {
        let queue = RepairQueue()
        queue.add(finding(1), goodCopies: 2)
        queue.add(finding(2), goodCopies: 1)
        // Chunk 1 has lost another one: both its copies go before chunk 2.
        queue.add(finding(1, volume: 2), goodCopies: 0)
        #expect(await drained(queue) == [item(1, volume: 2), item(1), item(2)])
    }

    @Test func aCopyWaitsOnceHoweverOftenItIsMet() async {
        let queue = RepairQueue()
        let seen = Count()
        queue.observe { _ in seen.increase() }
        for _ in 0..<3 { #expect(queue.add(finding(1), goodCopies: 1)) }
        #expect(queue.counts.waiting == 1 && seen.now == 3)
        #expect(queue.isWaiting(chunk(1), on: VolumeID(high: 0, low: 1)))
        let first = await queue.next()
        #expect(first?.0 == item(1))
        // Also while it is being repaired.
        queue.add(finding(1), goodCopies: 0)
        #expect(queue.counts.waiting == 1)
        queue.finish(item(1), .failed("no room"))
        #expect(queue.counts.waiting == 0 && queue.counts.failed == 1)
        #expect(queue.recentFindings.map(\.outcome) == [.failed("no room")])
        // Found once more, it is tried once more.
        #expect(queue.add(finding(1), goodCopies: 1))
        #expect(await queue.next()?.0 == item(1))
        queue.close()
    }

    @Test func whatDoesNotFitIsDroppedAndCounted() {
        let queue = RepairQueue()
        for number in 0..<Limits.repairQueueCountMax { #expect(queue.add(finding(number), goodCopies: 2)) }
        #expect(!queue.add(finding(Limits.repairQueueCountMax), goodCopies: 0))
        #expect(queue.counts.dropped == 1 && queue.counts.waiting == Limits.repairQueueCountMax)
    }

    @Test func whoWaitsForWorkIsWokenAndWhoWaitsForTheEndToo() async {
        let queue = RepairQueue()
        async let work = queue.next()
        await Task.yield()
        queue.add(finding(1), goodCopies: 1)
        let taken = await work
        #expect(taken?.0 == item(1))
        async let idle: Void = queue.awaitIdle()
        queue.finish(
            item(1),
            .repaired(from: VolumeID(high: 0, low: 2), verifiedAt: Timestamp(milliseconds: 2))
        )
        await idle
        #expect(queue.counts.repaired == 1)
        queue.close()
        #expect(await queue.next() == nil)
    }
}
