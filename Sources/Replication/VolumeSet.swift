internal import BlobVolume
package import StoreModel
internal import Synchronization

/// The volumes of a store as this process sees them: fixed places, some of them perhaps absent or failed.
package final class VolumeSet: Sendable {
    package struct Slot: Sendable {
        package let id: VolumeID
        package let label: String
        package let weight: Double
        package let failureDomain: String
        /// Nil while the volume is not there; `problem` then says why. Never nil again once it was there.
        package var replica: (any Replica)? { present ?? absence?.replica }
        package var problem: String? {
            guard let absence else { return presentProblem }
            return absence.problem
        }
        private let present: (any Replica)?
        private let presentProblem: String?
        /// Set for a volume that could not be opened with the store.
        fileprivate let absence: Absence?

        package init(
            id: VolumeID,
            label: String,
            weight: Double = 1,
            failureDomain: String,
            replica: (any Replica)?,
            problem: String?
        ) {
            self.id = id
            self.label = label
            self.weight = weight
            self.failureDomain = failureDomain
            present = replica
            presentProblem = problem
            absence = replica == nil ? Absence(problem ?? "The volume is not there.") : nil
        }
    }

    /// The place of a volume that is not there, until it comes.
    fileprivate final class Absence: Sendable {
        private struct State {
            var problem: String?
            var replica: (any Replica)?
            var isClosed = false
        }

        private let state: Mutex<State>

        init(_ problem: String) { state = Mutex(State(problem: problem)) }

        var replica: (any Replica)? { state.withLock { $0.replica } }
        var problem: String? { state.withLock { $0.problem } }

        func note(_ problem: String) {
            state.withLock { if $0.replica == nil { $0.problem = problem } }
        }

        func end(with replica: any Replica) -> Bool {
            state.withLock { state in
                guard !state.isClosed, state.replica == nil else { return false }
                state.replica = replica
                state.problem = nil
                return true
            }
        }

        func close() { state.withLock { $0.isClosed = true } }
    }

    package static let countMax = 64

    package let slots: [Slot]
    private let indexByID: [VolumeID: Int]
    private let failures = Mutex<[Int: String]>([:])
    /// The keys of `failures` as bits: what every write and read asks for takes no lock.
    private let failedBits = Atomic<UInt64>(0)

    /// - Throws: `StoreError` with `.invalidArgument` for too many volumes or one that is named twice.
    package init(_ slots: [Slot]) throws(StoreError) {
        guard slots.count <= Self.countMax else {
            throw StoreError(
                .invalidArgument,
                "\(slots.count) volumes: at most \(Self.countMax) are supported."
            )
        }
        var indexByID: [VolumeID: Int] = [:]
        for (index, slot) in slots.enumerated() {
            guard indexByID.updateValue(index, forKey: slot.id) == nil else {
                throw StoreError(
                    .invalidArgument,
                    "Volume \(slot.id) stands twice in the store's configuration."
                )
            }
        }
        self.slots = slots
        self.indexByID = indexByID
    }

    package func index(of id: VolumeID) -> Int? { indexByID[id] }

    /// The replica at an index, unless it is absent or has failed.
    package func usableReplica(_ index: Int) -> (any Replica)? {
        let slot = slots[index]
        guard let replica = slot.replica, slot.problem == nil, !replica.hasFailed,
            !VolumeMask(bits: failedBits.load(ordering: .acquiring)).contains(index)
        else { return nil }
        return replica
    }

    package func acceptsPayloads(_ index: Int) -> Bool {
        usableReplica(index)?.acceptsPayloads ?? false
    }

    /// Why a volume is not usable; nil when it is.
    package func problem(at index: Int) -> String? {
        if let problem = slots[index].problem { return problem }
        if let reason = failures.withLock({ $0[index] }) { return reason }
        if let failure = slots[index].replica?.failure { return failure.description }
        return nil
    }

    /// Notes a failure for good (until the store is opened again).
    /// - Returns: whether it is news.
    package func markFailed(_ index: Int, _ reason: String) -> Bool {
        failures.withLock { failures in
            guard failures[index] == nil else { return false }
            failures[index] = reason
            failedBits.store(Self.mask(of: failures).bits, ordering: .releasing)
            return true
        }
    }

    /// A volume that was absent is there.
    /// - Returns: false when the set is being closed: the caller lets go of the replica.
    func admit(_ replica: any Replica, at index: Int) -> Bool {
        slots[index].absence?.end(with: replica) ?? false
    }

    /// Why an absent volume is absent still.
    func noteAbsence(of index: Int, _ problem: String) { slots[index].absence?.note(problem) }

    /// Nobody is admitted from here on.
    func closeAdmission() { for slot in slots { slot.absence?.close() } }

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
        for index in slots.indices where usableReplica(index) != nil { mask.insert(index) }
        return mask
    }

    /// The error for too few usable volumes: names each one that is missing, and why.
    func shortage(of indices: [Int], needed: Int, for purpose: String) -> StoreError {
        var reasons: [String] = []
        var fullCount = 0
        for index in indices where !acceptsPayloads(index) {
            if let problem = problem(at: index) {
                reasons.append("\(slots[index].label): \(problem)")
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
