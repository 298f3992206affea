import Encryption
import StoreModel
import StoreTestKit
import Testing

@Suite struct SealedSecretTests {
    private let random = SeededRandom(seed: 7)

    @Test func aSecretOpensWithItsKeyAndContextOnly() throws {
        let ring = MasterKeyRing(from: random)
        let secret = [UInt8]("wJalrXUtnFEMI/K7MDENG".utf8)
        let sealed = SealedSecret(secret, under: ring, context: "key A", random: random)
        #expect(try sealed.open(with: ring, context: "key A") == secret)
        #expect(try SealedSecret(decoding: sealed.bytes) == sealed)
        #expect(code { try sealed.open(with: ring, context: "key B") } == .notAuthentic)
        let other = MasterKeyRing(from: random)
        #expect(code { try sealed.open(with: other, context: "key A") } == .unknownMasterKey)
        #expect(code { try sealed.open(with: other.newest.key, context: "key A") } == .wrongKey)
        #expect(sealed.bytes.firstRange(of: secret) == nil)
    }

    @Test func theSameSecretIsNeverSealedTheSameWayTwice() {
        let ring = MasterKeyRing(from: random)
        let sealed = (0..<100).map { _ in SealedSecret([1], under: ring, context: "", random: random) }
        #expect(Set(sealed.map { [UInt8]($0.bytes[10..<26]) }).count == sealed.count)
        #expect(Set(sealed.map(\.bytes)).count == sealed.count)
    }

    @Test func anEmptyAndAVeryLongSecretSurvive() throws {
        let key = EncryptionKey(from: random)
        for count in [0, 1, SealedSecret.plaintextByteCountMax] {
            let secret = random.bytes(count: count)
            let sealed = SealedSecret(secret, under: key, context: "x", random: random)
            #expect(sealed.keeper == .client)
            #expect(try SealedSecret(decoding: sealed.bytes).open(with: key, context: "x") == secret)
        }
    }

    @Test func everyChangedByteIsNoticed() {
        let ring = MasterKeyRing(from: random)
        let sealed = SealedSecret([1, 2, 3], under: ring, context: "c", random: random)
        for index in sealed.bytes.indices {
            for bit in 0..<8 {
                var bytes = sealed.bytes
                bytes[index] ^= 1 << bit
                #expect(code { try SealedSecret(decoding: bytes).open(with: ring, context: "c") } != nil)
            }
        }
    }

    @Test func hostileBytesGiveAnErrorNotATrap() {
        for count in 0..<200 {
            #expect(code { try SealedSecret(decoding: [UInt8](repeating: 0, count: count)) } != nil)
            var bytes = random.bytes(count: count)
            _ = try? SealedSecret(decoding: bytes)
            if count > 1 { (bytes[0], bytes[1]) = (1, 1) }
            if let sealed = try? SealedSecret(decoding: bytes) {
                #expect(code { try sealed.open(with: MasterKeyRing(from: random), context: "") } != nil)
            }
        }
        #expect(
            code { try SealedSecret(decoding: [2] + [UInt8](repeating: 1, count: 99)) } == .unsupportedVersion
        )
    }

    @Test func keysDoNotShowWhatTheyAre() throws {
        let bytes = [UInt8](0..<32)
        let key = try #require(EncryptionKey(bytes))
        var dumped = ""
        dump(key, to: &dumped)
        for text in ["\(key)", String(reflecting: key), dumped, "\(MasterKeyRing(from: random))"] {
            #expect(!text.contains("0, 1, 2") && !text.contains("000102"))
        }
        #expect(EncryptionKey([UInt8](0..<31)) == nil)
        #expect(key == EncryptionKey(bytes))
        #expect(key != EncryptionKey([UInt8](1...32)))
    }
}

/// The code of the error that a call ends with; nil when it succeeds.
func code<Value>(_ body: () throws -> Value) -> EncryptionError.Code? {
    do {
        _ = try body()
        return nil
    } catch let error as EncryptionError {
        return error.code
    } catch {
        Issue.record(error)
        return nil
    }
}
