package import StoreModel

/// Id of an access key: goes over the wire in each request, is no secret.
package struct AccessKeyID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package static let lengthMax = 128
    private static let alphabet = [UInt8]("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".utf8)

    package let description: String

    /// 3 to 128 letters, digits, dots, hyphens, underscores: nothing that a signature's credential splits at.
    package init?(_ text: some StringProtocol) {
        let isAllowed = text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"),
                UInt8(ascii: "."):
                true
            default: false
            }
        }
        guard isAllowed, (3...Self.lengthMax).contains(text.utf8.count) else { return nil }
        description = String(text)
    }

    /// A new one: 20 characters like those of AWS, which some clients check.
    package init(from random: any RandomSource) {
        description = "AKIA" + random.text(count: 16, of: Self.alphabet)
    }

    package static func < (left: AccessKeyID, right: AccessKeyID) -> Bool {
        left.description < right.description
    }
}

/// The secret half of an access key. Not shown by printing it, not even by `dump`.
package struct AccessSecret: Sendable, CustomStringConvertible, CustomReflectable {
    package static let lengths = 8...128
    private static let alphabet = [UInt8](
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".utf8
    )
    /// Secrets that anyone tries first.
    private static let wellKnown: Set<String> = [
        "minioadmin", "minio123", "rustfsadmin", "password", "changeme", "changeit", "secretkey", "secret123",
        "admin123", "holdfast", "12345678", "123456789", "1234567890", "administrator", "qwertyui",
        "testtest",
    ]

    private let text: String

    /// 8 to 128 printable ASCII characters.
    package init?(_ text: some StringProtocol) {
        guard Self.lengths.contains(text.utf8.count), text.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
        else { return nil }
        self.text = String(text)
    }

    /// A new one: 40 letters and digits, 238 bits.
    package init(from random: any RandomSource) {
        text = random.text(count: 40, of: Self.alphabet)
    }

    /// The secret itself: for signatures, and to be shown once when it is made.
    package func reveal() -> String { text }

    /// Whether it is one that must not be used where others can reach the server.
    package var isWellKnown: Bool {
        Self.wellKnown.contains(text.lowercased()) || Set(text.utf8).count <= 2
    }

    package var description: String { "AccessSecret(secret)" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

/// An access key as it is configured or was just made: the secret is in the open.
package struct AccessCredential: Sendable {
    package let id: AccessKeyID
    package let secret: AccessSecret

    package init(id: AccessKeyID, secret: AccessSecret) {
        self.id = id
        self.secret = secret
    }
}

extension RandomSource {
    /// Characters that are each equally likely.
    fileprivate func text(count: Int, of alphabet: [UInt8]) -> String {
        precondition((2...256).contains(alphabet.count), "A character is drawn with one byte.")
        // Bytes from here on would make some characters likelier.
        let bound = 256 - 256 % alphabet.count
        var text: [UInt8] = []
        while text.count < count {
            var word = next()
            for _ in 0..<8 where text.count < count {
                let byte = Int(word & 0xFF)
                word >>= 8
                if byte < bound { text.append(alphabet[byte % alphabet.count]) }
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
