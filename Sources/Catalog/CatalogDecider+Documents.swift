internal import StoreModel

// Documents, and the settings of buckets, which are documents.
extension CatalogDecider {
    /// All of them or none: a failed expectation fails the command.
    func write(_ writes: [DocumentWrite], _ draft: inout Draft) throws(StoreError) {
        guard writes.count <= 1 || Set(writes.map(\.name)).count == writes.count else {
            throw StoreError(.internalFault, "A command writes a document twice.")
        }
        for write in writes {
            let old = try document(write.name, &draft)
            try check(write, old)
            switch write.change {
            case .keep: continue
            case .remove:
                if let old {
                    if old.space == .account { try checkOwnsNothing(old, &draft) }
                    noteRemovedRoute(old, &draft)
                    draft.remove(old)
                }
            case .put(let body, let payload):
                try RowLimits.check(document: write.key, body: body)
                let row = DocumentRow(space: write.space, key: write.key, body: body, payload: payload)
                if row != old {
                    try noteRoute(row, isNew: old == nil, &draft)
                    draft.put(row, replacing: old)
                }
            }
        }
    }

    /// An account goes only when no bucket is its own, those among them that are being made: who makes one requires the
    /// account in the same decision.
    private func checkOwnsNothing(_ account: DocumentRow, _ draft: inout Draft) throws(StoreError) {
        let id = Hex.encode(account.key)
        let owned = buckets.values.filter { $0.owner == id }.map(\.name).sorted()
        guard !owned.isEmpty else { return }
        for name in owned { draft.depend(on: pending.bucketDecisions[name]) }
        let shown =
            owned.prefix(5).map(\.description).joined(separator: ", ") + (owned.count > 5 ? ", …" : "")
        throw StoreError(
            .conflict,
            "The account owns \(owned.count) \(owned.count == 1 ? "bucket" : "buckets"): \(shown).",
            advice: "Remove them first."
        )
    }

    private func check(_ write: DocumentWrite, _ old: DocumentRow?) throws(StoreError) {
        let holds =
            switch write.expectation {
            case .any: true
            case .absent: old == nil
            case .present: old != nil
            case .equals(let body): old?.body == body
            }
        guard !holds else { return }
        var what = "has changed"
        if old == nil {
            what = "isn't there"
        } else if write.expectation == .absent {
            what = "is there already"
        }
        throw StoreError(write.refusal, "The \(write.space) that the request is about \(what).")
    }

    func setBucketSettings(
        of name: BucketName,
        _ settings: [BucketSetting],
        _ draft: inout Draft
    ) throws(StoreError) -> CatalogOutcome {
        let row = try bucket(name, &draft)
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html: "Object Lock works only in buckets
        // that have S3 Versioning enabled", and it stays for good.
        for setting in settings where setting.name == BucketSettingName.objectLock {
            guard row.versioning == .enabled, setting.body != nil else {
                throw StoreError(
                    .invalidBucketState,
                    "Object lock needs versioning, and can't be taken back: \(quoted(name.description))."
                )
            }
        }
        let writes = settings.map {
            DocumentWrite(
                space: .bucketSetting,
                key: BucketSettingKey.key(row.id, $0.name),
                body: $0.body
            )
        }
        try write(writes, &draft)
        return .bucket(row)
    }

    /// - Throws: `.invalidBucketState` when the bucket has object lock.
    func checkUnlocked(_ bucket: BucketRow, _ draft: inout Draft) throws(StoreError) {
        let key = BucketSettingKey.key(bucket.id, BucketSettingName.objectLock)
        guard try document(DocumentName(.bucketSetting, key), &draft) == nil else {
            throw StoreError(
                .invalidBucketState,
                "The bucket \(quoted(bucket.name.description)) has object lock: its versioning stays enabled."
            )
        }
    }
}
