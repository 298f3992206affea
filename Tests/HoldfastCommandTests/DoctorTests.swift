import StoreModel
import Testing

@testable import AdminGateway
@testable import holdfast

/// What the doctor says of facts.
@Suite struct DoctorTests {
    private func volume(_ path: String, device: UInt64, _ change: (inout VolumeFacts) -> Void = { _ in })
        -> VolumeFacts
    {
        var facts = VolumeFacts(path: path)
        facts.fileSystem = "ext4"
        facts.mountPoint = "/"
        facts.device = device
        facts.totalBytes = 1000 << 30
        facts.freeBytes = 500 << 30
        facts.totalFiles = 1000
        facts.freeFiles = 900
        facts.hasIdentity = true
        change(&facts)
        return facts
    }

    private func healthy() -> DoctorFacts {
        DoctorFacts(
            program: "1",
            takenAt: "",
            now: 2000,
            user: 0,
            host: HostFacts(
                system: "Linux",
                distribution: "Debian",
                processors: 2,
                memoryBytes: 8 << 30,
                availableMemoryBytes: 4 << 30,
                openFilesMax: 65536,
                isClockSynchronised: true
            ),
            store: "/s",
            directory: .init(mode: 0o755, owner: 0),
            configuration: .init(storeID: "1", replicas: 3, writeQuorum: 2, createdAt: 1000, volumes: []),
            status: StatusDocument(
                store: "/s",
                storeID: "1",
                formatVersion: "1",
                replicas: 3,
                writeQuorum: 2,
                isWritable: true,
                isReadable: true,
                isFullyRedundant: true,
                copiesWaitingForRepair: 0,
                volumes: [],
                buckets: 1,
                objects: 1,
                versions: 1,
                logicalBytes: 1,
                uniqueBytes: 1,
                physicalBytes: 3,
                catalog: CatalogDocument(snapshotTakenAt: nil, snapshotRows: 0, batchesSinceSnapshot: 5)
            ),
            masterKey: .init(isThere: true, mode: 0o600, accessKeys: 1),
            volumes: (1...3).map { volume("/v\($0)", device: $0) }
        )
    }

    /// The lines that aren't fine.
    private func complaints(_ change: (inout DoctorFacts) -> Void) -> [DoctorLine] {
        var facts = healthy()
        change(&facts)
        return DoctorDiagnosis(facts).lines.filter { $0.verdict != .fine }
    }

    @Test func aHealthyStoreIsFine() {
        #expect(complaints { _ in } == [])
        #expect(DoctorDiagnosis(healthy()).worst == .fine)
        #expect(DoctorDiagnosis(healthy()).lines.map(\.subject).contains("redundancy"))
    }

    @Test(arguments: [
        ("tmpfs", DoctorLine.Verdict.problem), ("nfs4", .warning), ("overlay", .warning),
    ])
    func fileSystemsThatPromiseLess(_ name: String, _ verdict: DoctorLine.Verdict) {
        let found = complaints { $0.volumes[0].fileSystem = name }
        #expect(found.map(\.verdict) == [verdict])
        #expect(found.allSatisfy { $0.text.contains("/v1") && $0.text.contains(name) })
    }

    @Test func spaceIsAWarningBelowATenthAndAProblemBelowAFiftieth() {
        #expect(complaints { $0.volumes[1].freeBytes = 101 << 30 } == [])
        #expect(complaints { $0.volumes[1].freeBytes = 99 << 30 }.map(\.verdict) == [.warning])
        #expect(complaints { $0.volumes[1].freeBytes = 19 << 30 }.map(\.verdict) == [.problem])
        #expect(complaints { $0.volumes[1].freeFiles = 3 }.map(\.verdict) == [.problem])
        // File systems without inodes say 0 of 0.
        #expect(
            complaints {
                $0.volumes[1].freeFiles = 0
                $0.volumes[1].totalFiles = 0
            } == []
        )
    }

    @Test func eachThingThatIsWrongIsNamed() {
        #expect(complaints { $0.volumes[2].hasIdentity = false }[0].text.contains("/v3"))
        #expect(complaints { $0.volumes[2].problem = "no answer" }[0].verdict == .problem)
        #expect(complaints { $0.volumes[2].isReadOnly = true }[0].verdict == .problem)
        #expect(
            complaints { $0.volumes[2].quarantined = [.init(name: "q", byteCount: 5)] }[0].subject
                == "quarantine"
        )
        #expect(complaints { $0.directory?.mode = 0o777 }[0].subject == "permissions")
        #expect(complaints { $0.now = 999 }[0].subject == "clock")
        #expect(complaints { $0.host.isClockSynchronised = false }[0].subject == "clock")
        #expect(complaints { $0.host.isClockSynchronised = nil } == [])
        #expect(complaints { $0.host.openFilesMax = 1024 }[0].subject == "host")
        #expect(
            complaints { $0.status?.catalog.batchesSinceSnapshot = 1_000_000 }[0].subject == "catalog"
        )
        #expect(
            complaints { $0.server = VersionDocument(version: "0", processID: 7, addresses: []) }[0].subject
                == "version"
        )
    }

    @Test func aProblemOfTheStoreIsToldWithItsAdvice() {
        let found = complaints {
            $0.problem = .init(
                code: "notEnoughReplicas",
                message: "Two volumes are away.",
                advice: "Mount them."
            )
            $0.status = nil
        }
        #expect(found.map(\.text) == ["Two volumes are away."])
        #expect(found.map(\.advice) == ["Mount them."])
    }

    @Test func volumesOnOneDeviceAreFatalWhenTheyAreMoreThanTheQuorumBears() {
        #expect(complaints { $0.volumes[1].device = 1 }[0].text.contains("would not survive"))
        let bears = complaints {
            $0.volumes[1].device = 1
            $0.configuration?.replicas = 5
            $0.configuration?.writeQuorum = 3
        }
        #expect(!bears[0].text.contains("would not survive"))
    }

    @Test func theMasterKeyIsMissedOnlyWhenItIsNeeded() {
        #expect(complaints { $0.masterKey = .init(isThere: false, accessKeys: 0) } == [])
        #expect(complaints { $0.masterKey = .init(isThere: false, accessKeys: 2) }[0].verdict == .problem)
        #expect(complaints { $0.masterKey.mode = 0o644 }[0].advice?.contains("600") == true)
    }

    @Test func theMountOfAPathIsTheLongestThatItBeginsWith() {
        let table = """
            22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
            30 22 8:2 / /data rw - xfs /dev/sdb1 rw
            31 30 0:5 / /data/my\\040disk rw shared:5 - tmpfs tmpfs rw
            32 22 8:3 / /data2 rw - btrfs /dev/sdc rw
            half a line
            """
        #expect(MountTable.find("/data/x", in: table) == ("/data", "xfs"))
        #expect(MountTable.find("/data/my disk/v1", in: table) == ("/data/my disk", "tmpfs"))
        #expect(MountTable.find("/data2", in: table) == ("/data2", "btrfs"))
        #expect(MountTable.find("/dat", in: table) == ("/", "ext4"))
    }
}
