package import Catalog
internal import ContentHashing
package import StoreModel

/// Copies of the content of versions elsewhere than on the replicas.
package protocol ContentRescue: Sendable {
    /// A stretch of a version's content, whatever it is worth: the caller compares it with the chunk's name.
    /// - Returns: nil when there is none to be had.
    func bytes(of version: VersionRow, _ range: ByteRange) async -> [UInt8]?
}

/// Reads a chunk that no replica has any more from elsewhere, and gives it back to the replicas.
///
/// Only the bytes whose SHA-256 is the chunk's name count. Of encrypted versions the chunks are ciphertext, which nobody
/// else has.
struct ChunkRescue: Sendable {
    let source: any ContentRescue
    let version: VersionRow

    /// - Parameter start: where the chunk begins in the version.
    func chunk(_ chunk: ChunkReference, at start: UInt64, _ storage: some ReplicatedStorage) async -> [UInt8]?
    {
        guard
            let range = try? ByteRange(offset: start, length: UInt64(chunk.length), of: version.size),
            let bytes = await source.bytes(of: version, range), SHA256Hasher.hash(bytes) == chunk.digest
        else { return nil }
        // What can't be repaired now is found again by the next read.
        _ = try? await storage.write(chunk.digest, bytes: bytes, waitsForCommit: false)
        return bytes
    }
}
