import Catalog
import ObjectService
import StoreModel
import StoreTestKit
import Testing

@testable import Replication

/// Bits that flip in a volume while the store is closed.
@Suite(.serialized) struct EngineRotTests {
    private func content(_ number: Int) -> [UInt8] {
        randomBytes(number % 4 == 0 ? 150_000 : 700, seed: UInt64(number))
    }

    private func check(_ engine: Engine) async throws {
        for number in 0..<9 {
            let isRight = try await engine.get("k\(number)") == content(number)
            #expect(isRight)
        }
    }

    /// A flipped bit anywhere in the files of one volume, found at opening or by the audit.
    @Test(.timeLimit(.minutes(10))) func aFlippedBitAnywhereInAVolumeIsHealed() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        for number in 0..<9 { try await engine.put("k\(number)", content(number)) }
        let held = engine
        #expect(await engine.eventually { held.isWhole })
        engine.trip.kill()
        await engine.close()
        fixture.take(engine, after: .kept)
        let images = fixture.images
        for seed in TestSeeds.seeds(fixed: 25) {
            var generator = SeededGenerator(seed: seed)
            fixture.images = images
            let names = images[1].fileNames.filter { $0 != "lock" && (images[1].size(of: $0) ?? 0) > 0 }
            let name = generator.pick(names)
            // Most of a log segment is zeros that were made ready.
            let written = (images[1].contents(of: name) ?? []).lastIndex { $0 != 0 } ?? 0
            let offset = generator.below(written + 1)
            fixture.images[1].flip(name, offset: offset, bit: generator.below(8))
            let point = "HOLDFAST_SEED=\(seed), \(name) at \(offset)"
            do {
                try fixture.copyIndex(to: "copy.sqlite")
                engine = try await fixture.open(index: "copy.sqlite")
                let flipped = engine
                try await check(engine)
                #expect(await engine.eventually { flipped.isWhole }, "\(point)")
                _ = try await engine.objects.verify(repair: true)
                #expect(try await engine.objects.verify(repair: false).findingCount == 0, "\(point)")
                await engine.close()
                fixture.take(engine)
                engine = try await fixture.open([1, 2], index: "copy.sqlite")
                try await check(engine)
                await engine.close()
            } catch {
                Issue.record("\(point): \(error)")
            }
        }
    }
}
