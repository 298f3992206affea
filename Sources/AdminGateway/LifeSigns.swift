internal import S3Gateway
internal import StoreModel

/// Signs of life for whoever waits for a long job: `102 Processing`, again and again until the answer.
///
/// Only a client that asks for them in the header `Holdfast-Life-Signs`, with the milliseconds between two of them, gets
/// them: not every HTTP client knows interim answers. They end after a day, so that nobody waits for ever for a job that
/// hangs.
enum LifeSignRequest {
    static let header = "holdfast-life-signs"
    static let interval = 100...60_000
    static let dayLength = Duration.seconds(86_400)

    /// - Returns: nil for a client that does not ask, or asks for what it can't have.
    static func interval(of request: GatewayRequest) -> Duration? {
        guard !request.isVersion10, let text = request.header(header), let milliseconds = Int(text),
            interval.contains(milliseconds)
        else { return nil }
        return .milliseconds(milliseconds)
    }
}

extension AdminResponder {
    /// Runs `body`, and gives signs of life beside it. None is given once it has returned.
    func withLifeSigns<Value: Sendable>(
        _ request: GatewayRequest,
        _ writer: ResponseWriter,
        _ body: () async throws -> Value
    ) async throws -> Value {
        guard let interval = LifeSignRequest.interval(of: request) else { return try await body() }
        let signs = writer.lifeSigns
        let clock = clock
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                let end = ContinuousClock.now + LifeSignRequest.dayLength
                while ContinuousClock.now < end {
                    do { try await clock.sleep(for: interval) } catch { return }
                    if Task.isCancelled { return }
                    signs.give()
                }
            }
            let result: Result<Value, any Error>
            do { result = .success(try await body()) } catch { result = .failure(error) }
            group.cancelAll()
            try await group.waitForAll()
            return try result.get()
        }
    }
}
