import BlobVolume
import StoreModel
import StoreTestKit
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
        let reader = try disk.open("data", .read)
        // What is in the cache and not on the disk yet is read as well.
        try file.write([1, 2, 3], at: 5000)
        var current = expected
        current.replaceSubrange(5000..<5003, with: [1, 2, 3])
        for round in 0..<3 {
            var offset: UInt64 = 0
            while offset < UInt64(current.count) + 8192 {
                let ahead: UInt64 = round == 0 ? 32 << 10 : round == 1 ? 0 : random.next() % (64 << 10)
                let count = try reader.readDirect(into: buffer, at: offset, aheadByteCount: ahead)
                let end = min(current.count, Int(offset) + buffer.count)
                let range = min(Int(offset), end)..<end
                #expect(
                    count == range.count && Array(buffer[..<count]) == Array(current[range]),
                    "at \(offset)"
                )
                offset += UInt64(buffer.count) + (round == 2 ? random.next() % 5 * 4096 : 0)
            }
        }
        #expect(try disk.open("data", .read).readDirect(into: buffer, at: 1 << 20, aheadByteCount: 4096) == 0)
        reader.close()
        // Written past the cache, where the file system offers that, nothing of it is in there; and neither is when it
        // was read. Each is asked once: asking makes the system fetch it.
        let asides = try (0..<2).map { try disk.open("aside-\($0)", .create) }
        for aside in asides {
            let bytes = [UInt8](repeating: 7, count: buffer.count)
            try bytes.withUnsafeBytes { try aside.writeDirect([$0], at: 0) }
            try aside.sync()
        }
        #expect(try asides[1].readDirect(into: buffer, at: 0, aheadByteCount: 0) == buffer.count)
        #expect(buffer.allSatisfy { $0 == 7 })
        let wasCached = asides[0].readCached(into: buffer, at: 0) != nil
        #expect(wasCached || asides[1].readCached(into: buffer, at: 0) == nil)
        #expect(throws: DiskError.self) { try reader.readDirect(into: buffer, at: 0, aheadByteCount: 0) }
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
