import ContentHashing
import StoreModel
import Testing

@Suite struct DigestTests {
    // FIPS 180-2 appendix B and RFC 1321 appendix A.5.
    @Test(arguments: [
        (
            "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "d41d8cd98f00b204e9800998ecf8427e"
        ),
        (
            "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "900150983cd24fb0d6963f7d28e17f72"
        ),
    ])
    func digestsMatchThePublishedVectors(text: String, sha256: String, md5: String) {
        let bytes = [UInt8](text.utf8)
        #expect(SHA256Hasher.hash(bytes).hex == sha256)
        #expect(bytes.withUnsafeBytes { MD5Hasher.hash($0) }.hex == md5)
    }

    @Test func piecesGiveTheDigestOfTheWhole() {
        let bytes = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        var hasher = SHA256Hasher()
        bytes.withUnsafeBytes { whole in
            for start in stride(from: 0, to: whole.count, by: 777) {
                hasher.update(UnsafeRawBufferPointer(rebasing: whole[start..<min(start + 777, whole.count)]))
            }
        }
        #expect(hasher.finish() == SHA256Hasher.hash(bytes))
    }

    @Test func aDigestSurvivesItsTextForm() throws {
        let digest = SHA256Hasher.hash([1, 2, 3])
        #expect(Digest(hex: digest.hex) == digest)
        #expect(Digest(hex: digest.hex.uppercased()) == digest)
        #expect(Digest(hex: String(digest.hex.dropLast())) == nil)
        #expect(Digest(hex: digest.hex.dropLast() + "g") == nil)
    }

    // The empty input's value is part of the published XXH3 test vectors.
    @Test func checksumsMatchThePublishedVector() {
        #expect(BlockChecksum.xxh3([]) == 0x2D06_8005_38D3_94C2)
    }
}
