internal import StoreModel
internal import Synchronization

/// Copies that verified a short while ago, so that uploads of the same content need not read them again.
///
/// Two generations of bounded sets: what was not seen for one to two generations is forgotten.
final class VerifiedRecently: Sendable {
    private struct Key: Hashable {
        /// All of it: digests that begin alike can be made on purpose.
        let digest: Digest
        let volume: Int
    }

    private struct State {
        var young: [Key: Timestamp] = [:]
        var old: [Key: Timestamp] = [:]
    }

    private static let generationCountMax = 8192
    private let state = Mutex(State())

    func insert(_ digest: Digest, on volume: Int, at time: Timestamp) {
        state.withLock { state in
            if state.young.count >= Self.generationCountMax {
                state.old = state.young
                state.young = [:]
            }
            state.young[Key(digest: digest, volume: volume)] = time
        }
    }

    func remove(_ digest: Digest, on volume: Int) {
        state.withLock { state in
            state.young[Key(digest: digest, volume: volume)] = nil
            state.old[Key(digest: digest, volume: volume)] = nil
        }
    }

    /// Whether a copy was found good within `Limits.verificationAgeMax`.
    func contains(_ digest: Digest, on volume: Int, now: Timestamp) -> Bool {
        guard let time = time(of: digest, on: volume), time <= now else { return false }
        return now.milliseconds - time.milliseconds <= Limits.verificationAgeMax.components.seconds * 1000
    }

    /// When a copy was last found good.
    func time(of digest: Digest, on volume: Int) -> Timestamp? {
        state.withLock { state in
            let key = Key(digest: digest, volume: volume)
            return state.young[key] ?? state.old[key]
        }
    }
}
