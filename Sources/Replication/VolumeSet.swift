internal import BlobVolume
package import StoreModel
internal import Synchronization

/// The volumes of a store as this process sees them: some of them perhaps absent or failed, some added or removed while
/// it runs.
///
/// Invariants:
/// 1. What is seen is a `VolumeRoster`, replaced as a whole: who reads it takes no lock, and what it saw stays as it was.
/// 2. Rosters are kept for the life of the process, so that a reader may hold one for as long as it likes. They are small
///    (a closed replica gives up its memory) and change when an administrator or a cable does something.
package final class VolumeSet: Sendable {
    package struct Slot: Sendable {
        package let id: VolumeID
        package let label: String
        package let weight: Double
        package let failureDomain: String
        /// The name under which chunks are placed: a replacement inherits it, so that nothing else moves.
        package let placementID: VolumeID
        /// Nil while the volume is not there; `problem` then says why.
        package fileprivate(set) var replica: (any Replica)?
        package fileprivate(set) var problem: String?
        package fileprivate(set) var role = VolumeRole.active
        /// Its place stays empty.
        package fileprivate(set) var isRemoved = false

        package init(
            id: VolumeID,
            label: String,
            weight: Double = 1,
            failureDomain: String,
            placementID: VolumeID? = nil,
            replica: (any Replica)?,
            problem: String?
        ) {
            self.id = id
            self.label = label
            self.weight = weight
            self.failureDomain = failureDomain
            self.placementID = placementID ?? id
            self.replica = replica
            self.problem = replica == nil ? problem ?? "The volume is not there." : problem
        }
    }

    package static let countMax = 64

    private struct State {
        /// All that ever were, the newest last: `current` points to it.
        var rosters: [VolumeRoster]
        var replicaCount: Int?
        var isClosed = false
    }

    private let current: Atomic<Unmanaged<VolumeRoster>>
    private let state: Mutex<State>
    private let failures = Mutex<[Int: String]>([:])
    /// The keys of `failures` as bits: what every write and read asks for takes no lock.
    private let failedBits = Atomic<UInt64>(0)
    /// Volumes whose breaker is open: they get no payloads and are read last.
    private let trippedBits = Atomic<UInt64>(0)
    /// Volumes that are not healthy: read only where the others don't have it.
    private let suspectBits = Atomic<UInt64>(0)

    /// - Throws: `StoreError` with `.invalidArgument` for too many volumes or one that is named twice.
    package init(_ slots: [Slot]) throws(StoreError) {
        guard slots.count <= Self.countMax else {
            throw StoreError(
                .invalidArgument,
                "\(slots.count) volumes: at most \(Self.countMax) are supported."
            )
        }
        for (index, slot) in slots.enumerated() where slots[..<index].contains(where: { $0.id == slot.id }) {
            throw StoreError(
                .invalidArgument,
                "Volume \(slot.id) stands twice in the store's configuration."
            )
        }
        let roster = VolumeRoster(slots, version: 1, replicaCount: nil)
        current = Atomic(Unmanaged.passUnretained(roster))
        state = Mutex(State(rosters: [roster]))
    }

    /// What there is now. `state` keeps every roster alive as long as this object, so the pointer is always good.
    var roster: VolumeRoster { current.load(ordering: .acquiring).takeUnretainedValue() }
    package var slots: [Slot] { roster.slots }
    /// Indices of the volumes that were not removed.
    package var present: [Int] { roster.present }
    package var placementVersion: UInt64 { roster.version }

    package func index(of id: VolumeID) -> Int? { roster.indexByID[id] }

    /// The volumes that should hold a chunk, best first.
    /// Those of the volumes that have a copy still, as far as is known: none that has lost something since, nor one that was
    /// away, which may have come back without what was never synced.
    func stillHolding(_ holders: VolumeMask, since moment: LossMoment) -> VolumeMask {
        var mask = VolumeMask()
        for index in holders.indices where usableReplica(index)?.hasLost(since: moment) == false {
            mask.insert(index)
        }
        return mask
    }

    func placementIndices(for digest: Digest) -> [Int] { roster.placementIndices(for: digest) }

    // MARK: Changes

    /// - Parameter change: nil when nothing is to be changed.
    @discardableResult
    private func change<Value>(_ change: (inout State, VolumeRoster) -> (VolumeRoster?, Value)) -> Value {
        state.withLock { state in
            let (next, value) = change(&state, roster)
            if let next {
                state.rosters.append(next)
                current.store(Unmanaged.passUnretained(next), ordering: .releasing)
            }
            return value
        }
    }

    /// From here on chunks are placed on so many volumes.
    func setReplicaCount(_ count: Int) {
        change { state, roster in
            state.replicaCount = count
            return (VolumeRoster(roster.slots, version: roster.version + 1, replicaCount: count), ())
        }
    }

    /// A volume that was absent is there.
    /// - Returns: false when the set is being closed, or the place is taken: the caller lets go of the replica.
    func admit(_ replica: any Replica, at index: Int) -> Bool {
        change { state, roster in
            var slot = roster.slots[index]
            guard !state.isClosed, slot.replica == nil, !slot.isRemoved else { return (nil, false) }
            slot.replica = replica
            slot.problem = nil
            return (roster.replacing(index, with: slot, replicaCount: state.replicaCount), true)
        }
    }

    /// A volume that was there is gone.
    /// - Returns: its replica, which the caller closes; nil when it was gone already.
    func depart(_ index: Int, _ problem: String) -> (any Replica)? {
        let left: (any Replica)? = change { state, roster in
            var slot = roster.slots[index]
            guard let replica = slot.replica else { return (nil, nil) }
            slot.replica = nil
            slot.problem = problem
            return (roster.replacing(index, with: slot, replicaCount: state.replicaCount), replica)
        }
        // What the absent one did is no longer the point; `problem` says what is.
        if left != nil { forgive(index) }
        return left
    }

    /// Why an absent volume is absent still.
    func noteAbsence(of index: Int, _ problem: String) {
        change { state, roster in
            var slot = roster.slots[index]
            guard slot.replica == nil, slot.problem != problem else { return (nil, ()) }
            slot.problem = problem
            return (roster.replacing(index, with: slot, replicaCount: state.replicaCount), ())
        }
    }

    /// A new volume, at the end.
    /// - Throws: `StoreError` with `.conflict` when it is there already or this process has no place left.
    func append(_ slot: Slot) throws(StoreError) -> Int {
        let result: Result<Int, StoreError> = change { state, roster in
            if roster.indexByID[slot.id] != nil {
                let error = StoreError(.conflict, "Volume \(slot.id) is part of the store already.")
                return (nil, .failure(error))
            }
            guard roster.slots.count < Self.countMax, !state.isClosed else {
                let error = StoreError(
                    .conflict,
                    "This process has seen \(roster.slots.count) volumes, at most \(Self.countMax) are supported.",
                    advice: "Restart it: volumes that were removed then count no more."
                )
                return (nil, .failure(error))
            }
            let next = VolumeRoster(
                roster.slots + [slot],
                version: roster.version + 1,
                replicaCount: state.replicaCount
            )
            return (next, .success(roster.slots.count))
        }
        return try result.get()
    }

    /// The volume is no part of the store any more.
    /// - Returns: its replica, which the caller closes.
    func retire(_ index: Int, _ reason: String) -> (any Replica)? {
        change { state, roster in
            var slot = roster.slots[index]
            let replica = slot.replica
            guard !slot.isRemoved else { return (nil, nil) }
            slot.replica = nil
            slot.problem = reason
            slot.isRemoved = true
            return (roster.replacing(index, with: slot, replicaCount: state.replicaCount), replica)
        }
    }

    /// What is wanted of the volumes; those that are not named are active.
    func setRoles(_ roles: [VolumeID: VolumeRole]) {
        change { state, roster in
            var slots = roster.slots
            var hasChanged = false
            for index in slots.indices where !slots[index].isRemoved {
                let role = roles[slots[index].id] ?? .active
                hasChanged = hasChanged || slots[index].role != role
                slots[index].role = role
            }
            guard hasChanged else { return (nil, ()) }
            let next = VolumeRoster(slots, version: roster.version + 1, replicaCount: state.replicaCount)
            return (next, ())
        }
    }

    /// Runs `body`, which must not wait, while nothing can change where chunks belong.
    /// - Returns: nil when that is not as it was in the roster of `version`.
    func whilePlaced<Value: Sendable>(as version: UInt64, _ body: () -> Value) -> Value? {
        state.withLock { _ in roster.version == version ? body() : nil }
    }

    /// Nobody is admitted from here on.
    func closeAdmission() { state.withLock { $0.isClosed = true } }

    /// Whether a volume is left alone for a while, because it fails or hangs too often.
    func isTripped(_ index: Int) -> Bool {
        VolumeMask(bits: trippedBits.load(ordering: .acquiring)).contains(index)
    }

    func setTripped(_ index: Int, _ isTripped: Bool) {
        state.withLock { _ in
            var mask = VolumeMask(bits: trippedBits.load(ordering: .acquiring))
            if isTripped { mask.insert(index) } else { mask.remove(index) }
            trippedBits.store(mask.bits, ordering: .releasing)
        }
    }

    var suspects: VolumeMask { VolumeMask(bits: suspectBits.load(ordering: .acquiring)) }

    func setSuspect(_ index: Int, _ isSuspect: Bool) {
        state.withLock { _ in
            var mask = suspects
            if isSuspect { mask.insert(index) } else { mask.remove(index) }
            suspectBits.store(mask.bits, ordering: .releasing)
        }
    }

    // MARK: Use

    /// The replica at an index, unless it is absent or has failed.
    package func usableReplica(_ index: Int) -> (any Replica)? {
        let slot = slots[index]
        guard let replica = slot.replica, slot.problem == nil, !replica.hasFailed,
            !VolumeMask(bits: failedBits.load(ordering: .acquiring)).contains(index)
        else { return nil }
        return replica
    }

    /// Whether new payloads may be sent to a volume.
    package func acceptsPayloads(_ index: Int) -> Bool {
        guard slots[index].role != .readOnly, !isTripped(index) else { return false }
        return usableReplica(index)?.acceptsPayloads ?? false
    }

    /// Why a volume is not usable; nil when it is.
    package func problem(at index: Int) -> String? {
        if let problem = slots[index].problem { return problem }
        if let reason = failures.withLock({ $0[index] }) { return reason }
        if let failure = slots[index].replica?.failure { return failure.description }
        return nil
    }

    /// Notes a failure for good (until the store is opened again).
    /// - Parameter replica: the one that failed; nothing is noted when it is not there any more.
    /// - Returns: whether it is news.
    package func markFailed(_ index: Int, _ reason: String, of replica: (any Replica)? = nil) -> Bool {
        failures.withLock { failures in
            // A replica departs first, and is forgiven then: what is noted of it here does not outlive it.
            if let replica, slots[index].replica !== replica { return false }
            guard failures[index] == nil else { return false }
            failures[index] = reason
            failedBits.store(Self.mask(of: failures).bits, ordering: .releasing)
            return true
        }
    }

    /// Volumes that are out although they have no sticky failure: they lagged, or did not answer in time.
    var forgivable: [Int] {
        let out = failures.withLock { $0.keys.sorted() }
        return out.filter { slots[$0].replica.map { $0.failure == nil } ?? false }
    }

    /// A volume that was out takes part again.
    func forgive(_ index: Int) {
        failures.withLock { failures in
            failures[index] = nil
            failedBits.store(Self.mask(of: failures).bits, ordering: .releasing)
        }
    }

    private static func mask(of failures: [Int: String]) -> VolumeMask { VolumeMask.of(failures.keys) }

    package var usableMask: VolumeMask {
        var mask = VolumeMask()
        for index in present where usableReplica(index) != nil { mask.insert(index) }
        return mask
    }

    /// The error for too few usable volumes: names each one that is missing, and why.
    func shortage(
        of indices: [Int],
        needed: Int,
        for purpose: String,
        lost: VolumeMask = VolumeMask()
    ) -> StoreError {
        var reasons: [String] = []
        var fullCount = 0
        for index in indices where !acceptsPayloads(index) || lost.contains(index) {
            if lost.contains(index) {
                reasons.append(
                    "\(slots[index].label): it was opened, or has lost something, since the copy was written"
                )
            } else if let problem = problem(at: index) {
                reasons.append("\(slots[index].label): \(problem)")
            } else if slots[index].role == .readOnly {
                reasons.append("\(slots[index].label): read-only")
            } else if isTripped(index) {
                reasons.append("\(slots[index].label): it failed or hung too often of late")
            } else {
                fullCount += 1
                reasons.append("\(slots[index].label): full")
            }
        }
        let usable = indices.count - reasons.count
        let isFull = usable + fullCount >= needed
        return StoreError(
            isFull ? .storeFull : .notEnoughReplicas,
            "\(usable) of \(indices.count) replicas can take \(purpose), \(needed) are needed. "
                + "Not usable: \(reasons.joined(separator: "; ")). Nothing became visible.",
            advice: isFull
                ? "Delete what is not needed or add space; deletes still work."
                : lost.count + usable >= needed
                    ? "Write it again: copies that are missing are written then."
                    : "Bring a volume back, or replace it: holdfast volume replace."
        )
    }

    /// The error for a log that can't go on in this process.
    func lostQuorum(of members: [Int], needed: Int) -> StoreError {
        let reasons = members.compactMap { index in problem(at: index).map { "\(slots[index].label): \($0)" }
        }
        return StoreError(
            .notEnoughReplicas,
            "\(members.count - reasons.count) of \(members.count) log volumes are left, a write takes \(needed). "
                + "Not usable: \(reasons.joined(separator: "; ")). Nothing became visible.",
            advice: "Bring a volume back and open the store again."
        )
    }

    /// - Parameter silent: volumes that were asked and gave no answer in time.
    func failure(of errors: [Int: VolumeError], silent: VolumeMask = VolumeMask(), _ message: String)
        -> StoreError
    {
        let isFull = !errors.isEmpty && silent.isEmpty && errors.values.allSatisfy { $0.code == .full }
        var reasons = errors.sorted { $0.key < $1.key }.map { "\(slots[$0.key].label): \($0.value)" }
        reasons += silent.indices.map { "\(slots[$0].label): no answer" }
        return StoreError(
            isFull ? .storeFull : .notEnoughReplicas,
            message + " " + reasons.joined(separator: "; ")
        )
    }
}
