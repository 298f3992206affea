import BlobVolume
import Catalog
import CatalogSQLite
import Foundation
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@testable import Replication

/// What a client saw before the process died.
final class Ledger: Sendable {
    enum Wish: Sendable, Equatable {
        case content([UInt8])
        case deleted
    }

    struct State {
        /// Versions that were acknowledged, with their bytes.
        var acked: [VersionID: [UInt8]] = [:]
        /// Contents that were ever tried for a key.
        var tried: [String: [[UInt8]]] = [:]
        /// What the newest version of a key may be, by attempt: the last acknowledged, and what came after it without
        /// an answer.
        var newest: [String: [Int: Wish]] = [:]
        /// Contents whose only put was refused for certain.
        var refused: [[UInt8]] = []
        var attemptCount = 0
        /// Parts that were acknowledged, of uploads that nothing has ended, with their bytes.
        var parts: [UploadAddress: [UploadedPart]] = [:]
    }

    let state = Mutex(State())

    /// - Parameter isFresh: whether these bytes are written for the first time.
    func write(_ key: String, _ wish: Wish, isFresh: Bool = true, _ body: () async throws -> VersionRow?)
        async
    {
        let attempt = state.withLock { state in
            state.attemptCount += 1
            state.newest[key, default: [0: .deleted]][state.attemptCount] = wish
            if case .content(let bytes) = wish { state.tried[key, default: []].append(bytes) }
            return state.attemptCount
        }
        do {
            let row = try await body()
            state.withLock { state in
                state.newest[key] = [attempt: wish]
                if let row, case .content(let bytes) = wish { state.acked[row.id] = bytes }
            }
        } catch {
            guard let error = error as? StoreError, error.code != .outcomeUnknown else { return }
            state.withLock { state in
                state.newest[key]?[attempt] = nil
                if isFresh, case .content(let bytes) = wish { state.refused.append(bytes) }
            }
        }
    }
}

/// The process dies at one of its changing calls; any two volumes have everything that was acknowledged.
@Suite(.serialized) struct EngineCrashTests {
    private static let isLong = ProcessInfo.processInfo.environment["HOLDFAST_LONG"] == "1"

    private func workload(_ engine: Engine, _ ledger: Ledger) async {
        let small = randomBytes(2500, seed: 1)
        await ledger.write("a", .content(small)) { try await engine.put("a", small) }
        let large = randomBytes(150_000, seed: 2)
        await ledger.write("b", .content(large)) { try await engine.put("b", large) }
        await ledger.write("a", .deleted) {
            _ = try await engine.delete("a")
            return nil
        }
        if let version = ledger.state.withLock({ state in state.acked.first { $0.value == small }?.key }) {
            await ledger.write("a", .content(small), isFresh: false) {
                let address = try engine.address("a")
                return try await engine.objects.restore(
                    bucket: address.bucket,
                    key: address.key,
                    version: version
                )
            }
        }
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<4 {
                group.addTask {
                    let bytes = randomBytes(number == 3 ? 140_000 : 900, seed: 10 + UInt64(number))
                    await ledger.write("c\(number)", .content(bytes)) {
                        try await engine.put("c\(number)", bytes)
                    }
                }
            }
        }
        _ = try? await engine.replicator.takeSnapshot()
        let again = randomBytes(3100, seed: 3)
        await ledger.write("b", .content(again)) { try await engine.put("b", again) }
        _ = try? await engine.replicator.takeSnapshot()
        await ledger.write("c0", .deleted) {
            _ = try await engine.delete("c0")
            return nil
        }
    }

    /// One upload that becomes an object, one that is left under way, one that is given up.
    private func uploadInParts(_ engine: Engine, _ ledger: Ledger) async {
        let objects = engine.objectsWithSmallParts
        let bodies = [randomBytes(150_000, seed: 21), randomBytes(3_000, seed: 22)]
        func start(_ key: String) async throws -> UploadAddress {
            let upload = try await objects.createUpload(
                CreateUploadRequest(bucket: try engine.bucket, key: try ObjectKey(key))
            )
            return UploadAddress(bucket: try engine.bucket, key: upload.key, id: upload.id)
        }
        func put(_ number: Int, _ address: UploadAddress) async throws -> UploadedPart {
            try await objects.putPart(
                PutPartRequest(upload: address, number: number),
                body: BufferByteSource(bodies[number - 1])
            )
        }
        await ledger.write("m", .content(Array(bodies.joined()))) {
            let address = try await start("m")
            let parts = [try await put(1, address), try await put(2, address)]
            let listed = parts.map { ListedPart(number: $0.number, etag: $0.etag.hex) }
            return try await objects.complete(CompleteRequest(upload: address, parts: listed))
        }
        if let address = try? await start("n") {
            for number in 1...2 {
                guard let part = try? await put(number, address) else { continue }
                ledger.state.withLock { $0.parts[address, default: []].append(part) }
            }
        }
        if let address = try? await start("o"), (try? await put(2, address)) != nil {
            try? await objects.abort(address)
        }
        _ = try? await engine.replicator.takeSnapshot()
    }

    /// The bucket exists, and nothing else.
    private func prepared() async throws -> EngineFixture {
        let fixture = try EngineFixture()
        let engine = try await fixture.open()
        try await engine.makeBucket()
        await engine.close()
        fixture.take(engine)
        return fixture
    }

    private func check(_ engine: Engine, _ ledger: Ledger, _ point: String) async throws {
        let expected = ledger.state.withLock { $0 }
        let rows = try await engine.versions()
        var contents: [VersionID: [UInt8]] = [:]
        for row in rows where !row.isDeleteMarker {
            let key = String(decoding: row.key.bytes, as: UTF8.self)
            // Nothing half visible: what is listed is read in full, and is something that was written to this key.
            let bytes = try await engine.get(key, .id(row.id))
            contents[row.id] = bytes
            let isKnown = expected.tried[key]?.contains(bytes) == true
            #expect(isKnown, "\(point): strange bytes in \(key)")
            let wasRefused = expected.refused.contains(bytes)
            #expect(!wasRefused, "\(point): \(key) shows what was refused")
        }
        for (id, bytes) in expected.acked {
            let isThere = contents[id] == bytes
            #expect(isThere, "\(point): acknowledged version \(id) is lost")
        }
        for (upload, parts) in expected.parts {
            let found = try await engine.objects.listParts(of: upload).parts
            let areThere = parts.allSatisfy(found.contains)
            #expect(areThere, "\(point): acknowledged parts of \(upload.key) are lost")
        }
        for (key, wishes) in expected.newest {
            let found: Ledger.Wish
            do {
                found = .content(try await engine.get(key))
            } catch let error as StoreError where error.code == .noSuchKey {
                found = .deleted
            }
            let isExpected = wishes.values.contains(found)
            #expect(isExpected, "\(point): \(key) shows an older state")
        }
    }

    /// The next process dies as well, before it serves; then the power fails.
    private func dieWhileOpening(_ fixture: EngineFixture, _ generator: inout SeededGenerator) async {
        let present = generator.pick([[0, 1], [1, 2], [0, 2], [0, 1, 2]])
        if let engine = try? await fixture.open(present, maintained: false, dyingAt: 1 + generator.below(40))
        {
            engine.trip.kill()
            await engine.close(deadline: .seconds(1))
            fixture.take(engine)
        }
        let mode = generator.pick([CrashMode.dropped, .kept, .torn(seed: generator.next())])
        for index in present { fixture.images[index] = fixture.images[index].restarted(after: mode) }
    }

    private func restart(_ images: [DiskImage], _ fixture: EngineFixture, _ ledger: Ledger, _ point: String)
        async throws
    {
        for present in [[0, 1], [1, 2], [0, 2]] {
            let name = "copy.sqlite"
            try fixture.copyIndex(to: name)
            fixture.images = images
            let engine = try await fixture.open(present, index: name, maintained: false)
            try await check(engine, ledger, "\(point), volumes \(present)")
            let incremental = engine.catalog.applied
            await engine.close()
            fixture.take(engine, after: .dropped)
            try fixture.removeIndex("fresh.sqlite")
            let rebuilt = try await fixture.open(present, index: "fresh.sqlite", maintained: false)
            #expect(rebuilt.catalog.applied.position.sequence > incremental.position.sequence, "\(point)")
            #expect(rebuilt.catalog.applied.stateHash == incremental.stateHash, "\(point): rebuilt differs")
            await rebuilt.close()
        }
        fixture.images = images
        await #expect(throws: StoreError.self, "\(point)") {
            try await fixture.open([0], index: "none.sqlite")
        }
        fixture.images = images
        try fixture.copyIndex(to: "copy.sqlite")
        let whole = try await fixture.open(index: "copy.sqlite")
        try await check(whole, ledger, "\(point), all volumes")
        #expect(await whole.eventually { whole.isWhole }, "\(point): redundancy is not restored")
        let report = try await whole.objects.verify(repair: false)
        #expect(report.findingCount == 0, "\(point): \(report.findings)")
        await whole.close()
    }

    @Test(.timeLimit(.minutes(Self.isLong ? 30 : 3)))
    func whereverTheProcessDiesAnyTwoVolumesHaveWhatWasAcknowledged() async throws {
        try await dieEverywhere(callsMin: 60, workload)
    }

    @Test(.timeLimit(.minutes(Self.isLong ? 30 : 3)))
    func whereverTheProcessDiesUploadsInPartsAreWholeOrNotThere() async throws {
        try await dieEverywhere(callsMin: 20, uploadInParts)
    }

    private func dieEverywhere(
        callsMin: Int,
        _ workload: (Engine, Ledger) async -> Void
    ) async throws {
        let total: Int
        do {
            let fixture = try await prepared()
            let engine = try await fixture.open(maintained: false)
            let start = engine.trip.count
            let ledger = Ledger()
            await workload(engine, ledger)
            total = engine.trip.count - start
            #expect(ledger.state.withLock { $0.refused.isEmpty })
            await engine.close()
            fixture.take(engine)
            try fixture.copyIndex(to: "catalog.sqlite")
            try await restart(fixture.images, fixture, ledger, "no crash")
        }
        #expect(total > callsMin)
        for seed in TestSeeds.seeds(fixed: 1) {
            var generator = SeededGenerator(seed: seed)
            var call = 1 + generator.below(7)
            while call <= total {
                let fixture = try await prepared()
                let engine = try await fixture.open(maintained: false)
                let ledger = Ledger()
                engine.trip.arm(call)
                await workload(engine, ledger)
                engine.trip.kill()
                await engine.close(deadline: .seconds(1))
                let modes: [CrashMode] = [.dropped, .torn(seed: generator.next()), .kept]
                let mode = Self.isLong ? modes : [modes[call % 3]]
                for mode in mode {
                    fixture.take(engine, after: mode)
                    if generator.oneIn(2) { await dieWhileOpening(fixture, &generator) }
                    let point = "HOLDFAST_SEED=\(seed), call \(call) of \(total), \(mode)"
                    do {
                        try await restart(fixture.images, fixture, ledger, point)
                    } catch {
                        Issue.record("\(point): \(error)")
                    }
                }
                call += Self.isLong ? 1 : 1 + generator.below(12)
            }
        }
    }
}
