import StoreModel
import StoreTestKit
import Testing

@testable import Replication

/// What is wanted of the volumes, as a value: who must be filled when, and what its bytes take.
@Suite struct VolumeLayoutTests {
    private let ids = (0..<5).map { VolumeID(high: 3, low: UInt64($0)) }

    private func volumes(_ indices: [Int]) -> [(id: VolumeID, placementID: VolumeID)] {
        indices.map { (ids[$0], ids[$0]) }
    }

    private func gainers(_ layout: VolumeLayout) -> [VolumeID] {
        layout.entries.filter(\.mustBeFilled).map(\.id)
    }

    @Test func anAddedVolumeGainsAndNobodyElse() throws {
        let before = VolumeLayout(founding: volumes([0, 1, 2]))
        #expect(gainers(before) == [])
        #expect(before.aligned(with: volumes([0, 1, 2])) == nil)
        let after = try #require(before.aligned(with: volumes([0, 1, 2, 3])))
        #expect(gainers(after) == [ids[3]])
        #expect(after[ids[3]]?.isNew == true)
        #expect(after.version > before.version)
    }

    @Test func whenAVolumeIsDrainedTheOthersGainAndItsRemovalCostsNothing() throws {
        let before = VolumeLayout(founding: volumes([0, 1, 2, 3]))
        var drained = try #require(before.setting(.draining, of: ids[1], replicaCount: 3))
        #expect(gainers(drained) == [ids[0], ids[2], ids[3]])
        for id in gainers(drained) { drained = try #require(drained.filled(id, at: drained.version)) }
        let removed = try #require(drained.aligned(with: volumes([0, 2, 3])))
        #expect(gainers(removed) == [])
    }

    @Test func whenAVolumeIsGoneThatWasInUseTheOthersGain() throws {
        let before = VolumeLayout(founding: volumes([0, 1, 2, 3]))
        let after = try #require(before.aligned(with: volumes([0, 2, 3])))
        #expect(gainers(after) == [ids[0], ids[2], ids[3]])
    }

    @Test func aReplacementTakesThePlaceAndNothingElseMoves() throws {
        let before = VolumeLayout(founding: volumes([0, 1, 2, 3])).settingLogTarget([ids[0], ids[1], ids[2]])
        let after = try #require(
            before.aligned(with: volumes([0, 2, 3]) + [(id: ids[4], placementID: ids[1])])
        )
        #expect(gainers(after) == [ids[4]])
        #expect(after.logTarget == [ids[0], ids[4], ids[2]])
    }

    @Test func whoWasFilledForAnOlderLayoutIsNotWhole() throws {
        let before = VolumeLayout(founding: volumes([0, 1, 2, 3]))
        let first = try #require(before.setting(.draining, of: ids[0], replicaCount: 3))
        let second = try #require(first.setting(.active, of: ids[0], replicaCount: 3))
        let third = try #require(second.setting(.draining, of: ids[3], replicaCount: 3))
        // The walk began before the last change.
        #expect(third.filled(ids[1], at: first.version) == nil)
        #expect(third.filled(ids[1], at: third.version)?[ids[1]]?.mustBeFilled == false)
    }

    @Test func aVolumeThatWasReadOnlyOrDrainedIsFilledBeforeItIsWhole() throws {
        for role in [VolumeRole.readOnly, .draining] {
            let before = VolumeLayout(founding: volumes([0, 1, 2, 3]))
            let away = try #require(before.setting(role, of: ids[2], replicaCount: 3))
            let back = try #require(away.setting(.active, of: ids[2], replicaCount: 3))
            #expect(back[ids[2]]?.mustBeFilled == true)
        }
    }

    @Test func itsBytesAreReadBackAndDamagedOnesAreRefused() throws {
        var layout = VolumeLayout(founding: volumes([0, 1, 2]))
        layout = try #require(layout.aligned(with: volumes([0, 1, 2, 3])))
        layout = try #require(layout.setting(.readOnly, of: ids[1], replicaCount: 3))
        layout = layout.settingLogTarget([ids[0], ids[2], ids[3]])
        let bytes = layout.encoded()
        #expect(try VolumeLayout(decoding: bytes) == layout)
        for count in bytes.indices {
            #expect(throws: StoreError.self) { try VolumeLayout(decoding: Array(bytes[..<count])) }
        }
        #expect(throws: StoreError.self) { try VolumeLayout(decoding: bytes + [0]) }
        var later = bytes
        later[0] = 9
        let error = #expect(throws: StoreError.self) { try VolumeLayout(decoding: later) }
        #expect(error?.code == .unsupportedFormat)
    }
}

/// Rosters: who belongs where, and indices that mean the same for ever.
@Suite struct VolumeRosterTests {
    private func slot(_ number: UInt64, placedAs placementID: VolumeID? = nil) -> VolumeSet.Slot {
        let id = VolumeID(high: 5, low: number)
        return VolumeSet.Slot(
            id: id,
            label: "volume \(number)",
            failureDomain: "\(number)",
            placementID: placementID,
            replica: nil,
            problem: "not opened in this test"
        )
    }

    private func digest(_ number: UInt64) -> Digest {
        Digest(words: (number &* 0x9E37_79B9_7F4A_7C15, number &* 0xBF58_476D_1CE4_E5B9, 0, 0))
    }

    @Test func indicesStayWhenVolumesComeAndGo() throws {
        let set = try VolumeSet((0..<4).map { slot($0) })
        set.setReplicaCount(3)
        let third = set.slots[2].id
        _ = set.retire(1, "removed")
        #expect(set.index(of: third) == 2)
        #expect(set.index(of: set.slots[1].id) == nil)
        #expect(try set.append(slot(9)) == 4)
        #expect(set.present == [0, 2, 3, 4])
        for number in 0..<200 {
            let places = set.placementIndices(for: digest(UInt64(number)))
            #expect(Set(places).count == 3 && !places.contains(1))
        }
        #expect(throws: StoreError.self) { try set.append(slot(9)) }
    }

    @Test func drainingMovesOnlyWhatWasThere() throws {
        let set = try VolumeSet((0..<5).map { slot($0) })
        set.setReplicaCount(3)
        let before = (0..<1000).map { Set(set.placementIndices(for: digest(UInt64($0)))) }
        let version = set.placementVersion
        set.setRoles([set.slots[2].id: .draining])
        #expect(set.placementVersion > version)
        for (number, old) in before.enumerated() {
            let new = Set(set.placementIndices(for: digest(UInt64(number))))
            #expect(!new.contains(2) && new.count == 3)
            #expect(old.subtracting([2]).isSubset(of: new))
            if !old.contains(2) { #expect(new == old) }
        }
    }

    @Test func aReplacementHoldsWhatTheOldOneHeld() throws {
        let set = try VolumeSet((0..<5).map { slot($0) })
        set.setReplicaCount(3)
        let before = (0..<500).map { set.placementIndices(for: digest(UInt64($0))) }
        let old = set.slots[3].placementID
        _ = set.retire(3, "replaced")
        let index = try set.append(slot(77, placedAs: old))
        for (number, places) in before.enumerated() {
            let now = set.placementIndices(for: digest(UInt64(number)))
            #expect(now == places.map { $0 == 3 ? index : $0 })
        }
    }

    @Test func aReadOnlyVolumeWithoutTheChunkIsPassedOver() throws {
        let set = try VolumeSet((0..<4).map { slot($0) })
        set.setReplicaCount(3)
        set.setRoles([set.slots[0].id: .readOnly])
        for number in 0..<200 {
            #expect(Set(set.placementIndices(for: digest(UInt64(number)))) == [1, 2, 3])
        }
    }
}

/// Health as a state machine.
@Suite struct VolumeHealthTests {
    private func sample(_ change: (inout VolumeHealth.Sample) -> Void = { _ in }) -> VolumeHealth.Sample {
        var sample = VolumeHealth.Sample()
        change(&sample)
        return sample
    }

    @Test func errorsMakeItSuspectAndManyMakeItFail() {
        var health = VolumeHealth()
        health.observe(sample { $0.errors = 1 })
        #expect(health.state == .healthy)
        health.observe(sample { $0.errors = 2 })
        #expect(health.state == .suspect)
        health.observe(sample { $0.errors = 20 })
        #expect(health.state == .failed)
    }

    @Test func aFailedOneComesBackByProbesOnly() {
        var health = VolumeHealth()
        health.observe(sample { $0.errors = 20 })
        for _ in 0..<50 { health.observe(sample()) }
        #expect(health.state == .failed)
        #expect(health.wantsProbe)
        health.observe(sample { $0.probe = false })
        #expect(health.state == .failed)
        for _ in 0..<3 { health.observe(sample { $0.probe = true }) }
        #expect(health.state == .suspect)
        for _ in 0..<60 { health.observe(sample { $0.probe = true }) }
        #expect(health.state == .healthy)
    }

    @Test func badProbesBecomeRare() {
        var health = VolumeHealth()
        health.observe(sample { $0.errors = 20 })
        var probes = 0
        for _ in 0..<200 {
            let wants = health.wantsProbe
            probes += wants ? 1 : 0
            health.observe(sample { $0.probe = wants ? false : nil })
        }
        #expect((5...20).contains(probes))
    }

    @Test func slowerThanItsPeersForAWhileIsSuspect() {
        var health = VolumeHealth()
        let slow = sample {
            $0.tail = .milliseconds(400)
            $0.peersTail = .milliseconds(10)
        }
        health.observe(slow)
        #expect(health.state == .healthy)
        for _ in 0..<3 { health.observe(slow) }
        #expect(health.state == .suspect)
        for _ in 0..<2 {
            health.observe(sample { ($0.tail, $0.peersTail) = (.milliseconds(9), .milliseconds(10)) })
        }
        #expect(health.state == .healthy)
    }

    @Test func allSlowAlikeIsNobodysFault() {
        var health = VolumeHealth()
        for _ in 0..<10 {
            health.observe(sample { ($0.tail, $0.peersTail) = (.milliseconds(400), .milliseconds(300)) })
        }
        #expect(health.state == .healthy)
    }

    @Test func aCallThatHangsIsSeenWhileItHangs() {
        var health = VolumeHealth()
        health.observe(sample { $0.busy = .seconds(2) })
        #expect(health.state == .suspect)
        health.observe(sample { $0.busy = .seconds(11) })
        #expect(health.state == .failed)
    }

    @Test func aBrokenOneStaysFailedWhateverProbesSay() {
        var health = VolumeHealth()
        for _ in 0..<10 {
            health.observe(
                sample {
                    $0.isBroken = true
                    $0.probe = true
                }
            )
            #expect(health.state == .failed)
        }
    }
}
