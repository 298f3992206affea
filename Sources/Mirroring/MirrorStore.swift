package import Catalog
package import Encryption
package import StoreModel

/// What mirrors need of the store. The roof gives it; nothing here knows the use cases.
package protocol MirrorStore: Sendable {
    func read<Value: Sendable>(
        _ body: @escaping @Sendable (any CatalogReader) throws -> Value
    ) async throws -> Value
    /// All of them or none. What they refer to needn't be made durable first.
    func write(_ documents: [DocumentWrite]) async throws
    /// Goes up when a document of the space was changed.
    func generation(of space: DocumentSpace) -> UInt64
    /// A stretch of a version's content, decrypted and verified. At most as much as a part is asked for at a time.
    func bytes(of version: VersionRow, _ range: ByteRange) async throws -> [UInt8]
    /// The parts that a version came in; nil: it came whole.
    func parts(of version: VersionRow) async throws -> [ObjectPart]?
    /// Of a version's whole content: as it is known, or read for it.
    /// - Parameters:
    ///   - isHurried: asked again and again whether somebody waits for it, so that the reading must not wait for clients.
    ///   - spend: called with what was read, and whether it may wait for clients; paces the reading. What it throws ends it.
    func sha256(
        of version: VersionRow,
        isHurried: @escaping @Sendable () -> Bool,
        spend: @Sendable (_ byteCount: UInt64, _ mayWait: Bool) async throws -> Void
    ) async throws -> Digest
    /// Whether the version can only be read with a key that a client keeps.
    func needsClientKey(_ version: VersionRow) throws -> Bool
    func seal(_ secret: [UInt8], context: String) async throws -> SealedSecret
    /// Whether it was sealed with the key that seals now.
    func isSealedWithNewestKey(_ secret: SealedSecret) throws -> Bool
    func open(_ secret: SealedSecret, context: String) throws -> [UInt8]
}
