internal import BlobVolume
internal import StoreModel

extension Replicator {
    /// Refuses an upload that the volumes have no room for before its body comes, so that a client does not send for
    /// nothing and what is left stays for deletes and garbage collection.
    /// - Parameter byteCount: what the client says that it will send; nil: it doesn't say.
    /// - Throws: `StoreError` with `.storeFull`, naming the volumes.
    package func checkHeadroom(for byteCount: UInt64?) throws {
        var roomy = 0
        var reasons: [String] = []
        // With more volumes than copies each gets its share; a little more, because shares are not even.
        let count = UInt64(volumes.slots.count)
        let copies = UInt64(quorum.replicaCount)
        let share = byteCount.map { count > copies ? $0 / count * copies + $0 / 8 : $0 }
        var fullCount = 0
        for index in volumes.slots.indices {
            guard let replica = volumes.usableReplica(index) else { continue }
            if replica.hasRoom(for: share) {
                roomy += 1
            } else {
                fullCount += 1
                reasons.append(volumes.slots[index].label)
            }
        }
        // Volumes that are out are another matter, which the write itself reports.
        guard roomy < quorum.writeQuorum, roomy + fullCount >= quorum.writeQuorum else { return }
        throw StoreError(
            .storeFull,
            "There is no room for \(byteCount.map { "\($0) bytes" } ?? "an upload") on \(fullCount) of "
                + "\(roomy + fullCount) volumes: \(reasons.joined(separator: ", ")). Nothing was taken in.",
            advice:
                "Delete what is not needed and run holdfast gc run, or add space; deletes and gc still work."
        )
    }
}
