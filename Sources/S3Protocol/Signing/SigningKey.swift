internal import ContentHashing
package import StoreModel
internal import Synchronization

/// The key that a secret gives for one scope.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html#signing-key
package struct SigningKey: Sendable, CustomStringConvertible {
    private let key: Digest

    package init(secret: String, scope: CredentialScope) {
        let day = HMACSHA256.authenticate([UInt8](scope.day.utf8), key: [UInt8](("AWS4" + secret).utf8))
        let region = HMACSHA256.authenticate([UInt8](scope.region.utf8), key: day)
        let service = HMACSHA256.authenticate([UInt8](scope.service.utf8), key: region)
        key = HMACSHA256.authenticate([UInt8](CredentialScope.terminator.utf8), key: service)
    }

    package func sign(_ message: [UInt8]) -> Digest { HMACSHA256.authenticate(message, key: key) }

    /// A key must not get into a log by accident.
    package var description: String { "signing key" }
}

/// Derived keys of the last days: four of the five HMACs of a signature depend on secret, day and region only.
package final class SigningKeyCache: Sendable {
    private struct Entry {
        let secret: String
        let scope: CredentialScope
        let key: SigningKey
    }

    /// One entry for each access key in use; beyond, all are derived anew, which costs 4 µs each.
    private static let countMax = 4096

    private let entries = Mutex<[String: Entry]>([:])

    package init() {}

    package func key(accessKey: String, secret: String, scope: CredentialScope) -> SigningKey {
        let found = entries.withLock { entries -> SigningKey? in
            // A secret that was rotated under the same access key must not go on working.
            guard let entry = entries[accessKey], entry.scope == scope, entry.secret == secret else {
                return nil
            }
            return entry.key
        }
        if let found { return found }
        let key = SigningKey(secret: secret, scope: scope)
        entries.withLock { entries in
            if entries.count >= Self.countMax { entries.removeAll(keepingCapacity: true) }
            entries[accessKey] = Entry(secret: secret, scope: scope, key: key)
        }
        return key
    }
}

/// The text that is signed: the algorithm, the time, the scope, and what is signed there.
enum StringToSign {
    static let algorithm = "AWS4-HMAC-SHA256"

    static func request(time: String, scope: String, hash: Digest) -> [UInt8] {
        lines(algorithm, time, scope, Hexadecimal.text(hash))
    }

    static func lines(_ lines: String...) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(320)
        for (index, line) in lines.enumerated() {
            if index > 0 { text.append(UInt8(ascii: "\n")) }
            text.append(contentsOf: line.utf8)
        }
        return text
    }
}

/// Digests as 64 digits. On the path of every request and of every chunk, so it knows its length.
enum Hexadecimal {
    static func text(_ digest: Digest) -> String {
        String(unsafeUninitializedCapacity: 2 * Digest.byteCount) { room in
            var position = 0
            for word in [digest.words.0, digest.words.1, digest.words.2, digest.words.3] {
                var shift = 60
                while shift >= 0 {
                    let nibble = UInt8(truncatingIfNeeded: word >> UInt64(shift)) & 15
                    room[position] =
                        nibble < 10 ? UInt8(ascii: "0") + nibble : UInt8(ascii: "a") + nibble - 10
                    position += 1
                    shift -= 4
                }
            }
            return position
        }
    }

    /// Exactly 64 digits of either case.
    static func digest(_ text: String) -> Digest? {
        guard text.utf8.count == 2 * Digest.byteCount else { return nil }
        var words: [UInt64] = [0, 0, 0, 0]
        for (index, byte) in text.utf8.enumerated() {
            guard let nibble = PercentCoding.nibble(byte) else { return nil }
            words[index / 16] = words[index / 16] << 4 | UInt64(nibble)
        }
        return Digest(words: (words[0], words[1], words[2], words[3]))
    }
}
