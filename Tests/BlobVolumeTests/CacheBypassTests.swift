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
