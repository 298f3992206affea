package import Logging
package import ObjectService
package import Observability
package import S3Protocol
package import StoreModel

/// Answers S3 requests: a name, a route, a verified sender, a handler, an answer, a line in the logs.
///
/// 1. No handler runs before the signature is verified and the sender may do what it asks for: handlers take a
///    `VerifiedRequest`, which can't be made otherwise.
/// 2. A body is asked for only after that.
/// 3. Every answer has a request id; what goes wrong below is translated in one table, `ErrorMapping`.
package final class S3Service: RequestResponder {
    package struct Configuration: Sendable {
        package var region = "us-east-1"
        /// Host names below which buckets have names of their own.
        package var domains: [String] = []
        package var newBuckets = NewBuckets()
        package var plainClientKeys = PlainClientKeys.fromLoopback
        /// Whether forms that are signed the old way (HMAC-SHA-1) are taken: boto3 makes such ones unless it is told
        /// otherwise.
        package var allowsVersion2Forms = true

        package init() {}
    }

    package let objects: ObjectStore
    package let credentials: any CredentialSource
    package let configuration: Configuration
    package let clock: any StoreClock
    package let logger: Logger
    package let verifier: SignatureVerifier
    let accessCache = BucketAccessCache()
    private let addressing: Addressing
    private let metrics: ServiceMetrics
    private let accessLog: LineSink?
    private let audit: ChangeAudit
    private let ids = RequestIDs()
    /// Names this process in answers, as S3 names its hosts.
    let hostID: String
    let bucketLogs: BucketLogs?

    package init(
        _ objects: ObjectStore,
        credentials: any CredentialSource,
        configuration: Configuration = Configuration(),
        metrics: ServiceMetrics,
        accessLog: LineSink? = nil,
        bucketLogs: BucketLogs? = nil,
        clock: any StoreClock = SystemClock(),
        logger: Logger,
        audit: Logger? = nil
    ) {
        self.objects = objects
        self.credentials = credentials
        self.configuration = configuration
        self.metrics = metrics
        self.accessLog = accessLog
        self.audit = ChangeAudit(logger: audit ?? logger)
        self.bucketLogs = bucketLogs
        self.clock = clock
        self.logger = logger
        addressing = Addressing(domains: configuration.domains)
        verifier = SignatureVerifier(region: configuration.region)
        hostID = RequestIDs().make()
    }

    package func respond(to request: GatewayRequest, body: RequestBody, writer: ResponseWriter) async {
        let start = clock.monotonicNanoseconds()
        var record = AccessRecord(id: ids.make(), request: request, time: clock.now())
        metrics.begin()
        var common = commonHeaders(id: record.id)
        var route: S3Route?
        do {
            try await answer(request, body, writer, &common, &record, &route)
        } catch {
            refuse(error, request, writer, common, &record)
        }
        record.status = writer.status ?? 0
        record.nanoseconds = clock.monotonicNanoseconds() - start
        record.receivedCount = body.receivedCount
        record.sentCount = writer.bodyCount
        metrics.end(
            api: record.api,
            code: record.code ?? "\(record.status)",
            nanoseconds: record.nanoseconds,
            received: record.receivedCount,
            sent: record.sentCount
        )
        accessLog?.append(record.line())
        audit.note(record, route)
        await log(record, request, route)
    }

    private func answer(
        _ request: GatewayRequest,
        _ body: RequestBody,
        _ writer: ResponseWriter,
        _ common: inout [HeaderField],
        _ record: inout AccessRecord,
        _ found: inout S3Route?
    ) async throws {
        let head = S3RequestHead(
            method: request.method,
            path: request.path,
            query: request.query,
            headers: request.headers,
            isSecure: request.isSecure
        )
        let route = try Router.route(head, addressing: addressing)
        found = route
        record.api = route.operation.name
        common += await originHeaders(route, head)
        let arrival = RequestArrival(
            id: record.id,
            head: head,
            route: route,
            remoteAddress: request.remoteAddress,
            receivedAt: record.time
        )
        let verified = try await verify(arrival)
        record.account = verified.account?.id
        try await authorize(verified)
        let exchange = Exchange(verified, body: body, writer: writer, commonHeaders: common)
        try await dispatch(exchange)
        if !writer.hasStarted { throw S3Error(.internalError) }
    }

    private func verify(_ arrival: RequestArrival) async throws -> VerifiedRequest {
        // A browser asks without the credentials that it will send.
        if arrival.route.operation == .preflight { return try VerifiedRequest(anonymous: arrival) }
        let authentication = try RequestAuthentication(arrival.head, query: arrival.route.query)
        guard let claim = authentication.claim else { return try VerifiedRequest(anonymous: arrival) }
        let credential = try await credentials.credential(for: claim.accessKey)
        let signature = try verifier.verify(
            authentication,
            head: arrival.head,
            secret: credential?.secret,
            now: arrival.receivedAt
        )
        guard let credential else { throw S3Error(.invalidAccessKeyID) }
        return VerifiedRequest(arrival, signature: signature, account: credential.account)
    }

    // MARK: Answers

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonResponseHeaders.html
    private func commonHeaders(id: String) -> [HeaderField] {
        [HeaderField("x-amz-request-id", id), HeaderField("x-amz-id-2", hostID)]
    }

    private func refuse(
        _ error: any Error,
        _ request: GatewayRequest,
        _ writer: ResponseWriter,
        _ common: [HeaderField],
        _ record: inout AccessRecord
    ) {
        guard let answer = ErrorMapping.s3Error(for: error) else {
            record.code = "ClientGone"
            return writer.abort()
        }
        record.code = answer.code.rawValue
        if answer.status >= 500, answer.code != .notImplemented {
            logger.error(
                "A request failed.",
                metadata: ["requestId": "\(record.id)", "api": "\(record.api)", "error": "\(error)"]
            )
        }
        // An answer that has begun can't be taken back, only cut.
        guard !writer.hasStarted else { return writer.abort() }
        let headers = answer.headers.map { HeaderField($0.name, $0.value) } + common
        // https://www.rfc-editor.org/rfc/rfc9110#section-15.4.5
        if answer.status == 304 {
            return writer.send(ResponseHead(status: 304, headers: headers, contentLength: nil))
        }
        let document = ErrorDocument(
            error: answer,
            resource: request.path,
            requestID: record.id,
            hostID: hostID
        )
        writer.send(
            ResponseHead(
                status: answer.status,
                headers: headers + [HeaderField("Content-Type", "application/xml")],
                contentLength: nil
            ),
            body: document.xmlBytes
        )
    }

    package func answer(to problem: TransportProblem) -> (ResponseHead, [UInt8]) {
        let error = ErrorMapping.s3Error(for: problem) ?? S3Error(.badRequest)
        let id = ids.make()
        metrics.begin()
        metrics.end(api: "none", code: error.code.rawValue, nanoseconds: 0, received: 0, sent: 0)
        let body = ErrorDocument(error: error, resource: "", requestID: id, hostID: hostID).xmlBytes
        var headers = commonHeaders(id: id) + error.headers.map { HeaderField($0.name, $0.value) }
        headers.append(HeaderField("Content-Type", "application/xml"))
        return (
            // HTTP has 413 for a body that is too large, S3 has not.
            ResponseHead(
                status: problem.kind == .bodyTooLarge ? error.status : problem.status,
                headers: headers,
                contentLength: UInt64(body.count)
            ), body
        )
    }
}
