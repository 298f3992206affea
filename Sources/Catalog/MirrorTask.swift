package import StoreModel

// What waits for mirrors, in the space outbox. Numbers in keys are 8 bytes, big-endian, so that keys stand in order.
//
//   "mirror/p/" mirror, sequence            a task that is pending
//   "mirror/d/" mirror, sequence            a task that was given up (Mirroring adds the reason behind the task)
//   "mirror/v/" mirror, version (16 bytes)  where a version is in a backend that keeps versions: its id there
//   "mirror/u/" mirror, sequence            an upload in parts that is under way there
//   "mirror/s/" mirror                      how far what was there before the mirror is queued
//   "mirror/l/" mirror, "mirror/t/" mirror  who works on it, and until when
//
//   Body of a task:
//     offset  size  field
//          0     1  format version, 1
//          1     1  change: 1 made, 2 changed, 3 removed
//          2     1  flags: 1 = took the place of another version, 2 = queued again: it may have been tried before
//          3     8  number of the bucket
//         11    16  version: sequence, nonce
//         27     8  bytes of the version
//         35     8  when, milliseconds since 1970
//         43     …  the version that was replaced, if flagged: sequence, nonce
//          …     …  name of the bucket (text), key (counted)
//
//   Body of "mirror/s/": format version 1 (1), last sequence that is queued (8), where it ends (8).
//
// Integers in bodies are little-endian.

package enum MirrorKey {
    package static let routePrefix = [UInt8]("mirror/route/".utf8)
    package static let backendPrefix = [UInt8]("mirror/backend/".utf8)
    package static let pendingPrefix = [UInt8]("mirror/p/".utf8)
    package static let deadPrefix = [UInt8]("mirror/d/".utf8)
    package static let mirroredPrefix = [UInt8]("mirror/v/".utf8)
    package static let uploadPrefix = [UInt8]("mirror/u/".utf8)
    package static let backfillPrefix = [UInt8]("mirror/s/".utf8)
    package static let leasePrefix = [UInt8]("mirror/l/".utf8)
    package static let leaseTimePrefix = [UInt8]("mirror/t/".utf8)

    package static func route(_ id: MirrorID) -> [UInt8] { under(routePrefix, id) }
    package static func pending(_ id: MirrorID, _ sequence: UInt64) -> [UInt8] {
        under(pendingPrefix, id) + bytes(sequence)
    }
    package static func dead(_ id: MirrorID, _ sequence: UInt64) -> [UInt8] {
        under(deadPrefix, id) + bytes(sequence)
    }
    package static func mirrored(_ id: MirrorID, _ version: VersionID) -> [UInt8] {
        under(mirroredPrefix, id) + bytes(version.sequence) + bytes(version.nonce)
    }
    package static func upload(_ id: MirrorID, _ sequence: UInt64) -> [UInt8] {
        under(uploadPrefix, id) + bytes(sequence)
    }
    package static func backfill(_ id: MirrorID) -> [UInt8] { under(backfillPrefix, id) }

    /// The part of a key that names the mirror.
    package static func under(_ prefix: [UInt8], _ id: MirrorID) -> [UInt8] { prefix + bytes(id.rawValue) }

    package static func id(of key: [UInt8], under prefix: [UInt8]) -> MirrorID? {
        guard key.starts(with: prefix), key.count >= prefix.count + 8 else { return nil }
        return MirrorID(rawValue: number(key[prefix.count..<prefix.count + 8]))
    }

    /// The sequence in the key of a task.
    package static func sequence(of key: [UInt8]) -> UInt64? {
        key.count >= 8 ? number(key.suffix(8)) : nil
    }

    private static func number(_ bytes: some Sequence<UInt8>) -> UInt64 {
        bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    package static func bytes(_ number: UInt64) -> [UInt8] {
        withUnsafeBytes(of: number.bigEndian) { [UInt8]($0) }
    }
}

/// What a mirror is to be told: a decision on one key.
package struct MirrorTask: Hashable, Sendable {
    package enum Change: UInt8, Hashable, Sendable {
        /// A new version, or a delete marker.
        case made = 1
        /// Tags or attributes of a version.
        case changed = 2
        case removed = 3
    }

    private static let format: UInt8 = 1

    package let mirror: MirrorID
    /// Of the decision; of a version, when it is one that was there before the mirror.
    package let sequence: UInt64
    package let change: Change
    package let bucket: BucketID
    package let bucketName: BucketName
    package let key: ObjectKey
    package let version: VersionID
    /// The null version whose place it took.
    package let replaced: VersionID?
    package let size: UInt64
    package let time: Timestamp
    /// Whoever carries it out looks first.
    package var isQueuedAgain = false

    package init(
        mirror: MirrorID,
        sequence: UInt64,
        change: Change,
        bucketName: BucketName,
        row: VersionRow,
        replaced: VersionID? = nil,
        time: Timestamp
    ) {
        self.mirror = mirror
        self.sequence = sequence
        self.change = change
        bucket = row.bucket
        self.bucketName = bucketName
        key = row.key
        version = row.id
        self.replaced = replaced
        size = change == .made ? row.size : 0
        self.time = time
    }

    package var body: [UInt8] {
        var writer = ByteWriter(capacity: 128)
        writer.write(Self.format)
        writer.write(change.rawValue)
        writer.write(UInt8((replaced == nil ? 0 : 1) | (isQueuedAgain ? 2 : 0)))
        writer.write(bucket.rawValue)
        writer.write(version.sequence)
        writer.write(version.nonce)
        writer.write(size)
        writer.write(time.milliseconds)
        if let replaced {
            writer.write(replaced.sequence)
            writer.write(replaced.nonce)
        }
        writer.write(text: bucketName.description)
        writer.write(counted: key.bytes)
        return writer.bytes
    }

    package var pendingRow: DocumentRow {
        DocumentRow(space: .outbox, key: MirrorKey.pending(mirror, sequence), body: body)
    }

    package var queuedAgain: MirrorTask {
        var task = self
        task.isQueuedAgain = true
        return task
    }

    /// - Parameter rest: what follows the task in the body.
    package init(
        mirror: MirrorID,
        sequence: UInt64,
        body: [UInt8],
        rest: (inout ByteReader) throws(ByteReader.Failure) -> Void = { _ throws(ByteReader.Failure) in }
    ) throws(CatalogError) {
        var reader = ByteReader(body)
        do throws(ByteReader.Failure) {
            let format = try reader.read(UInt8.self)
            guard format == Self.format, let change = Change(rawValue: try reader.read(UInt8.self)) else {
                throw ByteReader.Failure("it has format \(format); this program reads \(Self.format)")
            }
            let flags = try reader.read(UInt8.self)
            guard flags <= 3 else { throw ByteReader.Failure("unknown flags \(flags)") }
            isQueuedAgain = flags & 2 != 0
            self.mirror = mirror
            self.sequence = sequence
            self.change = change
            bucket = BucketID(rawValue: try reader.readOrdinal())
            version = try reader.readVersionID()
            size = try reader.read(UInt64.self)
            time = Timestamp(milliseconds: try reader.read(Int64.self))
            replaced = flags & 1 != 0 ? try reader.readVersionID() : nil
            let name = try reader.readText()
            do throws(StoreError) {
                bucketName = try BucketName(name)
            } catch {
                throw ByteReader.Failure(error.message)
            }
            key = try reader.readKey()
            try rest(&reader)
            try reader.finish()
        } catch {
            throw CatalogError(.unsupportedFormat, "A task for a mirror can't be read: \(error).")
        }
    }

    package init(_ document: DocumentRow) throws(CatalogError) {
        guard let id = MirrorKey.id(of: document.key, under: MirrorKey.pendingPrefix),
            let sequence = MirrorKey.sequence(of: document.key)
        else { throw CatalogError(.damaged, "The key of a task for a mirror is wrong.") }
        try self.init(mirror: id, sequence: sequence, body: document.body)
    }
}

/// How far the versions that were there before a mirror are queued for it.
package struct MirrorBackfill: Hashable, Sendable {
    private static let format: UInt8 = 1

    /// All versions up to this sequence are queued.
    package var cursor: UInt64
    /// Later versions have been queued as they were made.
    package let end: UInt64

    package init(cursor: UInt64, end: UInt64) {
        self.cursor = cursor
        self.end = end
    }

    package var isDone: Bool { cursor >= end }

    package var body: [UInt8] {
        var writer = ByteWriter(capacity: 17)
        writer.write(Self.format)
        writer.write(cursor)
        writer.write(end)
        return writer.bytes
    }

    package init(_ document: DocumentRow) throws(CatalogError) {
        var reader = ByteReader(document.body)
        do throws(ByteReader.Failure) {
            let format = try reader.read(UInt8.self)
            guard format == Self.format else { throw ByteReader.Failure("it has format \(format)") }
            cursor = try reader.read(UInt64.self)
            end = try reader.read(UInt64.self)
            try reader.finish()
        } catch {
            throw CatalogError(.unsupportedFormat, "How far a mirror is can't be read: \(error).")
        }
    }
}
