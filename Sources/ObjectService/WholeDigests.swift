package import Catalog
internal import ContentHashing
internal import Encryption
package import Replication
package import StoreModel
internal import Synchronization

// An object whose SHA-256 is to be found, as a document of the space job. Key: "digest/" and the operation that made the
// version (16 bytes). Body, little-endian: format version (1, 1 byte) · bucket (8) · key (counted) · failed attempts (4) ·
// not before (8; 0: at once) · why the last attempt failed (text)

/// A version that came in parts and whose SHA-256 is to be found: written with it, in one decision, or when a look at all
/// versions met it (`WholeDigests+Look.swift`).
struct DigestTask: Hashable, Sendable {
    let operation: OperationID
    let bucket: BucketID
    let key: ObjectKey
    var attemptCount: UInt32 = 0
    var notBefore: Timestamp?
    var problem = ""

    static let prefix = [UInt8]("digest/".utf8)
    private static let version: UInt8 = 1

    init(operation: OperationID, bucket: BucketID, key: ObjectKey) {
        self.operation = operation
        self.bucket = bucket
        self.key = key
    }

    static func key(of operation: OperationID) -> [UInt8] { prefix + operation.bytes }

    var body: [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.version)
        writer.write(bucket.rawValue)
        writer.write(counted: key.bytes)
        writer.write(attemptCount)
        writer.write(notBefore?.milliseconds ?? 0)
        writer.write(text: String(problem.prefix(512)))
        return writer.bytes
    }

    var write: DocumentWrite { DocumentWrite(space: .job, key: Self.key(of: operation), body: body) }

    static func removal(_ operation: OperationID) -> DocumentWrite {
        DocumentWrite(space: .job, key: key(of: operation), body: nil)
    }

    init(_ document: DocumentRow) throws {
        do {
            var key = ByteReader(document.key[...].dropFirst(Self.prefix.count))
            operation = try key.readUniqueID()
            try key.finish()
            var reader = ByteReader(document.body)
            guard try reader.read(UInt8.self) == Self.version else {
                throw ByteReader.Failure("an unknown version")
            }
            bucket = BucketID(rawValue: try reader.read(UInt64.self))
            self.key = try ObjectKey(bytes: Array(try reader.readCounted()))
            attemptCount = try reader.read(UInt32.self)
            notBefore = try reader.readTime()
            problem = try reader.readText()
            try reader.finish()
        } catch {
            throw StoreError(.storeDamaged, "An object whose SHA-256 is to be found can't be read: \(error).")
        }
    }
}

extension ObjectStore {
    /// The SHA-256 of a version that came in parts, read from its bytes and noted with it. The version stays the same.
    /// - Returns: nil when there is nothing to find: it is known, or the object is encrypted (what its plaintext hashes to is
    ///   not kept where it can be read without the key).
    @discardableResult
    func findSHA256(of row: VersionRow, in bucket: BucketName) async throws -> Digest? {
        guard row.mayFindSHA256 else { return nil }
        let digest = try await searchSHA256(of: row)
        try await note(digest, of: row, in: bucket)
        return digest
    }

    /// What the bytes of a version hash to, for no client: what makes room for clients does not take it for one. Whoever
    /// wants to know it of the same bytes meanwhile shares the reading.
    /// - Parameters:
    ///   - isHurried: asked again and again whether the reading must not wait for clients.
    ///   - spend: called with what was read, and whether it may wait for clients; paces the reading. What it throws ends it.
    func searchSHA256(
        of row: VersionRow,
        isHurried: @escaping @Sendable () -> Bool = { false },
        spend: (_ byteCount: UInt64, _ mayWait: Bool) async throws -> Void = { _, _ in }
    ) async throws -> Digest {
        try await ClientLoad.inBackground {
            // What is sealed says nothing of what is in it: nobody shares that.
            guard row.attributes.encryption == nil else {
                return try await readSHA256(of: row) { try await spend($0, !isHurried()) }
            }
            let payload = PayloadReference(manifest: row.manifest, size: row.size)
            return try await digestSearches.digest(of: payload, isHurried: isHurried) { mayWait in
                try await readSHA256(of: row) { try await spend($0, mayWait()) }
            }
        }
    }

    /// The SHA-256 of a version's content, for a mirror: as it is known, or read for it.
    /// - Parameters:
    ///   - isHurried: asked again and again whether the reading must not wait for clients.
    ///   - spend: called with what was read, and whether it may wait for clients; paces the reading. What it throws ends it.
    /// - Throws: `StoreError`; `CancellationError`; what `spend` throws.
    package func sha256(
        of row: VersionRow,
        isHurried: @escaping @Sendable () -> Bool,
        spend: @Sendable (_ byteCount: UInt64, _ mayWait: Bool) async throws -> Void
    ) async throws -> Digest {
        if let known = row.sha256 { return known }
        return try await searchSHA256(of: row, isHurried: isHurried, spend: spend)
    }

    /// What the bytes of a version hash to, read whole.
    /// - Parameter spend: called with what was read; paces the reading.
    func readSHA256(
        of row: VersionRow,
        clientKey: EncryptionKey? = nil,
        spend: (UInt64) async throws -> Void = { _ in }
    ) async throws -> Digest {
        var hasher = SHA256Hasher()
        var count: UInt64 = 0
        let reader = try read(row, clientKey: clientKey)
        while let piece = try await reader.next() {
            try Task.checkCancellation()
            piece.withUnsafeBytes { hasher.update($0) }
            count += UInt64(piece.count)
            try await spend(UInt64(piece.count))
        }
        guard count == row.size else {
            throw StoreError(.dataUnavailable, "Version \(row.id) gave \(count) of \(row.size) bytes.")
        }
        return hasher.finish()
    }

    /// Notes what the bytes of a version hash to; its task is done with.
    func note(_ digest: Digest, of row: VersionRow, in bucket: BucketName) async throws {
        _ = try await setAttributes(
            of: VersionAddress(bucket: bucket, key: row.key, selector: .id(row.id)),
            [AttributeChange(.wholeSHA256, digest.bytes)]
        )
        try await write(documents: [DigestTask.removal(row.operation)])
    }

    /// Versions whose SHA-256 is still to be found: counted anew when a job has changed since.
    package func digestTaskCount() async throws -> UInt64 {
        try await cached(digestTasks) { reader in
            var count: UInt64 = 0
            try reader.forEachDocument(.job, prefix: DigestTask.prefix) { _ in
                count += 1
                return true
            }
            return count
        }
    }
}

extension VersionRow {
    /// It came in parts, unencrypted, and its SHA-256 is not known.
    var mayFindSHA256: Bool { kind == .object && sha256 == nil && attributes.encryption == nil }
}

/// Finds the SHA-256 of objects that came in parts, in the background of a server, one at a time.
///
/// 1. What is to be done is a document that was committed with the version: it survives a restart, and goes when the digest
///    is noted, or the version is gone.
/// 2. An object that can't be read now is tried again later, less and less often; the others don't wait for it.
/// 3. Every version is looked at once, in the order in which they were made: those without a digest and without a document
///    get one, as long as fewer than `queuedMax` wait (`WholeDigests+Look.swift`); what is to be found comes in turns with
///    that.
/// 4. What has the same manifest as one of the last that were found has the same bytes: it is not read again. What a mirror
///    reads for its digest meanwhile is read once for both (`DigestSearches`).
package final class WholeDigests: Sendable {
    package struct Counts: Sendable {
        /// Since the process began.
        package var foundCount: UInt64 = 0
        package var byteCount: UInt64 = 0
        package var failureCount: UInt64 = 0
    }

    private static let pause: Duration = .milliseconds(500)
    private static let retryMax: Int64 = 6 * 3600 * 1000

    private static let queuedMax = 1024

    private struct State {
        var counts = Counts()
        var look: DigestLook?
    }

    let objects: ObjectStore
    let budget: WorkBudget
    private let state = Mutex(State())
    private let report: @Sendable (String) -> Void

    /// - Parameter report: told why an object could not be read.
    package init(
        _ objects: ObjectStore,
        load: ClientLoad,
        report: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.objects = objects
        self.report = report
        budget = WorkBudget(
            WorkBudget.Rates(
                bytesPerSecond: 64_000_000,
                operationsPerSecond: 1000,
                isUnlimitedWhenIdle: true
            ),
            load: load,
            clock: objects.clock
        )
    }

    package var counts: Counts { state.withLock { $0.counts } }

    package func run() async {
        var failureCount = 0
        var room = Room()
        while !Task.isCancelled {
            do {
                // By turns: neither a new object nor an old one waits until all of the others are done with.
                let didFind = try await findNext()
                let didLook = try await lookFurther(within: &room, hasNothingElse: !didFind)
                failureCount = 0
                if didFind || didLook { continue }
            } catch {
                guard !Task.isCancelled else { return }
                failureCount += 1
                if failureCount == 1 { report("It goes on later: \(error)") }
            }
            do { try await objects.clock.sleep(for: Self.pause * (1 << min(failureCount, 8))) } catch {
                return
            }
        }
    }

    /// How many tasks wait, as far as is known, and how often they were not counted.
    private struct Room {
        var waitingCount = WholeDigests.queuedMax
        var sinceCount = 0
    }

    /// - Returns: whether there was something to look at.
    private func lookFurther(within room: inout Room, hasNothingElse: Bool) async throws -> Bool {
        // Counted seldom: a count reads all that wait.
        if room.waitingCount >= Self.queuedMax {
            room.sinceCount += 1
            guard hasNothingElse || room.sinceCount >= Self.queuedMax / 4 else { return false }
            room.waitingCount = try await countWaiting()
            room.sinceCount = 0
        }
        guard room.waitingCount < Self.queuedMax, let count = try await lookFurther() else { return false }
        room.waitingCount += count
        return true
    }

    @inline(never)
    private func countWaiting() async throws -> Int {
        try await objects.documents(.job, prefix: DigestTask.prefix, limit: Self.queuedMax).count
    }

    /// nil: not read yet.
    var look: DigestLook? {
        @inline(never) get { state.withLock { $0.look } }
        @inline(never) set { state.withLock { $0.look = newValue } }
    }

    /// Takes up the first whose time has come.
    /// - Returns: false when there is none.
    func findNext() async throws -> Bool {
        let now = objects.clock.now()
        var last: [UInt8]?
        while true {
            let page = try await objects.documents(.job, prefix: DigestTask.prefix, after: last, limit: 256)
            for document in page {
                guard let task = try? DigestTask(document) else {
                    // `verify` finds what this one was about.
                    try await objects.write(
                        documents: [DocumentWrite(space: .job, key: document.key, body: nil)]
                    )
                    continue
                }
                if let time = task.notBefore, time > now { continue }
                try await carryOut(task)
                return true
            }
            guard let end = page.last else { return false }
            last = end.key
        }
    }

    private func carryOut(_ task: DigestTask) async throws {
        let found = try await objects.readCatalog { reader -> (VersionRow, BucketName)? in
            guard let bucket = try reader.bucket(id: task.bucket) else { return nil }
            var before: VersionID?
            while true {
                let page = try reader.log(bucket: bucket.id, key: task.key, before: before, limit: 256)
                if let row = page.first(where: { $0.operation == task.operation }) {
                    return (row, bucket.name)
                }
                guard let last = page.last else { return nil }
                before = last.id
            }
        }
        guard let (row, bucket) = found, row.mayFindSHA256 else {
            return try await objects.write(documents: [DigestTask.removal(task.operation)])
        }
        do {
            try await find(row, bucket)
        } catch let error as StoreError where Self.isGone(error) {
            try await objects.write(documents: [DigestTask.removal(task.operation)])
        } catch let error as StoreError where error.code != .cancelled {
            try Task.checkCancellation()
            noteFailure()
            report("\(bucket)/\(task.key) version \(row.id): \(error)")
            try await postpone(task, error)
        }
    }

    /// Reads a version, or hands it what was found of another one with the same bytes.
    private func find(_ row: VersionRow, _ bucket: BucketName) async throws {
        let spend: (UInt64, Bool) async throws -> Void = { [self] count, mayWait in
            noteRead(count)
            if mayWait { try await budget.spend(bytes: count, operations: 1) }
        }
        let digest = try await objects.searchSHA256(of: row, spend: spend)
        try await objects.note(digest, of: row, in: bucket)
        noteFound()
    }

    // Not inlined: a lock on either side of an await in one function is more than the compiler bears.

    @inline(never)
    private func noteRead(_ byteCount: UInt64) {
        state.withLock { $0.counts.byteCount += byteCount }
    }

    @inline(never)
    private func noteFailure() {
        state.withLock { $0.counts.failureCount += 1 }
    }

    @inline(never)
    private func noteFound() {
        state.withLock { $0.counts.foundCount += 1 }
    }

    private static func isGone(_ error: StoreError) -> Bool {
        [.noSuchVersion, .noSuchKey, .noSuchBucket].contains(error.code)
    }

    private func postpone(_ task: DigestTask, _ error: StoreError) async throws {
        var later = task
        later.attemptCount = min(task.attemptCount + 1, 32)
        later.problem = error.message
        let delay = min(Self.retryMax, 15_000 << Int64(min(later.attemptCount, 12)))
        later.notBefore = Timestamp(milliseconds: objects.clock.now().milliseconds + delay)
        try await objects.write(documents: [later.write])
    }
}
