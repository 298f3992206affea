internal import StoreModel

/// Rows that were decided but aren't applied to the index yet, laid over the index for the next decision.
///
/// 1. A change here wins over the index: the index may have applied it already or not, the answer is the
///    same.
/// 2. A change leaves only when the index has applied the decision that made it. Decisions whose batch isn't
///    committed (no quorum) stay for as long as the log's head is blocked.
/// 3. Changes of one key stand in the order of version ids.
struct PendingCatalog: Sendable {
    struct ObjectName: Hashable, Sendable {
        let bucket: BucketID
        let key: ObjectKey
    }

    struct Change: Sendable {
        let id: VersionID
        /// Sequence of the last decision that touched this version.
        var decidedAt: UInt64
        /// nil: removed.
        var row: VersionRow?
    }

    struct PendingObject: Sendable {
        fileprivate(set) var changes: [Change] = []

        /// The last decision on this key.
        var lastDecision: UInt64 { changes.lazy.map(\.decidedAt).max() ?? 0 }

        /// Whether the newest version is known without a look at the index: it was made by a pending
        /// decision, and whatever came after it is pending as well.
        var newestIfFresh: VersionRow? {
            guard let last = changes.last(where: { $0.row != nil }), last.id.sequence == last.decidedAt
            else { return nil }
            return last.row
        }

        func change(of id: VersionID) -> Change? {
            let index = position(of: id)
            return index < changes.count && changes[index].id == id ? changes[index] : nil
        }

        fileprivate mutating func set(_ id: VersionID, to row: VersionRow?, decidedAt: UInt64) {
            let index = position(of: id)
            let change = Change(id: id, decidedAt: decidedAt, row: row)
            if index < changes.count && changes[index].id == id {
                changes[index] = change
            } else {
                changes.insert(change, at: index)
            }
        }

        fileprivate mutating func drop(through sequence: UInt64) {
            changes.removeAll { $0.decidedAt <= sequence }
        }

        private func position(of id: VersionID) -> Int {
            var low = 0
            var high = changes.count
            while low < high {
                let middle = (low + high) / 2
                if changes[middle].id < id { low = middle + 1 } else { high = middle }
            }
            return low
        }
    }

    struct DocumentChange: Sendable {
        let decidedAt: UInt64
        /// nil: removed.
        let row: DocumentRow?
    }

    private struct PendingDecision {
        let sequence: UInt64
        let operation: OperationID
        let objects: [ObjectName]
        let documents: [DocumentName]
        let bucket: BucketName?
    }

    private(set) var objects: [ObjectName: PendingObject] = [:]
    /// Buckets that a pending decision made, removed or changed, and its sequence.
    private(set) var bucketDecisions: [BucketName: UInt64] = [:]
    private(set) var operations: [OperationID: UInt64] = [:]
    private(set) var documents: [DocumentName: DocumentChange] = [:]
    /// In order; `first` is the index of the oldest that is still pending.
    private var decisions: [PendingDecision] = []
    private var first = 0

    var decisionCount: Int { decisions.count - first }

    /// Takes up what a decision changed.
    mutating func record(_ entry: CatalogEntry, bucket: BucketName?) {
        var touched: [ObjectName] = []
        var touchedDocuments: [DocumentName] = []
        for mutation in entry.mutations {
            switch mutation {
            case .putVersion(let row):
                let name = ObjectName(bucket: row.bucket, key: row.key)
                objects[name, default: PendingObject()].set(row.id, to: row, decidedAt: entry.sequence)
                touched.append(name)
            case .removeVersion(let bucket, let key, let id):
                let name = ObjectName(bucket: bucket, key: key)
                objects[name, default: PendingObject()].set(id, to: nil, decidedAt: entry.sequence)
                touched.append(name)
            case .putDocument(let row):
                documents[row.name] = DocumentChange(decidedAt: entry.sequence, row: row)
                touchedDocuments.append(row.name)
            case .removeDocument(let name):
                documents[name] = DocumentChange(decidedAt: entry.sequence, row: nil)
                touchedDocuments.append(name)
            case .putBucket, .removeBucket, .noteSnapshot, .setLogSet, .epochStart:
                break
            }
        }
        if let bucket { bucketDecisions[bucket] = entry.sequence }
        operations[entry.operation] = entry.sequence
        decisions.append(
            PendingDecision(
                sequence: entry.sequence,
                operation: entry.operation,
                objects: touched,
                documents: touchedDocuments,
                bucket: bucket
            )
        )
    }

    /// Lets go of everything that decisions up to `sequence` changed: the index has it.
    mutating func drop(through sequence: UInt64) {
        while first < decisions.count, decisions[first].sequence <= sequence {
            let decision = decisions[first]
            for name in decision.objects { dropObject(name, through: sequence) }
            if let bucket = decision.bucket, let last = bucketDecisions[bucket], last <= sequence {
                bucketDecisions[bucket] = nil
            }
            if let last = operations[decision.operation], last <= sequence {
                operations[decision.operation] = nil
            }
            for name in decision.documents {
                if let last = documents[name]?.decidedAt, last <= sequence { documents[name] = nil }
            }
            first += 1
        }
        // The dead part is cut off when it is the larger one, so each decision is moved once on average.
        if first > 64, first * 2 > decisions.count {
            decisions.removeFirst(first)
            first = 0
        }
    }

    /// One look-up for what is most of the work: a key that one decision touched.
    private mutating func dropObject(_ name: ObjectName, through sequence: UInt64) {
        guard let index = objects.index(forKey: name) else { return }
        objects.values[index].drop(through: sequence)
        if objects.values[index].changes.isEmpty { objects.remove(at: index) }
    }
}
