package import Catalog
internal import ContentHashing
internal import Encryption
package import StoreModel
internal import Synchronization

/// Who knows whether mirrors have a version. The roof gives it.
package protocol MirrorWatch: Sendable {
    /// - Parameter isAwaited: a client waits for it now, and doesn't only look.
    func outlook(of version: VersionRow, in mirrors: [String], isAwaited: Bool) async throws -> MirrorOutlook
    /// The first of the mirrors that takes a key with these tags.
    func taker(of key: ObjectKey, tags: [NamedValue], in bucket: BucketName, among mirrors: [String])
        async throws -> String?
}

// A bucket may ask that a write is acknowledged only when mirrors have it.
//
// 1. The version is stored first, durable and visible; the wait changes nothing of it. Who is refused (`.notMirrored`) is
//    told so, and the version is mirrored all the same.
// 2. A wait has an end: the policy's time, or at once where waiting would not help: the mirror is paused or gone, its
//    backend does not work, or it has given the version up.
// 3. Who repeats a put or copy that was refused so makes no second version: where the newest version is the same in bytes
//    and in everything that is said of it, and some mirror that is waited for doesn't have it, it is the one that is waited
//    for. An upload in parts that was made anew is the same when its chunks are; where the store has encrypted both, which
//    makes the chunks differ, when its parts have the same MD5s and all bytes inside are the same. A put with conditions is
//    never answered so: its client wants to know whether it was the one that made the version.
// 4. What no mirror can have is refused before a byte of it is taken in (`.invalidArgument`): objects that are encrypted
//    with a client's key. Nobody would ever acknowledge them, however often they are sent.
extension ObjectStore {
    /// - Returns: nil when the bucket waits for no mirror.
    package func mirrorAcknowledgement(of bucket: BucketName) async throws -> MirrorAcknowledgement? {
        let body = try await bucketSetting(bucket: bucket, name: BucketSettingName.mirrorAcknowledgement)
        guard let body else { return nil }
        return try MirrorAcknowledgement(body: body)
    }

    /// The same, for a write that is about to begin.
    /// - Throws: `.invalidArgument` for one that a mirror would have to take and can't.
    package func mirrorAcknowledgement(
        of bucket: BucketName,
        for key: ObjectKey,
        tags: [NamedValue],
        _ encryption: EncryptionChoice
    ) async throws -> MirrorAcknowledgement? {
        let policy = try await mirrorAcknowledgement(of: bucket)
        guard let policy, case .clientKey = encryption else { return policy }
        try await refuseClientKey(policy, bucket, key, tags)
        return policy
    }

    func refuseClientKey(
        _ policy: MirrorAcknowledgement,
        _ bucket: BucketName,
        _ key: ObjectKey,
        _ tags: [NamedValue]
    ) async throws {
        guard
            let mirror = try await mirrorWatch?.taker(of: key, tags: tags, in: bucket, among: policy.mirrors)
        else { return }
        throw StoreError(
            .invalidArgument,
            "The bucket \(bucket) acknowledges a write when the mirror \(quoted(mirror)) has it, and a mirror can't "
                + "have objects that are encrypted with a client's key (SSE-C): the store can't read them. Nothing was "
                + "stored. Use SSE-S3, or a bucket or prefix that does not wait for a mirror."
        )
    }

    package func setMirrorAcknowledgement(
        _ policy: MirrorAcknowledgement?,
        of bucket: BucketName
    ) async throws {
        let name = BucketSettingName.mirrorAcknowledgement
        guard let policy else { return try await removeBucketSetting(bucket: bucket, name: name) }
        try await putBucketSetting(bucket: bucket, name: name, body: policy.body)
    }

    // MARK: Waiting

    private static let pauseMin = Duration.milliseconds(4)
    private static let pauseMax = Duration.milliseconds(50)
    /// What changes without a document, a breaker above all, is looked at so often.
    private static let lookNanoseconds: UInt64 = 250_000_000

    /// Waits until the mirrors have a version, at most as long as the policy says.
    /// - Throws: `.notMirrored`.
    package func waitForMirrors(_ policy: MirrorAcknowledgement, of version: VersionRow) async throws {
        let start = clock.monotonicNanoseconds()
        let limit = UInt64(policy.timeout / .nanoseconds(1))
        var seen: (UInt64, UInt64) = (.max, .max)
        var lookedAt: UInt64 = 0
        var mirror = policy.mirrors[0]
        var pause = Self.pauseMin
        while true {
            // The generations first: what changes after them is read again.
            let generations = (documentGeneration(of: .outbox), documentGeneration(of: .setting))
            let now = clock.monotonicNanoseconds()
            if seen != generations || now &- lookedAt >= Self.lookNanoseconds {
                (seen, lookedAt) = (generations, now)
                switch await outlookOrReason(of: version, policy, isAwaited: true) {
                case .there: return
                case .blocked(let name, let reason): throw Self.notMirrored(version, name, reason)
                case .waiting(let name): mirror = name
                }
            }
            guard clock.monotonicNanoseconds() &- start < limit else {
                throw Self.notMirrored(
                    version,
                    mirror,
                    "\(policy.timeout) were not enough; it gets the version as soon as it can"
                )
            }
            try await clock.sleep(for: pause)
            pause = min(pause * 2, Self.pauseMax)
        }
    }

    /// The version is stored: whatever keeps us from knowing more must not say that it isn't.
    private func outlookOrReason(
        of version: VersionRow,
        _ policy: MirrorAcknowledgement,
        isAwaited: Bool
    ) async -> MirrorOutlook {
        do {
            return try await outlook(of: version, policy, isAwaited: isAwaited)
        } catch {
            return .blocked(mirror: policy.mirrors[0], reason: "its state can't be read now: \(error)")
        }
    }

    private func outlook(
        of version: VersionRow,
        _ policy: MirrorAcknowledgement,
        isAwaited: Bool
    ) async throws -> MirrorOutlook {
        guard let watch = mirrorWatch else {
            return .blocked(mirror: policy.mirrors[0], reason: "no mirror is worked on here")
        }
        return try await watch.outlook(of: version, in: policy.mirrors, isAwaited: isAwaited)
    }

    private static func notMirrored(_ version: VersionRow, _ mirror: String, _ reason: String) -> StoreError {
        let name = version.isNull ? "null" : version.id.description
        return StoreError(
            .notMirrored,
            "\(StoreError.notMirroredBeginning) (version \(name)), but the mirror \(quoted(mirror)), which its "
                + "bucket waits for, does not have it yet: \(reason). Repeating the request waits for the same "
                + "version.",
            advice: "'holdfast mirror status' tells how the mirror is."
        )
    }

    // MARK: The same once more

    /// The newest version, where it is what the put would make, and some mirror doesn't have it.
    /// - Parameter sha256: of the body, as it came.
    func versionToWaitFor(_ request: PutRequest, _ command: PutCommand, sha256: Digest?) async throws
        -> VersionRow?
    {
        guard let policy = request.acknowledgement, command.conditions.isEmpty, let sha256,
            let newest = try await newestThatWaits(command.bucket, command.key, policy),
            newest.row.content.size == command.content.size,
            // The entity tag of an upload in parts is no answer to a put.
            newest.row.attributes.partList == nil,
            newest.row.isSaid(
                command.metadata,
                command.tags,
                command.attributes,
                isDefaultRetention: request.retentionIsDefault,
                newest.bucket
            ),
            newest.row.checksums.others == command.content.checksums.others,
            try await has(newest.row, sha256, request.encryption)
        else { return nil }
        return newest.row
    }

    /// The same of an upload that is put together: its parts are the newest version's.
    func versionToWaitFor(
        _ command: PutCommand,
        of upload: OperationID,
        _ policy: MirrorAcknowledgement?
    ) async throws -> VersionRow? {
        guard let policy, command.conditions.isEmpty,
            let newest = try await newestThatWaits(command.bucket, command.key, policy),
            newest.row.content.size == command.content.size, newest.row.etag == command.content.etag,
            newest.row.checksums.others == command.content.checksums.others,
            newest.row.isSaid(
                command.metadata,
                command.tags,
                command.attributes,
                isDefaultRetention: true,
                newest.bucket
            ),
            try await hasContent(newest.row, of: command, upload)
        else { return nil }
        return newest.row
    }

    /// Ends an upload that was answered with a version which another one had made; it stays until that is acknowledged,
    /// so that a client can ask once more.
    package func endRepeated(_ address: UploadAddress, answeredWith row: VersionRow) async {
        guard row.operation != address.id.operation else { return }
        // What fails is left to the next sweep.
        try? await abort(address)
    }

    // MARK: For clients that look first

    /// How long a bucket lets its writes wait for a version that some mirror doesn't have yet; zero where waiting would not
    /// help now.
    /// - Parameter isAwaited: the client waits for it, by asking again and again.
    /// - Returns: nil when there is nothing to wait for.
    package func mirrorWait(
        for row: VersionRow,
        in bucket: BucketName,
        isAwaited: Bool
    ) async throws -> Duration? {
        guard !row.isDeleteMarker, let policy = try await mirrorAcknowledgement(of: bucket) else {
            return nil
        }
        switch await outlookOrReason(of: row, policy, isAwaited: isAwaited) {
        case .there: return nil
        case .waiting: return policy.timeout
        case .blocked: return .zero
        }
    }

    /// The same of a copy that shares its source's bytes.
    package func versionToWaitFor(
        _ command: CopyCommand,
        source: VersionRow,
        isDefaultRetention: Bool,
        _ policy: MirrorAcknowledgement?
    ) async throws -> VersionRow? {
        guard let policy, command.conditions.isEmpty, command.sourceConditions.isEmpty,
            let newest = try await newestThatWaits(command.bucket, command.key, policy),
            newest.row.content == source.content,
            newest.row.attributes.hasContent(of: source.attributes),
            newest.row.isSaid(
                command.metadata ?? source.metadata,
                command.tags ?? source.tags,
                command.attributes,
                isDefaultRetention: isDefaultRetention,
                newest.bucket
            )
        else { return nil }
        return newest.row
    }

    private func newestThatWaits(
        _ name: BucketName,
        _ key: ObjectKey,
        _ policy: MirrorAcknowledgement
    ) async throws -> (row: VersionRow, bucket: BucketRow)? {
        let found = try await readCatalog { reader -> (VersionRow, BucketRow)? in
            let bucket = try reader.existingBucket(name)
            return try reader.version(bucket: bucket.id, key: key, selector: .newest).map { ($0, bucket) }
        }
        guard let (row, bucket) = found, !row.isDeleteMarker,
            try await outlook(of: row, policy, isAwaited: false) != .there
        else { return nil }
        return (row, bucket)
    }

    /// Whether a version's bytes have this digest: known, or read.
    private func has(_ row: VersionRow, _ sha256: Digest, _ choice: EncryptionChoice) async throws -> Bool {
        var clientKey: EncryptionKey?
        switch (choice, try row.encryption?.sort) {
        case (.none, nil): break
        case (.storeKey, .storeKey?): break
        case (.clientKey(let key), .clientKey?): clientKey = key
        default: return false
        }
        if let known = row.sha256 { return known == sha256 }
        // Another key, or bytes that can't be read: a version of its own.
        return try await readableSHA256(of: row, clientKey) == sha256
    }

    /// Whether a version has the content of an upload that is put together: the same chunks or, where the store has sealed
    /// both, the same parts with the same bytes inside. What is sealed with clients' keys is never compared.
    private func hasContent(
        _ row: VersionRow,
        of command: PutCommand,
        _ upload: OperationID
    ) async throws -> Bool {
        if row.manifest == command.content.manifest, row.attributes.hasContent(of: command.attributes) {
            return true
        }
        var (own, others) = (row.attributes, command.attributes)
        let sealed = try others.encryption.map { try ObjectEncryption(stored: $0) }
        guard try row.encryption?.sort == .storeKey, sealed?.sort == .storeKey else { return false }
        (own.encryption, others.encryption) = (nil, nil)
        guard own.hasContent(of: others) else { return false }
        // Both are read whole, which a client may ask for again and again: once is enough.
        if repeats.has(upload, row.operation) { return true }
        await comparisonTurns.acquire()
        defer { comparisonTurns.release() }
        try Task.checkCancellation()
        if repeats.has(upload, row.operation) { return true }
        // No version of it is there, and no mirror has it.
        let new = VersionRow(
            bucket: row.bucket,
            key: command.key,
            id: VersionID(sequence: 0, nonce: random.next()),
            isNull: false,
            kind: .object,
            createdAt: row.createdAt,
            content: command.content,
            attributes: command.attributes,
            operation: newOperation()
        )
        guard let digest = try await readableSHA256(of: new, nil),
            try await readableSHA256(of: row, nil) == digest
        else { return false }
        repeats.note(upload, row.operation)
        return true
    }

    /// - Returns: nil for bytes that can't be read, or not with this key.
    @inline(never)
    private func readableSHA256(of row: VersionRow, _ clientKey: EncryptionKey?) async throws -> Digest? {
        do {
            return try await readSHA256(of: row, clientKey: clientKey)
        } catch let error as StoreError where ![.overloaded, .deadlineExceeded].contains(error.code) {
            return nil
        }
    }
}

/// Which uploads were found to be a version once more, for clients that ask again until a mirror has it: the last ones.
final class KnownRepeats: Sendable {
    private struct Repeat: Hashable {
        let upload: OperationID
        let version: OperationID
    }

    private static let countMax = 256
    private let known = Mutex<[Repeat]>([])

    @inline(never)
    func has(_ upload: OperationID, _ version: OperationID) -> Bool {
        known.withLock { $0.contains(Repeat(upload: upload, version: version)) }
    }

    @inline(never)
    func note(_ upload: OperationID, _ version: OperationID) {
        known.withLock { known in
            known.append(Repeat(upload: upload, version: version))
            known.removeFirst(max(0, known.count - Self.countMax))
        }
    }
}

extension StoreError {
    /// What every message of the code `notMirrored` begins with: it goes where the code doesn't.
    package static let notMirroredBeginning = "The version is stored here"
}

extension VersionAttributes {
    /// Whether what belongs to the bytes is the same, but for what was found out about them since.
    fileprivate func hasContent(of other: VersionAttributes) -> Bool {
        var (own, others) = (ofContent, other.ofContent)
        (own.wholeSHA256, others.wholeSHA256) = (nil, nil)
        return own == others
    }
}

extension ObjectRetention {
    /// Whether it ends no earlier than the other one, but for the time that passes between two tries of a request.
    fileprivate func isAsLong(as other: ObjectRetention) -> Bool {
        let (latest, isTooFar) = until.milliseconds.addingReportingOverflow(600_000)
        return isTooFar || latest >= other.until.milliseconds
    }
}

extension VersionRow {
    /// Whether this is what is said of the version, apart from what belongs to its bytes.
    /// - Parameter isDefaultRetention: the bucket decides until when it is locked: it did so for this one, earlier.
    fileprivate func isSaid(
        _ metadata: ObjectMetadata,
        _ tags: [NamedValue],
        _ attributes: VersionAttributes,
        isDefaultRetention: Bool,
        _ bucket: BucketRow
    ) -> Bool {
        guard self.metadata == metadata, self.tags == tags else { return false }
        var (own, wanted) = (self.attributes, attributes)
        if wanted.owner == bucket.owner { wanted.owner = nil }
        for tag in VersionAttributes.Tag.ofContent { (own[tag], wanted[tag]) = (nil, nil) }
        if isDefaultRetention, let first = own.retention, let second = wanted.retention,
            first.mode == second.mode, first.isAsLong(as: second)
        {
            (own.retention, wanted.retention) = (nil, nil)
        }
        return own == wanted
    }
}
