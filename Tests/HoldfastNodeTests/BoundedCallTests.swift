import Replication
import Synchronization
import Testing

@testable import HoldfastNode

@Suite struct BoundedCallTests {
    @Test("A call that hangs is left behind, and what it gives in the end is let go", .timeLimit(.minutes(1)))
    func hangs() async {
        let gate = BlockingSignal()
        let late = BlockingSignal()
        let result = await StoreDirectory.bounded(
            .milliseconds(1),
            "test",
            late: { (_: Int) in late.signal() }
        ) {
            _ = gate.wait(for: .seconds(60))
            return 7
        }
        #expect(result == nil)
        gate.signal()
        let isLetGo = await withCheckedContinuation { continuation in
            let thread = WorkerThread(name: "test", costMax: 1)
            thread.submit {
                continuation.resume(returning: late.wait(for: .seconds(60)))
                thread.stop()
            }
        }
        #expect(isLetGo)
    }

    @Test("A call that returns in time gives its value")
    func returns() async {
        #expect(await StoreDirectory.bounded(.seconds(60), "test", { 7 }) == 7)
    }
}
