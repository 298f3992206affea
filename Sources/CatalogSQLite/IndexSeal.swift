internal import ContentHashing
internal import Glibc

/// A checksum over the whole index, written beside it when it is closed: an index that nobody touched since needs no
/// further look, and one in which bits flipped meanwhile is found before it hides a row. What SQLite keeps to find rows has
/// no checksums of its own.
///
/// `catalog.sqlite-sum`: "holdfast-index 1 SIZE HASH\n"; HASH is the XXH3-128 of the XXH3-128s of the file's pieces of 1 MiB.
/// It is taken away when the index is opened, and needs no fsync: one that is missing, torn or old is a look more.
enum IndexSeal {
    private static let pieceSize = 1 << 20

    static func path(of index: String) -> String { index + "-sum" }

    enum State {
        /// The index was not closed, or its seal is lost: nothing is known of it.
        case missing
        /// It is as it was closed.
        case whole
        /// It is not.
        case broken
    }

    static func state(_ index: String) -> State {
        let descriptor = open(path(of: index), O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return .missing }
        defer { _ = Glibc.close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = pread(descriptor, &bytes, bytes.count, 0)
        guard count > 0, let found = text(of: index) else { return .broken }
        return bytes[..<count].elementsEqual(found.utf8) ? .whole : .broken
    }

    /// Notes the file as it is. What can't be written is no reason to fail.
    static func write(_ index: String) {
        guard let text = text(of: index) else { return }
        let descriptor = open(path(of: index), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return }
        defer { _ = Glibc.close(descriptor) }
        let bytes = [UInt8](text.utf8)
        _ = Glibc.write(descriptor, bytes, bytes.count)
    }

    static func remove(_ index: String) { _ = unlink(path(of: index)) }

    /// nil: the file can't be read.
    private static func text(of index: String) -> String? {
        let descriptor = open(index, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { _ = Glibc.close(descriptor) }
        var piece = [UInt8](repeating: 0, count: pieceSize)
        var sums: [UInt64] = []
        var size = 0
        while true {
            let count = pread(descriptor, &piece, piece.count, off_t(size))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { return nil }
            guard count > 0 else { break }
            let sum = piece.withUnsafeBytes {
                BlockChecksum.xxh3Wide(UnsafeRawBufferPointer(rebasing: $0[..<count]))
            }
            sums += [sum.high, sum.low]
            size += count
        }
        let sum = sums.withUnsafeBytes { BlockChecksum.xxh3Wide($0) }
        return "holdfast-index 1 \(size) \(String(sum.high, radix: 16)) \(String(sum.low, radix: 16))\n"
    }
}
