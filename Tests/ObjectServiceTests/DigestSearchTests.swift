import Catalog
import ContentHashing
import StoreModel
import Synchronization
import Testing

@testable import ObjectService

/// One reading of a payload for its digest, whoever wants to know it.
@Suite struct DigestSearchTests {
    private let searches = DigestSearches()
    private let digest = SHA256Hasher.hash([7])
    private let payload = PayloadReference(
        manifest: .tree(root: SHA256Hasher.hash([1]), depth: 0, nodeLength: 1, chunkCount: 1),
        size: 9
    )

    private struct Trouble: Error {}

    /// Readings that stand still until they are let go.
    private final class Readings: Sendable {
        private struct State {
            var count = 0
            var waiting: [CheckedContinuation<Void, any Error>] = []
        }

        private let state = Mutex(State())

        var count: Int { state.withLock { $0.count } }

        func read(_ digest: Digest) async throws -> Digest {
            try await withCheckedThrowingContinuation { continuation in
                state.withLock { state in
                    state.count += 1
                    state.waiting.append(continuation)
                }
            }
            try Task.checkCancellation()
            return digest
        }

        func letGo(_ error: (any Error)? = nil) {
            let waiting = state.withLock { state in
                defer { state.waiting = [] }
                return state.waiting
            }
            for continuation in waiting {
                if let error { continuation.resume(throwing: error) } else { continuation.resume() }
            }
        }
    }

    private func search(_ readings: Readings, isHurried: Bool = false) -> Task<Digest, any Error> {
        Task { [searches, payload, digest] in
            try await searches.digest(of: payload, isHurried: { isHurried }) { _ in
                try await readings.read(digest)
            }
        }
    }

    private func wait(until isReached: () -> Bool) async throws {
        while !isReached() {
            try Task.checkCancellation()
            await Task.yield()
        }
    }

    @Test(.timeLimit(.minutes(1))) func manyWhoWantItReadItOnceAndLaterNobodyDoes() async throws {
        let readings = Readings()
        let first = search(readings)
        try await wait { readings.count == 1 }
        let others = (0..<20).map { _ in search(readings) }
        try await wait { searches.waitingCount == 20 }
        readings.letGo()
        for task in [first] + others { #expect(try await task.value == digest) }
        #expect(try await search(readings).value == digest)
        #expect(readings.count == 1)
        #expect(searches.waitingCount == 0)
    }

    @Test(.timeLimit(.minutes(1))) func whoReadsAndFailsTakesNobodyWithIt() async throws {
        let readings = Readings()
        let first = search(readings)
        try await wait { readings.count == 1 }
        let others = [search(readings), search(readings)]
        try await wait { searches.waitingCount == 2 }
        readings.letGo(Trouble())
        await #expect(throws: Trouble.self) { try await first.value }
        try await wait { readings.count == 2 && searches.waitingCount == 1 }
        readings.letGo()
        for task in others { #expect(try await task.value == digest) }
    }

    @Test(.timeLimit(.minutes(1))) func whoReadsAndLeavesIsFollowedByAnother() async throws {
        let readings = Readings()
        let first = search(readings)
        try await wait { readings.count == 1 }
        let second = search(readings)
        try await wait { searches.waitingCount == 1 }
        first.cancel()
        readings.letGo()
        await #expect(throws: CancellationError.self) { try await first.value }
        try await wait { readings.count == 2 }
        readings.letGo()
        #expect(try await second.value == digest)
    }

    @Test(.timeLimit(.minutes(1))) func whoWaitsMayLeaveBeforeAndWhileItDoes() async throws {
        let readings = Readings()
        let first = search(readings)
        try await wait { readings.count == 1 }
        let second = search(readings)
        try await wait { searches.waitingCount == 1 }
        second.cancel()
        await #expect(throws: CancellationError.self) { try await second.value }
        #expect(searches.waitingCount == 0)
        let third = Task { [searches, payload, digest] in
            withUnsafeCurrentTask { $0?.cancel() }
            return try await searches.digest(of: payload, isHurried: { true }) { _ async in digest }
        }
        await #expect(throws: CancellationError.self) { try await third.value }
        readings.letGo()
        #expect(try await first.value == digest)
        #expect(readings.count == 1)
    }

    @Test(.timeLimit(.minutes(1))) func nobodyIsHeldBackWhileOneMustNotWait() async throws {
        let readings = Readings()
        let answers = Mutex<[Bool]>([])
        let first = Task { [searches, payload, digest] in
            try await searches.digest(of: payload, isHurried: { false }) { mayWait in
                for _ in 0..<3 {
                    _ = try await readings.read(digest)
                    answers.withLock { $0.append(mayWait()) }
                }
                return digest
            }
        }
        try await wait { readings.count == 1 }
        readings.letGo()
        try await wait { readings.count == 2 }
        let hurried = search(readings, isHurried: true)
        try await wait { searches.waitingCount == 1 }
        readings.letGo()
        try await wait { readings.count == 3 }
        hurried.cancel()
        await #expect(throws: CancellationError.self) { try await hurried.value }
        readings.letGo()
        #expect(try await first.value == digest)
        #expect(answers.withLock { $0 } == [true, false, true])
        // Alone, who must not wait does not either.
        let other = PayloadReference(manifest: payload.manifest, size: 10)
        let mayWait = Mutex<Bool?>(nil)
        _ = try await searches.digest(of: other, isHurried: { true }) { ask in
            mayWait.withLock { $0 = ask() }
            return digest
        }
        #expect(mayWait.withLock { $0 } == false)
    }

    @Test func theLastOnesAreRememberedAndNoMore() async throws {
        let count = Mutex(0)
        func find(_ number: UInt64) async throws {
            let payload = PayloadReference(manifest: payload.manifest, size: number)
            _ = try await searches.digest(of: payload, isHurried: { false }) { _ in
                count.withLock { $0 += 1 }
                return digest
            }
        }
        for number in 0..<300 as Range<UInt64> { try await find(number) }
        for number in 44..<300 as Range<UInt64> { try await find(number) }
        #expect(count.withLock { $0 } == 300)
        try await find(43)
        #expect(count.withLock { $0 } == 301)
    }
}
