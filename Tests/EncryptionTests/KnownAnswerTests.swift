import ContentHashing
import Encryption
import StoreModel
import Testing

private func bytes(_ hex: String) throws -> [UInt8] { try #require(Hex.decode(hex)) }

@Suite struct KnownAnswerTests {
    struct GCMVector: Sendable {
        var key: String
        var nonce: String
        var plaintext: String
        var header: String
        var ciphertext: String
        var tag: String
    }

    private static let longKey = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
    private static let longText =
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        + "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    private static let longCiphertext =
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        + "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"

    /// Test cases 13 to 16 of the proposal of GCM to NIST (McGrew and Viega).
    static let vectors = [
        GCMVector(
            key: String(repeating: "00", count: 32),
            nonce: String(repeating: "00", count: 12),
            plaintext: "",
            header: "",
            ciphertext: "",
            tag: "530f8afbc74536b9a963b4f1c4cb738b"
        ),
        GCMVector(
            key: String(repeating: "00", count: 32),
            nonce: String(repeating: "00", count: 12),
            plaintext: String(repeating: "00", count: 16),
            header: "",
            ciphertext: "cea7403d4d606b6e074ec5d3baf39d18",
            tag: "d0d1c8a799996bf0265b98b5d48ab919"
        ),
        GCMVector(
            key: longKey,
            nonce: "cafebabefacedbaddecaf888",
            plaintext: longText + "1aafd255",
            header: "",
            ciphertext: longCiphertext + "898015ad",
            tag: "b094dac5d93471bdec1a502270e3cc6c"
        ),
        GCMVector(
            key: longKey,
            nonce: "cafebabefacedbaddecaf888",
            plaintext: longText,
            header: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            ciphertext: longCiphertext,
            tag: "76fc6ece0f4e1768cddf8853bb2d551b"
        ),
    ]

    @Test(arguments: vectors)
    func sealingAndOpeningMatchThePublishedVectors(vector: GCMVector) throws {
        let key = try #require(EncryptionKey(try bytes(vector.key)))
        let plaintext = try bytes(vector.plaintext)
        let nonce = try bytes(vector.nonce)
        let header = try bytes(vector.header)
        let expected = try bytes(vector.ciphertext + vector.tag)
        var sealed = [UInt8](repeating: 0, count: plaintext.count + AESGCM.tagByteCount)
        var sealing = AESGCM.sealing(key)
        sealed.withUnsafeMutableBytes { sealed in
            plaintext.withUnsafeBytes { sealing.seal($0, nonce: nonce, authenticating: header, to: sealed) }
        }
        #expect(sealed == expected)
        var opening = AESGCM.opening(key)
        for index in -1..<sealed.count {
            var changed = sealed
            if index >= 0 { changed[index] ^= 1 }
            var opened = [UInt8](repeating: 0, count: plaintext.count)
            let isAuthentic = opened.withUnsafeMutableBytes { opened in
                changed.withUnsafeBytes { opening.open($0, nonce: nonce, authenticating: header, to: opened) }
            }
            #expect(isAuthentic == (index < 0))
            let expected = index < 0 ? plaintext : [UInt8](repeating: 0, count: plaintext.count)
            #expect(opened == expected, "nothing of a forged text is handed out")
        }
    }

    /// https://www.rfc-editor.org/rfc/rfc4231#section-4
    @Test(arguments: [
        (
            String(repeating: "0b", count: 20), "Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        ),
        (
            "4a656665", "what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        ),
        (
            String(repeating: "aa", count: 131), "Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        ),
    ])
    func authenticationCodesMatchThePublishedVectors(key: String, text: String, code: String) throws {
        let key = try bytes(key)
        let text = [UInt8](text.utf8)
        #expect(HMACSHA256.code(key: key, message: [text]).hex == code)
        let pieces = [[UInt8](text.prefix(3)), [], [UInt8](text.dropFirst(3))]
        #expect(HMACSHA256.code(key: key, message: pieces).hex == code)
    }

    /// https://www.rfc-editor.org/rfc/rfc5869#appendix-A
    @Test(arguments: [
        (
            String(repeating: "0b", count: 22), "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        ),
        (
            Hex.encode(0x00...0x4f), Hex.encode(0x60...0xaf), Hex.encode(0xb0...0xff),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
                + "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ),
        (
            String(repeating: "0b", count: 22), "", "",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
        ),
    ])
    func derivedKeysMatchThePublishedVectors(key: String, salt: String, info: String, output: String) throws {
        let expected = try bytes(output)
        let salt = try bytes(salt)
        let info = try bytes(info)
        let derived = try bytes(key).withUnsafeBytes {
            HKDFSHA256.derive(from: $0, salt: salt, info: info, byteCount: expected.count)
        }
        #expect(derived == expected)
    }
}
