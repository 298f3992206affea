import Catalog
import ContentHashing
import StoreModel

/// Rows with every field in use, and with none.
enum Samples {
    static let digest = Digest(words: (1, 2, 3, 4))
    static let operation = UniqueID(high: 0x0102_0304_0506_0708, low: 0x090A_0B0C_0D0E_0F10)
    static let position = LogPosition(epoch: 3, sequence: 99, hash: digest)

    static func fullVersion() throws -> VersionRow {
        VersionRow(
            bucket: BucketID(rawValue: 5),
            key: try ObjectKey("models/größe/\u{10FFFF}.bin"),
            id: VersionID(sequence: 77, nonce: 0xFEDC_BA98_7654_3210),
            isNull: true,
            kind: .object,
            createdAt: Timestamp(milliseconds: 1_700_000_000_123),
            content: ObjectContent(
                size: 123_456,
                etag: "0123456789abcdef0123456789abcdef-3",
                checksums: ObjectChecksums(
                    sha256: digest,
                    md5: [UInt8](repeating: 7, count: 16).withUnsafeBytes { MD5Digest(bytes: $0) },
                    others: [NamedValue("CRC32C", "yZRlqg==")]
                ),
                manifest: .inline([
                    ChunkReference(digest: digest, length: 100_000),
                    ChunkReference(digest: .zero, length: 23_456),
                ])
            ),
            metadata: ObjectMetadata(
                contentType: "text/plain",
                otherHeaders: [NamedValue("cache-control", "no-cache")],
                userMetadata: [NamedValue("author", "näme"), NamedValue("empty", "")]
            ),
            tags: [NamedValue("stage", "prod")],
            operation: operation,
            restoredFrom: VersionID(sequence: 12, nonce: 13)
        )
    }

    /// With every attribute.
    static func attributedVersion() throws -> VersionRow {
        var row = try fullVersion()
        row.attributes.owner = "someone else"
        row.attributes.accessControlList = [1, 2, 3]
        row.attributes.retention = ObjectRetention(mode: .compliance, until: Timestamp(milliseconds: 99))
        row.attributes.legalHold = true
        row.attributes.encryption = [UInt8](repeating: 9, count: 60)
        row.attributes.checksumType = .composite
        row.attributes.storageClass = "STANDARD"
        row.attributes.partList = .stored(
            PayloadReference(manifest: .inline([ChunkReference(digest: digest, length: 9)]), size: 9)
        )
        return row
    }

    static func document(payload: Bool = true) -> DocumentRow {
        DocumentRow(
            space: .part,
            key: [0, 1, 2, 0xFF],
            body: [7, 8, 9],
            payload: payload
                ? PayloadReference(
                    manifest: .tree(root: digest, depth: 1, nodeLength: 77, chunkCount: 600),
                    size: 600 << 20
                ) : nil
        )
    }

    static func marker() throws -> VersionRow {
        VersionRow(
            bucket: BucketID(rawValue: 5),
            key: try ObjectKey("a"),
            id: VersionID(sequence: 78, nonce: 1),
            isNull: false,
            kind: .deleteMarker,
            createdAt: Timestamp(milliseconds: -5),
            content: .nothing,
            operation: operation
        )
    }

    static func treeVersion() throws -> VersionRow {
        VersionRow(
            bucket: BucketID(rawValue: 5),
            key: try ObjectKey("big"),
            id: VersionID(sequence: 79, nonce: 2),
            isNull: false,
            kind: .object,
            createdAt: Timestamp(milliseconds: 9),
            content: ObjectContent(
                size: 200 << 30,
                etag: "e",
                checksums: ObjectChecksums(),
                manifest: .tree(root: digest, depth: 2, nodeLength: 20_000, chunkCount: 200_000)
            ),
            operation: operation
        )
    }

    static func bucket(_ number: UInt64 = 5, _ name: String = "models", owner: String? = "someone") throws
        -> BucketRow
    {
        BucketRow(
            id: BucketID(rawValue: number),
            name: try BucketName(name),
            createdAt: Timestamp(milliseconds: 4),
            versioning: .suspended,
            owner: owner
        )
    }

    static func entries() throws -> [CatalogEntry] {
        let note = SnapshotNote(
            position: position,
            stateHash: StateHash(high: 1, low: 2),
            rowCount: 3,
            manifest: .inline([ChunkReference(digest: digest, length: 7)]),
            createdAt: Timestamp(milliseconds: 11)
        )
        return [
            .system(
                [
                    .epochStart(epoch: 4), .noteSnapshot(note),
                    .setLogSet(LogSetNote(version: 2, members: [operation, UniqueID(high: 1, low: 1)])),
                ],
                operation: operation
            ),
            CatalogEntry(operation: operation, sequence: 77, mutations: [.putVersion(try fullVersion())]),
            CatalogEntry(
                operation: operation,
                sequence: 80,
                mutations: [
                    .putBucket(try bucket()), .removeBucket(BucketID(rawValue: 6)), .putVersion(try marker()),
                    .removeVersion(
                        bucket: BucketID(rawValue: 5),
                        key: try ObjectKey("a"),
                        id: VersionID(sequence: 78, nonce: 1)
                    ),
                ]
            ),
            CatalogEntry(operation: operation, sequence: 81, mutations: []),
            CatalogEntry(
                operation: operation,
                sequence: 82,
                mutations: [
                    .putDocument(document()), .putDocument(document(payload: false)),
                    .removeDocument(DocumentName(.account, [1])), .putVersion(try attributedVersion()),
                ]
            ),
        ]
    }

    static func state() -> AppliedState {
        AppliedState(
            position: position,
            stateHash: StateHash(high: 5, low: 6),
            lastVersionSequence: 81,
            lastTimestamp: Timestamp(milliseconds: 12),
            logSet: LogSetNote(version: 2, members: [operation])
        )
    }
}
