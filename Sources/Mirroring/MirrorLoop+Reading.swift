internal import Catalog
internal import StoreModel

// Tasks on their way from the outbox into the window: the new ones, and those from before the mirror.
//
// A new version goes ahead of what was there before, but not ahead of older versions of its own key: a backend that
// keeps versions gets them in order. So the versions of that key that aren't there yet are queued at once, whatever the
// back-fill has come to. When it comes to them they are done already.
extension MirrorLoop {
    /// What a new task has to wait for.
    enum Ahead: Sendable {
        case nothing
        /// Versions of its key, oldest first; `isAll`: all of them.
        case tasks([MirrorTask], isQueued: [Bool], isAll: Bool)
        /// Too many to be looked for.
        case tooMany
    }

    /// Versions of one key that are put ahead at a time, and of all keys.
    private static let aheadPerKeyMax = 64
    private static let aheadCountMax = 128
    private static let clearKeyCountMax = 1 << 16
    private static let blockedKeyCountMax = 1 << 16

    mutating func readTasks(_ setup: Setup, _ keepsVersions: Bool) async throws {
        if window.rescanCount != rescans {
            rescans = window.rescanCount
            (newScan, beforeScan) = (Scan(), Scan())
        }
        let generation = worker.store.generation(of: .outbox)
        let (mayReadNew, mayReadBefore) = (mayRead(newScan, generation), mayRead(beforeScan, generation))
        if window.wantsMore(.before), mayReadBefore { try await readBefore(generation) }
        if window.wantsMore(.new), mayReadNew { try await readNew(setup, keepsVersions, generation) }
        mayReadAgain = false
    }

    private func mayRead(_ scan: Scan, _ generation: UInt64) -> Bool {
        !scan.isAtEnd || mayReadAgain && generation != scan.generation
    }

    /// What the back-fill has queued.
    private mutating func readBefore(_ generation: UInt64) async throws {
        let prefix = MirrorKey.under(MirrorKey.pendingPrefix, worker.id)
        let from = prefix + MirrorKey.bytes(window.scanBeforeFrom)
        let limit = min(worker.limits.pageSize, window.room(.before))
        // What stands further on was put ahead of something new.
        let end = min(window.boundary, backfill.map { $0.isDone ? .max : $0.cursor &+ 1 } ?? .max)
        guard window.scanBeforeFrom < end else {
            beforeScan = Scan(isAtEnd: true, generation: generation)
            return unblock()
        }
        let wanted = try await worker.store.read { reader in
            // Mostly there is none, and what stands there is new.
            let first = try reader.documents(.outbox, prefix: prefix, from: from, limit: 1).first
            guard let first, try MirrorTask(first).sequence < end else { return [MirrorTask]() }
            return try reader.documents(.outbox, prefix: prefix, from: from, limit: limit)
                .map { try MirrorTask($0) }.filter { $0.sequence < end }
        }
        window.add(wanted)
        beforeScan = Scan(isAtEnd: wanted.count < limit, generation: generation)
        if beforeScan.isAtEnd { unblock() }
    }

    /// Nothing from before is left: what had to wait for it is read.
    private mutating func unblock() {
        guard let sequence = blockedFrom, backfill?.isDone != false, window.count(of: .before) == 0 else {
            return
        }
        (blockedFrom, blockedKeys) = (nil, [])
        newScan = Scan()
        window.rescan(from: sequence)
    }

    private mutating func readNew(_ setup: Setup, _ keepsVersions: Bool, _ generation: UInt64) async throws {
        let prefix = MirrorKey.under(MirrorKey.pendingPrefix, worker.id)
        let from = prefix + MirrorKey.bytes(window.scanFrom)
        let limit = min(worker.limits.pageSize, window.room(.new))
        guard limit > 0 else { return }
        let (boundary, isFilled, id) = (window.boundary, backfill?.isDone != false, worker.id)
        let walkCountMax = worker.limits.keyWalk
        let known = KnownKeys(window: window, clear: clearKeys, aheadUpTo: aheadUpTo)
        let (page, ahead) = try await worker.store.read { reader in
            let page = try reader.documents(.outbox, prefix: prefix, from: from, limit: limit).map {
                try MirrorTask($0)
            }
            var ahead: [TaskWindow.Name: Ahead] = [:]
            let first = try reader.documents(.outbox, prefix: prefix, limit: 1).first
            let hasBefore = first.flatMap { MirrorKey.sequence(of: $0.key) }.map { $0 < boundary } ?? false
            // Only a backend that keeps versions has an order that could be wrong.
            guard keepsVersions, boundary > 0, !isFilled || hasBefore else { return (page, ahead) }
            for task in page {
                let name = TaskWindow.Name(task)
                guard ahead[name] == nil, !known.isClear(name) else { continue }
                ahead[name] = try Self.ahead(
                    of: task,
                    known.aheadUpTo[name] ?? 0,
                    boundary,
                    setup.route,
                    id,
                    walkCountMax,
                    reader
                )
            }
            return (page, ahead)
        }
        let isWhole = try await take(page, ahead)
        newScan = Scan(isAtEnd: isWhole && page.count < limit, generation: generation)
    }

    /// What is known of keys, for the reader's thread.
    private struct KnownKeys: Sendable {
        let window: TaskWindow
        let clear: Set<TaskWindow.Name>
        let aheadUpTo: [TaskWindow.Name: UInt64]

        func isClear(_ name: TaskWindow.Name) -> Bool { clear.contains(name) || window.isHeld(name) }
    }

    /// - Returns: false when a part of the page is to be read again.
    private mutating func take(_ page: [MirrorTask], _ ahead: [TaskWindow.Name: Ahead]) async throws -> Bool {
        try await queue(ahead, page)
        var aheadCount = 0
        var begun: Set<TaskWindow.Name> = []
        for task in page {
            let name = TaskWindow.Name(task)
            guard !isBlocked(name) else {
                block(task)
                continue
            }
            switch ahead[name] ?? .nothing {
            case .nothing:
                if ahead[name] != nil { noteClear(name) }
                window.add([task])
            case .tasks(let tasks, _, let isAll):
                if begun.insert(name).inserted {
                    guard aheadCount < Self.aheadCountMax else { return false }
                    aheadCount += tasks.count
                    window.addAhead(tasks)
                    aheadUpTo[name] = isAll ? nil : tasks.last?.sequence
                }
                if isAll {
                    noteClear(name)
                    window.add([task])
                } else {
                    window.leaveOut(task)
                }
            case .tooMany: block(task)
            }
        }
        return true
    }

    /// Where there are more keys than can be kept, everything that is new waits: order counts more.
    private func isBlocked(_ name: TaskWindow.Name) -> Bool {
        blockedKeys.contains(name) || blockedKeys.count >= Self.blockedKeyCountMax
    }

    private mutating func block(_ task: MirrorTask) {
        blockedFrom = min(blockedFrom ?? .max, task.sequence)
        if blockedKeys.count < Self.blockedKeyCountMax { blockedKeys.insert(TaskWindow.Name(task)) }
        window.skip(task)
    }

    private mutating func noteClear(_ name: TaskWindow.Name) {
        if clearKeys.count >= Self.clearKeyCountMax { clearKeys = [] }
        clearKeys.insert(name)
    }

    /// Writes the rows of tasks that go ahead, where the back-fill hasn't: as durable as any other.
    private mutating func queue(_ ahead: [TaskWindow.Name: Ahead], _ page: [MirrorTask]) async throws {
        var added: [MirrorTask] = []
        var begun: Set<TaskWindow.Name> = []
        var aheadCount = 0
        for task in page where !isBlocked(TaskWindow.Name(task)) {
            let name = TaskWindow.Name(task)
            guard case .tasks(let tasks, let isQueued, _) = ahead[name], begun.insert(name).inserted else {
                continue
            }
            guard aheadCount < Self.aheadCountMax else { break }
            aheadCount += tasks.count
            for (task, isQueued) in zip(tasks, isQueued) where !isQueued { added.append(task) }
        }
        guard !added.isEmpty else { return }
        let writes = added.map { DocumentWrite(space: .outbox, key: $0.pendingRow.key, body: $0.body) }
        let counted = worker.pending.mark()
        try await worker.store.write(writes + [worker.lease.proof])
        worker.pending.noteAdded(added, since: counted)
    }

    /// The versions of the task's key that were there before the mirror and are not in the backend.
    private static func ahead(
        of task: MirrorTask,
        _ sequence: UInt64,
        _ boundary: UInt64,
        _ route: MirrorRoute,
        _ id: MirrorID,
        _ walkCountMax: Int,
        _ reader: any CatalogReader
    ) throws -> Ahead {
        var found: [MirrorTask] = []
        var before = VersionID(sequence: boundary, nonce: 0)
        var count = 0
        let limit = min(walkCountMax, 256)
        while true {
            let page = try reader.log(bucket: task.bucket, key: task.key, before: before, limit: limit)
            for row in page where row.id.sequence > sequence {
                guard route.matches(bucket: task.bucketName, row: row),
                    try reader.document(.outbox, MirrorKey.mirrored(id, row.id)) == nil,
                    try reader.document(.outbox, MirrorKey.dead(id, row.id.sequence)) == nil
                else { continue }
                found.append(Self.task(before: row, task.bucketName, id))
            }
            count += page.count
            guard page.count == limit, let last = page.last else { break }
            guard count < walkCountMax else { return .tooMany }
            before = last.id
        }
        guard !found.isEmpty else { return .nothing }
        let tasks = Array(found.reversed().prefix(aheadPerKeyMax))
        let isQueued = try tasks.map {
            try reader.document(.outbox, MirrorKey.pending(id, $0.sequence)) != nil
        }
        return .tasks(tasks, isQueued: isQueued, isAll: tasks.count == found.count)
    }

    /// The task of a version that was there before the mirror.
    static func task(before row: VersionRow, _ bucketName: BucketName, _ mirror: MirrorID) -> MirrorTask {
        MirrorTask(
            mirror: mirror,
            sequence: row.id.sequence,
            change: .made,
            bucketName: bucketName,
            row: row,
            time: row.createdAt
        )
    }
}
