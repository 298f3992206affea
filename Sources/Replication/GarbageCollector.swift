package import BlobVolume
package import StoreModel
internal import Synchronization

/// A replica whose garbage is collected by this process: it lends its volume and a thread.
package protocol SweptReplica: Replica {
    /// Runs blocking work of garbage collection on a thread of its own: neither writes nor reads wait for it.
    func collect<Value: Sendable>(
        completion: @escaping ReplicaCompletion<Value>,
        _ body: @escaping @Sendable (BlobVolume) throws(VolumeError) -> Value
    )
    /// Notes where records end now.
    func noteAge()
    /// What stands in front of it was written at least so long ago, or before the volume was opened: no upload of then
    /// is under way any more.
    func horizon(grace: Duration) -> GarbageHorizon
}

extension LocalReplica: SweptReplica {}

package struct GarbageOptions: Hashable, Sendable {
    /// Looks only, and says what would be done.
    package var isDryRun = false
    /// How young a record may be and stay although nothing refers to it: a client whose upload broke off may come again.
    /// Uploads that are under way are pinned, whatever their age.
    package var grace: Duration = .seconds(600)
    /// Of the table of live payloads; what does not fit takes a further walk.
    package var markByteCountMax = 64 << 20
    /// The share of the time in which a run works; the rest belongs to clients.
    package var workShare = 1.0
    package var policy = ReclaimPolicy()
    package var quarantine = QuarantineBounds()
    /// Write a snapshot of the catalog when it lets so many batches of the log go.
    package var snapshotsAfterBatches: UInt64 = 10_000
    /// How long a download may take from looking its version up to saying so.
    package var settleTime: Duration = .seconds(1)

    package init() {}
}

/// What a run found and did.
package struct GarbageReport: Hashable, Sendable {
    package struct Volume: Hashable, Sendable {
        package let id: VolumeID
        package let label: String
        /// Records that nothing refers to, old enough.
        package var deadCount = 0
        package var deadBytes: UInt64 = 0
        /// Records that nothing refers to, which stay for now because they are young.
        package var youngCount = 0
        package var youngBytes: UInt64 = 0
        /// Found dead, and pinned since: an upload came for the same bytes.
        package var savedCount = 0
        /// Dead, with durable tombstones.
        package var buriedCount = 0
        package var buriedBytes: UInt64 = 0
        /// Copies of what is alive that don't belong here, taken away (in a dry run: that would be) because every volume
        /// where they belong has a good one.
        package var surplusCount = 0
        package var surplusBytes: UInt64 = 0
        /// Such copies that stay: one is missing or not good where they belong, or they are young or asked for.
        package var strayCount = 0
        package var strayBytes: UInt64 = 0
        package var reclaimed = ReclaimedSpace()
        package var quarantineDropped: [String] = []
        /// Why the volume was not swept, or not to the end.
        package var problem: String?
    }

    package enum Outcome: String, Hashable, Sendable {
        case running, done, failed, interrupted
    }

    package var outcome = Outcome.running
    package var problem: String?
    package var isDryRun = false
    package var startedAt = Timestamp(milliseconds: 0)
    package var endedAt: Timestamp?
    /// What the run is at, for a person.
    package var phase = ""
    /// The newest decision that the mark took in.
    package var sequence: UInt64 = 0
    package var passCount = 0
    package var versionCount: UInt64 = 0
    package var documentCount: UInt64 = 0
    package var liveCount: UInt64 = 0
    package var tookSnapshot = false
    package var volumes: [Volume] = []

    package init() {}

    package var freedBytes: UInt64 {
        volumes.reduce(0) { $0 + $1.reclaimed.punchedBytes + $1.reclaimed.removedFileBytes }
    }
}

/// The state of garbage collection in this process.
package final class GarbageCollector: Sendable {
    /// Sums since the store was opened.
    package struct Totals: Hashable, Sendable {
        package var runs: UInt64 = 0
        package var failures: UInt64 = 0
        package var buriedRecords: UInt64 = 0
        package var buriedBytes: UInt64 = 0
        package var surplusRecords: UInt64 = 0
        package var surplusBytes: UInt64 = 0
        package var punchedBytes: UInt64 = 0
        package var removedFileBytes: UInt64 = 0
        package var movedBytes: UInt64 = 0
        package var quarantineDropped: UInt64 = 0
    }

    private struct State {
        var current: GarbageReport?
        var last: GarbageReport?
        var totals = Totals()
        var hold: String?
    }

    private let state = Mutex(State())

    package init() {}

    package static let holdAdvice =
        "Run holdfast verify, or holdfast scrub start --kind audit --wait: it ends the hold when everything is there."

    /// The run that is under way.
    package var current: GarbageReport? { state.withLock { $0.current } }
    /// The last run of this process that ended.
    package var last: GarbageReport? { state.withLock { $0.last } }
    package var totals: Totals { state.withLock { $0.totals } }

    /// Why nothing may be collected; nil when it may.
    package var hold: String? {
        get { state.withLock { $0.hold } }
        set { state.withLock { $0.hold = newValue } }
    }

    func update(_ change: (inout GarbageReport) -> Void) {
        state.withLock { state in
            guard var report = state.current else { return }
            change(&report)
            state.current = report
        }
    }

    func update(_ volume: Int, _ change: (inout GarbageReport.Volume) -> Void) {
        update { change(&$0.volumes[volume]) }
    }

    func begin(_ report: GarbageReport) { state.withLock { $0.current = report } }

    func end(_ outcome: GarbageReport.Outcome, _ problem: String?, at time: Timestamp) -> GarbageReport {
        state.withLock { state in
            var report = state.current ?? GarbageReport()
            report.outcome = outcome
            report.problem = problem
            report.endedAt = time
            report.phase = ""
            state.current = nil
            state.last = report
            if !report.isDryRun {
                state.totals.runs += 1
                if outcome != .done { state.totals.failures += 1 }
                for volume in report.volumes {
                    state.totals.buriedRecords += UInt64(volume.buriedCount)
                    state.totals.buriedBytes += volume.buriedBytes
                    state.totals.surplusRecords += UInt64(volume.surplusCount)
                    state.totals.surplusBytes += volume.surplusBytes
                    state.totals.punchedBytes += volume.reclaimed.punchedBytes
                    state.totals.removedFileBytes += volume.reclaimed.removedFileBytes
                    state.totals.movedBytes += volume.reclaimed.movedBytes
                    state.totals.quarantineDropped += UInt64(volume.quarantineDropped.count)
                }
            }
            return report
        }
    }
}
