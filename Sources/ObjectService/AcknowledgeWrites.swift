package import Catalog
internal import ContentHashing
internal import Encryption
package import StoreModel

/// Who knows whether mirrors have a version. The roof gives it.
package protocol MirrorWatch: Sendable {
    func outlook(of version: VersionRow, in mirrors: [String]) async throws -> MirrorOutlook
}

// A bucket may ask that a write is acknowledged only when mirrors have it.
//
// 1. The version is stored first, durable and visible; the wait changes nothing of it. Who is refused (`.notMirrored`) is
//    told so, and the version is mirrored all the same.
// 2. A wait has an end: the policy's time, or at once where waiting would not help: the mirror is paused or gone, its
//    backend does not work, or it has given the version up.
// 3. Who repeats a put or copy that was refused so makes no second version: where the newest version is the same in bytes
//    and in everything that is said of it, and some mirror that is waited for doesn't have it, it is the one that is waited
//    for. A put with conditions is never answered so: its client wants to know whether it was the one that made the version.
extension ObjectStore {
    /// - Returns: nil when the bucket waits for no mirror.
    package func mirrorAcknowledgement(of bucket: BucketName) async throws -> MirrorAcknowledgement? {
        let body = try await bucketSetting(bucket: bucket, name: BucketSettingName.mirrorAcknowledgement)
        guard let body else { return nil }
        return try MirrorAcknowledgement(body: body)
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
                switch await outlookOrReason(of: version, policy) {
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
    private func outlookOrReason(of version: VersionRow, _ policy: MirrorAcknowledgement) async
        -> MirrorOutlook
    {
        do {
            return try await outlook(of: version, policy)
        } catch {
            return .blocked(mirror: policy.mirrors[0], reason: "its state can't be read now: \(error)")
        }
    }

    private func outlook(of version: VersionRow, _ policy: MirrorAcknowledgement) async throws
        -> MirrorOutlook
    {
        guard let watch = mirrorWatch else {
            return .blocked(mirror: policy.mirrors[0], reason: "no mirror is worked on here")
        }
        return try await watch.outlook(of: version, in: policy.mirrors)
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
            newest.row.attributes.ofContent == source.attributes.ofContent,
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
            try await outlook(of: row, policy) != .there
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
        if let known = row.checksums.sha256 { return known == sha256 }
        do {
            let reader = try read(row, clientKey: clientKey)
            var hasher = SHA256Hasher()
            while let piece = try await reader.next() { piece.withUnsafeBytes { hasher.update($0) } }
            return hasher.finish() == sha256
        } catch is StoreError {
            // Another key, or bytes that can't be read: a version of its own.
            return false
        }
    }
}

extension StoreError {
    /// What every message of the code `notMirrored` begins with: it goes where the code doesn't.
    package static let notMirroredBeginning = "The version is stored here"
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
