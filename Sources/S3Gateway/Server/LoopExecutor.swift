internal import NIOCore

/// Runs a connection's task on the connection's event loop: a request that waits for nothing is answered without a change
/// of threads, which costs more than a small request itself. What takes long or blocks has threads of its own and is
/// awaited.
final class LoopExecutor: TaskExecutor {
    private let loop: any EventLoop

    init(_ loop: any EventLoop) { self.loop = loop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        loop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}
