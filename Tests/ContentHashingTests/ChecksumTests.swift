import ContentHashing
import StoreModel
import StoreTestKit
import Testing

@Suite struct ChecksumTests {
    private static let digits = [UInt8]("123456789".utf8)

    // The check values of the CRC catalogue (reveng), RFC 3720 B.4, FIPS 180.
    @Test(arguments: [
        (ChecksumAlgorithm.crc32, "cbf43926"),
        (.crc32c, "e3069283"),
        (.crc64nvme, "ae8b14860a799888"),
        (.sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        (.sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
    ])
    func checksumsMatchThePublishedVectors(algorithm: ChecksumAlgorithm, hex: String) {
        let checksum = Checksummer.checksum(algorithm, of: Self.digits)
        #expect(Hex.encode(checksum.bytes) == hex)
        #expect(checksum.bytes.count == algorithm.byteCount)
    }

    @Test func rfc3720VectorsOfCRC32CHold() {
        func value(_ bytes: [UInt8]) -> [UInt8] { Checksummer.checksum(.crc32c, of: bytes).bytes }
        #expect(value([UInt8](repeating: 0, count: 32)) == [0x8A, 0x91, 0x36, 0xAA])
        #expect(value([UInt8](repeating: 0xFF, count: 32)) == [0x62, 0xA8, 0xAB, 0x43])
        #expect(value([UInt8](0..<32)) == [0x46, 0xDD, 0x79, 0x4E])
    }

    @Test func nothingHasAChecksumToo() {
        #expect(Checksummer.checksum(.crc32, of: []).base64 == "AAAAAA==")
        #expect(Checksummer.checksum(.crc64nvme, of: []).base64 == "AAAAAAAAAAA=")
        #expect(Checksummer.checksum(.sha1, of: []).base64 == "2jmj7l5rSw0yVb/vlWAYkK/YBwk=")
    }

    /// Bit by bit, as the definition says.
    private func slow(_ bytes: [UInt8], reflected: UInt64, mask: UInt64) -> UInt64 {
        var register = mask
        for byte in bytes {
            register ^= UInt64(byte)
            for _ in 0..<8 { register = register >> 1 ^ (register & 1 != 0 ? reflected : 0) }
        }
        return register ^ mask
    }

    @Test(arguments: TestSeeds.seeds(fixed: 3, fresh: 1))
    func theFastWayAgreesWithTheDefinitionAtEveryLength(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let lengths = Array(0...300) + [1023, 1024, 4095, 65_537]
        for length in lengths {
            let bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
            let expected: [(ChecksumAlgorithm, UInt64)] = [
                (.crc32, slow(bytes, reflected: 0xEDB8_8320, mask: 0xFFFF_FFFF)),
                (.crc32c, slow(bytes, reflected: 0x82F6_3B78, mask: 0xFFFF_FFFF)),
                (.crc64nvme, slow(bytes, reflected: 0x9A6C_9329_AC4B_C9B5, mask: .max)),
            ]
            for (algorithm, value) in expected {
                let found = Checksummer.checksum(algorithm, of: bytes).bytes.reduce(UInt64(0)) {
                    $0 << 8 | UInt64($1)
                }
                #expect(found == value, "seed \(seed), \(algorithm.name), \(length) bytes")
            }
        }
    }

    @Test(arguments: ChecksumAlgorithm.allCases)
    func piecesGiveTheChecksumOfTheWhole(algorithm: ChecksumAlgorithm) {
        let bytes = (0..<50_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        var checksummer = Checksummer(algorithm)
        bytes.withUnsafeBytes { whole in
            for start in stride(from: 0, to: whole.count, by: 777) {
                checksummer.update(
                    UnsafeRawBufferPointer(rebasing: whole[start..<min(start + 777, whole.count)])
                )
            }
        }
        #expect(checksummer.finish() == Checksummer.checksum(algorithm, of: bytes))
    }

    @Test(arguments: TestSeeds.seeds(fixed: 5, fresh: 2))
    func checksumsOfPartsGiveTheChecksumOfTheObject(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        for algorithm in ChecksumAlgorithm.allCases where algorithm.isCyclic {
            var whole: [UInt8] = []
            var combination = try #require(CRCCombination(algorithm))
            for _ in 0..<6 {
                let part = (0..<generator.below(3000)).map { _ in UInt8.random(in: 0...255, using: &generator)
                }
                whole += part
                let appended = combination.append(
                    Checksummer.checksum(algorithm, of: part),
                    byteCount: UInt64(part.count)
                )
                #expect(appended)
            }
            #expect(combination.checksum == Checksummer.checksum(algorithm, of: whole), "seed \(seed)")
            #expect(combination.byteCount == UInt64(whole.count))
            let isForeignTaken = combination.append(Checksummer.checksum(.sha1, of: []), byteCount: 0)
            #expect(!isForeignTaken)
        }
        #expect(CRCCombination(.sha256) == nil)
    }

    @Test func aCompositeIsTheChecksumOfTheChecksums() throws {
        let parts = [Self.digits, [0], []].map { Checksummer.checksum(.sha256, of: $0) }
        let composite = try #require(ObjectChecksum(compositeOf: parts))
        #expect(composite.checksum == Checksummer.checksum(.sha256, of: parts.flatMap(\.bytes)))
        #expect(composite.text.hasSuffix("=-3"))
        #expect(ObjectChecksum(.sha256, text: composite.text) == composite)
        #expect(ObjectChecksum(compositeOf: []) == nil)
        #expect(ObjectChecksum(compositeOf: [parts[0], Checksummer.checksum(.crc32, of: [])]) == nil)
        for type in [composite, ObjectChecksum(fullObject: parts[0])] {
            #expect(ObjectChecksum(storedBytes: type.storedBytes) == type)
            #expect(ObjectChecksum(storedBytes: type.storedBytes.dropLast()) == nil)
        }
    }

    @Test(arguments: [
        "", "=", "AAAA", "AAAAAA", "AAAAAA=", "AAAAAB==", "AAAAAA==-0", "AAAAAA==-x", "AA AAA==",
    ])
    func whatIsNotACRC32IsRefused(text: String) {
        #expect(ObjectChecksum(.crc32, text: text) == nil)
    }

    @Test func algorithmsAreFoundByTheirNames() {
        for algorithm in ChecksumAlgorithm.allCases {
            #expect(ChecksumAlgorithm(name: algorithm.name) == algorithm)
            #expect(ChecksumAlgorithm(name: algorithm.name.lowercased()) == algorithm)
            #expect(ChecksumAlgorithm(headerName: algorithm.headerName) == algorithm)
        }
        #expect(ChecksumAlgorithm(name: "MD5") == nil)
        #expect(ChecksumAlgorithm.crc64nvme.multipartTypeDefault == .fullObject)
        #expect(!ChecksumAlgorithm.crc64nvme.allows(.composite))
        #expect(!ChecksumAlgorithm.sha1.allows(.fullObject))
    }

    // RFC 4648, section 10.
    @Test(arguments: [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ])
    func base64MatchesThePublishedVectors(plain: String, encoded: String) {
        #expect(Base64.encode([UInt8](plain.utf8)) == encoded)
        #expect(Base64.decode(encoded) == [UInt8](plain.utf8))
    }

    @Test(arguments: ["Z", "Zg", "Zg=", "Z===", "Zh==", "Zm9=", "Zm9v\n", "====", "Zg==Zg==", "Z_=="])
    func base64ThatIsNotCanonicalIsRefused(text: String) {
        #expect(Base64.decode(text) == nil)
    }
}
