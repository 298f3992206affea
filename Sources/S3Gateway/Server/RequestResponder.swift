/// Answers requests. One call at a time for each connection, in a task that is cancelled when the client is gone.
package protocol RequestResponder: Sendable {
    /// Answers through `writer`: one response, ended. A responder that returns without one makes the server answer
    /// 500, or cut the connection when a response has begun.
    func respond(to request: GatewayRequest, body: RequestBody, writer: ResponseWriter) async

    /// The answer to what is no acceptable request. Called on an event loop: must not block.
    func answer(to problem: TransportProblem) -> (ResponseHead, [UInt8])
}

extension RequestResponder {
    package func answer(to problem: TransportProblem) -> (ResponseHead, [UInt8]) {
        let body = [UInt8]("\(problem.message)\n".utf8)
        return (
            ResponseHead(
                status: problem.status,
                headers: [HeaderField("Content-Type", "text/plain")],
                contentLength: UInt64(body.count)
            ),
            body
        )
    }
}
