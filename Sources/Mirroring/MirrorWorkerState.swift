package import StoreModel

/// What a mirror's worker does, for whoever asks.
package struct MirrorWorkerState: Sendable {
    package enum Activity: String, Hashable, Sendable {
        case starting, working, idle, paused
        /// The breaker is open: the backend is left alone for a while.
        case waiting
        /// Another worker has the lease.
        case elsewhere
        case stopped
    }

    package var activity = Activity.starting
    package var breaker = CircuitBreaker.State.closed
    package var breakerOpenCount: UInt64 = 0
    /// nil: nobody has asked it yet.
    package var keepsVersions: Bool?
    package var runningCount = 0
    /// It goes slowly now, for clients; and how long it has waited for them, in nanoseconds of all its requests.
    package var isYielding = false
    package var yieldedNanoseconds: UInt64 = 0
    /// Tasks in memory; the others stand in the outbox.
    package var taskCount = 0
    /// Of tasks.
    package var doneCount: UInt64 = 0
    package var sentBytes: UInt64 = 0
    package var failureCount: UInt64 = 0
    package var deadCount: UInt64 = 0
    package var lastFailure: String?
    package var lastFailureAt: Timestamp?
    package var lastSuccessAt: Timestamp?
}
