internal import Catalog
internal import ContentHashing
package import StoreModel

/// Where a restore puts what it reads.
package protocol MirrorRestoreTarget: Sendable {
    /// Makes the bucket, with versions, when it isn't there.
    func prepare(_ bucket: BucketName) async throws
    /// How many versions and delete markers the key has.
    func versionCount(_ bucket: BucketName, _ key: ObjectKey) async throws -> Int
    /// - Parameter next: the bytes, piece by piece; nil at the end.
    func put(
        _ bucket: BucketName,
        _ key: ObjectKey,
        _ properties: MirrorProperties,
        size: UInt64,
        sha256: Digest?,
        next: @escaping @Sendable (_ offset: UInt64) async throws -> [UInt8]?
    ) async throws
    func delete(_ bucket: BucketName, _ key: ObjectKey) async throws
}

package struct MirrorRestoreReport: Hashable, Sendable {
    package fileprivate(set) var keyCount: UInt64 = 0
    package fileprivate(set) var versionCount: UInt64 = 0
    package fileprivate(set) var markerCount: UInt64 = 0
    package fileprivate(set) var bytes: UInt64 = 0
    /// Were there already, from a run before.
    package fileprivate(set) var skippedCount: UInt64 = 0
    /// Objects of the backend that no mirror has put there.
    package fileprivate(set) var foreignCount: UInt64 = 0

    package init() {}
}

/// Brings back what a mirror holds: an object, a bucket, or everything, with its history where the backend keeps one.
///
/// 1. Only the backend is asked: the store may be empty, and the mirror unknown to it.
/// 2. Versions are put in the order of the backend's history, which is the order of the store that mirrored them. They
///    get new ids: an id tells the place in one store's order of decisions. Delete markers come back as well.
/// 3. A run that was interrupted goes on: of each key as many versions as are there are taken as done.
/// 4. Every byte is checked against the SHA-256 that the mirror noted, before the version becomes visible.
package struct MirrorRestore: Sendable {
    static let pieceSize: UInt64 = 8 << 20

    private let backend: any MirrorBackend
    private let prefix: String
    private let target: any MirrorRestoreTarget

    package init(_ backend: any MirrorBackend, prefix: String, to target: any MirrorRestoreTarget) {
        self.backend = backend
        self.prefix = prefix
        self.target = target
    }

    /// - Parameters:
    ///   - bucket: nil: all of them.
    ///   - key: nil: all of the bucket's.
    package func run(bucket: BucketName? = nil, key: ObjectKey? = nil) async throws -> MirrorRestoreReport {
        var report = MirrorRestoreReport()
        let keepsVersions = try await backend.keepsVersions()
        var from = prefix
        if let bucket { from += "\(bucket)/" + (key?.description ?? "") }
        var keys = BackendKeys(backend, prefix: from, keepsVersions)
        var prepared: Set<BucketName> = []
        while let found = try await keys.next() {
            try Task.checkCancellation()
            guard let (name, object) = address(found.key), key == nil || key == object else {
                if key == nil { report.foreignCount += UInt64(found.entries.count) }
                continue
            }
            if prepared.insert(name).inserted { try await target.prepare(name) }
            try await restore(found, name, object, keepsVersions, &report)
        }
        return report
    }

    private func address(_ text: String) -> (BucketName, ObjectKey)? {
        let rest = text.dropFirst(prefix.count)
        guard text.hasPrefix(prefix), let slash = rest.firstIndex(of: "/"),
            let bucket = try? BucketName(String(rest[..<slash])),
            let key = try? ObjectKey(String(rest[rest.index(after: slash)...]))
        else { return nil }
        return (bucket, key)
    }

    private func restore(
        _ found: BackendKeys.Key,
        _ bucket: BucketName,
        _ key: ObjectKey,
        _ keepsVersions: Bool,
        _ report: inout MirrorRestoreReport
    ) async throws {
        report.keyCount += 1
        let present = try await target.versionCount(bucket, key)
        for (index, entry) in found.entries.reversed().enumerated() {
            try Task.checkCancellation()
            guard index >= present else {
                report.skippedCount += 1
                continue
            }
            if entry.isDeleteMarker {
                try await target.delete(bucket, key)
                report.markerCount += 1
                continue
            }
            let version = keepsVersions ? entry.versionID : nil
            guard let head = try await backend.head(found.key, version: version) else {
                throw MirrorFailure(.mismatch, "\(quoted(found.key)) was listed and isn't there.")
            }
            try await put(head, found.key, version, bucket, key)
            report.versionCount += 1
            report.bytes += head.size
        }
    }

    private func put(
        _ head: MirrorHead,
        _ source: String,
        _ version: String?,
        _ bucket: BucketName,
        _ key: ObjectKey
    ) async throws {
        var properties = head.properties
        let sha256 = properties.holdfastSHA256
        properties.userMetadata.removeAll { MirrorMetadata.isOwn($0.0) }
        properties.tags = try await backend.tags(source, version: version)
        let (backend, size) = (backend, head.size)
        try await target.put(bucket, key, properties, size: size, sha256: sha256) { offset in
            guard offset < size else { return nil }
            let range = try ByteRange(offset: offset, length: Self.pieceSize, of: size)
            let piece = try await backend.get(source, version: version, range)
            guard UInt64(piece.count) == range.length else {
                throw MirrorFailure(.mismatch, "It gave \(piece.count) of \(range.length) bytes.")
            }
            return piece
        }
    }
}
