package import Catalog
package import StoreModel

/// What a delete did. Both nil: there was nothing to delete, which is no error.
package struct DeleteResult: Hashable, Sendable {
    /// The delete marker that was added.
    package let marker: VersionRow?
    /// The version or delete marker that was removed for good.
    package let removed: VersionRow?
}

extension ObjectStore {
    /// Without a named version: hides the object behind a delete marker where the bucket keeps history. With one:
    /// removes that version for good.
    /// - Parameters:
    ///   - conditions: On the current object, or on the named version.
    ///   - bypassesGovernance: Whether a retention in governance mode doesn't hinder it.
    package func delete(
        _ address: VersionAddress,
        conditions: Conditions = .none,
        bypassesGovernance: Bool = false,
        operation: OperationID? = nil
    ) async throws -> DeleteResult {
        let command: CatalogCommand
        if address.selector == .newest {
            command = .deleteObject(bucket: address.bucket, key: address.key, conditions: conditions)
        } else {
            command = .deleteVersion(
                address,
                conditions: conditions,
                bypassesGovernance: bypassesGovernance
            )
        }
        let outcome = try await commit(command, operation: operation)
        guard case .deleted(let marker, let removed) = outcome else { throw outcome.unexpected }
        return DeleteResult(marker: marker, removed: removed)
    }

    /// Deletes many keys or versions of a bucket, each as if alone.
    /// - Returns: one result for each, in their order.
    package func deleteMany(
        _ targets: [DeleteTarget],
        in bucket: BucketName,
        bypassesGovernance: Bool = false
    ) async throws -> [Result<DeleteResult, StoreError>] {
        guard targets.count <= Limits.deleteCountMax else {
            throw StoreError(
                .invalidArgument,
                "\(targets.count) keys to delete; at most \(Limits.deleteCountMax) are allowed."
            )
        }
        _ = try await bucketConfiguration(bucket)
        var results: [Result<DeleteResult, StoreError>?] = Array(repeating: nil, count: targets.count)
        // So many that a group commit has something to gather.
        let inFlightMax = 32
        try await withThrowingTaskGroup(of: (Int, Result<DeleteResult, StoreError>).self) { group in
            var next = 0
            func start() {
                guard next < targets.count else { return }
                let (index, target) = (next, targets[next])
                next += 1
                group.addTask {
                    (index, try await self.delete(target, in: bucket, bypassesGovernance))
                }
            }
            for _ in 0..<inFlightMax { start() }
            while let (index, result) = try await group.next() {
                results[index] = result
                start()
            }
        }
        return results.compactMap { $0 }
    }

    private func delete(
        _ target: DeleteTarget,
        in bucket: BucketName,
        _ bypassesGovernance: Bool
    ) async throws -> Result<DeleteResult, StoreError> {
        do {
            let address = VersionAddress(bucket: bucket, key: target.key, selector: target.selector)
            return .success(
                try await delete(
                    address,
                    conditions: target.conditions,
                    bypassesGovernance: bypassesGovernance
                )
            )
        } catch let error as StoreError {
            return .failure(error)
        }
    }
}

/// One of many keys or versions to be deleted.
package struct DeleteTarget: Hashable, Sendable {
    package let key: ObjectKey
    package let selector: VersionSelector
    package let conditions: Conditions

    package init(key: ObjectKey, selector: VersionSelector = .newest, conditions: Conditions = .none) {
        self.key = key
        self.selector = selector
        self.conditions = conditions
    }
}
