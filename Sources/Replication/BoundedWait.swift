/// What a task gives within a deadline, or nil. A task that is stuck is left behind; a task group would wait for it.
package func value<Value: Sendable>(of task: Task<Value, Never>, within deadline: Duration) async -> Value? {
    await withCheckedContinuation { continuation in
        let once = OnceContinuation<Value?>(continuation)
        let sleeper = Task {
            try? await Task.sleep(for: deadline)
            once.resume(returning: nil)
        }
        Task {
            once.resume(returning: await task.value)
            sleeper.cancel()
        }
    }
}
