internal import BlobVolume
internal import Logging
internal import StoreModel

/// Sampling the health of the volumes, and what follows from it.
extension Replicator {
    /// How well a volume works, for display.
    package struct VolumeCondition: Sendable {
        package let health: VolumeHealth.State
        package let reason: String?
        package let errorCount: UInt64
        package let readMedian: Duration?
        package let readTail: Duration?
        package let syncMedian: Duration?
        package let syncTail: Duration?
    }

    private static let healthInterval: Duration = .seconds(1)
    private static let probeDeadline: Duration = .seconds(2)

    func watchHealth() async {
        var errorsSeen: [Int: UInt64] = [:]
        while !Task.isCancelled, !pipeline.isStopped {
            await withTaskGroup(of: Void.self) { group in
                for index in volumes.present {
                    guard let replica = volumes.slots[index].replica else {
                        health.forget(index)
                        continue
                    }
                    let errors = replica.errorCount
                    var sample = VolumeHealth.Sample()
                    sample.errors = Int(clamping: errors - min(errors, errorsSeen[index] ?? 0))
                    errorsSeen[index] = errors
                    group.addTask { await self.observe(index, replica, sample) }
                }
            }
            do { try await clock.sleep(for: Self.healthInterval) } catch { return }
        }
    }

    private func observe(_ index: Int, _ replica: any Replica, _ seen: VolumeHealth.Sample) async {
        var sample = seen
        sample.isBroken = replica.hasFailed
        sample.busy = replica.busyDuration
        sample.tail = replica.latency.usual
        sample.peersTail = peersTail(of: index)
        if health.health(of: index).wantsProbe, !sample.isBroken {
            sample.probe = await probe(replica)
        }
        let (now, isNews) = health.observe(index, sample)
        // A breaker is opened only while the others are enough without it.
        let others = volumes.present.filter { $0 != index && volumes.acceptsPayloads($0) }.count
        volumes.setTripped(index, now.state == .failed && !sample.isBroken && others >= quorum.writeQuorum)
        volumes.setSuspect(index, now.state != .healthy)
        guard isNews else { return }
        logger.log(
            level: now.state == .healthy ? .info : .warning,
            "The health of a volume changed.",
            metadata: [
                "volume": "\(replica.label)", "health": "\(now.state.rawValue)",
                "reason": "\(now.reason ?? "-")",
            ]
        )
    }

    private func probe(_ replica: any Replica) async -> Bool {
        let result: Result<Void, VolumeError> = await withCheckedContinuation { continuation in
            let once = OnceContinuation(continuation)
            timers.schedule(after: Self.probeDeadline) {
                once.resume(returning: .failure(.noAnswer(from: replica.label, within: Self.probeDeadline)))
            }
            replica.probe { once.resume(returning: $0) }
        }
        return (try? result.get()) != nil
    }

    private func peersTail(of index: Int) -> Duration? {
        let tails = volumes.present.compactMap { peer in
            peer == index ? nil : volumes.usableReplica(peer)?.latency.usual
        }.sorted()
        return tails.isEmpty ? nil : tails[tails.count / 2]
    }

    package func condition(of index: Int) -> VolumeCondition {
        let (now, replica) = (health.health(of: index), volumes.slots[index].replica)
        let (reads, syncs) = (replica?.latency, replica?.syncLatency)
        return VolumeCondition(
            health: now.state,
            reason: now.reason,
            errorCount: replica?.errorCount ?? 0,
            readMedian: reads?.percentile(50),
            readTail: reads?.percentile(99),
            syncMedian: syncs?.percentile(50),
            syncTail: syncs?.percentile(99)
        )
    }
}
