internal import StoreModel

/// A body on its way in: pieces in order, then nil.
///
/// Used by one task; a call is made only after the one before has returned. A failure ends the body: what was
/// uploaded of it stays invisible. Pieces of 256 KiB to 1 MiB are best; empty ones are allowed.
package protocol ByteSource {
    func next() async throws -> [UInt8]?
}

/// A body that is in memory.
package final class BufferByteSource: ByteSource {
    private let bytes: [UInt8]
    private let pieceSize: Int
    private var offset = 0

    package init(_ bytes: [UInt8], pieceSize: Int = Limits.chunkSizeTarget) {
        precondition(pieceSize > 0, "A piece has at least one byte.")
        self.bytes = bytes
        self.pieceSize = pieceSize
    }

    package func next() async throws -> [UInt8]? {
        guard offset < bytes.count else { return nil }
        defer { offset += pieceSize }
        // What fits one piece is handed on as it is, without a copy.
        if bytes.count <= pieceSize { return bytes }
        return [UInt8](bytes[offset..<min(offset + pieceSize, bytes.count)])
    }
}
