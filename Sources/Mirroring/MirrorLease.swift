package import Catalog
package import StoreModel
internal import Synchronization

/// Who works on a mirror: one worker at a time, wherever workers run.
///
/// ```
/// free ──take──▶ held ──take (renews)──▶ held ──release──▶ free
///                  │
///                  └── seen unchanged for `duration` by another worker, which takes it
/// ```
///
/// 1. The holder's name stands in one document, the time of its last renewal in another: what the holder writes expects
///    the first to be its own (`proof`), so one that lost its lease can change nothing any more.
/// 2. Another worker takes it when it has seen both unchanged for `duration` by its own monotonic clock: from the end of the
///    first look to the beginning of the last one. Wall clocks, which jump and differ, decide nothing.
/// 3. The holder sends no request later than `duration` after it began its last renewal, by its own monotonic clock
///    (`isValid`): a worker that wakes up late does not send either. What it had sent before may still arrive.
/// 4. A worker that knows that it is alone (`isAlone`: its process holds the store's lock) takes it at once.
package final class MirrorLease: Sendable {
    package static let duration = Duration.seconds(30)
    private static let format: UInt8 = 1

    private struct State {
        /// What another holder has written, and since when it is known.
        var seen: [[UInt8]?] = []
        var seenAt: UInt64 = 0
        var heldUntil: UInt64 = 0
        /// In the document of the last renewal.
        var time: Int64 = 0
    }

    private let id: MirrorID
    private let holder: UniqueID
    private let isAlone: Bool
    private let state = Mutex(State())

    package init(id: MirrorID, holder: UniqueID, isAlone: Bool) {
        self.id = id
        self.holder = holder
        self.isAlone = isAlone
    }

    private var key: [UInt8] { MirrorKey.under(MirrorKey.leasePrefix, id) }
    private var timeKey: [UInt8] { MirrorKey.under(MirrorKey.leaseTimePrefix, id) }
    private var body: [UInt8] { [Self.format] + holder.bytes }

    /// To be written along with whatever the holder changes.
    package var proof: DocumentWrite {
        DocumentWrite(
            space: .outbox,
            key: key,
            expectation: .equals(body),
            change: .keep,
            refusal: .cancelled
        )
    }

    /// Whether requests may be sent.
    package func isValid(at monotonic: UInt64) -> Bool {
        isAlone || state.withLock { monotonic < $0.heldUntil }
    }

    /// Takes the lease, or makes it longer.
    /// - Parameters:
    ///   - monotonic: before the call.
    ///   - later: the same clock, asked when the documents were read.
    ///   - isHeld: the caller believes that it holds it. If somebody else has had it meanwhile it is lost, free or not:
    ///     what was known under it is void.
    /// - Returns: whether it is held now.
    package func take(
        _ store: any MirrorStore,
        now: Timestamp,
        monotonic: UInt64,
        later: () -> UInt64,
        isHeld: Bool = false
    ) async throws -> Bool {
        let (key, timeKey) = (key, timeKey)
        let (old, time) = try await store.read { reader in
            (try reader.document(.outbox, key)?.body, try reader.document(.outbox, timeKey)?.body)
        }
        let isOwn = old == body
        if isHeld, !isOwn {
            state.withLock { $0.heldUntil = 0 }
            return false
        }
        guard isOwn || isAlone || mayTake(old, time, monotonic, later()) else { return false }
        var writer = ByteWriter(capacity: 9)
        writer.write(Self.format)
        writer.write(nextTime(now))
        do {
            try await store.write([
                DocumentWrite(
                    space: .outbox,
                    key: key,
                    expectation: old.map { .equals($0) } ?? .absent,
                    body: body
                ),
                DocumentWrite(
                    space: .outbox,
                    key: timeKey,
                    // Whoever has renewed it in between keeps it.
                    expectation: isOwn || isAlone ? .any : time.map { .equals($0) } ?? .absent,
                    body: writer.bytes
                ),
            ])
        } catch let error as StoreError where error.code == .conflict {
            state.withLock { $0.heldUntil = 0 }
            return false
        }
        state.withLock { $0.heldUntil = monotonic &+ Self.duration.nanoseconds }
        return true
    }

    /// Gives it back, so that nobody has to wait for its end.
    package func release(_ store: any MirrorStore) async {
        state.withLock { $0.heldUntil = 0 }
        let write = DocumentWrite(space: .outbox, key: key, expectation: .equals(body), body: nil)
        // Without it the next one waits.
        _ = try? await store.write([write])
    }

    /// - Parameter end: when the documents had been read.
    private func mayTake(_ old: [UInt8]?, _ time: [UInt8]?, _ monotonic: UInt64, _ end: UInt64) -> Bool {
        guard old != nil else { return true }
        return state.withLock { state in
            state.heldUntil = 0
            guard state.seen == [old, time] else {
                (state.seen, state.seenAt) = ([old, time], end)
                return false
            }
            // A look that ended after this one began may have come later.
            return monotonic > state.seenAt && monotonic - state.seenAt >= Self.duration.nanoseconds
        }
    }

    /// Another one each time, also when the clock stands still or goes back.
    private func nextTime(_ now: Timestamp) -> Int64 {
        state.withLock { state in
            let end = now.milliseconds &+ Self.duration.components.seconds * 1000
            state.time = end == state.time ? end &+ 1 : end
            return state.time
        }
    }
}
