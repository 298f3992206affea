import BlobVolume
import Catalog
import CatalogSQLite
import ContentHashing
import Encryption
import Foundation
import Replication
import StoreModel
import StoreTestKit
import Testing

@testable import HoldfastNode
@testable import Mirroring
@testable import ObjectService

/// A program that is older than what it finds says so, and changes nothing: every format that the store writes, in a version
/// that does not exist yet, with every checksum as that version would have it.
@Suite struct LaterFormatTests {
    struct Format: Sendable, CustomTestStringConvertible {
        let name: String
        /// What the error has to say.
        let says: String
        let read: @Sendable () throws -> Void
        var testDescription: String { name }

        init(_ name: String, says: String, _ read: @escaping @Sendable () throws -> Void) {
            self.name = name
            self.says = says
            self.read = read
        }
    }

    private static let later: UInt8 = 200
    /// The body of a document or row whose first byte is its format.
    private static let body = [later] + [UInt8](repeating: 0, count: 200)

    private static let formats: [Format] = [
        Format("store.json", says: "has format 200") {
            let json = #"{"format":{"major":200,"minor":0},"unheardOf":[]}"#
            _ = try StoreConfiguration(json: Array(json.utf8), path: "store.json")
        },
        Format("volume.json", says: "has format 200") {
            try openVolume { disk in
                for name in ["volume.json", "volume.json.2"] {
                    let text = String(decoding: try bytes(disk, name), as: UTF8.self)
                    guard let end = text.range(of: "  \"checksum\"") else { continue }
                    let body = text[..<end.lowerBound].replacingOccurrences(
                        of: "\"formatMajor\": 1,",
                        with: "\"formatMajor\": 200,"
                    )
                    let sum = SHA256Hasher.hash(Array(body.utf8))
                    try write(Array("\(body)  \"checksum\": \"\(sum)\"\n}\n".utf8), disk, name)
                }
            }
        },
        Format("segment header", says: "format 200") {
            try openVolume { disk in
                try patchSegment(disk, at: 0, byte: 4, covered: 56, checksumAt: 56)
            }
        },
        Format("record format", says: "record format 200") {
            try openVolume { disk in
                try patchSegment(disk, at: 4096, byte: 5, covered: 88, checksumAt: 88)
            }
        },
        Format("record type, footers of segments among them", says: "record type 200") {
            try openVolume { disk in
                try patchSegment(disk, at: 4096, byte: 4, covered: 88, checksumAt: 88)
            }
        },
        Format("entries of a commit batch", says: "format 200") {
            _ = try CatalogEntryCodec.decode(body)
        },
        Format("block of a catalog snapshot", says: "format 200") {
            var block: [UInt8] = []
            _ = try SnapshotWriter(state: .empty, bucketCount: 0, versionCount: 0) { block = $0 }
            block[4] = later
            let sum = BlockChecksum.xxh3(block.dropLast(8))
            block.replaceSubrange(
                (block.count - 8)...,
                with: withUnsafeBytes(of: sum.littleEndian, Array.init)
            )
            var reader = SnapshotReader()
            _ = try reader.read(block)
        },
        Format("manifest node", says: "format version 200") {
            let entry = ManifestNode.Entry(
                digest: SHA256Hasher.hash([1]),
                payloadLength: 1,
                contentLength: 1
            )
            _ = try ManifestNode(
                decoding: Array(ManifestNode(height: 0, entries: [entry]).encoded().prefix(4)) + body
            )
        },
        Format("catalog.sqlite", says: "has format 200") {
            try withDirectory { directory in
                let path = directory.appendingPathComponent("catalog.sqlite").path
                try SQLiteCatalog(path: path).close()
                var file = try Data(contentsOf: URL(fileURLWithPath: path))
                // The user version: the format, and its complement above it.
                let version = UInt32(200) | UInt32(~UInt16(200)) << 16
                withUnsafeBytes(of: version.bigEndian) { file.replaceSubrange(60..<64, with: $0) }
                try file.write(to: URL(fileURLWithPath: path))
                defer { #expect((try? Data(contentsOf: URL(fileURLWithPath: path))) == file) }
                _ = try SQLiteCatalog(path: path)
            }
        },
        Format("sealed secret", says: "format version 200") { _ = try SealedSecret(decoding: body) },
        Format("encryption of an object", says: "format 200") { _ = try ObjectEncryption(decoding: body) },
        Format("master.key", says: "its format is") {
            try withDirectory { directory in
                let file = MasterKeyFile(storeDirectory: directory.path)
                try writeLaterKey(file.path)
                _ = try file.load()
            }
        },
        Format("copy of the master key", says: "its format is") {
            try withDirectory { directory in
                let path = directory.appendingPathComponent("copy").path
                try writeLaterKey(path)
                _ = try MasterKeyFile(copy: path).load()
            }
        },
        Format("layout of the volumes", says: "format 200") { _ = try VolumeLayout(decoding: body) },
        Format("retention policy", says: "format 200") { _ = try RetentionPolicy(body: body) },
        Format("job of a scrub", says: "format 200") {
            _ = try ScrubJob(DocumentRow(space: .job, key: Array("scrub/audit".utf8), body: body))
        },
        Format("job of a mirror's audit", says: "format 200") {
            let key = MirrorKey.under(MirrorAuditJob.prefix, MirrorID(rawValue: 1))
            _ = try MirrorAuditJob(DocumentRow(space: .job, key: key, body: body))
        },
        Format("finding", says: "format 200") {
            let key = FindingRow.prefix + [UInt8](repeating: 0, count: 16)
            _ = try FindingRow(DocumentRow(space: .finding, key: key, body: body))
        },
        Format("mirror", says: "format 200") {
            let key = MirrorRow.key(try MirrorName("m"))
            _ = try MirrorRow(DocumentRow(space: .setting, key: key, body: body))
        },
        Format("task for a mirror", says: "can't be read") {
            _ = try MirrorTask(mirror: MirrorID(rawValue: 1), sequence: 1, body: body)
        },
    ]

    @Test(arguments: formats) func isRefusedClearly(_ format: Format) throws {
        do {
            try format.read()
            Issue.record("\(format.name) of a later version was read.")
        } catch {
            #expect("\(error)".contains(format.says), "\(format.name): \(error)")
            #expect(Self.isAboutFormats(error), "\(format.name): \(error)")
        }
    }

    private static func isAboutFormats(_ error: any Error) -> Bool {
        switch error {
        case let error as StoreError:
            error.code == .unsupportedFormat || error.code == .masterKeyUnavailable
        case let error as VolumeError: error.code == .unsupportedFormat
        case let error as CatalogError: error.code == .unsupportedFormat
        case let error as EncryptionError: error.code == .unsupportedVersion
        default: false
        }
    }

    /// The seal of an index is no promise: with one that it can't read the program looks at the whole index.
    @Test func anIndexWithALaterSealIsBuiltAgain() throws {
        try Self.withDirectory { directory in
            let path = directory.appendingPathComponent("catalog.sqlite").path
            try SQLiteCatalog(path: path).close()
            try Data("holdfast-index 200 1 2 3\n".utf8).write(to: URL(fileURLWithPath: path + "-sum"))
            #expect { _ = try SQLiteCatalog(path: path) } throws: {
                ($0 as? CatalogError)?.needsRebuild == true
            }
        }
    }

    // MARK: -

    private static func withDirectory(_ body: (URL) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(
            "later-\(UUID().uuidString)"
        )
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        try body(directory)
    }

    private static func writeLaterKey(_ path: String) throws {
        let text = String(decoding: MasterKeyRing(from: SeededRandom(seed: 1)).text(), as: UTF8.self)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            guard let first = line.split(separator: " ").first, !line.hasPrefix("#"),
                first != "key", first != "check"
            else { return String(line) }
            return "\(first) 200"
        }
        #expect(
            FileManager.default.createFile(
                atPath: path,
                contents: Data(lines.joined(separator: "\n").utf8),
                attributes: [.posixPermissions: 0o600]
            )
        )
    }

    /// Makes a volume with a record, changes it, opens it; a volume that is refused stays as it was.
    private static func openVolume(_ change: (CrashDisk) throws -> Void) throws {
        let store = StoreID(high: 1, low: 2)
        let id = VolumeID(high: 3, low: 4)
        var options = VolumeOptions()
        options.preparesSpareInBackground = false
        options.reserveBytes = 0
        let disk = CrashDisk()
        let identity = VolumeIdentity(
            storeID: store,
            volumeID: id,
            promise: 1,
            logSet: LogSet(version: 1, members: [id]),
            quorum: .standard,
            createdAt: Timestamp(milliseconds: 1)
        )
        try BlobVolume.format(disk, identity: identity, options: options)
        let volume = try BlobVolume.open(disk, options: options)
        let payload: [UInt8] = [1, 2, 3]
        try volume.appendGroup(
            payloads: [PayloadRecord(digest: SHA256Hasher.hash(payload), bytes: payload)],
            batch: nil
        )
        try volume.syncLog()
        try volume.close()
        try change(disk)
        let names = disk.image.fileNames.filter { $0 != "lock" }
        let before = names.map { disk.image.contents(of: $0) }
        defer { #expect(names.map { disk.image.contents(of: $0) } == before) }
        _ = try BlobVolume.open(disk, options: options)
    }

    private static func bytes(_ disk: CrashDisk, _ name: String) throws -> [UInt8] {
        try #require(disk.image.contents(of: name))
    }

    private static func write(_ bytes: [UInt8], _ disk: CrashDisk, _ name: String) throws {
        let file = try disk.open(name, .update)
        try file.truncate(to: 0)
        try bytes.withUnsafeBytes { try file.write([$0], at: 0) }
        try file.sync()
        file.close()
    }

    private static func patchSegment(
        _ disk: CrashDisk,
        at start: Int,
        byte: Int,
        covered: Int,
        checksumAt: Int
    ) throws {
        let name = try #require(disk.image.fileNames.first { $0.hasSuffix(".log") })
        var content = try bytes(disk, name)
        content[start + byte] = later
        let sum = BlockChecksum.xxh3(content[start..<start + covered])
        withUnsafeBytes(of: sum.littleEndian) {
            content.replaceSubrange(start + checksumAt..<start + checksumAt + 8, with: $0)
        }
        try write(content, disk, name)
    }
}
