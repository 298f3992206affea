internal import Synchronization

/// A continuation that takes the first of several answers and drops the others.
package final class OnceContinuation<Value: Sendable>: Sendable {
    private let continuation: Mutex<CheckedContinuation<Value, Never>?>

    package init(_ continuation: CheckedContinuation<Value, Never>) {
        self.continuation = Mutex(continuation)
    }

    /// Whether somebody waits still.
    var isWaiting: Bool { continuation.withLock { $0 != nil } }

    /// - Returns: whether this was the first answer.
    @discardableResult
    package func resume(returning value: Value) -> Bool {
        let taken = continuation.withLock { current in
            defer { current = nil }
            return current
        }
        taken?.resume(returning: value)
        return taken != nil
    }
}
