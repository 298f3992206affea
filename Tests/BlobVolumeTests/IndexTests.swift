import BlobVolume
import ContentHashing
import Glibc
import StoreModel
import Synchronization
import Testing

@Suite struct IndexTests {
    /// A name that a volume can't tell from others by its first eight bytes.
    private func collidingDigest(_ number: Int) -> Digest {
        Digest(words: (42, UInt64(number), 0, 7))
    }

    @Test func digestsWithTheSameFingerprintAreToldApart() throws {
        let fixture = try VolumeFixture()
        let records = (0..<50).map {
            PayloadRecord(digest: collidingDigest($0), bytes: content($0, count: 40 + $0))
        }
        var volume = try fixture.open()
        try volume.appendGroup(payloads: records, batch: nil)
        try volume.syncLog()
        // Sealed below, so that opening does not compare these made-up names with the content.
        for index in 0..<60 { try volume.commit([payload(index, count: 2000)]) }
        for isReopened in [false, true] {
            if isReopened {
                try volume.close()
                volume = try fixture.open()
            }
            for record in records { #expect(try volume.read(record) == record.bytes) }
            #expect(volume.presence(of: collidingDigest(51)) == .absent)
            #expect { try volume.read(collidingDigest(51), range: 0..<1) } throws: {
                ($0 as? VolumeError)?.code == .notFound
            }
        }
        try volume.close()
    }

    @Test func manyRecordsTakeLittleMemoryEach() throws {
        var options = VolumeFixture.smallOptions
        options.logSegmentSizeMin = 4 << 20
        options.logSegmentSizeMax = 4 << 20
        let fixture = try VolumeFixture(options: options)
        var volume = try fixture.open()
        let digests = (0..<20_000).map { SHA256Hasher.hash(content($0, count: 8)) }
        for start in stride(from: 0, to: digests.count, by: 500) {
            let group = (start..<start + 500).map {
                PayloadRecord(digest: digests[$0], bytes: content($0, count: 8))
            }
            try volume.appendGroup(payloads: group, batch: nil)
        }
        try volume.syncLog()
        for isReopened in [false, true] {
            if isReopened {
                try volume.close()
                volume = try fixture.open()
            }
            #expect(volume.space.recordCount == digests.count)
            #expect(volume.space.indexBytes <= 24 * digests.count)
            for index in stride(from: 0, to: digests.count, by: 97) {
                #expect(try volume.read(digests[index], range: 0..<8) == content(index, count: 8))
            }
        }
        try volume.close()
    }

    @Test func readersRunBesideTheWriter() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        let wrong = Mutex(0)
        let done = Mutex(0)
        let body: @Sendable (Int) -> Void = { offset in
            for round in 0..<2000 {
                let record = payload((round * 7 + offset) % 150, count: 1000)
                guard done.withLock({ $0 }) > (round * 7 + offset) % 150 else { continue }
                if (try? volume.read(record)) != record.bytes { wrong.withLock { $0 += 1 } }
            }
        }
        let threads = (0..<2).map { number -> pthread_t in
            var thread = pthread_t()
            let job = Unmanaged.passRetained(ThreadBody { body(number) })
            pthread_create(
                &thread,
                nil,
                { argument in
                    if let argument { Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run() }
                    return nil
                },
                job.toOpaque()
            )
            return thread
        }
        for index in 0..<150 {
            try volume.commit([payload(index, count: 1000)])
            done.withLock { $0 = index + 1 }
        }
        for thread in threads { pthread_join(thread, nil) }
        #expect(wrong.withLock { $0 } == 0)
        try volume.close()
        #expect(try fixture.check().problems.isEmpty)
    }

    @Test func sealingCutShortIsMadeGood() throws {
        let fixture = try VolumeFixture()
        let records = (0..<60).map { payload($0, count: 2000) }
        do {
            let volume = try fixture.open()
            for record in records { try volume.commit([record]) }
        }
        // The crash came while the first segment was sealed: there is no later one, and its end is incomplete.
        let full = try fixture.bytes("segments/00000001.log")
        let trailer = full.suffix(64)
        let footer = trailer.dropFirst(8).prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) } * 64
        let snapshot = try fixture.snapshot().filter {
            !$0.key.hasSuffix(".log") || $0.key.contains("00000001")
        }
        for size in [footer, footer + 64, footer + 200, full.count - 64, full.count - 1, full.count] {
            var torn = snapshot
            torn["segments/00000001.log"] =
                [UInt8](full[..<size]) + [UInt8](repeating: 0, count: 65_536 - size)
            try fixture.restore(torn)
            var volume = try fixture.open()
            let count = volume.positions(after: 0).count
            #expect(count > 20 && !volume.isLogDamaged && volume.openReport.damage.isEmpty, "cut at \(size)")
            for record in records.prefix(count) { #expect(try volume.read(record) == record.bytes) }
            let next = try volume.commit([payload(500, count: 3000)])
            try volume.close()
            volume = try fixture.open()
            #expect(volume.logTail == next.position)
            #expect(volume.openReport.damage.isEmpty)
            try volume.close()
            #expect(try fixture.check().damage.isEmpty, "cut at \(size)")
        }
    }
}

private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void

    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}
