package import Catalog
package import StoreModel

extension MirrorDirectory {
    /// Queues a version again that a mirror should have and hasn't, or has with other bytes.
    ///
    /// Where the backend keeps versions a newer one of the key may be there already: the place in the history is taken then.
    /// One that is on its way just now is noticed by the transfer (`MirrorTransfer.isOvertaken`).
    /// - Returns: false when it can't be put right by sending.
    package func requeue(
        _ version: VersionRow,
        of bucket: BucketName,
        for mirror: MirrorID,
        keepsVersions: Bool
    ) async throws -> Bool {
        let key = MirrorKey.mirrored(mirror, version.id)
        let (noted, isOvertaken) = try await store.read { reader in
            let noted = try reader.document(.outbox, key)
            guard keepsVersions else { return (noted, false) }
            let newer = try reader.log(bucket: version.bucket, key: version.key, before: nil, limit: 256)
            let isOvertaken = try newer.contains { row in
                guard row.id > version.id else { return false }
                return try reader.document(.outbox, MirrorKey.mirrored(mirror, row.id)) != nil
            }
            // So many newer ones that it is not among them: its place is taken as well.
            return (noted, isOvertaken || !newer.contains { $0.id == version.id })
        }
        guard !isOvertaken else { return false }
        let task = MirrorTask(
            mirror: mirror,
            sequence: version.id.sequence,
            change: .made,
            bucketName: bucket,
            row: version,
            time: clock.now()
        ).queuedAgain.pendingRow
        var writes = [DocumentWrite(space: .outbox, key: task.key, body: task.body)]
        if let noted {
            writes.append(
                DocumentWrite(space: .outbox, key: key, expectation: .equals(noted.body), body: nil)
            )
        }
        try await store.write(writes)
        return true
    }
}
