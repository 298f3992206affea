internal import BlobVolume
package import Catalog
internal import StoreModel
internal import Synchronization

/// Stands between garbage collection and everybody who is about to refer to a payload.
///
/// #### Invariants
/// 1. Who writes a payload, or finds that the store has it, has pinned it before it looked. The pin lasts until the
///    commit that refers to it is committed, or is known to come to nothing; a batch whose outcome is unknown keeps it.
/// 2. A run never takes away what was pinned at any moment since it began: `withdraw` looks and acts under the lock under
///    which pins are made. Who pins later finds that the index does not have the payload, and writes it.
/// 3. Who goes on from a version or a part that may be deleted meanwhile (a download, the end of an upload in parts) holds
///    its manifest, and says so before it looks the version up.
/// 4. Once closed nothing is withdrawn any more: what the log had under way may still come true at the next opening.
///
/// Fingerprints stand for digests: two that agree keep each other alive, no more.
final class GarbageGate: Sendable {
    private struct Run {
        /// Pinned at some moment since the run began.
        var recent: Set<UInt64>
        var isOverflowing = false
    }

    private struct State {
        var pins: [UInt64: Int] = [:]
        var run: Run?
        var holds: [UInt64: [ManifestReference]?] = [:]
        var nextHold: UInt64 = 1
        var isClosed = false
    }

    /// Bounds the memory of a run beside a very busy store: about 64 MiB. Beyond, the run ends and the next one tries.
    static let recentCountMax = 4 << 20

    private let state = Mutex(State())

    // MARK: Pins

    func pin(_ fingerprint: UInt64) {
        state.withLock { state in
            state.pins[fingerprint, default: 0] += 1
            guard state.run != nil else { return }
            if state.run?.recent.count ?? 0 < Self.recentCountMax {
                state.run?.recent.insert(fingerprint)
            } else {
                state.run?.isOverflowing = true
            }
        }
    }

    func unpin(_ fingerprint: UInt64) {
        state.withLock { state in
            guard let count = state.pins[fingerprint] else { return }
            state.pins[fingerprint] = count > 1 ? count - 1 : nil
        }
    }

    var pinCount: Int { state.withLock { $0.pins.count } }

    // MARK: Holds

    func beginHold() -> UInt64 {
        state.withLock { state in
            defer { state.nextHold += 1 }
            state.holds[state.nextHold] = .some(nil)
            return state.nextHold
        }
    }

    func attach(_ manifests: [ManifestReference], to hold: UInt64) {
        state.withLock { state in
            guard let held = state.holds[hold] else { return }
            state.holds[hold] = .some((held ?? []) + manifests)
        }
    }

    func endHold(_ hold: UInt64) { state.withLock { $0.holds[hold] = nil } }

    /// Holds that don't say yet what they are about.
    var unresolvedHolds: [UInt64] {
        state.withLock { state in state.holds.compactMap { $0.value == nil ? $0.key : nil } }
    }

    func isUnresolved(_ hold: UInt64) -> Bool {
        state.withLock { state in
            guard let held = state.holds[hold] else { return false }
            return held == nil
        }
    }

    var heldManifests: [ManifestReference] {
        state.withLock { state in state.holds.values.flatMap { $0 ?? [] } }
    }

    // MARK: Runs

    /// - Returns: false when a run is under way, or none may begin any more.
    func beginRun() -> Bool {
        state.withLock { state in
            guard state.run == nil, !state.isClosed else { return false }
            state.run = Run(recent: Set(state.pins.keys))
            return true
        }
    }

    func endRun() { state.withLock { $0.run = nil } }

    /// Lets `body` withdraw those of the candidates that nobody has pinned since the run began. `body` must not wait.
    /// - Returns: nil when the run must end.
    func withdraw(
        _ candidates: ArraySlice<GarbageCandidate>,
        _ body: ([GarbageCandidate]) -> [GarbageCandidate]
    ) -> [GarbageCandidate]? {
        state.withLock { state in
            guard let run = state.run, !run.isOverflowing, !state.isClosed else { return nil }
            return body(candidates.filter { !run.recent.contains($0.digest.words.0) })
        }
    }

    /// Whether somebody has pinned it since the run began.
    func isRecent(_ fingerprint: UInt64) -> Bool {
        state.withLock { $0.run?.recent.contains(fingerprint) ?? false }
    }

    func close() { state.withLock { $0.isClosed = true } }
}

/// Keeps what a manifest lists from garbage collection for as long as it lives.
package final class ManifestHold: Sendable {
    private let gate: GarbageGate
    private let id: UInt64

    init(_ gate: GarbageGate) {
        self.gate = gate
        id = gate.beginHold()
    }

    package func attach(_ manifests: [ManifestReference]) { gate.attach(manifests, to: id) }

    deinit { gate.endHold(id) }
}
