internal import Catalog
internal import Replication
package import StoreModel

// What a run of `verify` looked at, as a document of the space job. Key: "verify/", the bucket's name (nothing: all
// buckets), "/", the prefix of the keys. Body, little-endian: format version (1, 1 byte) · started at, ended at (8 each) ·
// number of volumes (4) · their ids (16 each)

/// A run of `verify` that came to its end.
package struct VerificationRecord: Hashable, Sendable {
    package let scope: VerifyScope
    /// What was stored before was looked at.
    package let startedAt: Timestamp
    package let endedAt: Timestamp
    /// Those on which every copy in scope was good, or made good.
    package let volumes: Set<VolumeID>

    /// Records beyond that make room: the one that ended first goes.
    static let countMax = 64

    static let prefix = [UInt8]("verify/".utf8)
    private static let version: UInt8 = 1

    package init(scope: VerifyScope, startedAt: Timestamp, endedAt: Timestamp, volumes: Set<VolumeID>) {
        self.scope = scope
        self.startedAt = startedAt
        self.endedAt = endedAt
        self.volumes = volumes
    }

    /// Whether a version was among what was looked at.
    func covers(_ version: VersionRow, in bucket: BucketName) -> Bool {
        guard version.createdAt < startedAt else { return false }
        guard let name = scope.bucket else { return true }
        return name == bucket && version.key.bytes.starts(with: scope.prefix)
    }

    var key: [UInt8] {
        Self.prefix + [UInt8]((scope.bucket?.description ?? "").utf8) + [UInt8(ascii: "/")] + scope.prefix
    }

    var body: [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.version)
        writer.write(startedAt.milliseconds)
        writer.write(endedAt.milliseconds)
        writer.write(UInt32(clamping: volumes.count))
        for volume in volumes.sorted() { writer.write(volume) }
        return writer.bytes
    }

    init(_ document: DocumentRow) throws(StoreError) {
        do throws(ByteReader.Failure) {
            let name = document.key.dropFirst(Self.prefix.count)
            guard document.key.starts(with: Self.prefix), let end = name.firstIndex(of: UInt8(ascii: "/"))
            else {
                throw ByteReader.Failure("an unknown key")
            }
            let bucket = String(decoding: name[..<end], as: UTF8.self)
            scope = VerifyScope(
                bucket: bucket.isEmpty ? nil : try? BucketName(bucket),
                prefix: Array(name[(end + 1)...])
            )
            guard bucket.isEmpty || scope.bucket != nil else { throw ByteReader.Failure("no bucket's name") }
            var reader = ByteReader(document.body)
            guard try reader.read(UInt8.self) == Self.version else {
                throw ByteReader.Failure("an unknown version")
            }
            startedAt = Timestamp(milliseconds: try reader.read(Int64.self))
            endedAt = Timestamp(milliseconds: try reader.read(Int64.self))
            var found: Set<VolumeID> = []
            for _ in 0..<(try reader.read(UInt32.self)) { found.insert(try reader.readUniqueID()) }
            try reader.finish()
            volumes = found
        } catch {
            throw StoreError(.storeDamaged, "What was verified can't be read: \(error).")
        }
    }
}

/// A copy that was found bad, and not made good since.
struct BadCopy: Hashable, Sendable {
    let chunk: Digest
    let volume: VolumeID
}

/// What is known of when copies were last read and found good: by scrubs of whole volumes and by runs of `verify`.
struct VerificationHistory: Sendable {
    /// The start of the last pass of each volume that came to its end.
    private var passes: [VolumeID: Timestamp] = [:]
    private var runs: [VerificationRecord] = []
    private let bad: Set<BadCopy>

    fileprivate init(bad: Set<BadCopy>) { self.bad = bad }

    /// The state of a version's copy, with what scrubs and runs of `verify` know of it.
    func refined(
        _ state: ReplicaState,
        of chunk: Digest,
        _ version: VersionRow,
        in bucket: BucketName
    ) -> ReplicaState {
        // A copy that came later was read back when it was made: it is no older than what is said here.
        guard state.condition == .present, !bad.contains(BadCopy(chunk: chunk, volume: state.volume)) else {
            return state
        }
        var best = state
        if let pass = passes[state.volume], version.createdAt < pass, pass > best.verifiedAt ?? .distantPast {
            best.verifiedAt = pass
            best.verifiedBy = .scrub
        }
        for run in runs where run.volumes.contains(state.volume) && run.covers(version, in: bucket) {
            guard run.startedAt > best.verifiedAt ?? .distantPast else { continue }
            best.verifiedAt = run.startedAt
            best.verifiedBy = .verify
        }
        return best
    }

    fileprivate mutating func add(_ document: DocumentRow) {
        // What can't be read proves nothing.
        if let run = try? VerificationRecord(document) {
            runs.append(run)
        } else if let job = try? ScrubJob(document), case .volume(let id) = job.subject {
            passes[id] = job.lastPassStartedAt
        }
    }
}

extension Set<BadCopy> {
    /// - Precondition: findings come in the order of time.
    fileprivate mutating func add(_ finding: Finding) {
        guard let chunk = finding.chunk else { return }
        let copy = BadCopy(chunk: chunk, volume: finding.volume)
        if finding.outcome.isRepaired { remove(copy) } else { insert(copy) }
    }
}

extension Timestamp {
    fileprivate static let distantPast = Timestamp(milliseconds: .min)
}

extension ObjectStore {
    func verificationHistory() async throws -> VerificationHistory {
        let bad = try await cached(badCopies) { reader in
            var copies: Set<BadCopy> = []
            try reader.forEachDocument(.finding, prefix: FindingRow.prefix) { document in
                if let row = try? FindingRow(document) { copies.add(row.finding) }
                return true
            }
            return copies
        }
        var history = VerificationHistory(bad: bad)
        for prefix in [ScrubJob.prefix, VerificationRecord.prefix] {
            for document in try await documents(.job, prefix: prefix) { history.add(document) }
        }
        return history
    }

    /// Keeps what a run of `verify` has looked at, for `stat`.
    func keep(_ record: VerificationRecord) async throws {
        let known = try await documents(.job, prefix: VerificationRecord.prefix)
        var records = known.map { (row: $0, endedAt: (try? VerificationRecord($0))?.endedAt ?? .distantPast) }
            .filter { $0.row.key != record.key }
        records.sort { $0.endedAt < $1.endedAt }
        let surplus = records.prefix(max(0, records.count - VerificationRecord.countMax + 1))
        try await write(
            documents: surplus.map { DocumentWrite(space: .job, key: $0.row.key, body: nil) }
                + [DocumentWrite(space: .job, key: record.key, body: record.body)]
        )
    }
}
