internal import StoreModel

// Attributes of versions, and what locks forbid.
extension CatalogDecider {
    /// - Throws: `.objectLocked` when the version may not be removed now.
    func checkUnlocked(
        _ row: VersionRow,
        bypassesGovernance: Bool,
        _ draft: inout Draft
    ) throws(StoreError) {
        guard row.isLocked(at: draft.time, bypassesGovernance: bypassesGovernance) else { return }
        let reason = row.attributes.legalHold == true ? "a legal hold" : "a retention period"
        throw StoreError(
            .objectLocked,
            "The version \(row.id) of \(quoted(row.key.bytes)) is protected by \(reason)."
        )
    }

    /// Attributes belong to the version and don't make a new one.
    func setAttributes(
        of address: VersionAddress,
        _ changes: [AttributeChange],
        _ conditions: Conditions,
        _ bypassesGovernance: Bool,
        _ draft: inout Draft
    ) throws(StoreError) -> CatalogOutcome {
        let bucket = try bucket(address.bucket, &draft)
        let old = try existing(address.selector, of: address.key, in: bucket, &draft)
        try conditions.check(on: old, key: address.key)
        var row = old
        for change in changes {
            if change.tag == .wholeSHA256 {
                try checkFound(change.bytes, of: old)
                row.attributes.wholeSHA256 = old.attributes.wholeSHA256 ?? change.bytes.flatMap { Digest($0) }
                continue
            }
            guard !VersionAttributes.Tag.ofContent.contains(change.tag) else {
                throw StoreError(
                    .internalFault,
                    "Attribute \(change.tag.rawValue) belongs to the bytes and can't be changed."
                )
            }
            if change.tag == .retention {
                try check(change.bytes, replacing: old.attributes.retention, bypassesGovernance, &draft)
            }
            row.attributes[change.tag] = change.bytes
        }
        if row.attributes.owner == bucket.owner { row.attributes.owner = nil }
        try RowLimits.check(row.attributes)
        guard row != old else { return .version(old, replaced: old) }
        // What was found out about the bytes is no change that a mirror has to follow.
        draft.replace(old, with: row, isMirrored: changes.contains { $0.tag != .wholeSHA256 })
        return .version(row, replaced: old)
    }

    /// What the bytes hash to is noted once, and never taken back.
    private func checkFound(_ bytes: [UInt8]?, of row: VersionRow) throws(StoreError) {
        guard let digest = bytes.flatMap({ Digest($0) }), row.kind == .object,
            row.attributes.encryption == nil,
            row.sha256 == nil || row.sha256 == digest
        else {
            throw StoreError(
                .internalFault,
                "Version \(row.id) of \(quoted(row.key.bytes)) can't have this SHA-256 noted."
            )
        }
    }

    /// A retention that still holds may be made longer. In compliance mode that is all; in governance mode who may
    /// bypass it may do anything.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html#object-lock-retention-modes
    private func check(
        _ bytes: [UInt8]?,
        replacing old: ObjectRetention?,
        _ bypassesGovernance: Bool,
        _ draft: inout Draft
    ) throws(StoreError) {
        let new = bytes.flatMap { ObjectRetention($0) }
        guard bytes == nil || new != nil else {
            throw StoreError(.internalFault, "The bytes are no retention.")
        }
        guard let old, old.until > draft.time else { return }
        if let new, new.mode == old.mode, new.until >= old.until { return }
        if old.mode == .governance, bypassesGovernance { return }
        throw StoreError(
            .objectLocked,
            "The retention of the version can be made longer, and neither shorter nor weaker."
        )
    }
}
