import Catalog
import ObjectService
import StoreModel
import Synchronization
import Testing

@Suite struct RangeTests {
    @Test func everyRangeOfATreeIsExactlyThoseBytes() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let bytes = noise(900_000)
        let row = try await fixture.put(bytes)
        var cases: [(Int, Int)] = [(0, 1), (0, bytes.count), (bytes.count - 1, 1), (bytes.count - 1, 100)]
        var boundary = 0
        for chunk in try await fixture.chunks(of: row).dropLast() {
            boundary += Int(chunk.length)
            cases += [(boundary, 1), (boundary - 1, 1), (boundary - 1, 2), (boundary - 3, 50_000)]
        }
        for (offset, length) in cases {
            let read = try await fixture.get(range: .from(UInt64(offset), length: UInt64(length)))
            #expect(
                read == [UInt8](bytes[offset..<min(offset + length, bytes.count)]),
                "\(offset) + \(length)"
            )
        }
    }

    @Test func openAndSuffixRangesAreResolvedAgainstTheSize() async throws {
        let fixture = try await Fixture()
        let bytes = noise(1000)
        _ = try await fixture.put(bytes)
        #expect(try await fixture.get(range: .from(900, length: nil)) == [UInt8](bytes[900...]))
        #expect(try await fixture.get(range: .from(0, length: 0)) == [])
        #expect(try await fixture.get(range: .last(7)) == [UInt8](bytes.suffix(7)))
        #expect(try await fixture.get(range: .last(5000)) == bytes)
        #expect(try await fixture.get(range: .from(990, length: .max)) == [UInt8](bytes[990...]))
    }

    @Test func rangesOutsideTheObjectAreRefused() async throws {
        let fixture = try await Fixture()
        _ = try await fixture.put(noise(1000))
        await expectFailure(.invalidRange) { try await fixture.get(range: .from(1000, length: 1)) }
        await expectFailure(.invalidRange) { try await fixture.get(range: .from(.max, length: .max)) }
        await expectFailure(.invalidRange) { try await fixture.get(range: .last(0)) }
        _ = try await fixture.put([])
        #expect(try await fixture.get() == [])
        await expectFailure(.invalidRange) { try await fixture.get(range: .last(1)) }
        await expectFailure(.invalidRange) { try await fixture.get(range: .from(1, length: nil)) }
    }

    @Test func aRangeOfALargeTreeReadsOnlyWhatItNeeds() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let row = try await fixture.put(noise(900_000))
        guard case .tree(_, let depth, _, _) = row.manifest else {
            Issue.record("The manifest should be a tree.")
            return
        }
        let before = fixture.storage.state.withLock { $0.readCount }
        _ = try await fixture.get(range: .from(450_000, length: 10))
        let reads = fixture.storage.state.withLock { $0.readCount } - before
        // One node a level, and the one or two chunks that hold the bytes (with what leads to the second).
        #expect(reads <= 2 * (Int(depth) + 1) + 2)
    }
}
