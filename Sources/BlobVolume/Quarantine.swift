package import StoreModel
internal import Synchronization

/// Copies of damaged bytes, for a person to look at.
enum Quarantine {
    /// Larger stretches are kept where they are only.
    private static let byteCountMax: UInt64 = 64 << 20

    /// A piece that is kept, as its name and the file system tell it.
    struct Piece: Sendable {
        let name: String
        let byteCount: UInt64
        /// Milliseconds since 1970; nil where the file system does not say.
        let keptSince: Int64?
    }

    /// What is there, oldest first.
    static func pieces(on disk: any Disk) throws(DiskError) -> [Piece] {
        var pieces: [Piece] = []
        for name in try disk.list("quarantine") {
            let path = "quarantine/" + name
            guard let file = try? disk.open(path, .read) else { continue }
            defer { file.close() }
            pieces.append(
                Piece(
                    name: name,
                    byteCount: (try? file.size()) ?? 0,
                    keptSince: disk.modificationTime(of: path)
                )
            )
        }
        return pieces.sorted { ($0.keptSince ?? 0, $0.name) < ($1.keptSince ?? 0, $1.name) }
    }

    /// Drops the oldest pieces until what is left is within the bounds.
    /// - Returns: what was dropped.
    static func trim(_ bounds: QuarantineBounds, now: Timestamp, on disk: any Disk) throws(DiskError)
        -> [Piece]
    {
        var kept = try pieces(on: disk)
        var bytes = kept.reduce(UInt64(0)) { $0 + $1.byteCount }
        var dropped: [Piece] = []
        while let oldest = kept.first {
            let isOld = oldest.keptSince.map {
                now.milliseconds - $0 > bounds.ageMax.components.seconds * 1000
            }
            guard bytes > bounds.bytesMax || kept.count > bounds.countMax || isOld == true else { break }
            try disk.remove("quarantine/" + oldest.name)
            bytes -= oldest.byteCount
            dropped.append(kept.removeFirst())
        }
        if !dropped.isEmpty { try disk.syncDirectory("quarantine") }
        return dropped
    }

    /// - Returns: the file's name, or nil when no copy could be made.
    static func copy(_ reader: SegmentReader, at offset: UInt64, byteCount: UInt64, to disk: any Disk)
        -> String?
    {
        let name = "\(reader.number)-\(offset)-\(byteCount).\(reader.kind.fileExtension)"
        let path = "quarantine/" + name
        do throws(DiskError) {
            if try disk.exists(path) { return name }
            guard byteCount <= byteCountMax else { return nil }
            let bytes = try reader.file.read(count: Int(byteCount), at: offset)
            let temporary = path + ".new"
            if try disk.exists(temporary) { try disk.remove(temporary) }
            let file = try disk.open(temporary, .create)
            defer { file.close() }
            try file.write(bytes, at: 0)
            try file.sync()
            try disk.rename(temporary, to: path)
            try disk.syncDirectory("quarantine")
            return name
        } catch {
            return nil
        }
    }
}

extension BlobVolume {
    /// What the quarantine of this volume holds.
    package var quarantine: QuarantineContent {
        let pieces = (try? Quarantine.pieces(on: disk)) ?? []
        return QuarantineContent(
            count: pieces.count,
            byteCount: pieces.reduce(0) { $0 + $1.byteCount },
            oldest: pieces.compactMap(\.keptSince).min().map { Timestamp(milliseconds: $0) }
        )
    }

    /// Drops the oldest pieces of the quarantine until it is within its bounds.
    /// - Returns: names of those that were dropped.
    package func trimQuarantine(_ bounds: QuarantineBounds, now: Timestamp) -> [String] {
        guard (try? checkUsable()) != nil else { return [] }
        return ((try? Quarantine.trim(bounds, now: now, on: disk)) ?? []).map(\.name)
    }
}

/// How much of damaged originals a volume keeps: they are evidence, and must not fill the disk.
package struct QuarantineBounds: Hashable, Sendable {
    package var bytesMax: UInt64 = 1 << 30
    package var countMax = 10_000
    package var ageMax: Duration = .seconds(90 * 86_400)

    package init() {}
}

package struct QuarantineContent: Hashable, Sendable {
    package var count = 0
    package var byteCount: UInt64 = 0
    package var oldest: Timestamp?
}
