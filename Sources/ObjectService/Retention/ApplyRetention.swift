internal import Catalog
package import StoreModel

/// What applying a policy did, or would do.
package struct RetentionOutcome: Sendable {
    package var examinedCount: UInt64 = 0
    package var keptCount: UInt64 = 0
    package var droppedCount: UInt64 = 0
    package var droppedBytes: UInt64 = 0
    /// Not dropped after all: changed, locked or became current meanwhile; a later run looks again.
    package var refusedCount: UInt64 = 0
}

extension ObjectStore {
    /// - Returns: nil when the bucket keeps everything.
    package func retentionPolicy(of bucket: BucketName) async throws -> RetentionPolicy? {
        guard let body = try await bucketSetting(bucket: bucket, name: BucketSettingName.retention) else {
            return nil
        }
        return try RetentionPolicy(body: body)
    }

    package func setRetentionPolicy(_ policy: RetentionPolicy?, of bucket: BucketName) async throws {
        guard let policy else {
            return try await removeBucketSetting(bucket: bucket, name: BucketSettingName.retention)
        }
        try await putBucketSetting(bucket: bucket, name: BucketSettingName.retention, body: policy.body)
    }

    /// Drops the noncurrent versions of a bucket that a policy does not keep.
    ///
    /// Each is removed only if, in the moment of the decision, it is still noncurrent, has the tags that it was judged by
    /// and is not locked.
    /// - Parameters:
    ///   - explain: told of every version, in the order of the keys.
    ///   - deletesPerSecond: leaves the store to its clients.
    package func applyRetention(
        _ policy: RetentionPolicy,
        to bucket: BucketName,
        isDryRun: Bool,
        deletesPerSecond: Int = 500,
        explain: (RetentionDecision) -> Void = { _ in }
    ) async throws -> RetentionOutcome {
        var outcome = RetentionOutcome()
        var judge = RetentionJudge(policy, now: clock.now())
        var marker: VersionListMarker?
        repeat {
            try Task.checkCancellation()
            let page = try await listVersions(bucket: bucket, startAfter: marker)
            var dropped: [VersionRow] = []
            for version in page.versions.map(\.row) {
                let decision = judge.judge(version)
                outcome.examinedCount += 1
                if decision.isKept { outcome.keptCount += 1 } else { dropped.append(version) }
                explain(decision)
            }
            marker = page.next
            if isDryRun {
                outcome.droppedCount += UInt64(dropped.count)
                outcome.droppedBytes += dropped.reduce(0) { $0 + $1.size }
            } else {
                try await drop(dropped, bucket, deletesPerSecond, &outcome)
            }
        } while marker != nil
        return outcome
    }

    private func drop(
        _ versions: [VersionRow],
        _ bucket: BucketName,
        _ deletesPerSecond: Int,
        _ outcome: inout RetentionOutcome
    ) async throws {
        let step = max(1, min(deletesPerSecond, Limits.deleteCountMax))
        for first in stride(from: 0, to: versions.count, by: step) {
            let batch = versions[first..<min(first + step, versions.count)]
            let start = ContinuousClock.now
            let targets = batch.map { version in
                var conditions = Conditions.none
                conditions.ifNoncurrentWithTags = version.tags
                return DeleteTarget(key: version.key, selector: .id(version.id), conditions: conditions)
            }
            for (version, result) in zip(batch, try await deleteMany(targets, in: bucket)) {
                switch result {
                case .success:
                    outcome.droppedCount += 1
                    outcome.droppedBytes += version.size
                case .failure: outcome.refusedCount += 1
                }
            }
            let rest =
                Duration.seconds(1) * batch.count / max(1, deletesPerSecond) - (ContinuousClock.now - start)
            if rest > .zero, batch.count == step { try await clock.sleep(for: rest) }
        }
    }
}
