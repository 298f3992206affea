internal import StoreModel

// What a decision sees: pending changes over the index. Each look notes on which pending decision it rests.
extension CatalogDecider {
    func bucket(_ name: BucketName, _ draft: inout Draft) throws(StoreError) -> BucketRow {
        draft.depend(on: pending.bucketDecisions[name])
        guard let row = buckets[name] else {
            throw StoreError(.noSuchBucket, "There is no bucket \(quoted(name.description)).")
        }
        return row
    }

    func version(
        _ selector: VersionSelector,
        of key: ObjectKey,
        in bucket: BucketRow,
        _ draft: inout Draft
    ) throws(StoreError) -> VersionRow? {
        let changed = pending.objects[.init(bucket: bucket.id, key: key)]
        if let changed { draft.depend(on: changed.lastDecision) }
        do {
            switch selector {
            case .newest: return try newest(of: key, in: bucket.id, changed, draft.reader)
            case .null: return try nullVersion(of: key, in: bucket.id, changed, draft.reader)
            case .id(let id):
                if let change = changed?.change(of: id) { return change.row }
                return try draft.reader.version(bucket: bucket.id, key: key, selector: .id(id))
            }
        } catch {
            throw error.storeError
        }
    }

    /// The current object of a key: the newest version, unless it is a delete marker.
    func currentObject(
        of key: ObjectKey,
        in bucket: BucketRow,
        _ draft: inout Draft
    ) throws(StoreError) -> VersionRow? {
        let row = try version(.newest, of: key, in: bucket, &draft)
        return row?.isDeleteMarker == true ? nil : row
    }

    func document(_ name: DocumentName, _ draft: inout Draft) throws(StoreError) -> DocumentRow? {
        if let change = pending.documents[name] {
            draft.depend(on: change.decidedAt)
            return change.row
        }
        do { return try draft.reader.document(name.space, name.key) } catch { throw error.storeError }
    }

    /// The settings of a bucket.
    func settings(of bucket: BucketRow, _ draft: inout Draft) throws(StoreError) -> [DocumentRow] {
        let prefix = BucketSettingKey.prefix(bucket.id)
        var rows: [DocumentRow] = []
        do {
            for row in try draft.reader.documents(.bucketSetting, prefix: prefix, limit: .max)
            where pending.documents[row.name] == nil { rows.append(row) }
        } catch {
            throw error.storeError
        }
        for (name, change) in pending.documents
        where name.space == .bucketSetting && name.key.starts(with: prefix) {
            draft.depend(on: change.decidedAt)
            if let row = change.row { rows.append(row) }
        }
        return rows.sorted { $0.name < $1.name }
    }

    /// Whether a bucket holds no version and no delete marker.
    func isEmpty(_ bucket: BucketRow, _ draft: inout Draft) throws(StoreError) -> Bool {
        for (name, object) in pending.objects where name.bucket == bucket.id {
            draft.depend(on: object.lastDecision)
            if object.changes.contains(where: { $0.row != nil }) { return false }
        }
        var request = VersionListRequest(bucket: bucket.id)
        do {
            while true {
                let page = try draft.reader.listVersions(request)
                let isAnyLeft = page.versions.contains { listed in
                    let name = PendingCatalog.ObjectName(bucket: bucket.id, key: listed.row.key)
                    return pending.objects[name]?.change(of: listed.row.id) == nil
                }
                if isAnyLeft { return false }
                guard let next = page.next else { return true }
                request.startAfter = next
            }
        } catch {
            throw error.storeError
        }
    }

    private func newest(
        of key: ObjectKey,
        in bucket: BucketID,
        _ changed: PendingCatalog.PendingObject?,
        _ reader: any CatalogReader
    ) throws(CatalogError) -> VersionRow? {
        guard let changed else { return try reader.version(bucket: bucket, key: key, selector: .newest) }
        if let row = changed.newestIfFresh { return row }
        let pendingNewest = changed.changes.last { $0.row != nil }?.row
        // The index's newest versions may all be among the pending changes; the first that isn't counts.
        var before: VersionID?
        while true {
            let page = try reader.log(bucket: bucket, key: key, before: before, limit: 16)
            if let row = page.first(where: { changed.change(of: $0.id) == nil }) {
                guard let pendingNewest else { return row }
                return row.id > pendingNewest.id ? row : pendingNewest
            }
            guard let last = page.last else { return pendingNewest }
            before = last.id
        }
    }

    private func nullVersion(
        of key: ObjectKey,
        in bucket: BucketID,
        _ changed: PendingCatalog.PendingObject?,
        _ reader: any CatalogReader
    ) throws(CatalogError) -> VersionRow? {
        if let row = changed?.changes.last(where: { $0.row?.isNull == true })?.row { return row }
        guard let row = try reader.version(bucket: bucket, key: key, selector: .null) else { return nil }
        return changed?.change(of: row.id) == nil ? row : nil
    }
}
