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

extension VersionReport {
    /// Whether the bytes can be compared with something.
    var isVerifiable: Bool { sha256 != nil || checksum != nil }
}
