internal import AdminGateway
internal import Catalog
internal import Mirroring
internal import ObjectService
internal import Replication
internal import StoreModel

/// An open store as the commands see it: the facade's calls, with names for buckets and reports for rows.
///
/// What the commands print is made here and nowhere else, so the fields of `--json` don't follow the store's
/// own types.
final class StoreSession: ObjectSession {
    private let assembly: StoreAssembly
    private var objects: ObjectStore { assembly.objects }

    private init(_ assembly: StoreAssembly) { self.assembly = assembly }

    static func open(_ location: StoreLocation) async throws -> StoreSession {
        StoreSession(try await StoreAssembly.open(location))
    }

    var mirrors: MirrorService { assembly.mirrors }

    func restore(
        from settings: MirrorSettings,
        _ credentials: MirrorCredentials,
        bucket: BucketName?,
        key: ObjectKey?
    ) async throws -> MirrorRestoreReport {
        try await assembly.restore(from: settings, credentials, bucket: bucket, key: key)
    }

    /// What an administrator can ask of the store.
    var administration: any Administration { assembly.administration }

    /// Waits for repairs that reads have asked for, within bounds, and lets the store go.
    func close() async throws { try await assembly.close() }

    /// What the run met of damaged and missing copies and what became of them, a line for each volume and kind.
    func damageMet() -> [String] {
        let status = assembly.replication
        var counts: [String: (found: UInt64, repaired: UInt64)] = [:]
        for finding in status.findings {
            let label = status.volumes.first { $0.id == finding.volume }?.label ?? finding.volume.description
            let name = "\(HumanFormat.visible(label)): \(finding.kind.adjective)"
            counts[name, default: (0, 0)].found += 1
            if finding.outcome.isRepaired { counts[name, default: (0, 0)].repaired += 1 }
        }
        return counts.sorted { $0.key < $1.key }.map { name, count in
            let copies =
                "\(name) \(count.found == 1 ? "copy" : "copies") of \(HumanFormat.count(count.found, "chunk"))"
            if count.repaired == count.found { return copies + ", repaired from a good one" }
            return copies + ", \(count.repaired) repaired; 'holdfast verify' tells more"
        }
    }

    var verifiesBytes: Bool { true }

    // MARK: Buckets

    func buckets() async throws -> [BucketReport] { try await objects.buckets().map(BucketReport.init) }

    func requireBucket(_ name: BucketName) async throws { _ = try await objects.bucket(name) }

    func createBucket(_ name: BucketName, versioning: BucketVersioning) async throws -> BucketReport {
        BucketReport(try await objects.createBucket(name, versioning: versioning.state))
    }

    func deleteBucket(_ name: BucketName) async throws { try await objects.deleteBucket(name) }

    func setVersioning(_ name: BucketName, to versioning: BucketVersioning) async throws -> BucketReport {
        BucketReport(try await objects.setVersioning(of: name, to: versioning.state))
    }

    // MARK: Objects

    func put(_ request: UploadRequest, from source: any ByteSource) async throws -> VersionReport {
        var conditions = Conditions.none
        conditions.ifMatch = request.ifMatch.map { .oneOf([$0]) }
        conditions.ifNoneMatch = request.onlyIfAbsent ? .any : nil
        var put = PutRequest(
            bucket: request.bucket,
            key: request.key,
            metadata: ObjectMetadata(
                contentType: request.contentType,
                userMetadata: request.userMetadata.map { NamedValue($0.name, $0.value) }
            ),
            tags: request.tags.map { NamedValue($0.name, $0.value) },
            conditions: conditions,
            expectation: BodyExpectation(size: request.expectedSize, sha256: request.expectedSHA256)
        )
        put.acknowledgement = try await objects.mirrorAcknowledgement(of: request.bucket)
        let row = try await objects.put(put, body: source)
        try await assembly.acknowledge(row, put.acknowledgement)
        return VersionReport(row, in: request.bucket, isLatest: true)
    }

    func waitForMirrors(_ version: VersionReport) async throws {
        guard let policy = try await objects.mirrorAcknowledgement(of: version.bucket) else { return }
        try await assembly.acknowledge(try await objects.head(version.exactAddress), policy)
    }

    func head(bucket: BucketName, key: ObjectKey, _ choice: VersionChoice) async throws -> VersionReport {
        let address = VersionAddress(bucket: bucket, key: key, selector: choice.selector)
        return VersionReport(try await objects.head(address), in: bucket)
    }

    func download(
        _ version: VersionReport,
        from offset: UInt64,
        _ take: ([UInt8]) async throws -> Void
    ) async throws {
        let reader = try await objects.get(
            version.exactAddress,
            range: offset == 0 ? .whole : .from(offset, length: nil)
        )
        while let piece = try await reader.next() { try await take(piece) }
    }

    /// Digest and length of a version's chunks, in order, as far as they lie in its first `byteCount` bytes:
    /// what an interrupted download is checked against.
    func chunks(
        of version: VersionReport,
        upTo byteCount: UInt64
    ) async throws -> [(digest: Digest, length: UInt64)]? {
        let countMax = Int(clamping: byteCount / UInt64(Limits.chunkSizeMin) + 1)
        let statistics = try await objects.stat(version.exactAddress, chunkLimit: countMax)
        return statistics.chunks.map { ($0.digest, UInt64($0.length)) }
    }

    func list(
        bucket: BucketName,
        prefix: String,
        isRecursive: Bool,
        continuation: ListingContinuation?
    ) async throws -> ListingPage {
        let page = try await objects.list(
            ListRequest(
                bucket: bucket,
                prefix: [UInt8](prefix.utf8),
                delimiter: isRecursive ? [] : [UInt8(ascii: "/")],
                startAfter: continuation?.key ?? []
            )
        )
        return ListingPage(
            entries: Self.merge(
                page.objects.map { ($0.key.bytes, .object(VersionReport($0, in: bucket))) },
                page.commonPrefixes
            ),
            continuation: page.next.map { ListingContinuation(key: $0, version: nil) }
        )
    }

    /// All versions and delete markers: keys in byte order, each key's versions newest first.
    func versions(
        bucket: BucketName,
        prefix: String,
        continuation: ListingContinuation?
    ) async throws -> ListingPage {
        let page = try await objects.listVersions(
            bucket: bucket,
            prefix: [UInt8](prefix.utf8),
            startAfter: continuation.map { VersionListMarker(key: $0.key, version: $0.version) }
        )
        return ListingPage(
            entries: page.versions.map { .object(VersionReport($0.row, in: bucket, isLatest: $0.isNewest)) },
            continuation: page.next.map { ListingContinuation(key: $0.key, version: $0.version) }
        )
    }

    func history(bucket: BucketName, key: ObjectKey) async throws -> [VersionReport] {
        var found: [VersionReport] = []
        while true {
            try Task.checkCancellation()
            let rows = try await objects.history(bucket: bucket, key: key, before: found.last?.id)
            for row in rows { found.append(VersionReport(row, in: bucket, isLatest: found.isEmpty)) }
            if rows.count < Limits.listPageSizeMax { return found }
        }
    }

    func delete(bucket: BucketName, key: ObjectKey, _ choice: VersionChoice) async throws -> DeletionReport {
        let result = try await objects.delete(
            VersionAddress(bucket: bucket, key: key, selector: choice.selector)
        )
        return DeletionReport(
            bucket: bucket.description,
            key: key.description,
            deleteMarker: result.marker?.id.description,
            removedVersion: result.removed.map { $0.isNull ? "null" : $0.id.description },
            versioning: choice.isNamed
                ? nil
                : result.marker.map { $0.isNull ? .suspended : .enabled }
                    ?? (result.removed == nil ? nil : .off)
        )
    }

    func restore(_ version: VersionReport) async throws -> VersionReport {
        let (bucket, key) = (version.bucket, version.key)
        return VersionReport(
            try await objects.restore(bucket: bucket, key: key, version: version.id),
            in: bucket,
            isLatest: true
        )
    }

    func copy(
        from source: (bucket: BucketName, key: ObjectKey),
        _ choice: VersionChoice,
        to target: (bucket: BucketName, key: ObjectKey)
    ) async throws -> VersionReport {
        let address = VersionAddress(bucket: source.bucket, key: source.key, selector: choice.selector)
        let policy = try await objects.mirrorAcknowledgement(of: target.bucket)
        let command = CopyCommand(source: address, bucket: target.bucket, key: target.key)
        // A copy that was made before, and whose mirrors were waited for in vain, is not made a second time.
        let known =
            policy == nil
            ? nil
            : try await objects.versionToWaitFor(
                command,
                source: try await objects.head(address),
                isDefaultRetention: false,
                policy
            )
        var row = known
        if row == nil { row = try await objects.copy(command) }
        guard let row else { throw StoreError(.internalFault, "A copy made no version.") }
        try await assembly.acknowledge(row, policy)
        return VersionReport(row, in: target.bucket, isLatest: true)
    }

    func uploads(bucket: BucketName, prefix: String) async throws -> [UploadReport] {
        var found: [UploadReport] = []
        var request = UploadListRequest(bucket: bucket, prefix: [UInt8](prefix.utf8))
        repeat {
            try Task.checkCancellation()
            let page = try await objects.listUploads(request)
            found += page.uploads.map {
                UploadReport(key: $0.key.description, uploadID: $0.id.description, startedAt: $0.startedAt)
            }
            request.startAfter = page.next
        } while request.startAfter != nil
        return found
    }

    func abortUpload(bucket: BucketName, key: ObjectKey, id: String) async throws {
        guard let upload = UploadID(id) else {
            throw StoreError(.noSuchUpload, "\(quoted(id)) is not the name of an upload.")
        }
        try await objects.abort(UploadAddress(bucket: bucket, key: key, id: upload))
    }

    func statistics(
        bucket: BucketName,
        key: ObjectKey,
        _ choice: VersionChoice,
        chunkLimit: Int,
        verifying: Bool
    ) async throws -> StatisticsReport {
        let address = VersionAddress(bucket: bucket, key: key, selector: choice.selector)
        let statistics = try await objects.stat(
            address,
            chunkLimit: chunkLimit,
            check: verifying ? .strict : .presence
        )
        return StatisticsReport(statistics, in: bucket)
    }

    // MARK: The whole store

    func verify(
        bucket: BucketName?,
        prefix: String,
        repairing: Bool,
        progress: @Sendable (_ byteCount: UInt64) -> Void
    ) async throws -> VerificationReport {
        let scope = VerifyScope(bucket: bucket, prefix: [UInt8](prefix.utf8))
        let report = VerificationReport(
            try await objects.verify(scope, repair: repairing) { progress($0.payloadBytes) }
        )
        if bucket == nil, prefix.isEmpty, report.isComplete { try await assembly.endGarbageHold() }
        return report
    }

    /// Objects and common prefixes as one list in byte order.
    private static func merge(_ objects: [(key: [UInt8], entry: ListingEntry)], _ prefixes: [[UInt8]])
        -> [ListingEntry]
    {
        guard !prefixes.isEmpty else { return objects.map(\.entry) }
        let shown = prefixes.map { ($0, ListingEntry.prefix(String(decoding: $0, as: UTF8.self))) }
        return (objects + shown).sorted { $0.0.lexicographicallyPrecedes($1.0) }.map(\.1)
    }
}

extension VersionChoice {
    fileprivate var selector: VersionSelector {
        switch self {
        case .newest: .newest
        case .id(let id): .id(id)
        case .null: .null
        }
    }
}

extension Finding.Kind {
    fileprivate var adjective: String {
        switch self {
        case .missing: "missing"
        case .corrupt, .corruptHeader, .corruptLog, .corruptFooter, .padding, .index: "damaged"
        case .misplaced: "misplaced"
        case .stale: "stale"
        case .unreadable: "unreadable"
        case .different, .extra, .givenUp: "mirrored"
        }
    }
}
