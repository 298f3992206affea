import Catalog
import ContentHashing
import Encryption
import Foundation
import StoreModel
import StoreTestKit

@testable import BlobVolume
@testable import holdfast

/// What the store wrote itself, and reads back from disks that may give anything.
extension FuzzTarget {
    static let codecs = [
        versionRow, bucketRow, documentRow, entries, appliedState, partList, manifestNode, snapshot,
        commitBatch, footer,
        record, identity, objectEncryption, sealedSecret, masterKeys, configuration,
    ]

    /// A codec: what is read is written again as the same bytes, if there is one encoding for each value.
    private static func codec(
        _ name: String,
        _ samples: @escaping @Sendable () throws -> [[UInt8]],
        _ again: @escaping @Sendable ([UInt8]) throws -> [UInt8]?
    ) -> FuzzTarget {
        FuzzTarget(name: name, words: ["\0\0\0\0", "\u{1}\0\0\0", "a"], samples: samples) { input, _ in
            guard let written = try again(input) else { return }
            try require(written == input, "it is read, and written as something else")
        }
    }

    private static let digest = Digest(words: (1, 2, 3, 4))
    private static let operation = UniqueID(high: 5, low: 6)
    private static let position = LogPosition(epoch: 3, sequence: 99, hash: digest)

    private static func version(attributes: Bool = false) throws -> VersionRow {
        var row = VersionRow(
            bucket: BucketID(rawValue: 5),
            key: try ObjectKey("models/größe.bin"),
            id: VersionID(sequence: 77, nonce: 9),
            isNull: false,
            kind: .object,
            createdAt: Timestamp(milliseconds: 1_700_000_000_123),
            content: ObjectContent(
                size: 123_456,
                etag: "0123-3",
                checksums: ObjectChecksums(
                    sha256: digest,
                    md5: nil,
                    others: [NamedValue("CRC32C", "yZRlqg==")]
                ),
                manifest: .inline([ChunkReference(digest: digest, length: 123_456)])
            ),
            metadata: ObjectMetadata(
                contentType: "text/plain",
                otherHeaders: [NamedValue("cache-control", "no-cache")],
                userMetadata: [NamedValue("author", "näme")]
            ),
            tags: [NamedValue("stage", "prod")],
            operation: operation,
            restoredFrom: VersionID(sequence: 12, nonce: 13)
        )
        if attributes {
            row.attributes.owner = "someone"
            row.attributes.retention = ObjectRetention(mode: .governance, until: Timestamp(milliseconds: 99))
            row.attributes.legalHold = true
        }
        return row
    }

    private static func bucket() throws -> BucketRow {
        BucketRow(
            id: BucketID(rawValue: 5),
            name: try BucketName("models"),
            createdAt: Timestamp(milliseconds: 4),
            versioning: .enabled,
            owner: "someone"
        )
    }

    private static let document = DocumentRow(
        space: .part,
        key: [0, 1, 0xFF],
        body: [7, 8, 9],
        payload: PayloadReference(
            manifest: .tree(root: digest, depth: 1, nodeLength: 77, chunkCount: 600),
            size: 600 << 20
        )
    )

    private static let versionRow = codec("version-row") {
        [RowCodec.encode(try version()), RowCodec.encode(try version(attributes: true))]
    } _: {
        RowCodec.encode(try RowCodec.decodeVersion($0))
    }

    private static let bucketRow = codec("bucket-row") {
        [RowCodec.encode(try bucket())]
    } _: {
        RowCodec.encode(try RowCodec.decodeBucket($0))
    }

    private static let documentRow = codec("document-row") {
        [RowCodec.encode(document)]
    } _: {
        RowCodec.encode(try RowCodec.decodeDocument($0))
    }

    private static let entries = codec("entries") {
        [
            CatalogEntryCodec.encode([
                .system([.epochStart(epoch: 4)], operation: operation),
                CatalogEntry(
                    operation: operation,
                    sequence: 77,
                    mutations: [
                        .putBucket(try bucket()), .putVersion(try version(attributes: true)),
                        .putDocument(document),
                        .removeBucket(BucketID(rawValue: 6)), .removeDocument(DocumentName(.account, [1])),
                    ]
                ),
            ]), CatalogEntryCodec.encode([]),
        ]
    } _: {
        CatalogEntryCodec.encode(try CatalogEntryCodec.decode($0))
    }

    private static let appliedState = codec("applied-state") {
        [
            AppliedStateCodec.encode(
                AppliedState(
                    position: position,
                    stateHash: StateHash(high: 5, low: 6),
                    lastVersionSequence: 81,
                    lastTimestamp: Timestamp(milliseconds: 12),
                    logSet: LogSetNote(version: 2, members: [operation])
                )
            ), AppliedStateCodec.encode(.empty),
        ]
    } _: {
        AppliedStateCodec.encode(try AppliedStateCodec.decode($0))
    }

    private static let partList = codec("part-list") {
        guard let etag = [UInt8](repeating: 3, count: 16).withUnsafeBytes({ MD5Digest(bytes: $0) }) else {
            return []
        }
        return [
            PartListCodec.encode([
                ObjectPart(number: 1, size: 5 << 20, etag: etag, checksum: "yZRlqg=="),
                ObjectPart(number: 9, size: 7, etag: etag, checksum: nil),
            ])
        ]
    } _: {
        PartListCodec.encode(try PartListCodec.decode($0))
    }

    private static let manifestNode = codec("manifest-node") {
        [
            ManifestNode(height: 0, entries: [.init(digest: digest, payloadLength: 9, contentLength: 9)])
                .encoded(),
            ManifestNode(
                height: 1,
                entries: [.init(digest: digest, payloadLength: 99, contentLength: 1 << 40)]
            ).encoded(),
        ]
    } _: {
        try ManifestNode(decoding: $0).encoded()
    }

    private final class Blocks { var list: [[UInt8]] = [] }

    /// Each block with its length in front.
    private static let snapshot = FuzzTarget(
        name: "snapshot",
        words: ["\0\0\0\0"],
        samples: {
            let (blocks, row) = (Blocks(), RowCodec.encode(try bucket()))
            let state = AppliedState(
                position: position,
                stateHash: StateHash(ofRow: row),
                lastVersionSequence: 81,
                lastTimestamp: Timestamp(milliseconds: 12),
                logSet: LogSetNote(version: 2, members: [operation])
            )
            var writer = try SnapshotWriter(state: state, bucketCount: 1, versionCount: 0) {
                blocks.list.append($0)
            }
            try writer.add(row: row)
            _ = try writer.finish()
            var bytes = ByteWriter()
            for block in blocks.list { bytes.write(counted: block) }
            return [bytes.bytes]
        },
        take: { input, _ in
            var (bytes, reader) = (ByteReader(input), SnapshotReader())
            while bytes.remaining > 0 { _ = try reader.read(try bytes.readCounted()) }
        }
    )

    // MARK: Volumes

    private static let commitBatch = codec("commit-batch") {
        let batch = CommitBatch(
            epoch: 4,
            predecessor: position,
            commitIndex: 98,
            timestamp: Timestamp(milliseconds: 5),
            body: [1, 2, 3]
        )
        return [batch.encode()]
    } _: { input in
        let batch = try CommitBatch(decoding: input)
        // The minor format is not kept: a later one reads as this one.
        return batch.encode()[6...7].elementsEqual(input[6...7]) ? batch.encode() : nil
    }

    private static let footer = FuzzTarget(
        name: "footer",
        words: ["\0\0\0\0", "\u{1}\0\0\0"],
        samples: {
            var contents = SegmentContents()
            contents.entries = [.init(digest: digest, unit: 64, byteCount: 1000)]
            contents.chain = [.hole(unit: 1, byteCount: 64)]
            return [contents.encodeFooter(), SegmentContents().encodeFooter()]
        },
        take: { input, _ in
            let contents = input.withUnsafeBytes { SegmentContents(footer: $0) }
            guard let contents else { throw VolumeError(.corrupt, "no footer", path: "") }
            try require(contents.footerByteCount == input.count, "a footer of another length")
            let again = contents.encodeFooter().withUnsafeBytes { SegmentContents(footer: $0) }
            try require(again == contents, "it is read, and written as something else")
        }
    )

    /// Headers of records and segments, trailers, sections: where the checksum holds for nothing but what was written, the
    /// bytes in front of it are tried with a right checksum too.
    private static let record = FuzzTarget(
        name: "record",
        words: ["\0\0\0\0"],
        samples: {
            let header = RecordHeader(
                type: .payload,
                payloadByteCount: 1000,
                digest: digest,
                tableChecksum: 7
            )
            var bytes = [UInt8](repeating: 0, count: 96)
            bytes.withUnsafeMutableBytes {
                header.write(to: $0, at: RecordLocation(segment: 1, unit: 64), tag: 9)
            }
            return [bytes]
        },
        take: { input, _ in
            var bytes = input
            for _ in 0..<2 {
                let parsed = bytes.withUnsafeBytes {
                    RecordHeader.parse($0, at: RecordLocation(segment: 1, unit: 64), tag: 9)
                }
                if case .valid(let header) = parsed {
                    try require(
                        header.payloadByteCount <= RecordFormat.footerByteCountMax,
                        "a record without a bound"
                    )
                    _ = RecordFormat.headByteCount(header.payloadByteCount)
                }
                _ = bytes.withUnsafeBytes { VolumeSection(endOf: $0) }
                _ = SegmentTrailer(bytes, segment: 1, tag: 9)
                guard bytes.count >= 96 else { return }
                let checksum = bytes.withUnsafeBytes {
                    BlockChecksum.xxh3(UnsafeRawBufferPointer(rebasing: $0[..<88]))
                }
                withUnsafeBytes(of: checksum.littleEndian) { bytes.replaceSubrange(88..<96, with: $0) }
            }
        }
    )

    private static let identity = FuzzTarget(
        name: "identity",
        words: ["{", "}", "[", "]", ":", ",", "\"", "\\u0000", "\"promise\"", "true", "1.5", "-1"],
        samples: {
            let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent()
            return [
                [UInt8](try Data(contentsOf: root.appendingPathComponent("fixtures/volumes/v1/volume.json")))
            ]
        },
        take: { input, _ in
            _ = try? IdentityText(parsing: input)
            let file = try IdentityFile(decoding: input)
            let again = try? IdentityFile(decoding: file.encode())
            try require(again?.identity == file.identity, "it is read, and written as something else")
        }
    )

    // MARK: Keys and settings

    private static let key = EncryptionKey(from: SeededRandom(seed: 1))
    private static let sealed = SealedSecret(
        [1, 2, 3],
        under: key,
        context: "c",
        random: SeededRandom(seed: 2)
    )

    private static let sealedSecret = codec("sealed-secret") {
        [sealed.bytes]
    } _: { input in
        let secret = try SealedSecret(decoding: input)
        if input != sealed.bytes {
            try require((try? secret.open(with: key, context: "c")) == nil, "a changed secret opens")
        }
        return secret.bytes
    }

    private static let objectEncryption = codec("object-encryption") {
        var writer = ByteWriter()
        writer.write(raw: [1, 2])
        writer.write(UInt64(1000))
        writer.write(0 as UInt8)
        writer.write(UInt16(sealed.bytes.count))
        writer.write(raw: sealed.bytes)
        return [writer.bytes]
    } _: {
        try ObjectEncryption(decoding: $0).encoded()
    }

    private static let masterKeys = FuzzTarget(
        name: "master-keys",
        words: ["\n", "key ", "check ", "holdfast", " 1", "#", "  "],
        samples: { [MasterKeyRing(from: SeededRandom(seed: 3)).text()] },
        take: { input, _ in _ = try MasterKeyRing(text: input) }
    )

    private static let configuration = FuzzTarget(
        name: "configuration",
        words: [
            "listen:", "limits:", "- ", "\n", "  ", "&a ", "*a", "!!binary ", "{", "}", "[", "]", "|", ">",
            "? ", "---\n", "%YAML 1.2\n",
            "\t", "0x7fffffffffffffff", ".inf", "~",
        ],
        samples: {
            [
                [UInt8](
                    """
                    listen: ["127.0.0.1:9000"]
                    region: eu-west-1
                    tls: {certificate: /a, key: /b}
                    root:
                      accessKey: HOLDFASTROOTKEY00001
                      secretKey: "root/secret+with=signs0123456789abcdefgh"
                    limits:
                      connections: 100
                      idleSeconds: 30
                    """.utf8
                )
            ]
        },
        take: { input, _ in
            let file = FileManager.default.temporaryDirectory.appendingPathComponent(
                "holdfast-fuzz-\(getpid()).yaml"
            )
            try Data(input).write(to: file)
            defer { try? FileManager.default.removeItem(at: file) }
            _ = try ServerConfigurationFile.read(file.path).configuration()
        }
    )
}
