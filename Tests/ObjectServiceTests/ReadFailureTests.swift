import Catalog
import ObjectService
import StoreModel
import Synchronization
import Testing

@Suite struct ReadFailureTests {
    @Test(arguments: [5000, 300_000])
    func aChunkThatNoReplicaHasNeverGivesACleanEnd(size: Int) async throws {
        let bytes = noise(size)
        let counting = try await Fixture(limits: Fixture.smallLimits)
        let chunkCount = try await counting.chunks(of: try await counting.put(bytes)).count
        for index in 0..<chunkCount {
            let fixture = try await Fixture(limits: Fixture.smallLimits)
            let row = try await fixture.put(bytes)
            fixture.storage.damage(try await fixture.chunks(of: row)[index].digest)
            let reader = try await fixture.store.get(fixture.address())
            var read: [UInt8] = []
            var failure: StoreError?
            while failure == nil {
                do {
                    guard let piece = try await reader.next() else { break }
                    read += piece
                } catch let error as StoreError {
                    failure = error
                }
            }
            #expect(failure?.code == .dataUnavailable)
            #expect(bytes.starts(with: read) && read.count < bytes.count)
            // And again: the failure stays.
            await expectFailure(.dataUnavailable) { try await reader.next() }
        }
    }

    @Test func aManifestNodeThatNoReplicaHasFailsTheRead() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let row = try await fixture.put(noise(300_000))
        guard case .tree(let root, _, _, _) = row.manifest else {
            Issue.record("The manifest should be a tree.")
            return
        }
        fixture.storage.damage(root)
        await expectFailure(.dataUnavailable) { try await fixture.get() }
    }

    @Test func oneGoodReplicaIsEnough() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let bytes = noise(100_000)
        let row = try await fixture.put(bytes)
        for (index, chunk) in try await fixture.chunks(of: row).enumerated() {
            fixture.storage.damage(chunk.digest, on: [index % 3, (index + 1) % 3])
        }
        #expect(try await fixture.get() == bytes)
    }

    @Test func memoryOfADownloadIsBounded() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits, storage: InMemoryStorage(yieldCount: 50))
        let bytes = noise(900_000)
        _ = try await fixture.put(bytes)
        #expect(try await fixture.get() == bytes)
        let most = fixture.storage.state.withLock { $0.readsRunningMax }
        // And the node of the manifest that is read by the one who takes.
        #expect(most <= Limits.chunksInFlightMax + 1)
        #expect(most > 1)
    }

    /// Chunks that are in memory are taken at once; what lies between is read ahead as ever.
    @Test(arguments: [0, 1, 2, 3]) func whatIsInMemoryIsTakenAtOnce(which: Int) async throws {
        let fixture = try await Fixture()
        let bytes = noise(9_000_000)
        let row = try await fixture.put(bytes)
        let chunks = try await fixture.chunks(of: row)
        #expect(chunks.count > 3)
        let inMemory = Set(
            chunks.enumerated().filter { which == 3 || ($0.offset + which) % 3 != 0 && which > 0 }.map(
                \.element.digest
            )
        )
        fixture.storage.state.withLock { $0.inMemory = inMemory }
        #expect(try await fixture.get() == bytes)
        let range = 1_234_567..<7_654_321
        #expect(
            try await fixture.get(range: .from(UInt64(range.lowerBound), length: UInt64(range.count)))
                == Array(bytes[range])
        )
        let (reads, waited) = fixture.storage.state.withLock { ($0.memoryReads, $0.readCount) }
        #expect(reads.isEmpty == inMemory.isEmpty)
        #expect((waited == 0) == (which == 3))
        #expect(reads.allSatisfy { $0.count <= Limits.readPieceSizeMax })
    }

    @Test func downloadsThatShareTheirAllowanceAllGoOn() async throws {
        var limits = Fixture.smallLimits
        limits.readAheadShareCount = 2
        let fixture = try await Fixture(limits: limits, storage: InMemoryStorage(yieldCount: 5))
        let bytes = noise(200_000)
        _ = try await fixture.put(bytes)
        try await withThrowingTaskGroup(of: [UInt8].self) { group in
            for _ in 0..<8 { group.addTask { try await fixture.get() } }
            for try await read in group { #expect(read == bytes) }
        }
        // A reader that is given up gives its shares back as well.
        for _ in 0..<10 {
            let reader = try await fixture.store.get(fixture.address())
            _ = try await reader.next()
        }
        #expect(try await fixture.get() == bytes)
    }

    @Test func aCancelledReadThrows() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        _ = try await fixture.put(noise(300_000))
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await fixture.get()
        }
        await #expect(throws: CancellationError.self) { try await task.value }
    }
}
