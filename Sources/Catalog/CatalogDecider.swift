package import StoreModel

/// What a command comes to.
package struct Decision: Sendable {
    /// What goes into the commit log; nil when the command changes nothing (a delete of what isn't there).
    package let entry: CatalogEntry?
    package let outcome: CatalogOutcome
    /// The newest pending decision whose result this one has looked at. When there is no entry, the answer
    /// may be given only after that decision is committed; nil: it rests on committed rows alone.
    package let dependsOn: UInt64?
    /// State hash and time after the decision, for the batch that it ends.
    package let stateHash: StateHash
    package let timestamp: Timestamp
}

/// A command that can't be done: 404, 409, 412 and their like.
package struct DecisionFailure: Error, Sendable {
    package let error: StoreError
    /// As in `Decision`: an answer that rests on a pending decision waits for it, because that one may yet
    /// fail.
    package let dependsOn: UInt64?
}

/// Decides commands one after the other against the index and what is pending over it.
///
/// 1. There is one decider while the log is led; it is made when everything committed is applied.
/// 2. Decisions are final: their entries go into the log in the order of their sequences.
/// 3. Every decision with an entry takes one sequence, which is also the sequence of the version that it
///    makes.
/// 4. Time never goes back from one decision to the next.
/// 5. The state hash is that of the catalog after every decision so far, pending ones included; so a row that
///    is removed or replaced is known exactly.
/// 6. An unconditional write to a bucket that keeps history reads nothing from the index.
/// 7. What changes a version brings its tasks for mirrors with it (`MirrorTask`); without mirrors that costs a look
///    at an empty list.
package struct CatalogDecider: Sendable {
    package private(set) var stateHash: StateHash
    package private(set) var lastSequence: UInt64
    package private(set) var lastTimestamp: Timestamp
    /// Every bucket, pending changes included.
    var buckets: [BucketName: BucketRow]
    var pending = PendingCatalog()
    /// What goes into mirrors, pending changes included.
    var mirrors: [MirrorID: MirrorRoute]
    var bucketNames: [BucketID: BucketName] = [:]

    package init(applied: AppliedState, buckets: [BucketRow], mirrors: [MirrorRoute] = []) {
        stateHash = applied.stateHash
        lastSequence = applied.lastVersionSequence
        lastTimestamp = applied.lastTimestamp
        self.buckets = Dictionary(buckets.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
        self.mirrors = Dictionary(mirrors.map { ($0.id, $0) }, uniquingKeysWith: { $1 })
    }

    /// Decisions that the index hasn't applied yet.
    package var pendingCount: Int { pending.decisionCount }

    /// A bucket as the next decision would see it.
    package func bucket(named name: BucketName) -> BucketRow? { buckets[name] }

    /// Decides one command.
    /// - Parameters:
    ///   - reader: The index; it must have applied at least what `noteApplied` said.
    package mutating func decide(
        _ command: CatalogCommand,
        operation: OperationID,
        now: Timestamp,
        random: any RandomSource,
        reader: any CatalogReader
    ) throws(DecisionFailure) -> Decision {
        var draft = Draft(
            operation: operation,
            id: VersionID(sequence: lastSequence + 1, nonce: random.next()),
            time: max(now, lastTimestamp),
            reader: reader
        )
        let outcome: CatalogOutcome
        do {
            outcome = try perform(command, &draft)
        } catch {
            throw DecisionFailure(error: error, dependsOn: draft.dependsOn)
        }
        addMirrorTasks(&draft)
        return take(draft, outcome)
    }

    /// The index has applied every decision up to `sequence`.
    package mutating func noteApplied(through sequence: UInt64) { pending.drop(through: sequence) }

    /// What an earlier attempt of an operation did, if it was decided.
    /// - Returns: nil when it left no trace: it was never decided, or it was a delete that is applied, or
    ///   long ago.
    package func earlierOutcome(
        of operation: OperationID,
        bucket name: BucketName,
        key: ObjectKey,
        reader: any CatalogReader
    ) throws(CatalogError) -> EarlierOutcome? {
        let sequence = pending.operations[operation]
        guard let bucket = buckets[name] else {
            return sequence.map { EarlierOutcome(row: nil, pendingSequence: $0) }
        }
        let changes = pending.objects[.init(bucket: bucket.id, key: key)]?.changes ?? []
        if let row = changes.last(where: { $0.row?.operation == operation })?.row {
            return EarlierOutcome(row: row, pendingSequence: sequence)
        }
        if let sequence { return EarlierOutcome(row: nil, pendingSequence: sequence) }
        guard let row = try reader.outcome(of: operation, bucket: bucket.id, key: key) else { return nil }
        return EarlierOutcome(row: row, pendingSequence: nil)
    }

    private mutating func take(_ draft: Draft, _ outcome: CatalogOutcome) -> Decision {
        var entry: CatalogEntry?
        if !draft.mutations.isEmpty {
            let made = CatalogEntry(
                operation: draft.operation,
                sequence: draft.id.sequence,
                mutations: draft.mutations
            )
            lastSequence = draft.id.sequence
            lastTimestamp = draft.time
            stateHash += draft.added
            stateHash -= draft.removed
            pending.record(made, bucket: draft.bucket)
            for (id, route) in draft.routeChanges { mirrors[id] = route }
            entry = made
        }
        return Decision(
            entry: entry,
            outcome: outcome,
            dependsOn: draft.dependsOn,
            stateHash: stateHash,
            timestamp: lastTimestamp
        )
    }
}

/// What is known of an earlier attempt.
package struct EarlierOutcome: Sendable {
    /// The version that it made; nil when it made none (a removal that is still pending).
    package let row: VersionRow?
    /// Set while it is decided but not applied: its batch decides whether it happened.
    package let pendingSequence: UInt64?
}

/// A decision in the making.
struct Draft {
    /// What a decision does to a version.
    struct VersionChange {
        let change: MirrorTask.Change
        let row: VersionRow
    }

    let operation: OperationID
    /// Of the version that the decision makes, if it makes one.
    let id: VersionID
    let time: Timestamp
    let reader: any CatalogReader
    private(set) var mutations: [CatalogMutation] = []
    private(set) var added = StateHash.zero
    private(set) var removed = StateHash.zero
    private(set) var dependsOn: UInt64?
    /// The bucket that the decision makes, changes or removes.
    private(set) var bucket: BucketName?
    private(set) var versionChanges: [VersionChange] = []
    /// Mirrors whose rules the decision makes, changes or (nil) removes.
    var routeChanges: [(MirrorID, MirrorRoute?)] = []

    init(operation: OperationID, id: VersionID, time: Timestamp, reader: any CatalogReader) {
        self.operation = operation
        self.id = id
        self.time = time
        self.reader = reader
    }

    mutating func depend(on decision: UInt64?) {
        if let decision { dependsOn = max(dependsOn ?? 0, decision) }
    }

    mutating func put(_ row: VersionRow) {
        versionChanges.append(VersionChange(change: .made, row: row))
        added += StateHash(of: row)
        mutations.append(.putVersion(row))
    }

    mutating func replace(_ old: VersionRow, with row: VersionRow, isMirrored: Bool = true) {
        if isMirrored { versionChanges.append(VersionChange(change: .changed, row: row)) }
        removed += StateHash(of: old)
        added += StateHash(of: row)
        mutations.append(.putVersion(row))
    }

    mutating func remove(_ row: VersionRow) {
        versionChanges.append(VersionChange(change: .removed, row: row))
        removed += StateHash(of: row)
        mutations.append(.removeVersion(bucket: row.bucket, key: row.key, id: row.id))
    }

    mutating func put(_ row: DocumentRow, replacing old: DocumentRow?) {
        if let old { removed += StateHash(of: old) }
        added += StateHash(of: row)
        mutations.append(.putDocument(row))
    }

    mutating func remove(_ row: DocumentRow) {
        removed += StateHash(of: row)
        mutations.append(.removeDocument(row.name))
    }

    mutating func put(_ row: BucketRow, replacing old: BucketRow?) {
        if let old { removed += StateHash(of: old) }
        added += StateHash(of: row)
        bucket = row.name
        mutations.append(.putBucket(row))
    }

    mutating func remove(_ row: BucketRow) {
        removed += StateHash(of: row)
        bucket = row.name
        mutations.append(.removeBucket(row.id))
    }
}
