import Replication
import Testing

@Suite struct WorkerThreadTests {
    /// Tells when nobody holds it any more.
    private final class Held: Sendable {
        private let isLetGo: BlockingSignal

        init(_ isLetGo: BlockingSignal) { self.isLetGo = isLetGo }

        deinit { isLetGo.signal() }
    }

    @Test("What a job holds is let go when it has run, while others still wait", .timeLimit(.minutes(2)))
    func letsGo() async {
        let thread = WorkerThread(name: "test", costMax: 10)
        defer { thread.stop() }
        let (start, isLetGo) = (BlockingSignal(), BlockingSignal())
        let result = await withCheckedContinuation { continuation in
            // The thread waits here until all of them are in its queue.
            thread.submit { _ = start.wait(for: .seconds(60)) }
            thread.submit { [held = Held(isLetGo)] in withExtendedLifetime(held) {} }
            thread.submit { continuation.resume(returning: isLetGo.wait(for: .seconds(60))) }
            thread.submit {}
            start.signal()
        }
        #expect(result)
    }
}
