import StoreModel
import Testing

@Suite struct PlacementTests {
    private func members(_ count: Int) -> [Placement.Member] {
        (0..<count).map {
            Placement.Member(
                volume: VolumeID(high: UInt64($0) &* 0x1234_5678_9ABC, low: 7),
                failureDomain: "\($0)"
            )
        }
    }

    private func digest(_ number: UInt64) -> Digest {
        Digest(words: (number &* 0x9E37_79B9_7F4A_7C15, number &* 0xBF58_476D_1CE4_E5B9, 0, 0))
    }

    @Test func asManyVolumesAsReplicasHoldEverything() {
        let placement = Placement(members: members(3), replicaCount: 3)
        for number in 0..<100 {
            #expect(Set(placement.volumes(for: digest(UInt64(number)))).count == 3)
        }
    }

    @Test func aNewVolumeTakesChunksOnlyForItself() {
        let before = Placement(members: members(5), replicaCount: 3)
        let after = Placement(members: members(6), replicaCount: 3)
        let added = members(6)[5].volume
        var moved = 0
        for number in 0..<2000 {
            let old = Set(before.volumes(for: digest(UInt64(number))))
            let new = Set(after.volumes(for: digest(UInt64(number))))
            #expect(new.subtracting(old).isSubset(of: [added]))
            moved += new.contains(added) ? 1 : 0
        }
        // 3 of 6: the fair share is one half.
        #expect((800...1200).contains(moved))
    }

    @Test func aShareFollowsTheWeight() {
        var list = members(4)
        list[3] = Placement.Member(volume: list[3].volume, weight: 3, failureDomain: "3")
        let placement = Placement(members: list, replicaCount: 1)
        let heavy = (0..<4000).count { placement.volumes(for: digest(UInt64($0)))[0] == list[3].volume }
        #expect((1800...2200).contains(heavy))
    }

    @Test func copiesAvoidASharedFailureDomain() {
        let shared = members(6).enumerated().map {
            Placement.Member(volume: $0.element.volume, failureDomain: "\($0.offset / 2)")
        }
        let placement = Placement(members: shared, replicaCount: 3)
        let domain = Dictionary(uniqueKeysWithValues: shared.map { ($0.volume, $0.failureDomain) })
        for number in 0..<500 {
            let domains = placement.volumes(for: digest(UInt64(number))).map { domain[$0] }
            #expect(Set(domains).count == 3)
        }
    }

    @Test func tooFewDomainsStillGiveEnoughCopies() {
        let shared = members(4).map { Placement.Member(volume: $0.volume, failureDomain: "one") }
        let placement = Placement(members: shared, replicaCount: 3)
        #expect(Set(placement.volumes(for: digest(1))).count == 3)
    }
}
