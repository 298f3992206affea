internal import Catalog
package import Replication
package import StoreModel
internal import Synchronization

/// What was ever found wrong, as documents: replicated, bounded, in the order of time.
///
/// 1. Findings are noted in memory and written in batches, at most one command a second: a flood of them costs the
///    commit log little. What is not written when the process dies is found again.
/// 2. The same chunk on the same volume has one open row, however often it is met.
/// 3. At most `Limits.findingCountMax` rows of `Limits.findingByteCountMax` together: the oldest closed ones make room; open
///    ones beyond the number are counted only. A command carries `batchByteCountMax` of them, or a single one.
package final class FindingLedger: Sendable {
    package struct Query: Sendable {
        package var kinds: Set<Finding.Kind> = []
        package var volume: VolumeID?
        package var mirror: String?
        /// nil: both.
        package var isOpen: Bool?
        /// The id of the last row of the page before.
        package var after: UniqueID?
        package var limit = 100

        package init() {}
    }

    private struct Identity: Hashable {
        let volume: VolumeID
        let mirror: String?
        let chunk: Digest?
        let detail: String

        init(_ finding: Finding) {
            volume = finding.volume
            mirror = finding.mirror
            chunk = finding.chunk
            detail = finding.chunk == nil ? finding.detail : ""
        }
    }

    private struct State {
        var open: [Identity: FindingRow] = [:]
        /// By id, to be written.
        var dirty: [UniqueID: FindingRow] = [:]
        var rowCount = 0
        /// Of the documents of rows, and of all of them.
        var byteCounts: [UniqueID: Int] = [:]
        var byteCount = 0
        var isLoaded = false
        var isFlushing = false
        var droppedCount: UInt64 = 0
        var counts: [String: UInt64] = [:]

        mutating func beginFlushing() -> Bool {
            defer { isFlushing = true }
            return !isFlushing
        }

        mutating func noteSize(_ id: UniqueID, _ count: Int?) {
            byteCount += (count ?? 0) - (byteCounts[id] ?? 0)
            byteCounts[id] = count
        }
    }

    private static let batchCount = 256
    private static let batchByteCountMax = 1 << 20
    private static let dirtyCountMax = 8192

    private let objects: ObjectStore
    private let byteCountMax: Int
    private let state = Mutex(State())

    package init(_ objects: ObjectStore, byteCountMax: Int = Limits.findingByteCountMax) {
        self.objects = objects
        self.byteCountMax = byteCountMax
    }

    // MARK: Noting

    /// Takes note of a finding, or of what became of it. Does not block.
    package func note(_ finding: Finding) {
        let now = objects.clock.now()
        let identity = Identity(finding)
        let nonce = objects.random.next()
        state.withLock { state in
            if var row = state.open[identity] {
                row.lastSeenAt = now
                if finding.outcome == .pending {
                    row.seenCount += 1
                } else {
                    row.finding.outcome = finding.outcome
                    row.closedAt = now
                    Self.count(row.finding, &state)
                }
                state.open[identity] = row.isOpen ? row : nil
                state.dirty[row.id] = row
                return
            }
            guard state.dirty.count < Self.dirtyCountMax,
                state.open.count < Limits.findingCountMax || finding.outcome != .pending
            else {
                state.droppedCount += 1
                return
            }
            let id = UniqueID(high: UInt64(clamping: finding.foundAt.milliseconds), low: nonce)
            let row = FindingRow(id: id, finding)
            if row.isOpen { state.open[identity] = row } else { Self.count(finding, &state) }
            state.dirty[id] = row
            state.rowCount += 1
        }
    }

    private static func count(_ finding: Finding, _ state: inout State) {
        state.counts["\(finding.kind.rawValue) \(finding.outcome.name)", default: 0] += 1
    }

    /// Writes down which versions need a chunk, which mirrors have these, and what else is left around it.
    package func name(_ needs: ChunkNeeds) async throws {
        var query = Query()
        query.limit = Self.batchCount
        while true {
            let page = try await find(query)
            state.withLock { state in
                for var row in page {
                    guard let chunk = row.finding.chunk, let found = needs.names[chunk],
                        row.names != found || row.holders != needs.holders[chunk, default: []]
                            || row.account != needs.accounts[chunk]
                    else { continue }
                    row = state.dirty[row.id] ?? row
                    row.names = Array(found.prefix(FindingRow.namesMax))
                    row.holders = Array(needs.holders[chunk, default: []].prefix(FindingRow.namesMax))
                    row.account = row.finding.outcome == .unrepairable ? needs.accounts[chunk] : nil
                    state.dirty[row.id] = row
                }
            }
            guard let last = page.last, page.count == query.limit else { return try await flush() }
            query.after = last.id
        }
    }

    /// Writes down that what could not be repaired was nobody's, and is gone.
    package func noteMended(_ rows: [FindingRow]) async throws {
        state.withLock { state in
            for row in rows {
                var row = state.dirty[row.id] ?? row
                row.finding.outcome = .mended
                row.finding.detail += row.finding.detail.isEmpty ? Self.garbage : "; " + Self.garbage
                row.account = nil
                state.dirty[row.id] = row
            }
        }
        try await flush()
    }

    private static let garbage = "nothing needs it, so it was marked as garbage"

    // MARK: Documents

    /// Reads the rows that an earlier process has left open.
    /// - Returns: their findings.
    package func load() async throws -> [Finding] {
        defer { state.withLock { $0.isLoaded = true } }
        var last: [UInt8]?
        var findings: [Finding] = []
        while true {
            let page = try await objects.documents(
                .finding,
                prefix: FindingRow.prefix,
                after: last,
                limit: Limits.listPageSizeMax
            )
            // A row that can't be read hides no other.
            let rows = page.compactMap { try? FindingRow($0) }
            state.withLock { state in
                state.rowCount += page.count
                for document in page { Self.noteSize(of: document, document.body.count, &state) }
                for row in rows where row.isOpen && state.open[Identity(row.finding)] == nil {
                    state.open[Identity(row.finding)] = row
                    findings.append(row.finding)
                }
            }
            guard let end = page.last, page.count == Limits.listPageSizeMax else { return findings }
            last = end.key
        }
    }

    /// Open findings of a volume that are no older than a moment.
    package func open(on volume: VolumeID, since moment: Timestamp) -> [Finding] {
        state.withLock { state in
            state.open.values.lazy.map(\.finding).filter { $0.volume == volume && $0.foundAt >= moment }
        }
    }

    /// Whether what an earlier process has left open is known.
    package var isLoaded: Bool { state.withLock { $0.isLoaded } }

    /// Open findings of a mirror.
    package func open(ofMirror mirror: String) -> [FindingRow] {
        state.withLock { state in state.open.values.filter { $0.finding.mirror == mirror } }
    }

    /// Open findings of all mirrors, also of those that are gone.
    package func openOfMirrors() -> [Finding] {
        state.withLock { state in state.open.values.lazy.map(\.finding).filter { $0.mirror != nil } }
    }

    /// Writes what was noted: on return everything is there that was noted before the call.
    package func flush() async throws {
        // What another flush has taken is not there before that has ended.
        while !state.withLock({ $0.beginFlushing() }) { try await objects.clock.sleep(for: .milliseconds(5)) }
        defer { state.withLock { $0.isFlushing = false } }
        while true {
            let rows = state.withLock { state in
                let rows = Self.batch(of: state.dirty)
                for (row, _) in rows { state.dirty[row.id] = nil }
                return rows
            }
            guard !rows.isEmpty else { break }
            do {
                try await objects.write(
                    documents: rows.map { DocumentWrite(space: .finding, key: $0.row.key, body: $0.body) }
                )
                state.withLock { state in for (row, body) in rows { state.noteSize(row.id, body.count) } }
            } catch {
                state.withLock { state in
                    for (row, _) in rows where state.dirty[row.id] == nil { state.dirty[row.id] = row }
                }
                throw error
            }
        }
        try await makeRoom()
    }

    /// Rows that one command writes.
    static func batch(of dirty: [UniqueID: FindingRow]) -> [(row: FindingRow, body: [UInt8])] {
        var rows: [(row: FindingRow, body: [UInt8])] = []
        var byteCount = 0
        for row in dirty.values.prefix(batchCount) {
            let body = row.body
            byteCount += body.count
            guard rows.isEmpty || byteCount <= batchByteCountMax else { break }
            rows.append((row, body))
        }
        return rows
    }

    private static func noteSize(of document: DocumentRow, _ count: Int?, _ state: inout State) {
        var reader = ByteReader(document.key.dropFirst(FindingRow.prefix.count))
        if let id = try? reader.readUniqueID() { state.noteSize(id, count) }
    }

    private var mustMakeRoom: Bool {
        state.withLock { $0.rowCount > Limits.findingCountMax || $0.byteCount > byteCountMax }
    }

    /// What was repaired goes first, then what else is closed; within each the oldest.
    private func makeRoom() async throws {
        try await makeRoom { row in
            guard !row.isOpen else { return false }
            switch row.finding.outcome {
            case .repaired, .rescued, .mended: return true
            case .pending, .unrepairable, .failed: return false
            }
        }
        try await makeRoom { !$0.isOpen }
    }

    /// - Parameter mayGo: what can't be read may go as well.
    private func makeRoom(_ mayGo: (FindingRow) -> Bool) async throws {
        var last: [UInt8]?
        while mustMakeRoom {
            let page = try await objects.documents(
                .finding,
                prefix: FindingRow.prefix,
                after: last,
                limit: Self.batchCount
            )
            guard let end = page.last else { return }
            last = end.key
            let closed = page.filter { document in (try? FindingRow(document)).map(mayGo) ?? true }
            guard !closed.isEmpty else { continue }
            try await objects.write(
                documents: closed.map { DocumentWrite(space: .finding, key: $0.key, body: nil) }
            )
            state.withLock { state in
                state.rowCount -= closed.count
                for document in closed { Self.noteSize(of: document, nil, &state) }
            }
        }
    }

    /// Writes now and then until the task is cancelled.
    package func run() async {
        while !Task.isCancelled {
            // What can't be written now stays noted.
            try? await flush()
            do { try await objects.clock.sleep(for: .seconds(1)) } catch { return }
        }
    }

    // MARK: Asking

    package func find(_ query: Query) async throws -> [FindingRow] {
        var last = query.after.map { FindingRow.prefix + $0.bytes }
        var rows: [FindingRow] = []
        while true {
            let page = try await objects.documents(
                .finding,
                prefix: FindingRow.prefix,
                after: last,
                limit: Limits.listPageSizeMax
            )
            for document in page {
                let row = try FindingRow(document)
                if let isOpen = query.isOpen, row.isOpen != isOpen { continue }
                if let volume = query.volume, row.finding.volume != volume { continue }
                if let mirror = query.mirror, row.finding.mirror != mirror { continue }
                if !query.kinds.isEmpty, !query.kinds.contains(row.finding.kind) { continue }
                rows.append(row)
                if rows.count == query.limit { return rows }
            }
            guard let end = page.last, page.count == Limits.listPageSizeMax else { return rows }
            last = end.key
        }
    }

    /// By kind and outcome, since this process began; open ones; those that were not written for want of room.
    package var counts: (closed: [(kind: String, outcome: String, count: UInt64)], open: Int, dropped: UInt64)
    {
        state.withLock { state in
            let closed = state.counts.sorted { $0.key < $1.key }.map { name, count in
                let words = name.split(separator: " ").map(String.init)
                return (words[0], words[1], count)
            }
            return (closed, state.open.count, state.droppedCount)
        }
    }
}

extension Finding.Outcome {
    package var name: String {
        switch self {
        case .pending: "open"
        case .repaired, .rescued: "repaired"
        case .mended: "mended"
        case .unrepairable: "unrepairable"
        case .failed: "failed"
        }
    }
}
