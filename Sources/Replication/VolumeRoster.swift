internal import BlobVolume
internal import StoreModel

/// What an administrator wants of a volume.
package enum VolumeRole: UInt8, Sendable, Hashable, CaseIterable {
    case active = 1
    /// Takes no new payloads; what it has counts and is read. Its part of the commit log goes on.
    case readOnly = 2
    /// Nothing counts on it any more; what it has is read until it is elsewhere.
    case draining = 3
}

/// The volumes of a store and where chunks belong, as they are at one moment: never changed, only replaced as a whole.
///
/// Invariants:
/// 1. A volume keeps its index for the life of the process; one that was removed leaves an empty place behind. So
///    indices, and masks of them, mean the same in every roster.
/// 2. `version` goes up whenever the same chunk may belong elsewhere than before.
/// 3. A chunk belongs on the N best active volumes; a read-only volume counts among them where it has the chunk.
package final class VolumeRoster: Sendable {
    let slots: [VolumeSet.Slot]
    let version: UInt64
    let indexByID: [VolumeID: Int]
    /// Nil until the number of replicas is known, and when every volume holds every chunk.
    private let placement: Placement?
    private let indexByPlace: [VolumeID: Int]
    /// Volumes that chunks are placed on; `readOnly` are those of them that take nothing new.
    let placed: [Int]
    let readOnly: [Int]

    init(_ slots: [VolumeSet.Slot], version: UInt64, replicaCount: Int?) {
        self.slots = slots
        self.version = version
        var indexByID: [VolumeID: Int] = [:]
        var indexByPlace: [VolumeID: Int] = [:]
        for (index, slot) in slots.enumerated() where !slot.isRemoved { indexByID[slot.id] = index }
        placed = slots.indices.filter { !slots[$0].isRemoved && slots[$0].role != .draining }
        readOnly = placed.filter { slots[$0].role == .readOnly }
        for index in placed { indexByPlace[slots[index].placementID] = index }
        self.indexByID = indexByID
        self.indexByPlace = indexByPlace
        if let replicaCount, placed.count > replicaCount {
            placement = Placement(
                members: placed.map {
                    Placement.Member(
                        volume: slots[$0].placementID,
                        weight: slots[$0].weight,
                        failureDomain: slots[$0].failureDomain
                    )
                },
                replicaCount: replicaCount
            )
        } else {
            placement = nil
        }
    }

    /// The volumes that should hold a chunk, best first.
    func placementIndices(for digest: Digest) -> [Int] {
        var without: Set<VolumeID> = []
        for index in readOnly where (slots[index].replica?.presence(of: digest) ?? .absent) == .absent {
            without.insert(slots[index].placementID)
        }
        guard let placement else {
            // With as many volumes as replicas every volume holds every chunk: nothing to compute.
            return without.isEmpty ? placed : placed.filter { !without.contains(slots[$0].placementID) }
        }
        return placement.volumes(for: digest, without: without).compactMap { indexByPlace[$0] }
    }

    /// Whether a volume may have copies that don't belong on it.
    func mayHaveSurplus(_ index: Int) -> Bool { placement != nil || !placed.contains(index) }

    /// Volumes that are there or should be.
    var present: [Int] { slots.indices.filter { !slots[$0].isRemoved } }

    func replacing(_ index: Int, with slot: VolumeSet.Slot, replicaCount: Int?) -> VolumeRoster {
        var slots = slots
        slots[index] = slot
        let isSamePlacement =
            slots[index].role == self.slots[index].role
            && slots[index].isRemoved == self.slots[index].isRemoved
        return VolumeRoster(
            slots,
            version: isSamePlacement ? version : version + 1,
            replicaCount: replicaCount
        )
    }
}
