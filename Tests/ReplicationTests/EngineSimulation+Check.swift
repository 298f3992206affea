import BlobVolume
import Catalog
import CatalogSQLite
import ObjectService
import StoreModel
import StoreTestKit

@testable import Replication

/// What must be true of a simulated store once everything is healed.
extension EngineSimulation {
    private static let patience: Duration = .seconds(900)

    func healAndCheck() async throws {
        // What failed stays failed until the store is opened again, and what is away comes back then.
        for _ in 0..<2 {
            if let engine, engine.disks.count == fixture.ids.count {
                await heal(engine, within: Self.patience)
                if harmed == nil { break }
            }
            await endProcess()
            engine = try await fixture.open(index: indexName)
        }
        guard let engine else { return }
        await heal(engine, within: Self.patience)
        guard harmed == nil, await eventually(within: Self.patience, { engine.isWhole }) else {
            return fail("Redundancy is not restored: \(harm), \(engine.replicator.replicatorStatus()).")
        }
        guard await scrub(engine) else { return fail("A scrub of whole volumes did not come to its end.") }
        await finishUploads(engine)
        if let mirror {
            for problem in await mirror.finish(engine, histories.keys.sorted()) { fail(problem) }
            count("mirrored versions", mirror.mirroredCount)
        }
        do {
            _ = try await engine.replicator.collectGarbage(Self.garbageOptions)
        } catch {
            fail("Garbage collection of a healed store: \(error)")
        }
        try await checkContents(engine)
        let report = try await engine.objects.verify(repair: false)
        if report.findingCount > 0 { fail("verify finds \(report.findings)") }
        checkHistories()
        await endProcess()
        checkFiles()
        try await checkWithoutOne()
    }

    private func checkContents(_ engine: Engine) async throws {
        for key in histories.keys.sorted() { await readAtLast(engine, key) }
        for (id, version) in kept.sorted(by: { $0.key < $1.key }) {
            do {
                let bytes = try await engine.get(version.key, .id(id))
                if bytes != version.bytes { fail("Version \(id) of \(version.key) has other bytes.") }
            } catch {
                fail("The acknowledged version \(id) of \(version.key): \(error)")
            }
        }
    }

    private func checkHistories() {
        for key in histories.keys.sorted() {
            guard let history = histories[key] else { continue }
            switch history.isLinearizable {
            case true?: break
            case false?: fail("No order explains the answers about \(key): \(history.calls)")
            case nil: fail("\(key) was asked for too often: \(history.calls.count) calls.")
            }
        }
    }

    private func checkFiles() {
        for (index, image) in fixture.images.enumerated() {
            do {
                let damage = try VolumeCheck.run(CrashDisk(image), deep: true).damage
                if !damage.isEmpty { fail("fsck of volume \(index + 1): \(damage)") }
            } catch {
                fail("fsck of volume \(index + 1): \(error)")
            }
        }
    }

    /// One volume is away, and the index is built again from the log.
    private func checkWithoutOne() async throws {
        let whole = try await fixture.open(index: indexName, maintained: false)
        let hash = whole.catalog.applied.stateHash
        await close(whole)
        fixture.take(whole)
        let away = random.below(fixture.ids.count)
        let rest = try await fixture.open(
            fixture.ids.indices.filter { $0 != away },
            index: "rebuilt.sqlite",
            maintained: false
        )
        engine = rest
        if rest.catalog.applied.stateHash != hash { fail("A rebuilt index has another state.") }
        try await checkContents(rest)
        checkHistories()
        engine = nil
        await close(rest)
    }
}
