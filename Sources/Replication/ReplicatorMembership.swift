internal import Catalog
internal import Logging
package import StoreModel
internal import Synchronization

extension Replicator {
    /// Members of the log set that this store's configuration no longer has, and volumes that it has beyond the log
    /// set: a replacement that is not finished.
    package var unfinishedReplacements: [(old: VolumeID, new: VolumeID)] {
        let members = pipeline.withState { $0.machine.status.membership?.members ?? [] }
        let gone = members.filter { volumes.index(of: $0) == nil }
        let spare = volumes.slots.map(\.id).filter { !members.contains($0) }
        return Array(zip(gone, spare)).map { (old: $0.0, new: $0.1) }
    }

    /// Lets volumes that replace others take their places, as soon as they hold the log.
    func finishReplacements() async {
        while !Task.isCancelled, !pipeline.isStopped, let (old, new) = unfinishedReplacements.first {
            do {
                try await replaceLogMember(old, with: new)
            } catch let error as StoreError where error.code == .conflict {
                do { try await clock.sleep(for: .milliseconds(20)) } catch { return }
            } catch {
                logger.warning(
                    "A volume could not take its place in the log.",
                    metadata: ["error": "\(error)"]
                )
                do { try await clock.sleep(for: .seconds(1)) } catch { return }
            }
        }
    }

    /// Lets a volume take another's place in the log set, by a record in the log. The new one must hold the log.
    /// - Throws: `StoreError` with `.conflict` and the reason while that can't be done yet.
    package func replaceLogMember(_ old: VolumeID, with new: VolumeID) async throws {
        _ = try await withCheckedThrowingContinuation {
            (continuation: CheckedContinuation<LogPosition, any Error>) in
            pipeline.submit(
                CommitPipeline.SystemRequest(
                    mutations: { machine in
                        do throws(CommitLogMachine.Refusal) {
                            let membership = try machine.membership(replacing: old, with: new)
                            let note = LogSetNote(version: membership.version, members: membership.members)
                            return .success(.init(mutations: [.setLogSet(note)], membership: membership))
                        } catch {
                            return .failure(
                                StoreError(.conflict, "The log set can't be changed now: \(error).")
                            )
                        }
                    },
                    answer: { continuation.resume(with: $0.mapError { $0 as any Error }) }
                )
            )
        }
        pipeline.refreshLogMask()
        try await settleMembership()
    }

    /// The leaving member is needed for a start until a later batch carries the news that the change is committed.
    func settleMembership() async throws {
        while pipeline.withState({ $0.machine.isChangingMembers }) {
            _ = try await withCheckedThrowingContinuation {
                (continuation: CheckedContinuation<LogPosition, any Error>) in
                pipeline.submit(
                    CommitPipeline.SystemRequest(
                        mutations: { _ in .success(.init(mutations: [], membership: nil)) },
                        answer: { continuation.resume(with: $0.mapError { $0 as any Error }) }
                    )
                )
            }
        }
    }
}
