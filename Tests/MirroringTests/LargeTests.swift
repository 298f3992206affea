import Catalog
import Encryption
import Glibc
import HoldfastNode
import Logging
import Mirroring
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

/// Numbers as in life with HOLDFAST_LONG=1, smaller ones else.
@Suite struct LargeTests {
    @Test func aThousandVersionsOfOneKeyArriveInOrder() async throws {
        let fixture = try await MirrorFixture()
        let count = TestSeeds.isLong ? 1000 : 150
        // A third of them from before the mirror.
        for number in 0..<count {
            if number == count / 3 { try await fixture.add() }
            try await fixture.put("k", [UInt8(truncatingIfNeeded: number), UInt8(number >> 8)])
        }
        let status = try await fixture.drain()
        #expect(status.isUpToDate)
        let bytes = fixture.backend.history("models/k").map(\.bytes)
        #expect(bytes == (0..<count).map { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] })
        #expect(fixture.backend.putCount == count && !fixture.backend.hasOverlapped)
        try await fixture.close()
    }

    @Test func anAuditOfTenThousandObjectsFindsTheOneThatIsMissing() async throws {
        let fixture = try await MirrorFixture()
        let count = TestSeeds.isLong ? 10_000 : 600
        try await fixture.add()
        try await ClassesTests.fill(fixture, count)
        let status = try await fixture.drain()
        #expect(status.isUpToDate && fixture.backend.keys.count == count)
        let route = try #require(try await fixture.directory.route(status.row.id))
        func audit() async throws -> MirrorAuditReport {
            try await MirrorAudit(fixture.directory.store, fixture.backend, status.row, route, isDeep: false)
                .run()
        }
        #expect(try await audit().isClean)
        fixture.backend.lose("models/before/77")
        let report = try await audit()
        #expect(report.counts == [.missing: 1] && report.differences.map(\.key) == ["models/before/77"])
        try await fixture.close()
    }

    @Test func aHundredThousandQueuedRowsAreNotHeldInMemory() async throws {
        let fixture = try await MirrorFixture()
        let count = TestSeeds.isLong ? 100_000 : 6_000
        let row = try await fixture.add()
        try await Self.queue(count, fixture, row)
        // It answers probes and does nothing else: the tasks are read, and stay.
        fixture.backend.fail(MirrorFailure(.busy, "SlowDown"), sparesProbes: true)
        fixture.limits.window = 1024
        let before = Self.residentBytes()
        let store = CountingStore(MirroredStore(objects: fixture.objects))
        let service = MirrorService(
            MirrorDirectory(store, clock: fixture.clock, random: SystemRandom()),
            make: { [backend = fixture.backend] _, _ in backend },
            isAlone: true,
            limits: fixture.limits,
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
        )
        try await service.runUntilIdle()
        let status = try await service.status(of: row)
        #expect(status.pendingCount == UInt64(count) && status.deadCount == 0)
        #expect((1...1024).contains(status.worker.taskCount))
        #expect(fixture.backend.callCount < 1000)
        // What is known is not counted again.
        let reads = store.readCount
        _ = try await service.status(of: row)
        #expect(store.readCount - reads < 10)
        if let before, let after = Self.residentBytes(), TestSeeds.isLong {
            #expect(after < before + 200 << 20, "\(after - before) bytes more")
        }
        try await fixture.close()
    }

    /// Writes the rows that so many removals would have left.
    private static func queue(_ count: Int, _ fixture: MirrorFixture, _ row: MirrorRow) async throws {
        let bucket = try #require(try await fixture.objects.buckets().first)
        for start in stride(from: 0, to: count, by: 250) {
            let writes = try (start..<min(start + 250, count)).map { number in
                let version = VersionRow(
                    bucket: bucket.id,
                    key: try ObjectKey("queued/\(number)"),
                    id: VersionID(sequence: 1_000_000 + UInt64(number), nonce: 1),
                    isNull: false,
                    kind: .object,
                    createdAt: Timestamp(milliseconds: 5),
                    content: ObjectContent(
                        size: 1,
                        etag: "e",
                        checksums: ObjectChecksums(),
                        manifest: .inline([])
                    ),
                    operation: UniqueID(high: 1, low: 2)
                )
                let task = MirrorTask(
                    mirror: row.id,
                    sequence: version.id.sequence,
                    change: .made,
                    bucketName: fixture.bucket,
                    row: version,
                    time: version.createdAt
                )
                return DocumentWrite(space: .outbox, key: task.pendingRow.key, body: task.body)
            }
            try await fixture.objects.write(documents: writes)
        }
    }

    private static func residentBytes() -> Int? {
        guard let file = fopen("/proc/self/statm", "r") else { return nil }
        defer { fclose(file) }
        var buffer = [CChar](repeating: 0, count: 128)
        guard fgets(&buffer, 128, file) != nil else { return nil }
        let text = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return text.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 * 4096 }
    }
}

/// Counts what is read.
private final class CountingStore: ForwardingStore {
    let store: MirroredStore
    private let count = Mutex(0)

    init(_ store: MirroredStore) { self.store = store }

    var readCount: Int { count.withLock { $0 } }

    func read<Value: Sendable>(
        _ body: @escaping @Sendable (any CatalogReader) throws -> Value
    ) async throws -> Value {
        count.withLock { $0 += 1 }
        return try await store.read(body)
    }
}
