internal import Synchronization

/// A continuation that takes the first of several answers and drops the others.
final class OnceContinuation<Value: Sendable>: Sendable {
    private let continuation: Mutex<CheckedContinuation<Value, Never>?>

    init(_ continuation: CheckedContinuation<Value, Never>) { self.continuation = Mutex(continuation) }

    /// Whether somebody waits still.
    var isWaiting: Bool { continuation.withLock { $0 != nil } }

    func resume(returning value: Value) {
        let taken = continuation.withLock { current in
            defer { current = nil }
            return current
        }
        taken?.resume(returning: value)
    }
}
