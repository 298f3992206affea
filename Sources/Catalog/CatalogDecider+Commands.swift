internal import StoreModel

// The commands, each with the rule of S3 that it follows.
extension CatalogDecider {
    mutating func perform(_ command: CatalogCommand, _ draft: inout Draft) throws(StoreError)
        -> CatalogOutcome
    {
        switch command {
        case .createBucket(let name, let versioning, let owner, let settings, let requires):
            try write(requires, &draft)
            return try createBucket(name, versioning, owner, settings, &draft)
        case .deleteBucket(let name):
            return try deleteBucket(name, &draft)
        case .setVersioning(let name, let state):
            return try setVersioning(of: name, to: state, &draft)
        case .putObject(let put):
            return try putObject(put, &draft)
        case .deleteObject(let bucket, let key, let conditions):
            return try deleteObject(key, in: bucket, conditions, &draft)
        case .deleteVersion(let address, let conditions, let bypassesGovernance):
            return try deleteVersion(address, conditions, bypassesGovernance, &draft)
        case .restore(let bucket, let key, let version):
            return try restore(key, in: bucket, version, &draft)
        case .copy(let copy):
            return try self.copy(copy, &draft)
        case .setTags(let address, let tags):
            return try setTags(of: address, to: tags, &draft)
        case .setAttributes(let address, let changes, let conditions, let bypassesGovernance):
            return try setAttributes(of: address, changes, conditions, bypassesGovernance, &draft)
        case .documents(let writes):
            try write(writes, &draft)
            return .none
        case .setBucketSettings(let name, let settings):
            return try setBucketSettings(of: name, settings, &draft)
        }
    }

    // MARK: Buckets

    private mutating func createBucket(
        _ name: BucketName,
        _ versioning: VersioningState,
        _ owner: String?,
        _ settings: [BucketSetting],
        _ draft: inout Draft
    ) throws(StoreError) -> CatalogOutcome {
        draft.depend(on: pending.bucketDecisions[name])
        guard buckets[name] == nil else {
            throw StoreError(.bucketAlreadyExists, "The bucket \(quoted(name.description)) already exists.")
        }
        try RowLimits.check(owner: owner)
        let row = BucketRow(
            id: BucketID(rawValue: draft.id.sequence),
            name: name,
            createdAt: draft.time,
            versioning: versioning,
            owner: owner
        )
        let documents = settings.compactMap { setting in
            setting.body.map {
                DocumentRow(
                    space: .bucketSetting,
                    key: BucketSettingKey.key(row.id, setting.name),
                    body: $0
                )
            }
        }
        guard Set(documents.map(\.name)).count == documents.count else {
            throw StoreError(.invalidArgument, "Two settings of the bucket have the same name.")
        }
        for document in documents { try RowLimits.check(document: document.key, body: document.body) }
        draft.put(row, replacing: nil)
        for document in documents { draft.put(document, replacing: nil) }
        buckets[name] = row
        return .bucket(row)
    }

    /// "All objects (including all object versions and delete markers) in the bucket must be deleted before
    /// the bucket itself can be deleted."
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucket.html
    private mutating func deleteBucket(
        _ name: BucketName,
        _ draft: inout Draft
    ) throws(StoreError) -> CatalogOutcome {
        let row = try bucket(name, &draft)
        guard try isEmpty(row, &draft) else {
            throw StoreError(
                .bucketNotEmpty,
                "The bucket \(quoted(name.description)) still holds versions or delete markers.",
                advice: "Every version and every delete marker has to be deleted first."
            )
        }
        for setting in try settings(of: row, &draft) { draft.remove(setting) }
        draft.remove(row)
        buckets[name] = nil
        return .bucket(row)
    }

    /// "After you version-enable a bucket, it can never return to an unversioned state."
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html
    private mutating func setVersioning(
        of name: BucketName,
        to state: VersioningState,
        _ draft: inout Draft
    ) throws(StoreError) -> CatalogOutcome {
        let old = try bucket(name, &draft)
        guard old.versioning != state else { return .bucket(old) }
        guard state != .off else {
            throw StoreError(
                .invalidArgument,
                "Versioning of \(quoted(name.description)) can be suspended but no longer switched off."
            )
        }
        if state == .suspended { try checkUnlocked(old, &draft) }
        var row = old
        row.versioning = state
        draft.put(row, replacing: old)
        buckets[name] = row
        return .bucket(row)
    }

    // MARK: New versions

    private func putObject(_ put: PutCommand, _ draft: inout Draft) throws(StoreError) -> CatalogOutcome {
        try RowLimits.check(content: put.content, metadata: put.metadata, tags: put.tags)
        try RowLimits.check(put.attributes)
        let bucket = try bucket(put.bucket, &draft)
        try write(put.documents, &draft)
        try check(put.conditions, on: put.key, in: bucket, &draft)
        return try add(
            put.key,
            in: bucket,
            put.content,
            put.metadata,
            put.tags,
            put.attributes,
            restoredFrom: nil,
            &draft
        )
    }

    private func restore(
        _ key: ObjectKey,
        in bucket: BucketName,
        _ id: VersionID,
        _ draft: inout Draft
    ) throws(StoreError) -> CatalogOutcome {
        let bucket = try self.bucket(bucket, &draft)
        let source = try existing(.id(id), of: key, in: bucket, &draft)
        var attributes = source.attributes
        // A lock is on the version that it was put on.
        attributes.retention = nil
        attributes.legalHold = nil
        return try add(
            key,
            in: bucket,
            source.content,
            source.metadata,
            source.tags,
            attributes,
            restoredFrom: id,
            &draft
        )
    }

    private func copy(_ copy: CopyCommand, _ draft: inout Draft) throws(StoreError) -> CatalogOutcome {
        let sourceBucket = try bucket(copy.source.bucket, &draft)
        let source = try existing(copy.source.selector, of: copy.source.key, in: sourceBucket, &draft)
        try copy.sourceConditions.check(on: source, key: copy.source.key)
        let bucket = try bucket(copy.bucket, &draft)
        let metadata = copy.metadata ?? source.metadata
        let tags = copy.tags ?? source.tags
        var attributes = copy.attributes
        for tag in VersionAttributes.Tag.ofContent { attributes[tag] = source.attributes[tag] }
        try RowLimits.check(content: source.content, metadata: metadata, tags: tags)
        try RowLimits.check(attributes)
        try write(copy.documents, &draft)
        try check(copy.conditions, on: copy.key, in: bucket, &draft)
        return try add(
            copy.key,
            in: bucket,
            source.content,
            metadata,
            tags,
            attributes,
            restoredFrom: nil,
            &draft
        )
    }

    /// "If versioning is suspended, S3 adds the null version ID to every subsequent object stored" and
    /// overwrites a null version that is there, wherever it stands in the history; other versions stay.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/AddingObjectstoVersionSuspendedBuckets.html
    private func add(
        _ key: ObjectKey,
        in bucket: BucketRow,
        _ content: ObjectContent,
        _ metadata: ObjectMetadata,
        _ tags: [NamedValue],
        _ attributes: VersionAttributes,
        restoredFrom: VersionID?,
        _ draft: inout Draft
    ) throws(StoreError) -> CatalogOutcome {
        var attributes = attributes
        // The rule, not the exception, so it isn't spelled out in every row.
        if let owner = attributes.owner, owner == bucket.owner { attributes.owner = nil }
        let replaced = try removeNullVersion(of: key, in: bucket, &draft)
        let row = VersionRow(
            bucket: bucket.id,
            key: key,
            id: draft.id,
            isNull: bucket.versioning != .enabled,
            kind: .object,
            createdAt: draft.time,
            content: content,
            metadata: metadata,
            tags: tags,
            attributes: attributes,
            operation: draft.operation,
            restoredFrom: restoredFrom
        )
        draft.put(row)
        return .version(row, replaced: replaced)
    }

    /// Where history isn't kept, makes room for the new null version. Where it is, there is nothing to look
    /// up.
    private func removeNullVersion(
        of key: ObjectKey,
        in bucket: BucketRow,
        _ draft: inout Draft
    ) throws(StoreError) -> VersionRow? {
        guard bucket.versioning != .enabled else { return nil }
        guard let old = try version(.null, of: key, in: bucket, &draft) else { return nil }
        try checkUnlocked(old, bypassesGovernance: false, &draft)
        draft.remove(old)
        return old
    }

    // MARK: Deletes

    /// Enabled: "inserts a delete marker", whether or not the key exists. Suspended: removes the null
    /// version, if there is one, and inserts a delete marker with the null version id. Off: removes the
    /// object.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeletingObjectsfromVersioningSuspendedBuckets.html
    private func deleteObject(
        _ key: ObjectKey,
        in bucket: BucketName,
        _ conditions: Conditions,
        _ draft: inout Draft
    ) throws(StoreError) -> CatalogOutcome {
        let bucket = try self.bucket(bucket, &draft)
        try check(conditions, on: key, in: bucket, &draft)
        let removed = try removeNullVersion(of: key, in: bucket, &draft)
        guard bucket.versioning != .off else { return .deleted(marker: nil, removed: removed) }
        let marker = VersionRow(
            bucket: bucket.id,
            key: key,
            id: draft.id,
            isNull: bucket.versioning != .enabled,
            kind: .deleteMarker,
            createdAt: draft.time,
            content: .nothing,
            operation: draft.operation
        )
        draft.put(marker)
        return .deleted(marker: marker, removed: removed)
    }

    /// Removing the newest version makes the one before it current; removing a delete marker brings the
    /// object back. A version that isn't there is no error, so that a retry succeeds.
    private func deleteVersion(
        _ address: VersionAddress,
        _ conditions: Conditions,
        _ bypassesGovernance: Bool,
        _ draft: inout Draft
    ) throws(StoreError) -> CatalogOutcome {
        let bucket = try bucket(address.bucket, &draft)
        let found = try version(address.selector, of: address.key, in: bucket, &draft)
        if !conditions.isEmpty {
            try conditions.check(on: found?.isDeleteMarker == true ? nil : found, key: address.key)
        }
        guard let row = found else { return .deleted(marker: nil, removed: nil) }
        if let tags = conditions.ifNoncurrentWithTags {
            let newest = try version(.newest, of: address.key, in: bucket, &draft)
            guard newest?.id != row.id, row.tags == tags else {
                throw StoreError(
                    .preconditionFailed,
                    "Version \(row.id) of \(quoted(address.key.bytes)) is the newest by now, or has other tags."
                )
            }
        }
        try checkUnlocked(row, bypassesGovernance: bypassesGovernance, &draft)
        draft.remove(row)
        return .deleted(marker: nil, removed: row)
    }

    // MARK: Tags

    /// Tags belong to the version and don't make a new one.
    private func setTags(
        of address: VersionAddress,
        to tags: [NamedValue],
        _ draft: inout Draft
    ) throws(StoreError) -> CatalogOutcome {
        try RowLimits.check(tags: tags)
        let bucket = try bucket(address.bucket, &draft)
        let old = try existing(address.selector, of: address.key, in: bucket, &draft)
        guard old.tags != tags else { return .version(old, replaced: old) }
        var row = old
        row.tags = tags
        draft.replace(old, with: row)
        return .version(row, replaced: old)
    }

    // MARK: Shared

    func existing(
        _ selector: VersionSelector,
        of key: ObjectKey,
        in bucket: BucketRow,
        _ draft: inout Draft
    ) throws(StoreError) -> VersionRow {
        guard let row = try version(selector, of: key, in: bucket, &draft) else {
            if selector == .newest {
                throw StoreError(.noSuchKey, "There is no object \(quoted(key.bytes)) in \(bucket.name).")
            }
            throw StoreError(
                .noSuchVersion,
                "There is no such version of \(quoted(key.bytes)) in \(bucket.name)."
            )
        }
        guard !row.isDeleteMarker else {
            if selector == .newest {
                throw StoreError(.noSuchKey, "The object \(quoted(key.bytes)) in \(bucket.name) is deleted.")
            }
            throw StoreError(
                .methodNotAllowed,
                "The version \(row.id) of \(quoted(key.bytes)) in \(bucket.name) is a delete marker."
            )
        }
        return row
    }

    private func check(
        _ conditions: Conditions,
        on key: ObjectKey,
        in bucket: BucketRow,
        _ draft: inout Draft
    ) throws(StoreError) {
        guard !conditions.isEmpty else { return }
        try conditions.check(on: try currentObject(of: key, in: bucket, &draft), key: key)
    }
}
