internal import Catalog
internal import StoreModel

extension ObjectStore {
    /// Reads every copy of every payload of every version in scope and compares it with its name.
    ///
    /// Each payload is read once, however many versions share it. A damaged one is reported for each version that it
    /// is part of. Memory is bounded; versions that are made meanwhile may or may not be seen.
    /// - Parameters:
    ///   - repair: whether missing and damaged copies are replaced at once.
    ///   - progress: told from time to time how far it is.
    package func verify(
        _ scope: VerifyScope = .everything,
        repair: Bool,
        progress: @Sendable (VerifyReport) -> Void = { _ in }
    ) async throws -> VerifyReport {
        try await verify(scope, repair, progress, storage)
    }

    private func verify<Storage: ReplicatedStorage>(
        _ scope: VerifyScope,
        _ repair: Bool,
        _ progress: @Sendable (VerifyReport) -> Void,
        _ storage: Storage
    ) async throws -> VerifyReport {
        let buckets: [BucketRow]
        if let name = scope.bucket {
            buckets = [try await bucket(name)]
        } else {
            buckets = try await self.buckets()
        }
        let startedAt = clock.now()
        var run = VerifyRun(storage: storage, repair: repair, rescue: rescue)
        for bucket in buckets {
            run.report.bucketCount += 1
            var marker: VersionListMarker?
            repeat {
                let page = try await readCatalog { [marker] reader in
                    try reader.listVersions(
                        VersionListRequest(bucket: bucket.id, prefix: scope.prefix, startAfter: marker)
                    )
                }
                for listed in page.versions {
                    try Task.checkCancellation()
                    try await run.verify(listed.row, in: bucket.name, progress)
                    if repair, listed.row.mayFindSHA256 {
                        let digest = try? await findSHA256(of: listed.row, in: bucket.name)
                        if digest != nil { run.report.digestCount += 1 }
                    }
                }
                marker = page.next
            } while marker != nil
            try await verifyParts(of: bucket, scope, &run, progress)
        }
        progress(run.report)
        let good = run.report.seenVolumes.subtracting(run.report.badVolumes)
        if run.report.isWhole, !good.isEmpty {
            let record = VerificationRecord(
                scope: scope,
                startedAt: startedAt,
                endedAt: clock.now(),
                volumes: good
            )
            // What was found is true, whether or not it can be written down.
            try? await keep(record)
        }
        return run.report
    }

    /// The parts of uploads that are under way: their payloads live as long as they do.
    private func verifyParts<Storage: ReplicatedStorage>(
        of bucket: BucketRow,
        _ scope: VerifyScope,
        _ run: inout VerifyRun<Storage>,
        _ progress: @Sendable (VerifyReport) -> Void
    ) async throws {
        let prefix = UploadKey.bucket(bucket.id) + scope.prefix
        var last: [UInt8]?
        while true {
            let page = try await readCatalog { [last] reader in
                try reader.documents(.part, prefix: prefix, after: last, limit: 256)
            }
            guard let end = page.last else { return }
            for document in page {
                try Task.checkCancellation()
                try await run.verify(part: document, in: bucket.name, progress)
            }
            last = end.key
        }
    }
}

/// One run over versions.
private struct VerifyRun<Storage: ReplicatedStorage> {
    /// Payloads whose copies are asked for in one call: the storage looks at them side by side.
    private static var batchSize: Int { 16 }
    /// Bad payloads that are remembered for the versions to come. What doesn't fit is looked at again.
    private static var badCountMax: Int { 65_536 }

    private struct Payload {
        let digest: Digest
        let length: UInt64
    }

    private struct Bad {
        let states: [ReplicaState]
        let outcome: VerifyFinding.Outcome
    }

    /// A version, or a part of an upload.
    private struct Version {
        let bucket: BucketName
        let key: ObjectKey
        let id: VersionID
        var part: Int?
        var isLost = false
        /// What a mirror may have of it; nil: nothing.
        var row: VersionRow?
        var holders: [String]?
    }

    var report = VerifyReport()
    private let storage: Storage
    private let repair: Bool
    private let rescue: (any ContentRescue)?
    private var seen = SeenDigests(countMax: SeenDigests.countMaxStandard)
    private var bad: [Digest: Bad] = [:]

    init(storage: Storage, repair: Bool, rescue: (any ContentRescue)?) {
        self.storage = storage
        self.rescue = rescue
        self.repair = repair
    }

    mutating func verify(
        _ row: VersionRow,
        in bucket: BucketName,
        _ progress: @Sendable (VerifyReport) -> Void
    ) async throws {
        guard !row.isDeleteMarker else {
            report.deleteMarkerCount += 1
            return
        }
        var version = Version(bucket: bucket, key: row.key, id: row.id)
        if row.attributes.encryption == nil { version.row = row }
        report.versionCount += 1
        report.versionBytes += row.size
        for payload in row.payloads { try await verify(payload, &version, progress) }
        if version.isLost { report.lostVersionCount += 1 }
    }

    mutating func verify(
        part document: DocumentRow,
        in bucket: BucketName,
        _ progress: @Sendable (VerifyReport) -> Void
    ) async throws {
        let part = try UploadedPart(document)
        let upload = UploadKey.upload(ofPart: document.key)
        guard let id = UploadKey.id(of: upload), let payload = document.payload else { return }
        var version = Version(
            bucket: bucket,
            key: try ObjectKey(bytes: UploadKey.objectKey(of: upload)),
            id: VersionID(sequence: id.operation.high, nonce: id.operation.low),
            part: part.number
        )
        report.partCount += 1
        report.partBytes += part.size
        try await verify(payload, &version, progress)
        if version.isLost { report.lostPartCount += 1 }
    }

    private mutating func verify(
        _ payload: PayloadReference,
        _ version: inout Version,
        _ progress: @Sendable (VerifyReport) -> Void
    ) async throws {
        var offset: UInt64 = 0
        var cursor = cursor(payload, from: 0)
        var batch: [Payload] = []
        /// Nodes that were brought back: none is a second time.
        var rescued: Set<Digest> = []
        var isWalking = true
        while isWalking {
            do {
                if let slice = try await cursor.next() {
                    offset += UInt64(slice.range.count)
                    await add(
                        Payload(digest: slice.chunk.digest, length: UInt64(slice.chunk.length)),
                        &batch,
                        &version
                    )
                } else {
                    isWalking = false
                }
            } catch let error as StoreError where error.isAboutTheManifest {
                // The node that was asked for last is the one that is lost.
                let node = cursor.takeVisitedNodes().last?.digest
                if let node, repair, error.code == .dataUnavailable, rescued.insert(node).inserted,
                    try await outcome(for: node, hasGood: false) == .repaired
                {
                    await note(.manifest(error), .repaired, &version)
                    cursor = self.cursor(payload, from: offset)
                } else {
                    await note(.manifest(error), .lost, &version)
                    isWalking = false
                }
            }
            for node in cursor.takeVisitedNodes() {
                await add(Payload(digest: node.digest, length: UInt64(node.payloadLength)), &batch, &version)
            }
            if batch.count >= Self.batchSize || !isWalking && !batch.isEmpty {
                try await look(at: batch, &version)
                batch.removeAll(keepingCapacity: true)
                progress(report)
            }
        }
    }

    private func cursor(_ payload: PayloadReference, from offset: UInt64) -> ManifestCursor<Storage> {
        let range = try? ByteRange(offset: offset, length: nil, of: payload.size)
        return ManifestCursor(
            payload.manifest,
            size: payload.size,
            range: range ?? ByteRange(wholeOf: payload.size),
            storage: storage,
            notesVisits: true
        )
    }

    /// Puts a payload on the list if it is new; if it is known to be bad, this version has the finding as well.
    private mutating func add(_ payload: Payload, _ batch: inout [Payload], _ version: inout Version)
        async
    {
        if let known = bad[payload.digest] {
            await note(known, of: payload.digest, &version)
        } else if seen.insert(payload.digest) {
            batch.append(payload)
        }
    }

    private mutating func look(at payloads: [Payload], _ version: inout Version) async throws {
        let states = try await storage.replicaStates(of: payloads.map(\.digest), check: .strict)
        precondition(
            states.count == payloads.count,
            "The storage answers for every payload that was asked for."
        )
        for (payload, replicas) in zip(payloads, states) {
            report.payloadCount += 1
            report.payloadBytes += payload.length
            report.seenVolumes.formUnion(replicas.map(\.volume))
            let wrong = replicas.filter { $0.condition != .present }
            report.goodReplicaCount += UInt64(replicas.count - wrong.count)
            precondition(!replicas.isEmpty, "Every payload has a place on at least one volume.")
            guard !wrong.isEmpty else { continue }
            let hasGood = wrong.count < replicas.count
            let found = Bad(states: wrong, outcome: try await outcome(for: payload.digest, hasGood: hasGood))
            await note(found, of: payload.digest, &version)
            if found.outcome != .repaired, bad.count < Self.badCountMax { bad[payload.digest] = found }
        }
    }

    private func outcome(for digest: Digest, hasGood: Bool) async throws -> VerifyFinding.Outcome {
        guard repair else { return hasGood ? .repairable : .lost }
        do {
            // What no volume has may come from a mirror.
            let result = try await storage.repairNow(digest)
            guard !result.failed.isEmpty else { return .repaired }
            let volumes = result.failed.map(\.description).joined(separator: ", ")
            return .repairFailed("The copy could not be written on \(volumes).")
        } catch let error as StoreError where error.code != .cancelled {
            guard hasGood || error.code != .dataUnavailable else { return .lost }
            return .repairFailed(error.description)
        }
    }

    private mutating func note(_ bad: Bad, of digest: Digest, _ version: inout Version) async {
        for state in bad.states {
            var outcome = bad.outcome
            if case .unreachable(let why) = state.condition, outcome == .repaired {
                outcome = .repairFailed(why)
            }
            if outcome != .repaired { report.badVolumes.insert(state.volume) }
            await note(.replica(state, of: digest), outcome, &version)
        }
        if bad.outcome == .lost { version.isLost = true }
    }

    private mutating func note(
        _ kind: VerifyFinding.Kind,
        _ outcome: VerifyFinding.Outcome,
        _ version: inout Version
    ) async {
        report.findingCount += 1
        if outcome == .repaired { report.repairedCount += 1 }
        if outcome == .lost { version.isLost = true }
        if outcome != .repaired, case .manifest = kind { report.isWhole = false }
        if outcome != .repaired, case .replica(let state, _) = kind, case .unreachable = state.condition {
            report.unreachableCount += 1
        }
        guard report.findings.count < VerifyReport.findingsMax else { return }
        var finding = VerifyFinding(
            bucket: version.bucket,
            key: version.key,
            version: version.id,
            part: version.part,
            kind: kind,
            outcome: outcome
        )
        if outcome == .lost, let row = version.row, let rescue {
            if version.holders == nil { version.holders = await rescue.holders(of: row) }
            finding.holders = version.holders ?? []
        }
        report.findings.append(finding)
    }
}

extension StoreError {
    /// A node that is on no replica, or doesn't read as one: a finding, and the next version can still be looked at.
    fileprivate var isAboutTheManifest: Bool {
        [.dataUnavailable, .storeDamaged, .unsupportedFormat].contains(code)
    }
}
