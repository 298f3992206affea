import BlobVolume
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@Suite("Writes past the page cache")
struct CacheBypassTests {
    /// A disk and memory: what the file system does not offer is done through its cache, with the same result.
    @Test("leave the bytes that writes through it leave", arguments: ["/var/tmp", TemporaryDirectory.memory])
    func sameBytes(parent: String) throws {
        let directory = TemporaryDirectory(in: parent)
        let disk = try directory.disk()
        for seed in TestSeeds.seeds(fixed: 4, fresh: 2) {
            var random = SeededGenerator(seed: seed)
            var expected = [UInt8](repeating: 0, count: 1 << 20)
            let file = try disk.open("log-\(seed)", .create)
            try file.write(expected, at: 0)
            file.bypassCache(zeroedFrom: 0)
            var end = 0
            while end < expected.count - (400 << 10) {
                // Mostly one write behind the other, now and then one over what is there, or behind a gap.
                var start = end
                switch random.next() % 8 {
                case 0: start = Int(random.next() % UInt64(end + 1))
                case 1: start = end + Int(random.next() % 9000)
                default: break
                }
                let pieces = (0..<1 + random.next() % 4).map { _ in
                    Self.piece(&random, countMax: random.next() % 5 == 0 ? 90_000 : 3000)
                }
                try Self.write(pieces, to: file, at: UInt64(start))
                for byte in pieces.joined() {
                    expected[start] = byte
                    start += 1
                }
                end = max(end, start)
                let place = Int(random.next() % UInt64(end + 1))
                let range = place..<min(expected.count, place + 10_000)
                #expect(try file.read(count: range.count, at: UInt64(place)) == Array(expected[range]))
            }
            try file.sync()
            #expect(try file.read(count: expected.count + 1, at: 0) == expected)
            // What comes behind a cut goes through the cache again.
            try file.truncate(to: UInt64(end - 5))
            try file.write([1, 2, 3], at: UInt64(end - 5))
            #expect(
                try file.read(count: expected.count, at: 0) == Array(expected[..<(end - 5)]) + [1, 2, 3]
            )
        }
    }

    /// Aligned, from any place, to the end of the file and behind it, one behind the other and not.
    @Test(
        "reads past it give the same bytes and leave nothing in it",
        arguments: ["/var/tmp", TemporaryDirectory.memory]
    )
    func directReads(parent: String) throws {
        let directory = TemporaryDirectory(in: parent)
        let disk = try directory.disk()
        var random = SeededGenerator(seed: 77)
        let expected = (0..<(300 << 10) + 777).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        let file = try disk.open("data", .create)
        try file.write(expected, at: 0)
        try file.sync()
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 << 10, alignment: 4096)
        defer { buffer.deallocate() }
        var memory = ReadMemory(byteCount: 4096 + buffer.count)
        let reader = try disk.open("data", .read)
        // What is in the cache and not on the disk yet is read as well.
        try file.write([1, 2, 3], at: 5000)
        var current = expected
        current.replaceSubrange(5000..<5003, with: [1, 2, 3])
        for round in 0..<3 {
            var offset: UInt64 = 0
            while offset < UInt64(current.count) + 8192 {
                let ahead: UInt64 = round == 0 ? 32 << 10 : round == 1 ? 0 : random.next() % (64 << 10)
                let count = try reader.readDirect(
                    into: &memory,
                    from: 4096,
                    byteCount: buffer.count,
                    at: offset,
                    aheadByteCount: ahead
                )
                let end = min(current.count, Int(offset) + buffer.count)
                let range = min(Int(offset), end)..<end
                #expect(
                    count == range.count
                        && Array(memory.bytes[4096..<4096 + count]) == Array(current[range]),
                    "at \(offset)"
                )
                let alone = try reader.readDirect(into: buffer, at: offset)
                #expect(alone == count && Array(buffer[..<count]) == Array(current[range]), "at \(offset)")
                offset += UInt64(buffer.count) + (round == 2 ? random.next() % 5 * 4096 : 0)
            }
        }
        #expect(try disk.open("data", .read).readDirect(into: buffer, at: 1 << 20) == 0)
        reader.close()
        // Written past the cache, where the file system offers that, nothing of it is in there; and neither is when it
        // was read. Each is asked once: asking makes the system fetch it.
        let asides = try (0..<2).map { try disk.open("aside-\($0)", .create) }
        for aside in asides {
            let bytes = [UInt8](repeating: 7, count: buffer.count)
            try bytes.withUnsafeBytes { try aside.writeDirect([$0], at: 0) }
            try aside.sync()
        }
        #expect(try asides[1].readDirect(into: buffer, at: 0) == buffer.count)
        #expect(buffer.allSatisfy { $0 == 7 })
        let wasCached = asides[0].readCached(into: buffer, at: 0) != nil
        #expect(wasCached || asides[1].readCached(into: buffer, at: 0) == nil)
        #expect(throws: DiskError.self) { try reader.readDirect(into: buffer, at: 0) }
    }

    /// A copy that was made is compared as the disk has it; what is wrong with one is told as by any other read.
    @Test func aCopyIsComparedAsTheDiskHasIt() throws {
        let fixture = try VolumeFixture()
        let disk = RiggedDisk(try fixture.directory.disk())
        let volume = try BlobVolume.open(disk, options: fixture.options)
        let (large, small) = (payload(1, count: 300_000), payload(2))
        try volume.appendBulk(large)
        try volume.syncBulk()
        try volume.commit([small])
        let before = disk.reads.count
        try volume.verifyOnDisk(large.digest, byteCount: large.bytes.count)
        let reads = disk.reads[before...]
        #expect(reads.count == 1 && reads.allSatisfy { $0.isDirect && $0.range.count >= 300_000 }, "\(reads)")
        try volume.verifyOnDisk(small.digest, byteCount: small.bytes.count)
        // What the caller thinks of its length is not believed.
        for count in [200_000, 300_001, 4 << 20, 8 << 20] {
            try volume.verifyOnDisk(large.digest, byteCount: count)
        }
        let missing = payload(3, count: 300_000)
        #expect { try volume.verifyOnDisk(missing.digest, byteCount: 300_000) } throws: {
            ($0 as? VolumeError)?.code == .notFound
        }
        let name = "segments/00000001.bulk"
        let at = try #require(place(of: Array(large.bytes.prefix(100)), in: fixture.bytes(name)))
        // In the table of the checksums, in the header, in a block.
        for place in [at - 8, at - 90, at + 299_999] {
            try fixture.flip(name, at: UInt64(place))
            #expect(throws: VolumeError.self) {
                try volume.verifyOnDisk(large.digest, byteCount: large.bytes.count)
            }
            try fixture.flip(name, at: UInt64(place))
            try volume.verifyOnDisk(large.digest, byteCount: large.bytes.count)
        }
        disk.fail("read", ".bulk")
        #expect(throws: VolumeError.self) {
            try volume.verifyOnDisk(large.digest, byteCount: large.bytes.count)
        }
        disk.heal()
        // The page cache has what was written, the disk has not.
        disk.rigging.withLock { $0.isDirectDamaged = true }
        #expect { try volume.verifyOnDisk(large.digest, byteCount: large.bytes.count) } throws: {
            ($0 as? VolumeError)?.code == .corrupt
        }
        disk.rigging.withLock { $0.isDirectDamaged = false }
        disk.fail("direct", ".bulk")
        #expect { try volume.verifyOnDisk(large.digest, byteCount: large.bytes.count) } throws: {
            ($0 as? VolumeError)?.code == .inputOutput
        }
        disk.heal()
        try volume.verifyOnDisk(large.digest, byteCount: large.bytes.count)
        try volume.close()
    }

    /// What is in memory is as verified as what is read: any range, and nothing of a block that is damaged.
    @Test func aPayloadInMemoryIsReadWithoutWaiting() throws {
        let fixture = try VolumeFixture()
        let disk = RiggedDisk(try fixture.directory.disk())
        let volume = try BlobVolume.open(disk, options: fixture.options)
        let small = payload(1, count: 3000)
        let large = payload(2, count: 700_001)
        try volume.commit([small])
        try volume.appendBulk(large)
        try volume.syncBulk()
        #expect(volume.cachedBytes(large.digest, range: 0..<128) == nil)
        disk.rigging.withLock { $0.isInMemory = true }
        for range in [0..<3000, 0..<1, 17..<2999, 2999..<3000] {
            #expect(volume.cachedBytes(small.digest, range: range) == Array(small.bytes[range]), "\(range)")
        }
        #expect(volume.cachedBytes(small.digest, range: 0..<3001) == nil)
        let block = 64 << 10
        var generator = SeededGenerator(seed: 11)
        var ranges = [
            0..<700_001, 0..<2 * block, 2 * block..<4 * block, 700_000..<700_001, block - 1..<block + 1,
        ]
        for _ in 0..<50 {
            let bounds = [UInt64](repeating: 0, count: 2).map { _ in Int(generator.next() % 700_001) }
                .sorted()
            ranges.append(bounds[0]..<bounds[1] + 1)
        }
        for range in ranges where range.upperBound > block {
            #expect(volume.cachedBytes(large.digest, range: range) == Array(large.bytes[range]), "\(range)")
        }
        #expect(volume.cachedBytes(large.digest, range: 700_000..<700_002) == nil)
        #expect(volume.cachedBytes(payload(3).digest, range: 0..<block * 2) == nil)
        // Less than was asked for is nothing.
        for count in [0, 1, 100, 2999] {
            disk.rigging.withLock { $0.cachedByteCountMax = count }
            #expect(volume.cachedBytes(small.digest, range: 0..<3000) == nil, "\(count)")
            #expect(volume.cachedBytes(large.digest, range: 0..<700_001) == nil, "\(count)")
        }
        disk.rigging.withLock { $0.cachedByteCountMax = .max }
        // Of a small payload a byte rots, of its table, of its header.
        let log = "segments/" + (try #require(try fixture.segments().first { $0.hasSuffix(".log") }))
        let at = try #require(place(of: small.bytes, in: fixture.bytes(log)))
        for place in [at, at + 2999, at - 4, at - 60] {
            try fixture.flip(log, at: UInt64(place))
            #expect(volume.cachedBytes(small.digest, range: 0..<3000) == nil, "\(place - at)")
            try fixture.flip(log, at: UInt64(place))
        }
        #expect(volume.cachedBytes(small.digest, range: 0..<3000) == small.bytes)
        // The fourth block rots.
        let name = try #require(try fixture.segments().first { $0.hasSuffix(".bulk") })
        let offset = try #require(
            place(of: Array(large.bytes[3 * block..<3 * block + 64]), in: fixture.bytes("segments/" + name))
        )
        try fixture.flip("segments/" + name, at: UInt64(offset + 7))
        #expect(volume.cachedBytes(large.digest, range: 0..<700_001) == nil)
        #expect(volume.cachedBytes(large.digest, range: 2 * block..<4 * block) == nil)
        #expect(
            volume.cachedBytes(large.digest, range: 4 * block..<5 * block)
                == Array(large.bytes[4 * block..<5 * block])
        )
        #expect(
            volume.cachedBytes(large.digest, range: block..<3 * block)
                == Array(large.bytes[block..<3 * block])
        )
        try volume.close()
    }

    private static func piece(_ random: inout SeededGenerator, countMax: UInt64) -> [UInt8] {
        let count = Int(random.next() % countMax)
        let first = UInt8(truncatingIfNeeded: random.next())
        return (0..<count).map { first &+ UInt8(truncatingIfNeeded: $0 &* 7) }
    }

    private static func write(_ pieces: [[UInt8]], to file: any DiskFile, at offset: UInt64) throws {
        let bytes = pieces.flatMap { $0 }
        try bytes.withUnsafeBytes { all in
            var buffers: [UnsafeRawBufferPointer] = []
            var start = 0
            for piece in pieces {
                buffers.append(UnsafeRawBufferPointer(rebasing: all[start..<start + piece.count]))
                start += piece.count
            }
            try file.write(buffers, at: offset)
        }
    }
}

extension BlobVolume {
    /// nil when not all of it is in memory and good.
    fileprivate func cachedBytes(_ digest: Digest, range: Range<Int>) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: range.count)
        let isThere = bytes.withUnsafeMutableBytes { readCached(digest, range: range, into: $0) }
        return isThere ? bytes : nil
    }
}
