internal import StoreModel

// Tasks for mirrors: decided with the versions that they are about, so that neither is ever there without the other.
extension CatalogDecider {
    /// Adds a task for each mirror that takes what the decision did to a version.
    mutating func addMirrorTasks(_ draft: inout Draft) {
        guard !mirrors.isEmpty, let main = draft.versionChanges.last else { return }
        guard let bucket = nameOfBucket(main.row.bucket) else { return }
        // A decision is about one key; where it removes a version as well as making one, the new one comes last.
        let replaced = draft.versionChanges.count > 1 ? draft.versionChanges.first?.row.id : nil
        for route in mirrors.values.sorted(by: { $0.id < $1.id }) {
            guard
                route.takes(main, bucket)
                    || replaced != nil && route.matches(bucket: bucket, key: main.row.key)
            else { continue }
            let task = MirrorTask(
                mirror: route.id,
                sequence: draft.id.sequence,
                change: main.change,
                bucketName: bucket,
                row: main.row,
                replaced: replaced,
                time: draft.time
            )
            draft.put(task.pendingRow, replacing: nil)
        }
    }

    /// A bucket's name never changes, and its number is never given again.
    private mutating func nameOfBucket(_ id: BucketID) -> BucketName? {
        if let name = bucketNames[id] { return name }
        let name = buckets.values.first { $0.id == id }?.name
        bucketNames[id] = name
        return name
    }

    /// Looks at a setting that is about to be written: the rules of a mirror count from this decision on, and what was
    /// there before is to be queued.
    func noteRoute(_ row: DocumentRow, isNew: Bool, _ draft: inout Draft) throws(StoreError) {
        guard row.space == .setting, row.key.starts(with: MirrorKey.routePrefix) else { return }
        let route: MirrorRoute
        do throws(CatalogError) {
            route = try MirrorRoute(row)
        } catch {
            throw error.storeError
        }
        draft.routeChanges.append((route.id, route))
        guard isNew else { return }
        let name = DocumentName(.outbox, MirrorKey.backfill(route.id))
        let state = MirrorBackfill(cursor: 0, end: draft.id.sequence)
        draft.put(
            DocumentRow(space: name.space, key: name.key, body: state.body),
            replacing: try document(name, &draft)
        )
    }

    func noteRemovedRoute(_ row: DocumentRow, _ draft: inout Draft) {
        guard row.space == .setting, let id = MirrorKey.id(of: row.key, under: MirrorKey.routePrefix) else {
            return
        }
        draft.routeChanges.append((id, nil))
    }
}

extension MirrorRoute {
    fileprivate func takes(_ change: Draft.VersionChange, _ bucket: BucketName) -> Bool {
        switch change.change {
        case .made, .changed: matches(bucket: bucket, row: change.row)
        case .removed: matches(bucket: bucket, key: change.row.key)
        }
    }
}
