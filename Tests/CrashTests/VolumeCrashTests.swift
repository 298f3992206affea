import BlobVolume
import StoreModel
import StoreTestKit
import Testing

/// The two loops that every change of the volume must pass: crash at every call, and fail every call.
///
/// After each the volume is opened again, and must hold everything that it acknowledged, bit for bit, every group
/// whole or not at all, nothing that it never had, and must go on working.
@Suite("Volume: crash and fault at every call")
struct VolumeCrashTests {
    /// A life of a volume in parts, so that each part's calls can be gone through from the state before it.
    struct Part: Sendable, CustomTestStringConvertible {
        let name: String
        let before: [VolumeStep]
        let steps: [VolumeStep]
        var testDescription: String { name }
    }

    static let started: [VolumeStep] = [
        .format, .open, .group([500, 3000], hasBatch: true), .syncLog, .bulk(140_000), .syncBulk,
        .setComplete,
    ]

    static let parts = [
        Part(name: "format and open", before: [], steps: [.format, .open, .close]),
        Part(
            name: "groups",
            before: started,
            steps: [
                .group([100, 9000, 4096], hasBatch: true), .syncLog, .group([64], hasBatch: false),
                .group([], hasBatch: true), .syncLog, .group([7000], hasBatch: true),
            ]
        ),
        Part(
            name: "log rollover",
            before: started + [.group([30_000], hasBatch: true), .syncLog],
            steps: [
                .group([25_000], hasBatch: true), .group([24_000, 900], hasBatch: true), .syncLog,
                .group([40_000], hasBatch: true), .syncLog,
            ]
        ),
        Part(
            name: "log rollover with unsynced groups",
            before: started,
            steps: [
                .group([30_000], hasBatch: true), .group([24_000, 900], hasBatch: true),
                .group([20_000], hasBatch: true), .syncLog,
            ]
        ),
        Part(
            name: "bulk",
            before: started,
            steps: [.bulk(200_000), .bulk(131_073), .syncBulk, .bulk(131_072), .syncBulk]
        ),
        Part(
            name: "bulk rollover",
            before: started + [.bulk(300_000), .syncBulk],
            steps: [.bulk(200_000), .bulk(180_000), .syncBulk, .group([10], hasBatch: true), .syncLog]
        ),
        Part(name: "promise", before: started, steps: [.promise(7), .promise(8)]),
        Part(
            name: "reset of the log",
            before: started,
            steps: [.group([10], hasBatch: true), .resetLog, .group([10], hasBatch: true), .syncLog]
        ),
        Part(
            name: "repair of a damaged payload in the log",
            before: started + [.group([2000], hasBatch: true), .syncLog],
            steps: [.damageAndReplace(inBulk: false)]
        ),
        Part(
            name: "repair of a damaged payload in a bulk segment",
            before: started + [.bulk(150_000), .syncBulk, .group([], hasBatch: true), .syncLog],
            steps: [.damageAndReplace(inBulk: true)]
        ),
        Part(
            name: "garbage: tombstones",
            before: started + [
                .group([500, 20_000, 700], hasBatch: true), .syncLog, .bulk(140_000), .syncBulk,
            ],
            steps: [.bury(keepingOneIn: 3), .group([100], hasBatch: true), .syncLog]
        ),
        Part(
            name: "garbage: holes in bulk segments",
            before: started + [
                .bulk(150_000), .bulk(160_000), .bulk(170_000), .syncBulk, .bulk(140_000), .syncBulk,
                .bury(keepingOneIn: 2),
            ],
            steps: [.reclaim, .bulk(200_000), .syncBulk, .reclaim]
        ),
        Part(
            name: "garbage: log segments compacted and removed",
            before: started + [
                .group([20_000, 9000], hasBatch: true), .group([20_000, 800], hasBatch: true), .syncLog,
                .group([30_000, 700], hasBatch: true), .group([25_000], hasBatch: true), .syncLog,
                .group([30_000, 600], hasBatch: true), .syncLog,
            ],
            steps: [
                .trimLog(keeping: 1), .bury(keepingOneIn: 4), .reclaim, .group([500], hasBatch: true),
                .syncLog,
            ]
        ),
        Part(
            name: "garbage: twice, with the log reset between",
            before: started + [
                .group([30_000, 700], hasBatch: true), .group([30_000], hasBatch: true), .syncLog,
                .group([30_000, 600], hasBatch: true), .syncLog, .trimLog(keeping: 1),
                .bury(keepingOneIn: 3), .reclaim,
            ],
            steps: [
                .resetLog, .group([40_000, 100], hasBatch: true), .group([30_000], hasBatch: true), .syncLog,
                .trimLog(keeping: 1), .bury(keepingOneIn: 2), .reclaim, .group([60], hasBatch: true),
                .syncLog,
            ]
        ),
        Part(
            name: "garbage: segments that were left after a failed fsync",
            before: started + [
                .group([20_000, 700], hasBatch: true), .bulk(150_000), .syncLog, .syncBulk, .leaveSegments,
                .group([10_000, 600], hasBatch: true), .bulk(160_000), .syncLog, .syncBulk, .leaveSegments,
                .group([500], hasBatch: true), .bulk(140_000), .syncLog, .syncBulk,
            ],
            steps: [
                .trimLog(keeping: 1), .bury(keepingOneIn: 3), .reclaim, .group([400], hasBatch: true),
                .bulk(135_000), .syncLog, .syncBulk, .reclaim,
            ]
        ),
        Part(
            name: "close and open",
            before: started,
            steps: [
                .group([10], hasBatch: true), .bulk(140_000), .close, .open, .group([20], hasBatch: true),
                .syncLog,
                .close, .open, .close,
            ]
        ),
    ]

    static let powerCuts: [CrashMode] = [.kept, .dropped] + (0..<2).map { .torn(seed: $0) }

    /// What a crash can leave: a power cut at once, or a killed process and a power cut later.
    static func aftermath(of image: DiskImage) -> [(String, DiskImage)] {
        var images = [("killed", image.restarted(after: .killOnly))]
        for mode in powerCuts {
            images.append(("power cut, \(mode)", image.restarted(after: mode)))
        }
        return images
    }

    /// The disk and the model before a part begins. The volume was left as a killed process leaves it.
    static func prepared(_ part: Part) throws -> (DiskImage, VolumeModel) {
        let disk = CrashDisk()
        let workload = VolumeWorkload()
        try workload.run(part.before, on: disk, medium: disk)
        workload.abandon()
        return (disk.image, workload.model)
    }

    @Test(
        "After a crash at any call everything acknowledged is there, whole, and the volume goes on",
        arguments: parts
    )
    func crashAtEveryCall(_ part: Part) throws {
        let (image, model) = try Self.prepared(part)
        let steps = part.before.isEmpty ? part.steps : [.open] + part.steps
        var callCount = 0
        loop: for call in 1...2000 {
            for moment in CrashDisk.Moment.allCases {
                let disk = CrashDisk(image)
                let workload = VolumeWorkload(model: model, seed: 2)
                disk.crash(atCall: call, moment)
                let failure = Self.failure { try workload.run(steps, on: disk, medium: disk) }
                workload.abandon()
                guard disk.hasCrashed else {
                    #expect(failure == nil, "\(part.name): \(failure ?? "")")
                    break loop
                }
                callCount = call
                let place =
                    "call \(call) (\(disk.changes.last.map { "\($0)" } ?? "")), \(moment), in \(workload.step)"
                for (name, left) in Self.aftermath(of: disk.image) {
                    let problems = VolumeExpectations.check(left, workload.model)
                    #expect(problems.isEmpty, "\(place), \(name): \(problems.joined(separator: "; "))")
                }
            }
        }
        #expect(callCount > 0)
    }

    /// Ways in which one call can go wrong while the process lives on.
    enum Fault: String, CaseIterable, Sendable {
        case failing, failingAfterwards, half, full

        var rule: (operations: Set<DiskOperation>, fault: DiskFault) {
            switch self {
            case .failing:
                (
                    Set(DiskOperation.allCases).subtracting([.startWriteback, .exists, .space]),
                    .inputOutputError
                )
            case .failingAfterwards:
                (
                    DiskOperation.changing.subtracting([.lock, .sync]),
                    .failAfterwards(.inputOutput, number: 5)
                )
            case .half:
                ([.write], .failAfter(byteCount: 1000, .inputOutput, number: 5))
            case .full:
                ([.write, .create, .truncate, .makeDirectory, .rename], .full)
            }
        }
    }

    @Test(
        "After any call failed everything acknowledged is there, whole, and the volume can be opened again",
        arguments: parts,
        Fault.allCases
    )
    func failEveryCall(_ part: Part, _ fault: Fault) throws {
        let (image, model) = try Self.prepared(part)
        let steps = part.before.isEmpty ? part.steps : [.open] + part.steps
        let (operations, action) = fault.rule
        for call in 0..<5000 {
            let medium = CrashDisk(image)
            let disk = FaultyDisk(medium)
            let workload = VolumeWorkload(model: model, seed: 2)
            disk.add(FaultRule(action, on: operations, skipCount: call))
            let failure = Self.failure { try workload.run(steps, on: disk, medium: medium) }
            let place =
                "\(fault) at call \(call) (\(disk.lastHit.map { "\($0)" } ?? "")), in \(workload.step)"
            guard disk.firedCount > 0 else {
                #expect(failure == nil, "\(part.name): \(failure ?? "")")
                break
            }
            let problems = workload.problemsAfterFailure()
            #expect(problems.isEmpty, "\(place): \(problems.joined(separator: "; "))")
            workload.abandon()
            // When the fsync of a tail fails while opening, what can't be proved to be durable is given up, and the
            // log says that it is damaged.
            let isTailSync =
                disk.lastHit.map { $0.operation == .sync && $0.name.hasPrefix("segments/0") } ?? false
            let allowsLoss = isTailSync && workload.step == "open"
            for (name, left) in Self.aftermath(of: medium.image) {
                let problems = VolumeExpectations.check(left, workload.model, allowsLoss: allowsLoss)
                #expect(problems.isEmpty, "\(place), \(name): \(problems.joined(separator: "; "))")
            }
        }
    }

    static func failure(_ body: () throws -> Void) -> String? {
        do { try body() } catch { return "\(error)" }
        return nil
    }
}
