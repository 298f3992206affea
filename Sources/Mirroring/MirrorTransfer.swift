internal import Catalog
internal import ContentHashing
internal import StoreModel
internal import Synchronization

/// Why a task can't be done, whatever is tried.
package struct MirrorRefusal: Error, Hashable, Sendable {
    package let message: String
}

/// What a task came to.
struct MirrorOutcome: Sendable {
    /// To be written together with the end of the task.
    var writes: [DocumentWrite] = []
    /// Sent to the backend.
    var bytes: UInt64 = 0
}

/// Whether a backend was seen to keep what it is told of an object. An ETag says that it has the bytes; by their metadata
/// mirrors, audits and a store that is made again from its mirror know whose they are.
final class MetadataProof: Sendable {
    private let isGiven = Atomic(false)

    var isMissing: Bool { !isGiven.load(ordering: .relaxed) }

    func give() { isGiven.store(true, ordering: .relaxed) }
}

/// Carries out one task of a mirror.
///
/// 1. A task can be carried out any number of times, by any number of workers one after the other; the backend has the
///    version once. Whoever can't rule out an earlier attempt (`isDoubtful`) looks before sending.
/// 2. Nothing counts as sent before the backend's answer was compared with what was sent; of the first objects that a worker
///    sends, also what the backend has kept (`MetadataProof`).
/// 3. Where the backend keeps versions, its history becomes that of the store: versions in order, delete markers,
///    removals by id. What would come behind a newer version is refused. Where it doesn't, it has the newest version, or
///    nothing.
struct MirrorTransfer: Sendable {
    static let partsInFlightMax = 4
    private static let newerPageSize = 128

    let store: any MirrorStore
    let backend: any MirrorBackend
    let proof: MetadataProof
    let id: MirrorID
    let settings: MirrorSettings
    let route: MirrorRoute
    let keepsVersions: Bool
    let memory: MemoryGate
    /// How many may look for the digest of their object at a time.
    let searches: MemoryGate
    let pace: MirrorPace

    func perform(_ task: MirrorTask, isDoubtful: Bool) async throws -> MirrorOutcome {
        if isDoubtful, try await store.document(.outbox, MirrorKey.pending(id, task.sequence)) == nil {
            // Its end was written although nobody heard of it.
            return MirrorOutcome()
        }
        let key = settings.key(task.bucketName, task.key)
        guard key.utf8.count <= ObjectKey.byteCountMax else {
            throw MirrorRefusal(
                message:
                    "The key is too long for the backend: \(key.utf8.count) bytes with bucket and prefix."
            )
        }
        return keepsVersions
            ? try await addToHistory(task, key, isDoubtful) : try await bringUpToDate(task, key, isDoubtful)
    }

    // MARK: A backend that keeps versions

    private func addToHistory(_ task: MirrorTask, _ key: String, _ isDoubtful: Bool) async throws
        -> MirrorOutcome
    {
        var outcome: MirrorOutcome
        switch task.change {
        case .made: outcome = try await add(task, key, isDoubtful)
        case .changed: outcome = try await change(task, key, isDoubtful)
        case .removed: outcome = try await remove(task.version, key)
        }
        if let replaced = task.replaced { outcome.writes += try await remove(replaced, key).writes }
        return outcome
    }

    private func add(_ task: MirrorTask, _ key: String, _ isDoubtful: Bool) async throws -> MirrorOutcome {
        guard let row = try await version(task.version, of: task) else {
            return try await forget(task, key, isDoubtful)
        }
        let isNoted = try await store.document(.outbox, MirrorKey.mirrored(id, row.id)) != nil
        guard route.matches(bucket: task.bucketName, row: row), !isNoted else { return MirrorOutcome() }
        if isDoubtful, try await isOvertaken(row, task) {
            throw MirrorRefusal(
                message:
                    "A newer version of the key is in the mirror already: sent now, this one would become "
                    + "the newest there."
            )
        }
        if row.isDeleteMarker { return try await addMarker(row, task, key, isDoubtful) }
        if isDoubtful, let landed = try await landed(row, key) {
            return MirrorOutcome(writes: [note(row.id, landed.versionID)])
        }
        let receipt = try await upload(row, task, key)
        return MirrorOutcome(writes: [note(row.id, receipt.versionID)], bytes: row.size)
    }

    private func addMarker(_ row: VersionRow, _ task: MirrorTask, _ key: String, _ isDoubtful: Bool)
        async throws
        -> MirrorOutcome
    {
        if isDoubtful || route.asksForTags {
            try await pace.request()
            let page = try await backend.listVersions(prefix: key, after: nil, limit: 2)
            let latest = page.entries.first { $0.key == key && $0.isLatest }
            // Of what was never mirrored no delete is.
            guard let latest else {
                return route.asksForTags ? MirrorOutcome() : try await sendMarker(row, key)
            }
            if isDoubtful, latest.isDeleteMarker, try await latest.versionID != previousID(row, task),
                try await !isGoing(latest.versionID, task)
            {
                return MirrorOutcome(writes: [note(row.id, latest.versionID)])
            }
        }
        return try await sendMarker(row, key)
    }

    private func sendMarker(_ row: VersionRow, _ key: String) async throws -> MirrorOutcome {
        try await pace.request()
        let versionID = try await backend.delete(key, version: nil)
        return MirrorOutcome(writes: [note(row.id, versionID)])
    }

    /// The backend's id of the version that stands before this one.
    private func previousID(_ row: VersionRow, _ task: MirrorTask) async throws -> String? {
        let before = try await store.read { reader in
            try reader.log(bucket: task.bucket, key: task.key, before: row.id, limit: 1).first
        }
        guard let before else { return nil }
        return try await noted(before.id)
    }

    /// Whether a delete marker of the backend is that of a version which the store has removed since, so that a later task
    /// takes it away: it isn't the one that is looked for.
    private func isGoing(_ versionID: String?, _ task: MirrorTask) async throws -> Bool {
        guard let versionID else { return false }
        let (id, prefix, limit) = (id, MirrorKey.under(MirrorKey.pendingPrefix, id), 1000)
        return try await store.read { reader in
            var from = task.sequence &+ 1
            while true {
                let start = prefix + MirrorKey.bytes(from)
                let page = try reader.documents(.outbox, prefix: prefix, from: start, limit: limit)
                for document in page {
                    let later = try MirrorTask(document)
                    from = later.sequence &+ 1
                    guard later.bucket == task.bucket, later.key == task.key else { continue }
                    for gone in [later.change == .removed ? later.version : nil, later.replaced].compactMap({
                        $0
                    }) {
                        let noted = try reader.document(.outbox, MirrorKey.mirrored(id, gone))
                        if noted?.body == Array(versionID.utf8) { return true }
                    }
                }
                guard page.count == limit else { return false }
            }
        }
    }

    /// The version was removed from the store before it was mirrored: nothing may be left of an attempt.
    private func forget(_ task: MirrorTask, _ key: String, _ isDoubtful: Bool) async throws -> MirrorOutcome {
        var outcome = MirrorOutcome(writes: try await abandonUpload(task, key))
        guard isDoubtful else { return outcome }
        try await pace.request()
        if let head = try await backend.head(key, version: nil),
            head.properties.holdfastVersion == task.version,
            let versionID = head.versionID
        {
            _ = try await backend.delete(key, version: versionID)
        }
        outcome.writes += try await remove(task.version, key).writes
        return outcome
    }

    private func change(_ task: MirrorTask, _ key: String, _ isDoubtful: Bool) async throws -> MirrorOutcome {
        guard let row = try await version(task.version, of: task), !row.isDeleteMarker else {
            return MirrorOutcome()
        }
        if let versionID = try await noted(row.id) {
            try await pace.request()
            try await backend.setTags(key, version: versionID, row.tags.map { ($0.name, $0.value) })
            return MirrorOutcome()
        }
        // A tag has made it one that is mirrored; in the middle of the history there is no place for it.
        guard route.matches(bucket: task.bucketName, row: row), try await newest(of: task)?.id == row.id
        else {
            return MirrorOutcome()
        }
        if isDoubtful, let landed = try await landed(row, key) {
            return MirrorOutcome(writes: [note(row.id, landed.versionID)])
        }
        let receipt = try await upload(row, task, key)
        return MirrorOutcome(writes: [note(row.id, receipt.versionID)], bytes: row.size)
    }

    private func remove(_ version: VersionID, _ key: String) async throws -> MirrorOutcome {
        guard let versionID = try await noted(version) else { return MirrorOutcome() }
        try await pace.request()
        _ = try await backend.delete(key, version: versionID)
        let write = DocumentWrite(space: .outbox, key: MirrorKey.mirrored(id, version), body: nil)
        return MirrorOutcome(writes: [write])
    }

    // MARK: A backend that keeps the newest only

    private func bringUpToDate(_ task: MirrorTask, _ key: String, _ isDoubtful: Bool) async throws
        -> MirrorOutcome
    {
        guard let newest = try await newest(of: task), !newest.isDeleteMarker else {
            try await pace.request()
            _ = try await backend.delete(key, version: nil)
            return MirrorOutcome(writes: try await abandonUpload(task, key))
        }
        // A later task is about the newest one.
        if task.change == .made, newest.id != task.version {
            return MirrorOutcome(writes: try await abandonUpload(task, key))
        }
        guard route.matches(bucket: task.bucketName, row: newest) else { return MirrorOutcome() }
        if isDoubtful || task.change != .made, try await landed(newest, key) != nil {
            if task.change == .changed {
                try await pace.request()
                try await backend.setTags(key, version: nil, newest.tags.map { ($0.name, $0.value) })
            }
            return MirrorOutcome()
        }
        _ = try await upload(newest, task, key)
        return MirrorOutcome(bytes: newest.size)
    }

    // MARK: Looking

    /// Whether the backend has a newer version of the key. Of tasks in their order it never has; one that was queued again
    /// behind a version on its way comes too late.
    private func isOvertaken(_ row: VersionRow, _ task: MirrorTask) async throws -> Bool {
        let (id, limit) = (id, Self.newerPageSize)
        return try await store.read { reader in
            var before: VersionID?
            while true {
                let page = try reader.log(bucket: task.bucket, key: task.key, before: before, limit: limit)
                for newer in page {
                    guard newer.id > row.id else { return false }
                    if try reader.document(.outbox, MirrorKey.mirrored(id, newer.id)) != nil { return true }
                }
                guard page.count == limit, let last = page.last else { return false }
                before = last.id
            }
        }
    }

    /// The object that an earlier attempt has left, if it is whole. One that isn't is removed where it would stay.
    private func landed(_ row: VersionRow, _ key: String) async throws -> MirrorHead? {
        try await pace.request()
        guard let head = try await backend.head(key, version: nil), head.properties.holdfastVersion == row.id
        else { return nil }
        if head.size == row.size, try await isRight(head.etag, row) { return head }
        if keepsVersions, let versionID = head.versionID {
            _ = try await backend.delete(key, version: versionID)
        }
        return nil
    }

    private func isRight(_ etag: String, _ row: VersionRow) async throws -> Bool {
        guard settings.etagIsMD5, Self.isMD5(etag), row.size <= UInt64(settings.partSize) else { return true }
        if let md5 = row.checksums.md5 { return etag == md5.hex }
        return try await memory.with(Int(row.size)) {
            let bytes = try await store.bytes(of: row, ByteRange(wholeOf: row.size))
            return etag == bytes.withUnsafeBytes { MD5Hasher.hash($0) }.hex
        }
    }

    static func isMD5(_ etag: String) -> Bool {
        etag.utf8.count == 32 && etag.allSatisfy { $0.isHexDigit }
    }

    private func version(_ version: VersionID, of task: MirrorTask) async throws -> VersionRow? {
        try await store.read { reader in
            try reader.version(bucket: task.bucket, key: task.key, selector: .id(version))
        }
    }

    private func newest(of task: MirrorTask) async throws -> VersionRow? {
        try await store.read { reader in
            try reader.version(bucket: task.bucket, key: task.key, selector: .newest)
        }
    }

    private func noted(_ version: VersionID) async throws -> String? {
        let row = try await store.document(.outbox, MirrorKey.mirrored(id, version))
        return row.map { String(decoding: $0.body, as: UTF8.self) }.flatMap { $0.isEmpty ? nil : $0 }
    }

    private func note(_ version: VersionID, _ versionID: String?) -> DocumentWrite {
        DocumentWrite(
            space: .outbox,
            key: MirrorKey.mirrored(id, version),
            body: Array((versionID ?? "").utf8)
        )
    }

    private func abandonUpload(_ task: MirrorTask, _ key: String) async throws -> [DocumentWrite] {
        guard let upload = try await MirrorUpload.load(id, task.sequence, from: store) else { return [] }
        try await pace.request()
        try await backend.abort(key, upload: upload.uploadID)
        return [upload.removal(id, task.sequence)]
    }
}
