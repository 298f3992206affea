internal import ContentHashing
internal import StoreModel

/// Compares the bytes of a version, in order, with what is known of it. Used by one task.
final class ContentCheck {
    private let version: VersionReport
    private var hasher = SHA256Hasher()
    private var checksummer: Checksummer?
    /// Once it was asked for.
    private var checksum: Checksum?
    private(set) var length: UInt64 = 0

    init(_ version: VersionReport) {
        self.version = version
        // The SHA-256 says it all where it is known.
        checksummer = version.sha256 == nil ? version.checksum.map { Checksummer($0.algorithm) } : nil
    }

    func update(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes {
            hasher.update($0)
            checksummer?.update($0)
        }
        length += UInt64(bytes.count)
    }

    var digest: Digest { hasher.current() }

    /// Whether all bytes are there and right; asked after the last one.
    var isWhole: Bool {
        guard length == version.size else { return false }
        if let expected = version.sha256 { return expected == digest }
        guard let expected = version.checksum else { return true }
        if let last = checksummer.take() { checksum = last.finish() }
        return checksum == expected
    }
}

/// Whether a local file holds the bytes of a version, so that none have to move.
enum LocalCopy {
    private static let pieceSize = 1 << 20

    static func isEqual(_ file: LocalFile, _ version: VersionReport, _ session: any ObjectSession)
        async throws
        -> Bool
    {
        if version.isVerifiable { return try await isWhole(file, version) }
        // Of what came in parts a store knows the chunks.
        guard let chunks = try await session.chunks(of: version, upTo: version.size),
            chunks.reduce(0, { $0 + $1.length }) == version.size
        else { return false }
        var offset: UInt64 = 0
        for chunk in chunks {
            let bytes = try await read(file, at: offset, upTo: Int(clamping: chunk.length))
            guard UInt64(bytes.count) == chunk.length, SHA256Hasher.hash(bytes) == chunk.digest else {
                return false
            }
            offset += chunk.length
        }
        return try await read(file, at: offset, upTo: 1).isEmpty
    }

    private static func isWhole(_ file: LocalFile, _ version: VersionReport) async throws -> Bool {
        let check = ContentCheck(version)
        while true {
            let piece = try await read(file, at: check.length, upTo: pieceSize)
            guard !piece.isEmpty else { return check.isWhole }
            check.update(piece)
            guard check.length <= version.size else { return false }
        }
    }

    private static func read(_ file: LocalFile, at offset: UInt64, upTo count: Int) async throws -> [UInt8] {
        try Task.checkCancellation()
        return try await Blocking.run { try file.read(upTo: count, at: offset) }
    }
}

extension VersionReport {
    /// Whether the bytes can be compared with something.
    var isVerifiable: Bool { sha256 != nil || checksum != nil }
}
