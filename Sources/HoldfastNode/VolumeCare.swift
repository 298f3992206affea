package import AdminGateway
internal import BlobVolume
internal import Foundation
internal import Logging
internal import Observability
internal import Replication
internal import StoreModel
internal import Synchronization

/// The life cycle of the volumes of an open store: what an administrator tells, brought to the directories, to store.json,
/// and to the replicator, in the order that `VolumeLayout` explains.
///
/// Invariants:
/// 1. One change at a time; a second one is refused, not queued.
/// 2. store.json names a volume only after its identity is durable in its directory, and stops naming one only after it
///    was shown that nothing counts on it.
/// 3. A directory that holds anything that is not an unfinished volume of this store is refused.
/// 4. Whatever a crash leaves is finished by the next opening, or by the same command given again.
package final class VolumeCare: VolumeAdministration {
    let replicator: Replicator
    let place: StorePlace
    private let options: VolumeOptions
    private let logger: Logger
    private let isBusy = Mutex(false)

    private static let logDeadline: Duration = .seconds(30)

    init(_ replicator: Replicator, _ place: StorePlace, _ options: VolumeOptions, _ logger: Logger) {
        self.replicator = replicator
        self.place = place
        self.options = options
        self.logger = logger
    }

    // MARK: Add

    package func addVolume(path: String) async throws -> VolumeChangeDocument {
        try await alone {
            let path = LocalStore.absolute(path)
            let directory = place.directory
            let taken = directory.configuration.volumes.map { LocalStore.absolute(directory.volumePath($0)) }
            guard !taken.contains(path) else {
                throw StoreError(.conflict, "\(quoted(path)) is a volume of this store already.")
            }
            if let near = taken.first(where: { path.hasPrefix($0 + "/") || $0.hasPrefix(path + "/") }) {
                throw StoreError(
                    .invalidArgument,
                    "\(quoted(path)) and the volume \(quoted(near)) lie inside each other.",
                    advice: "Give each volume a directory of its own, on a disk of its own."
                )
            }
            let id = try makeIdentity(at: path, directory)
            let volume = StoreConfiguration.Volume(
                id: id,
                path: path,
                weight: 1,
                failureDomain: id.description
            )
            try place.change { $0.volumes.append(volume) }
            await place.refreshCopies(logger)
            try await join(volume)
            return VolumeChangeDocument(
                path: path,
                id: id.description,
                message:
                    "Added \(path): new chunks are placed on it at once, existing ones move in the background.",
                isUnderWay: true
            )
        }
    }

    /// Makes a new volume in an empty directory, or takes up one that was begun for this store.
    private func makeIdentity(at path: String, _ directory: StoreDirectory) throws -> VolumeID {
        if let found = try LocalStore.identity(at: path) {
            let isOurs = found.storeID == directory.configuration.storeID && found.promise == 0
            guard isOurs, !directory.configuration.volumes.contains(where: { $0.id == found.volumeID }) else {
                throw StoreError(
                    .conflict,
                    found.storeID == directory.configuration.storeID
                        ? "\(quoted(path)) holds volume \(found.volumeID) of this store, which had data."
                        : "\(quoted(path)) holds a volume of another store, \(found.storeID).",
                    advice: "Use an empty directory."
                )
            }
            return found.volumeID
        }
        try LocalStore.refuseForeignFiles(at: path)
        let id = VolumeID.random(from: SystemRandom())
        var identity = VolumeIdentity(
            storeID: directory.configuration.storeID,
            volumeID: id,
            promise: 0,
            logSet: LogSet(version: 0, members: []),
            quorum: directory.configuration.quorum,
            createdAt: SystemClock().now()
        )
        identity.memberships = []
        try LocalStore.formatVolume(at: path, identity, options)
        return id
    }

    /// A volume that store.json names from now on takes part; one that can't be opened is absent, and looked for.
    private func join(_ volume: StoreConfiguration.Volume) async throws {
        let directory = place.directory
        let (opened, error) = await directory.openVolume(volume, options)
        let label = directory.volumePath(volume)
        let slot = VolumeSet.Slot(
            id: volume.id,
            label: label,
            weight: volume.weight,
            failureDomain: volume.failureDomain,
            placementID: volume.placementID,
            replica: opened.map { LocalReplica($0, label: label) },
            problem: error?.description
        )
        do {
            try await replicator.add(slot)
        } catch {
            if replicator.volumes.index(of: volume.id) == nil { slot.replica?.close(deadline: .seconds(5)) }
            throw error
        }
    }

    // MARK: Drain and remove

    package func drainVolume(_ name: String, cancels: Bool) async throws -> VolumeChangeDocument {
        try await alone {
            let (index, slot) = try find(name)
            if cancels {
                guard slot.role == .draining else {
                    throw StoreError(.conflict, "\(quoted(slot.label)) is not being drained.")
                }
                try await setRole(.active, of: slot.id)
                return change(slot, "\(slot.label) is active again; what it missed is copied to it.", true)
            }
            if slot.role != .draining {
                try refuseThinning(without: index, "drain")
                try await setRole(.draining, of: slot.id)
            }
            return change(
                slot,
                "\(slot.label) is being drained: nothing new is placed on it, what it has is copied to the others.",
                true
            )
        }
    }

    /// - Throws: `.conflict` when the store could not keep its copies, or its log, without a volume.
    private func refuseThinning(without index: Int, _ verb: String) throws {
        let set = replicator.volumes
        let quorum = replicator.quorum
        let others = set.present.filter { $0 != index && set.slots[$0].role != .draining }
        let usable = others.filter { set.slots[$0].role == .active && set.usableReplica($0) != nil }
        guard usable.count >= quorum.replicaCount else {
            throw StoreError(
                .conflict,
                "\(quoted(set.slots[index].label)) can't be \(verb)ed: "
                    + "\(usable.count) active volumes would be left for \(quorum.replicaCount) copies.",
                advice:
                    "Add a volume first: holdfast volume add DIR; or replace this one: holdfast volume replace."
            )
        }
        let (members, _) = replicator.logSet
        let spares = others.filter { !members.contains(set.slots[$0].id) && set.usableReplica($0) != nil }
        let leaving = members.filter { id in
            set.index(of: id).map { $0 == index || set.slots[$0].role == .draining } ?? true
        }
        guard leaving.count <= spares.count else {
            throw StoreError(
                .conflict,
                "\(quoted(set.slots[index].label)) carries the commit log, and no other volume can take that over.",
                advice: "Add a volume first: holdfast volume add DIR."
            )
        }
    }

    package func removeVolume(_ name: String, force: Bool) async throws -> VolumeChangeDocument {
        try await alone {
            let (index, slot) = try find(name)
            let directory = place.directory
            guard directory.configuration.volumes.count > directory.configuration.quorum.replicaCount else {
                throw StoreError(
                    .conflict,
                    "The store needs \(directory.configuration.quorum.replicaCount) volumes and has no more.",
                    advice: "Replace the volume instead: holdfast volume replace."
                )
            }
            var remarks: [String] = []
            if force {
                remarks = try await prepareForcedRemoval(index, slot)
            } else {
                try await checkRemovable(index, slot)
            }
            try place.change { $0.volumes.removeAll { $0.id == slot.id } }
            await place.refreshCopies(logger)
            try await replicator.retire(slot.id, "It was removed from the store.")
            remarks.append("Its directory was left as it is; it may be deleted.")
            return change(slot, "Removed \(slot.label).", force, remarks)
        }
    }

    /// - Throws: `.conflict` unless nothing counts on the volume any more: measured.
    private func checkRemovable(_ index: Int, _ slot: VolumeSet.Slot) async throws {
        guard slot.role == .draining else {
            throw StoreError(
                .conflict,
                "\(quoted(slot.label)) is in use.",
                advice: "Drain it first: holdfast volume drain \(slot.label)"
            )
        }
        if let obstacle = drainObstacle(index) {
            throw StoreError(
                .conflict,
                "\(quoted(slot.label)) is not drained yet: \(obstacle).",
                advice: "'holdfast volume ls' shows how far it is."
            )
        }
        let audit = try await replicator.audit(without: index)
        guard audit.thin + audit.lost == 0 else {
            throw StoreError(
                .conflict,
                "\(audit.thin + audit.lost) of \(audit.chunks) chunks still count on \(quoted(slot.label)), "
                    + "of: \(audit.examples.joined(separator: ", ")).",
                advice: "Find out why with: holdfast verify"
            )
        }
    }

    /// What a drained volume still waits for; nil when it can be removed.
    func drainObstacle(_ index: Int) -> String? {
        let set = replicator.volumes
        let (members, isChanging) = replicator.logSet
        if members.contains(set.slots[index].id) { return "it carries the commit log" }
        if isChanging { return "the volumes that carry the log are changing" }
        for other in set.present where other != index && set.slots[other].role == .active {
            guard set.usableReplica(other) != nil else {
                return "\(set.slots[other].label) is not usable"
            }
            if replicator.mustBeFilled(other) { return "\(set.slots[other].label) is still being filled" }
        }
        return nil
    }

    /// For a volume that is dead: what is lost with it is found out and said; nothing happens when it would be lost for
    /// good.
    private func prepareForcedRemoval(_ index: Int, _ slot: VolumeSet.Slot) async throws -> [String] {
        let set = replicator.volumes
        guard set.usableReplica(index) == nil else {
            throw StoreError(
                .conflict,
                "\(quoted(slot.label)) works: force is for volumes that are lost.",
                advice: "Drain it, then remove it."
            )
        }
        if slot.role != .draining { try refuseThinning(without: index, "remov") }
        let audit = try await replicator.audit(without: index)
        guard audit.lost == 0 else {
            throw StoreError(
                .conflict,
                "\(audit.lost) of \(audit.chunks) chunks would be lost for good, of: "
                    + "\(audit.examples.joined(separator: ", ")). Nothing was changed.",
                advice: "Bring the volume back, or delete those versions first."
            )
        }
        if slot.role != .draining { try await setRole(.draining, of: slot.id) }
        let end = ContinuousClock.now + Self.logDeadline
        while replicator.logSet.members.contains(slot.id) {
            guard ContinuousClock.now < end else {
                throw StoreError(
                    .conflict,
                    "\(quoted(slot.label)) still carries the commit log: no other volume could take that over yet.",
                    advice: "It is marked as draining; give the command again, or take it back with: "
                        + "holdfast volume drain --cancel \(slot.label)"
                )
            }
            try await SystemClock().sleep(for: .milliseconds(20))
        }
        return [
            audit.thin == 0
                ? "All \(audit.chunks) chunks have their copies elsewhere."
                : "\(audit.thin) of \(audit.chunks) chunks have fewer copies than they should; none is lost, "
                    + "the missing copies are made in the background."
        ]
    }

    // MARK: Replace

    package func replaceVolume(_ name: String, newPath: String?) async throws -> VolumeChangeDocument {
        try await alone {
            let (index, slot) = try find(name)
            await replicator.inspect(index)
            let directory = place.directory
            guard let entry = directory.configuration.volumes.firstIndex(where: { $0.id == slot.id }) else {
                throw StoreError(.internalFault, "\(quoted(slot.label)) is not in the store's configuration.")
            }
            let path =
                newPath.map(LocalStore.absolute)
                ?? directory.volumePath(directory.configuration.volumes[entry])
            if newPath == nil, let holder = try LocalStore.identity(at: path), holder.volumeID == slot.id {
                throw LocalStore.occupied(path, by: slot.id)
            }
            guard replicator.volumes.usableReplica(index) == nil else {
                throw StoreError(
                    .conflict,
                    "\(quoted(slot.label)) works; a replacement is for a volume that is lost.",
                    advice: "To move to another disk: holdfast volume add, then drain and remove this one."
                )
            }
            let id = try makeIdentity(at: path, directory)
            var volume = directory.configuration.volumes[entry]
            volume.placementID = volume.placementID ?? volume.id
            volume.id = id
            if newPath != nil { volume.path = path }
            let replacement = volume
            try place.change { $0.volumes[entry] = replacement }
            await place.refreshCopies(logger)
            replicator.leave(index, "It was replaced.")
            try await join(replacement)
            return VolumeChangeDocument(
                path: path,
                id: id.description,
                message:
                    "Replaced \(slot.label): the new volume is filled from the others, then every copy is verified.",
                isUnderWay: true
            )
        }
    }

    // MARK: Read-only, log set

    package func setVolumeReadOnly(_ name: String, _ isReadOnly: Bool) async throws -> VolumeChangeDocument {
        try await alone {
            let (index, slot) = try find(name)
            guard slot.role != .draining else {
                throw StoreError(
                    .conflict,
                    "\(quoted(slot.label)) is being drained, and takes nothing new anyway.",
                    advice: "Take that back with: holdfast volume drain --cancel \(slot.label)"
                )
            }
            guard isReadOnly else {
                try await setRole(.active, of: slot.id)
                return change(
                    slot,
                    "\(slot.label) takes new payloads again; what it missed is copied to it.",
                    true
                )
            }
            let set = replicator.volumes
            let others = set.present.filter { $0 != index && set.acceptsPayloads($0) }.count
            guard others >= replicator.quorum.writeQuorum else {
                throw StoreError(
                    .conflict,
                    "\(others) volumes would be left to write to, a write needs \(replicator.quorum.writeQuorum)."
                )
            }
            try await setRole(.readOnly, of: slot.id)
            var remarks: [String] = []
            if replicator.logSet.members.contains(slot.id) {
                remarks.append("It still carries the commit log: small records go on being written there.")
            }
            if others < replicator.quorum.replicaCount {
                remarks.append(
                    "Until it is writable again new objects have \(others) copies instead of "
                        + "\(replicator.quorum.replicaCount)."
                )
            }
            return change(slot, "\(slot.label) takes no new payloads; it is still read.", false, remarks)
        }
    }

    package func setLogVolumes(_ names: [String]) async throws -> VolumeChangeDocument {
        try await alone {
            let count = replicator.quorum.replicaCount
            var wanted: [(Int, VolumeSet.Slot)] = []
            for name in names {
                let found = try find(name)
                if !wanted.contains(where: { $0.0 == found.0 }) { wanted.append(found) }
            }
            guard wanted.count == count else {
                throw StoreError(
                    .invalidArgument,
                    "\(wanted.count) different volumes: the log is carried by exactly \(count), so that any two write "
                        + "quorums of \(replicator.quorum.writeQuorum) share one."
                )
            }
            for (index, slot) in wanted {
                guard slot.role != .draining else {
                    throw StoreError(.conflict, "\(quoted(slot.label)) is being drained.")
                }
                guard replicator.volumes.usableReplica(index) != nil else {
                    throw StoreError(
                        .conflict,
                        "\(quoted(slot.label)) is not usable: \(replicator.volumes.problem(at: index) ?? "unknown")."
                    )
                }
            }
            let ids = wanted.map(\.1.id)
            try await replicator.changeLayout { $0.settingLogTarget(ids) }
            return VolumeChangeDocument(
                path: wanted.map(\.1.label).joined(separator: ", "),
                id: ids.map(\.description).joined(separator: ", "),
                message:
                    "The commit log goes to \(wanted.map(\.1.label).joined(separator: ", ")), one volume at a time.",
                isUnderWay: true
            )
        }
    }

    // MARK: Check

    package func checkVolume(_ name: String, deep: Bool) async throws -> VolumeCheckDocument {
        let (index, slot) = try find(name)
        await replicator.inspect(index)
        if let problem = replicator.volumes.problem(at: index) {
            return VolumeCheckDocument(
                path: slot.label,
                id: slot.id.description,
                isClean: false,
                expected: 0,
                missing: 0,
                damaged: 0,
                problems: [problem]
            )
        }
        let found = try await replicator.check(index, strict: deep)
        return VolumeCheckDocument(
            path: slot.label,
            id: slot.id.description,
            isClean: found.missing + found.damaged == 0,
            expected: found.expected,
            missing: found.missing,
            damaged: found.damaged,
            problems: found.problems
        )
    }

    // MARK: Parts

    /// Runs a change while no other one runs.
    private func alone<Value>(_ body: () async throws -> Value) async throws -> Value {
        let isFree = isBusy.withLock { busy in
            defer { busy = true }
            return !busy
        }
        guard isFree else {
            throw StoreError(.conflict, "Another change of the volumes is being made.", advice: "Try again.")
        }
        defer { isBusy.withLock { $0 = false } }
        return try await body()
    }

    /// A volume by its path or its id.
    func find(_ name: String) throws -> (Int, VolumeSet.Slot) {
        let set = replicator.volumes
        let path = LocalStore.absolute(name)
        for index in set.present {
            let slot = set.slots[index]
            if slot.id.description == name || slot.label == name || LocalStore.absolute(slot.label) == path {
                return (index, slot)
            }
        }
        let labels = set.present.map { set.slots[$0].label }.joined(separator: ", ")
        throw StoreError(
            .invalidArgument,
            "\(quoted(name)) is no volume of this store. Its volumes: \(labels)."
        )
    }

    private func setRole(_ role: VolumeRole, of id: VolumeID) async throws {
        let count = replicator.quorum.replicaCount
        try await replicator.alignLayout()
        try await replicator.changeLayout { $0.setting(role, of: id, replicaCount: count) }
    }

    private func change(
        _ slot: VolumeSet.Slot,
        _ message: String,
        _ isUnderWay: Bool,
        _ remarks: [String] = []
    ) -> VolumeChangeDocument {
        VolumeChangeDocument(
            path: slot.label,
            id: slot.id.description,
            message: message,
            remarks: remarks,
            isUnderWay: isUnderWay
        )
    }
}
