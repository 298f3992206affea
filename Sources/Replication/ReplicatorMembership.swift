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
        let spare = volumes.present.map { volumes.slots[$0].id }.filter { !members.contains($0) }
        return Array(zip(gone, spare)).map { (old: $0.0, new: $0.1) }
    }

    /// The next member of the log set that is to leave, and the volume that takes its place: towards the log set that
    /// was asked for; else members that are drained or gone are followed by volumes that carry no log yet.
    func nextLogChange() -> (old: VolumeID, new: VolumeID)? {
        let members = pipeline.withState { $0.machine.status.membership?.members ?? [] }
        let layout = layout
        let slots = volumes.slots
        let usable = volumes.present.filter {
            slots[$0].role != .draining && volumes.usableReplica($0) != nil
        }
        if !layout.logTarget.isEmpty {
            let leaving = members.filter { !layout.logTarget.contains($0) }
            let joining = layout.logTarget.filter { id in
                !members.contains(id) && usable.contains { slots[$0].id == id }
            }
            return zip(leaving, joining).first { _ in true }.map { (old: $0.0, new: $0.1) }
        }
        let leaving = members.filter { id in volumes.index(of: id).map { slots[$0].role == .draining } ?? true
        }
        let spares = usable.filter { !members.contains(slots[$0].id) }
            .sorted { (slots[$0].role.rawValue, $0) < (slots[$1].role.rawValue, $1) }
        return zip(leaving, spares).first { _ in true }.map { (old: $0.0, new: slots[$0.1].id) }
    }

    /// Brings the log set, one member at a time, to what is wanted. What is wanted is in the layout, so that a restart
    /// goes on; each step is one record in the log.
    func keepLogSet() async {
        while !Task.isCancelled, !pipeline.isStopped {
            var pause = Duration.milliseconds(250)
            if let (old, new) = nextLogChange() {
                pause = .milliseconds(20)
                do {
                    try await replaceLogMember(old, with: new)
                    logger.info(
                        "A volume took its place in the log.",
                        metadata: ["new": "\(new)", "old": "\(old)"]
                    )
                } catch let error as StoreError where error.code == .conflict {
                    // It does not hold the log yet.
                } catch {
                    logger.warning(
                        "A volume could not take its place in the log.",
                        metadata: ["error": "\(error)"]
                    )
                    pause = .seconds(1)
                }
            }
            do { try await clock.sleep(for: pause) } catch { return }
        }
    }

    /// The volumes that carry the log, and whether a change of them is under way.
    package var logSet: (members: [VolumeID], isChanging: Bool) {
        let (members, isChanging) = pipeline.withState {
            ($0.machine.status.membership?.members ?? [], $0.machine.isChangingMembers)
        }
        return (members, isChanging || nextLogChange() != nil)
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
        while pipeline.withState({ $0.machine.isChangingMembers }) { _ = try await commitNothing() }
    }

    /// A batch without contents: everything before it is out.
    func commitNothing() async throws -> LogPosition {
        try await withCheckedThrowingContinuation {
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
