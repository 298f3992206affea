internal import BlobVolume
internal import Catalog
internal import Logging
package import StoreModel
internal import Synchronization

/// The layout of the volumes in a replicator: read at opening, changed one document at a time, put into force after it is
/// committed.
extension Replicator {
    struct LayoutState: Sendable {
        var layout: VolumeLayout
        /// The document that it was read from; nil when there is none.
        var body: [UInt8]?
        var committedVersion: UInt64 = 0
    }

    package var layout: VolumeLayout { layoutState.withLock { $0.layout } }

    /// The volumes of this process, as the layout names them.
    private var configured: [(id: VolumeID, placementID: VolumeID)] {
        let slots = volumes.slots
        return volumes.present.map { (slots[$0].id, slots[$0].placementID) }
    }

    /// Reads the layout and puts it into force; changes nothing yet.
    func openLayout() async throws {
        let row = try await readCatalog { try $0.document(.setting, VolumeLayout.key) }
        // Before the first document the store has the volumes that it was made with, under the names that chunks are placed
        // by. One with another id has taken the place of one of them: it is new.
        let founding = VolumeLayout(founding: configured.map { ($0.placementID, $0.placementID) })
        var layout = founding.aligned(with: configured) ?? founding
        var committed: UInt64 = 0
        if let row {
            let stored = try VolumeLayout(decoding: row.body)
            committed = stored.version
            // Brought in line in memory at once: what the document does not know yet must be filled all the same.
            layout = stored.aligned(with: configured) ?? stored
        }
        let (opened, committedVersion) = (layout, committed)
        layoutState.withLock {
            $0 = LayoutState(layout: opened, body: row?.body, committedVersion: committedVersion)
        }
        volumes.setRoles(opened.roles)
    }

    /// Brings the document in line with the volumes that there are.
    package func alignLayout() async throws {
        _ = try await changeLayout { stored in
            stored.aligned(with: configured)
        }
    }

    /// Changes the layout durably, then puts it into force.
    /// - Parameter change: of the layout as it is committed; nil when nothing is to be done. May be called again.
    /// - Returns: the layout in force.
    @discardableResult
    package func changeLayout(_ change: (VolumeLayout) throws -> VolumeLayout?) async throws -> VolumeLayout {
        for _ in 0..<Self.layoutAttemptCount {
            // Before the first document the volumes are those that the store was opened with.
            let (body, opened) = layoutState.withLock { ($0.body, $0.layout) }
            let stored =
                try body.map { body throws(StoreError) in try VolumeLayout(decoding: body) } ?? opened
            guard let next = try change(stored) else { return layout }
            let bytes = next.encoded()
            let write = DocumentWrite(
                space: .setting,
                key: VolumeLayout.key,
                expectation: body.map { .equals($0) } ?? .absent,
                body: bytes,
                refusal: .preconditionFailed
            )
            do {
                _ = try await commit(
                    .documents([write]),
                    operation: OperationID.random(from: random),
                    chunks: []
                )
            } catch let error as StoreError
                where error.code == .preconditionFailed || error.code == .outcomeUnknown
            {
                // Somebody was faster, or nobody knows: what stands there decides.
                try await reloadLayout()
                continue
            }
            takeLayout(next, bytes)
            return next
        }
        throw StoreError(
            .conflict,
            "The layout of the volumes changed again and again meanwhile.",
            advice: "Try again."
        )
    }

    private static let layoutAttemptCount = 8

    private func reloadLayout() async throws {
        guard let row = try await readCatalog({ try $0.document(.setting, VolumeLayout.key) }) else { return }
        takeLayout(try VolumeLayout(decoding: row.body), row.body)
    }

    /// Puts a committed layout into force, unless a later one is.
    private func takeLayout(_ next: VolumeLayout, _ body: [UInt8]) {
        let configured = configured
        let isNews = layoutState.withLock { state in
            guard state.body == nil || next.version > state.committedVersion else { return false }
            let inForce = next.aligned(with: configured) ?? next
            state = LayoutState(layout: inForce, body: body, committedVersion: next.version)
            volumes.setRoles(inForce.roles)
            return true
        }
        guard isNews else { return }
        logger.info("The layout of the volumes changed.", metadata: ["version": "\(next.version)"])
    }

    /// Whether chunks belong on a volume that a walk has not yet found there.
    package func mustBeFilled(_ index: Int) -> Bool {
        let slot = volumes.slots[index]
        guard slot.role == .active else { return false }
        return layout[slot.id]?.mustBeFilled ?? true
    }

    // MARK: The volumes themselves

    /// A volume of this store that was not part of it takes part from here on: in the log as one that is new, for chunks
    /// at once. One that is not there (its slot has no replica) is looked for.
    package func add(_ slot: VolumeSet.Slot) async throws {
        let index = try volumes.append(slot)
        if slot.replica != nil {
            _ = volumes.markFailed(index, "It has just been added; its log is being read.")
            await readmit(index)
        }
        logger.info("A volume was added.", metadata: ["volume": "\(slot.label)"])
        try await alignLayout()
    }

    /// A volume is no part of the store from here on. Who asks has made sure that nothing is lost by it.
    package func retire(_ id: VolumeID, _ reason: String) async throws {
        if let index = volumes.index(of: id) { leave(index, reason) }
        try await alignLayout()
    }

    /// A volume is out for good, in this process; the layout is brought in line by what follows.
    package func leave(_ index: Int, _ reason: String) {
        pipeline.volumeFailed(index)
        closeAside(volumes.retire(index, reason))
        logger.info("A volume left the store.", metadata: ["volume": "\(volumes.slots[index].label)"])
    }

    /// Closes a replica on a thread of its own: one that hangs holds up nobody.
    func closeAside(_ replica: (any Replica)?) {
        guard let replica else { return }
        let thread = WorkerThread(name: "hf-close", costMax: 1)
        thread.submit {
            replica.close(deadline: .seconds(10))
            thread.stop()
        }
    }
}
