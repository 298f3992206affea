internal import BlobVolume
package import Catalog
package import Logging
package import StoreModel
internal import Synchronization

extension Replicator {
    /// Opens the replicated store over volumes that are open: recovers the commit log, brings the index to its state.
    /// - Parameters:
    ///   - willRebuild: called before the index is thrown away, to be built anew.
    ///   - opener: opens a volume that was absent, should it appear while the store is open.
    /// - Throws: `StoreError` with `.notEnoughReplicas` when no log can be chosen, and says why.
    package static func open(
        _ configuration: Configuration,
        volumes: VolumeSet,
        catalog: any CatalogStore,
        mustRebuildCatalog: Bool,
        willRebuild: () throws -> Void = {},
        clock: any StoreClock,
        random: any RandomSource,
        timers: any Timers,
        logger: Logger,
        opener: VolumeOpener? = nil,
        inspector: VolumeInspector? = nil
    ) async throws -> (replicator: Replicator, didRebuildCatalog: Bool) {
        let pipeline = CommitPipeline(
            volumes: volumes,
            quorum: configuration.quorum,
            catalog: catalog,
            clock: clock,
            random: random,
            timers: timers,
            logger: logger
        )
        let replicator = Replicator(
            configuration: configuration,
            volumes: volumes,
            catalog: catalog,
            pipeline: pipeline,
            clock: clock,
            random: random,
            timers: timers,
            logger: logger,
            opener: opener,
            inspector: inspector
        )
        pipeline.onVolumeFailure.withLock { handler in
            handler = { [weak replicator] index, replica, reason in
                replicator?.fail(index, reason: reason, of: replica)
            }
        }
        do {
            try await pipeline.recover(try await replicator.reports())
            let didRebuild = try await pipeline.openCatalog(
                mustRebuild: mustRebuildCatalog,
                willRebuild: willRebuild
            ) { note in
                try await replicator.importSnapshot(note)
            }
            try await replicator.openLayout()
            replicator.forgetFailures()
            try await replicator.settleMembership()
            return (replicator, didRebuild)
        } catch {
            pipeline.close()
            throw error
        }
    }

    /// Takes back what the volumes recorded of each other's failures before this opening: a volume that has promised
    /// this epoch was opened with them in mind.
    private func forgetFailures() {
        for id in pipeline.promisedVolumes {
            for slot in volumes.slots where slot.id != id && !slot.isRemoved {
                slot.replica?.clearFailure(of: id) { _ in }
            }
        }
    }

    /// What each volume says of its log. One whose failure its peers recorded was opened without what it had not
    /// synced, and says by itself whether it may have lost something.
    private func reports() async throws -> [VolumeLogReport] {
        var reports: [(index: Int, report: ReplicaLogReport)] = []
        for index in volumes.present {
            guard let replica = volumes.usableReplica(index) else { continue }
            switch await timers.call(replica, { $0.logReport(completion: $1) }) {
            case .success(let report): reports.append((index, report))
            case .failure(let error): _ = volumes.markFailed(index, error.description)
            }
        }
        return reports.map { volumeReport($0.report, of: $0.index) }
    }

    /// A volume that was out because it lagged is asked for its log anew and joins again. The report stands behind
    /// everything that was sent to it before: its log thread works in order.
    func readmit(_ index: Int) async {
        guard let replica = volumes.slots[index].replica, !pipeline.isStopped else { return }
        guard case .success(let report) = await timers.call(replica, { $0.logReport(completion: $1) }) else {
            return
        }
        let joining = volumeReport(report, of: index)
        // It may count itself complete through batches that are not on the chain.
        let common = pipeline.withState {
            joining.outline.lastCommon(with: $0.machine.chain)?.sequence ?? 0
        }
        if joining.completeSequence > common { replica.setComplete(through: common) }
        CoverageMark.reach(.volumeForgiven)
        volumes.forgive(index)
        logger.info("A volume that lagged takes part again.", metadata: ["volume": "\(replica.label)"])
        pipeline.handle(endsAction: false) { $0.join(joining) }
    }

    private func volumeReport(_ report: ReplicaLogReport, of index: Int) -> VolumeLogReport {
        let id = volumes.slots[index].id
        let outline = LogOutline(base: report.base, positions: report.positions)
        let isWhole = outline.tail == report.positions.last ?? report.base
        return VolumeLogReport(
            volume: id,
            record: report.record,
            outline: outline,
            knownCommitIndex: report.knownCommitIndex,
            completeSequence: report.completeSequence,
            damage: report.damage ?? (isWhole ? nil : "its log has a gap after \(outline.tail)"),
            attestedTail: report.attestedTail
        )
    }

    /// Closes the pipeline and the volumes; a volume that hangs is left behind after the deadline.
    package func close(deadline: Duration = .seconds(10)) {
        repairs.close()
        pipeline.close()
        stopCatalogThreads()
        volumes.closeAdmission()
        // Side by side: volumes that hang cost one deadline together.
        let threads = volumes.slots.compactMap(\.replica).map { replica in
            let thread = WorkerThread(name: "hf-close", costMax: 1)
            let closed = BlockingSignal()
            thread.submit {
                replica.close(deadline: deadline)
                closed.signal()
                thread.stop()
            }
            return closed
        }
        for closed in threads { _ = closed.wait(for: deadline + .seconds(1)) }
    }
}
