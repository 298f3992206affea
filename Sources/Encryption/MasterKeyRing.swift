internal import ContentHashing
package import StoreModel

/// Names a master key without telling anything about it: 8 bytes derived from the key.
package struct MasterKeyID: Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    package static let byteCount = 8

    package let value: UInt64

    package init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        value = bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// The first 8 bytes of HKDF-SHA256 of the key, without salt, with the info "holdfast master key id".
    package init(of key: EncryptionKey) {
        let bytes = key.withUnsafeBytes {
            HKDFSHA256.derive(
                from: $0,
                salt: [],
                info: [UInt8]("holdfast master key id".utf8),
                byteCount: Self.byteCount
            )
        }
        value = bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    package var bytes: [UInt8] { withUnsafeBytes(of: value.bigEndian) { [UInt8]($0) } }
    package var description: String { Hex.encode(bytes) }
}

/// The master keys of a store, oldest first. The newest seals; all of them open.
///
/// As a text file, one line each, in this order:
///
///     # any number of comments, here and everywhere
///     holdfast-master-key 1                                     the format version
///     key <id: 16 hex digits> <key: 64 hex digits>              oldest first, 1 to 64 lines
///     check <16 hex digits>                                     of SHA-256 over the key lines
///
/// The id follows from the key, so that a mistyped key is noticed, and the last line is there so that a cut
/// file is.
package struct MasterKeyRing: Sendable {
    package struct Generation: Sendable {
        package let id: MasterKeyID
        package let key: EncryptionKey

        package init(_ key: EncryptionKey) {
            self.key = key
            id = MasterKeyID(of: key)
        }
    }

    package static let generationCountMax = 64
    package static let fileByteCountMax = 64 << 10
    private static let header = "holdfast-master-key"
    private static let version = "1"

    /// Never empty.
    package let generations: [Generation]
    package let newest: Generation

    /// A ring with one new key.
    package init(from random: any RandomSource) {
        newest = Generation(EncryptionKey(from: random))
        generations = [newest]
    }

    private init(_ older: [Generation], newest: Generation) {
        generations = older + [newest]
        self.newest = newest
    }

    package func generation(_ id: MasterKeyID) -> Generation? { generations.first { $0.id == id } }

    /// The ring with one more key, which seals from now on.
    /// - Returns: nil when there are too many.
    package func addingGeneration(from random: any RandomSource) -> MasterKeyRing? {
        guard generations.count < Self.generationCountMax else { return nil }
        return MasterKeyRing(generations, newest: Generation(EncryptionKey(from: random)))
    }

    // MARK: File

    package func text() -> [UInt8] {
        let lines = generations.map { generation in
            "key \(generation.id) \(generation.key.withUnsafeBytes { Hex.encode($0) })\n"
        }
        let text = """
            # The master key of a Holdfast store. It opens encrypted objects and the secrets of access keys.
            # Keep a copy away from the store, and keep it secret: without it that data is lost, and who
            # has it can read that data. Everything else in the store does not need it.
            \(Self.header) \(Self.version)

            """
        return [UInt8]((text + lines.joined() + "check \(Self.check(lines))\n").utf8)
    }

    /// Parses a file's bytes. The messages name lines, never their content.
    /// - Throws: `EncryptionError` with `.malformed` or `.unsupportedVersion`.
    package init(text bytes: [UInt8]) throws(EncryptionError) {
        guard bytes.count <= Self.fileByteCountMax, let text = String(validating: bytes, as: UTF8.self) else {
            throw EncryptionError(.malformed, "it is too long, or not text")
        }
        var lines: [(number: Int, words: [Substring])] = []
        let allLines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        for (index, line) in allLines.enumerated() {
            let words = line.split(separator: " ")
            guard let first = words.first, !first.hasPrefix("#") else { continue }
            lines.append((index + 1, words))
        }
        guard let first = lines.first?.words, first.count == 2, first[0] == Self.header else {
            throw EncryptionError(.malformed, "it does not begin with \"\(Self.header) \(Self.version)\"")
        }
        guard first[1] == Self.version else {
            throw EncryptionError(
                .unsupportedVersion,
                "its format is \(quoted(String(first[1]))); this program reads \(Self.version)"
            )
        }
        try self.init(lines: lines.dropFirst())
    }

    private init(lines: ArraySlice<(number: Int, words: [Substring])>) throws(EncryptionError) {
        guard let last = lines.last, last.words.count == 2, last.words[0] == "check" else {
            throw EncryptionError(.malformed, "its last line is missing; the file was cut")
        }
        var found: [Generation] = []
        var keyLines: [String] = []
        for (number, words) in lines.dropLast() {
            guard words.count == 3, words[0] == "key", let bytes = Hex.decode(words[2]),
                let key = EncryptionKey(bytes)
            else { throw EncryptionError(.malformed, "line \(number) is not a key") }
            let generation = Generation(key)
            guard words[1] == generation.id.description else {
                throw EncryptionError(.malformed, "the key in line \(number) does not belong to its id")
            }
            guard !found.contains(where: { $0.id == generation.id }) else {
                throw EncryptionError(.malformed, "the key in line \(number) is there twice")
            }
            guard found.count < Self.generationCountMax else {
                throw EncryptionError(.malformed, "it holds more than \(Self.generationCountMax) keys")
            }
            found.append(generation)
            keyLines.append(words.joined(separator: " ").lowercased() + "\n")
        }
        guard let newest = found.popLast() else { throw EncryptionError(.malformed, "it holds no key") }
        guard last.words[1].lowercased() == Self.check(keyLines) else {
            throw EncryptionError(.malformed, "its check line does not fit; a line was lost or changed")
        }
        self.init(found, newest: newest)
    }

    private static func check(_ lines: [String]) -> String {
        String(SHA256Hasher.hash([UInt8](lines.joined().utf8)).hex.prefix(16))
    }
}
