internal import Catalog
package import Replication
package import StoreModel
internal import Synchronization

/// What was ever found wrong, as documents: replicated, bounded, in the order of time.
///
/// 1. Findings are noted in memory and written in batches, at most one command a second: a flood of them costs the
///    commit log little. What is not written when the process dies is found again.
/// 2. The same chunk on the same volume has one open row, however often it is met.
/// 3. At most `Limits.findingCountMax` rows: the oldest closed ones make room; open ones beyond that are counted only.
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
        var isLoaded = false
        var droppedCount: UInt64 = 0
        var counts: [String: UInt64] = [:]
    }

    private static let batchCount = 256
    private static let dirtyCountMax = 8192

    private let objects: ObjectStore
    private let state = Mutex(State())

    package init(_ objects: ObjectStore) { self.objects = objects }

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

    /// Writes down which versions need a chunk, and which mirrors have these.
    package func name(_ needs: ChunkNeeds) async throws {
        var query = Query()
        query.limit = Self.batchCount
        while true {
            let page = try await find(query)
            state.withLock { state in
                for var row in page {
                    guard let chunk = row.finding.chunk, let found = needs.names[chunk],
                        row.names != found || row.holders != needs.holders[chunk, default: []]
                    else { continue }
                    row = state.dirty[row.id] ?? row
                    row.names = Array(found.prefix(FindingRow.namesMax))
                    row.holders = Array(needs.holders[chunk, default: []].prefix(FindingRow.namesMax))
                    state.dirty[row.id] = row
                }
            }
            guard let last = page.last, page.count == query.limit else { return try await flush() }
            query.after = last.id
        }
    }

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

    /// Writes what was noted.
    package func flush() async throws {
        while true {
            let rows = state.withLock { state -> [FindingRow] in
                let rows = Array(state.dirty.values.prefix(Self.batchCount))
                for row in rows { state.dirty[row.id] = nil }
                return rows
            }
            guard !rows.isEmpty else { break }
            do {
                try await objects.write(
                    documents: rows.map { DocumentWrite(space: .finding, key: $0.key, body: $0.body) }
                )
            } catch {
                state.withLock { state in
                    for row in rows where state.dirty[row.id] == nil { state.dirty[row.id] = row }
                }
                throw error
            }
        }
        try await makeRoom()
    }

    private func makeRoom() async throws {
        var last: [UInt8]?
        while state.withLock({ $0.rowCount }) > Limits.findingCountMax {
            let page = try await objects.documents(
                .finding,
                prefix: FindingRow.prefix,
                after: last,
                limit: Self.batchCount
            )
            guard let end = page.last else { return }
            last = end.key
            let closed = page.filter { document in (try? FindingRow(document).isOpen) != true }
            guard !closed.isEmpty else { continue }
            try await objects.write(
                documents: closed.map { DocumentWrite(space: .finding, key: $0.key, body: nil) }
            )
            state.withLock { $0.rowCount -= closed.count }
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
