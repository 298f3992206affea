internal import Glibc
internal import Synchronization

/// Holds calls back until the test lets them go: a disk that hangs, for as long as the test wants it to.
///
/// A held call blocks its thread, as a thread in the kernel does. No call is held longer than the gate's
/// deadline, so that a test that goes wrong fails instead of hanging.
package final class FaultGate: Sendable {
    private struct State {
        var isOpen = false
        var heldCount = 0
        var arrivedCount = 0
    }

    private let state = Mutex(State())
    private let deadline: Duration

    package init(deadline: Duration = .seconds(60)) { self.deadline = deadline }

    /// Calls that are held at this moment.
    package var heldCount: Int { state.withLock { $0.heldCount } }

    /// Calls that have come to this gate so far.
    package var arrivedCount: Int { state.withLock { $0.arrivedCount } }

    /// Lets all calls go, and those that come later.
    package func open() { state.withLock { $0.isOpen = true } }

    /// Blocks the calling thread until `count` calls are held.
    /// - Returns: Whether they came within the deadline.
    package func waitUntilHolding(_ count: Int = 1) -> Bool { wait { $0.heldCount >= count } }

    /// As `waitUntilHolding`, without blocking the thread.
    package func holding(_ count: Int = 1) async -> Bool {
        let end = ContinuousClock.now + deadline
        while heldCount < count {
            guard ContinuousClock.now < end else { return false }
            try? await Task.sleep(for: .milliseconds(1))
        }
        return true
    }

    /// Called by the disk.
    /// - Returns: False when the deadline has passed instead of the gate being opened.
    func hold() -> Bool {
        state.withLock { state in
            state.heldCount += 1
            state.arrivedCount += 1
        }
        defer { state.withLock { $0.heldCount -= 1 } }
        return wait { $0.isOpen }
    }

    /// Polls: a gate is a rare thing in a test, and this way there is no condition variable to get wrong.
    private func wait(until condition: (State) -> Bool) -> Bool {
        let end = ContinuousClock.now + deadline
        while !state.withLock({ condition($0) }) {
            guard ContinuousClock.now < end else { return false }
            usleep(200)
        }
        return true
    }
}
