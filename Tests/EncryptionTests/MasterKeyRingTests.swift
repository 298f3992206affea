import Encryption
import StoreModel
import StoreTestKit
import Testing

@Suite struct MasterKeyRingTests {
    private let random = SeededRandom(seed: 11)

    @Test func aRingSurvivesItsFile() throws {
        var ring = MasterKeyRing(from: random)
        for _ in 0..<3 { ring = try #require(ring.addingGeneration(from: random)) }
        let read = try MasterKeyRing(text: ring.text())
        #expect(read.generations.map(\.id) == ring.generations.map(\.id))
        #expect(read.generations.map(\.key) == ring.generations.map(\.key))
        #expect(read.newest.id == ring.newest.id)
        let text = String(decoding: ring.text(), as: UTF8.self)
        let windows = text.split(separator: "\n").joined(separator: "\r\n") + "\r\n# a remark\r\n"
        #expect(try MasterKeyRing(text: [UInt8](windows.utf8)).newest.id == ring.newest.id)
    }

    @Test func whatAnOlderGenerationSealedStillOpens() throws {
        let old = MasterKeyRing(from: random)
        let sealed = SealedSecret([1, 2], under: old, context: "", random: random)
        let new = try #require(old.addingGeneration(from: random))
        #expect(try sealed.open(with: new, context: "") == [1, 2])
        let later = SealedSecret([3], under: new, context: "", random: random)
        #expect(later.keeper == .masterKey(new.newest.id))
        #expect(code { try later.open(with: old, context: "") } == .unknownMasterKey)
    }

    @Test func generationsHaveALimit() throws {
        var ring = MasterKeyRing(from: random)
        for _ in 1..<MasterKeyRing.generationCountMax {
            ring = try #require(ring.addingGeneration(from: random))
        }
        #expect(ring.addingGeneration(from: random) == nil)
        #expect(try MasterKeyRing(text: ring.text()).generations.count == MasterKeyRing.generationCountMax)
    }

    @Test func aFileThatWasCutOrChangedIsRefused() throws {
        let ring = try #require(MasterKeyRing(from: random).addingGeneration(from: random))
        let text = ring.text()
        for count in 0..<text.count - 1 {
            #expect(
                code { try MasterKeyRing(text: [UInt8](text.prefix(count))) } != nil,
                "cut to \(count) bytes"
            )
        }
        let start = try #require(text.firstRange(of: [UInt8]("\nkey ".utf8))).lowerBound
        for index in start..<text.count - 1 {
            var changed = text
            changed[index] ^= 1
            guard let read = try? MasterKeyRing(text: changed) else { continue }
            #expect(read.generations.map(\.id) == ring.generations.map(\.id), "byte \(index)")
        }
        let lines = text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map(
            [UInt8].init
        )
        for dropped in lines.indices where lines[dropped].first.map({ $0 != UInt8(ascii: "#") }) == true {
            var fewer = lines
            fewer.remove(at: dropped)
            #expect(code { try MasterKeyRing(text: [UInt8](fewer.joined(separator: [10]))) } != nil)
        }
    }

    @Test func hostileFilesGiveAnErrorThatHoldsNoKey() {
        let key = String(repeating: "ab", count: 32)
        for text in [
            "", "\n\n", "holdfast-master-key", "holdfast-master-key 1", "holdfast-master-key 1\ncheck 0",
            "holdfast-master-key 1\nkey 0 0\ncheck 0",
            "holdfast-master-key 1\nkey 0011223344556677 \(key)\ncheck 0",
            "holdfast-master-key 2\nkey 0011223344556677 \(key)\ncheck 0", "\u{FEFF}holdfast-master-key 1",
            String(repeating: "key ", count: 100_000),
        ] {
            do {
                _ = try MasterKeyRing(text: [UInt8](text.utf8))
                Issue.record("a file that is none was read: \(text.prefix(80))")
            } catch {
                #expect(!error.message.contains("abab"))
            }
        }
        #expect(code { try MasterKeyRing(text: [0xFF, 0xFE]) } == .malformed)
        for _ in 0..<500 { _ = try? MasterKeyRing(text: random.bytes(count: 300)) }
    }
}
