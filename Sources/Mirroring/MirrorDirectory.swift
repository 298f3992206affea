package import Catalog
internal import Encryption
package import StoreModel

/// The mirrors of a store: added, listed, changed, removed. Every change is one decision of the catalog.
package struct MirrorDirectory: Sendable {
    package static let countMax = 16
    private static let purgeCount = 256

    package let store: any MirrorStore
    let clock: any StoreClock
    let random: any RandomSource

    package init(
        _ store: any MirrorStore,
        clock: any StoreClock = SystemClock(),
        random: any RandomSource = SystemRandom()
    ) {
        self.store = store
        self.clock = clock
        self.random = random
    }

    // MARK: Lists

    /// In the order of their names.
    package func mirrors() async throws -> [MirrorRow] {
        try await store.read { reader in
            try reader.documents(.setting, prefix: MirrorKey.backendPrefix, limit: .max).map {
                try MirrorRow($0)
            }
        }
    }

    /// - Throws: `.noSuchSetting`.
    package func mirror(_ name: MirrorName) async throws -> MirrorRow {
        guard let row = try await store.document(.setting, MirrorRow.key(name)) else {
            throw StoreError(.noSuchSetting, "There is no mirror \(quoted(name.description)).")
        }
        return try MirrorRow(row)
    }

    package func route(_ id: MirrorID) async throws -> MirrorRoute? {
        try await store.document(.setting, MirrorKey.route(id)).map { try MirrorRoute($0) }
    }

    package func credentials(of row: MirrorRow) throws -> MirrorCredentials {
        let bytes = try store.open(row.credentials, context: MirrorCredentials.context(row.id))
        do {
            return try MirrorCredentials(bytes: bytes)
        } catch {
            throw StoreError(.storeDamaged, "The credentials of the mirror \(row.name) can't be read.")
        }
    }

    // MARK: Changes

    /// Adds a mirror. From this decision on every version that the rules take is queued with the decision that makes it;
    /// what is there already is queued by the worker, oldest first.
    /// - Throws: `.conflict` when there is one of that name, `.invalidArgument`.
    package func add(
        _ name: MirrorName,
        _ settings: MirrorSettings,
        rules: [MirrorRule],
        _ credentials: MirrorCredentials,
        isPaused: Bool = false
    ) async throws -> MirrorRow {
        try settings.check()
        guard (1...MirrorRoute.ruleCountMax).contains(rules.count) else {
            throw StoreError(.invalidArgument, "A mirror has 1 to \(MirrorRoute.ruleCountMax) rules.")
        }
        guard try await mirrors().count < Self.countMax else {
            throw StoreError(.invalidArgument, "A store has at most \(Self.countMax) mirrors.")
        }
        let id = MirrorID(rawValue: random.next())
        let row = MirrorRow(
            name: name,
            id: id,
            createdAt: clock.now(),
            settings: settings,
            isPaused: isPaused,
            credentials: try await seal(credentials, id)
        )
        let route = MirrorRoute(id: id, rules: rules).document
        do {
            try await store.write([
                DocumentWrite(space: .setting, key: row.key, expectation: .absent, body: row.body),
                DocumentWrite(space: route.space, key: route.key, expectation: .absent, body: route.body),
            ])
        } catch let error as StoreError where error.code == .conflict {
            throw StoreError(.conflict, "There is a mirror \(quoted(name.description)) already.")
        }
        return row
    }

    private func seal(_ credentials: MirrorCredentials, _ id: MirrorID) async throws -> SealedSecret {
        let bytes = credentials.bytes
        guard bytes.count <= SealedSecret.plaintextByteCountMax, !credentials.accessKey.isEmpty,
            !credentials.secret.isEmpty
        else {
            throw StoreError(
                .invalidArgument,
                "The credentials need an access key and a secret, and be short."
            )
        }
        return try await store.seal(bytes, context: MirrorCredentials.context(id))
    }

    package func setPaused(_ name: MirrorName, _ isPaused: Bool) async throws {
        let old = try await mirror(name)
        var row = old
        row.isPaused = isPaused
        try await replace(old, row)
    }

    /// New keys for the same place.
    package func setCredentials(_ name: MirrorName, _ credentials: MirrorCredentials) async throws {
        let old = try await mirror(name)
        var row = old
        row.credentials = try await seal(credentials, old.id)
        try await replace(old, row)
    }

    /// Seals credentials with the newest master key where an older one has sealed them: after a rotation, or where one was
    /// cut short. Until then the older one opens them.
    /// - Returns: of how many mirrors.
    package func sealAnew() async throws -> Int {
        var count = 0
        for name in try await mirrors().map(\.name) where try await sealAnew(name) { count += 1 }
        return count
    }

    private func sealAnew(_ name: MirrorName) async throws -> Bool {
        while true {
            do {
                let old = try await mirror(name)
                // What can't be opened any more stays as it is: it is told when the mirror is used.
                guard try !store.isSealedWithNewestKey(old.credentials), let known = try? credentials(of: old)
                else { return false }
                var row = old
                row.credentials = try await seal(known, old.id)
                try await replace(old, row)
                return true
            } catch let error as StoreError where error.code == .conflict {
                // Changed meanwhile: by somebody who may have sealed it before the new key was there.
                continue
            } catch let error as StoreError where error.code == .noSuchSetting {
                return false
            }
        }
    }

    /// Other settings for the same place.
    func setSettings(_ name: MirrorName, _ settings: MirrorSettings) async throws {
        let old = try await mirror(name)
        var row = old
        row.settings = settings
        try await replace(old, row)
    }

    private func replace(_ old: MirrorRow, _ row: MirrorRow) async throws {
        guard row != old else { return }
        try await store.write([
            DocumentWrite(space: .setting, key: row.key, expectation: .equals(old.body), body: row.body)
        ])
    }

    /// Removes a mirror and what waits for it. What is in the backend stays.
    /// - Throws: `.conflict` while a bucket waits for the mirror: nothing put there would ever be acknowledged.
    package func remove(_ name: MirrorName) async throws {
        let row = try await mirror(name)
        if let bucket = try await bucketThatWaits(for: name) {
            throw StoreError(
                .conflict,
                "The bucket \(quoted(bucket)) waits for the mirror \(quoted(name.description)) with every write.",
                advice: "First: holdfast mirror ack \(bucket) --off"
            )
        }
        try await store.write([
            DocumentWrite(space: .setting, key: row.key, expectation: .equals(row.body), body: nil),
            DocumentWrite(space: .setting, key: MirrorKey.route(row.id), body: nil),
        ])
        try await sweep()
    }

    private func bucketThatWaits(for name: MirrorName) async throws -> String? {
        try await store.read { reader in
            for bucket in try reader.buckets() {
                let key = BucketSettingKey.key(bucket.id, BucketSettingName.mirrorAcknowledgement)
                guard let document = try reader.document(.bucketSetting, key),
                    // What can't be read names nobody.
                    let policy = try? MirrorAcknowledgement(body: document.body),
                    policy.mirrors.contains(name.description)
                else { continue }
                return bucket.name.description
            }
            return nil
        }
    }

    /// Removes what mirrors that are gone have left. Removing is done in small steps; a crash may come in between.
    ///
    /// A mirror's rows never come before its route, and ids are never used again: what has no route in the state that its
    /// rows were read from is gone for good, also while others are added.
    package func sweep() async throws {
        let prefixes = [
            MirrorKey.pendingPrefix, MirrorKey.deadPrefix, MirrorKey.mirroredPrefix, MirrorKey.uploadPrefix,
            MirrorKey.backfillPrefix, MirrorKey.leasePrefix, MirrorKey.leaseTimePrefix,
        ]
        for prefix in prefixes {
            var from: [UInt8] = []
            while true {
                let start = from
                let (rows, known) = try await store.read { reader in
                    (
                        try reader.documents(.outbox, prefix: prefix, from: start, limit: Self.purgeCount),
                        Set(try MirrorRoute.all(in: reader).map(\.id))
                    )
                }
                guard let first = rows.first, let id = MirrorKey.id(of: first.key, under: prefix) else {
                    break
                }
                let under = MirrorKey.under(prefix, id)
                if known.contains(id) {
                    guard let next = KeyBounds.successor(ofPrefix: under) else { break }
                    from = next
                } else {
                    let gone = rows.filter { $0.key.starts(with: under) }
                    try await store.write(gone.map { DocumentWrite(space: .outbox, key: $0.key, body: nil) })
                    from = first.key
                }
            }
        }
    }

    // MARK: What was given up

    package func deadLetters(_ row: MirrorRow, limit: Int) async throws -> [DeadLetter] {
        let prefix = MirrorKey.under(MirrorKey.deadPrefix, row.id)
        return try await store.read { reader in
            try reader.documents(.outbox, prefix: prefix, limit: limit).map { try DeadLetter($0) }
        }
    }

    /// Queues again what was given up. Where the backend keeps versions, what newer versions have overtaken stays: its
    /// place in the history is taken.
    /// - Returns: how many were queued, and how many stay.
    package func retry(_ name: MirrorName) async throws -> (queued: Int, kept: Int) {
        let row = try await mirror(name)
        let prefix = MirrorKey.under(MirrorKey.deadPrefix, row.id)
        var (queued, kept) = (0, 0)
        var last: [UInt8]?
        while true {
            let after = last
            let page = try await store.read { reader in
                try reader.documents(.outbox, prefix: prefix, after: after, limit: Self.purgeCount).map {
                    document in
                    let letter = try DeadLetter(document)
                    return (document, letter, try Self.isOvertaken(letter, reader))
                }
            }
            guard let end = page.last?.0.key else { return (queued, kept) }
            last = end
            var writes: [DocumentWrite] = []
            for (document, letter, isOvertaken) in page {
                guard !isOvertaken else {
                    kept += 1
                    continue
                }
                queued += 1
                let task = letter.task.queuedAgain.pendingRow
                writes.append(
                    DocumentWrite(
                        space: .outbox,
                        key: document.key,
                        expectation: .equals(document.body),
                        body: nil
                    )
                )
                writes.append(DocumentWrite(space: .outbox, key: task.key, body: task.body))
            }
            if !writes.isEmpty { try await store.write(writes) }
        }
    }

    private static func isOvertaken(_ letter: DeadLetter, _ reader: any CatalogReader) throws -> Bool {
        let task = letter.task
        guard !letter.holdsKey, task.change == .made else { return false }
        // The newest versions of a key; one of them is in the mirror already.
        let newer = try reader.log(bucket: task.bucket, key: task.key, before: nil, limit: 64)
        return try newer.contains { row in
            guard row.id > task.version else { return false }
            return try reader.document(.outbox, MirrorKey.mirrored(task.mirror, row.id)) != nil
        }
    }
}
