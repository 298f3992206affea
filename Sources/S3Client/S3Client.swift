internal import ContentHashing
package import CurlTransport
internal import S3Protocol
package import StoreModel
internal import Synchronization

package struct S3ClientConfiguration: Sendable {
    package var endpoint: S3Endpoint
    package var signing = S3PayloadSigning.automatic
    /// For calls whose answer is a document. Uploads and downloads take the transport's.
    package var timeouts: TransportTimeouts?
    /// Where the endpoint's name may lead, and that of a host to which it redirects.
    package var addresses = AddressRule.everything

    package init(endpoint: S3Endpoint) { self.endpoint = endpoint }
}

/// Typed calls to an S3 server. One file for each group of calls extends it.
///
/// Every call is one request, repeated only when it was refused before it did anything and can be put right: a clock
/// that is off, another region, credentials that were changed. Retries are the caller's: `S3Retry`.
/// Every call throws `S3ClientError`, or what a body's source throws.
package final class S3Client: Sendable {
    package let configuration: S3ClientConfiguration
    private let transport: CurlTransport
    private let provider: any S3CredentialsProvider
    private let clock: any StoreClock

    private struct State {
        /// What the server's clock is ahead.
        var skewMilliseconds: Int64 = 0
        var regions: [String: String] = [:]
        var signers: [String: (credentials: S3Credentials, signer: RequestSigner)] = [:]
    }

    private let state = Mutex(State())

    package init(
        _ configuration: S3ClientConfiguration,
        credentials: any S3CredentialsProvider,
        transport: CurlTransport,
        clock: any StoreClock = SystemClock()
    ) {
        self.configuration = configuration
        provider = credentials
        self.transport = transport
        self.clock = clock
    }

    /// Corrections of one call: each kind once, and two redirects.
    private static let correctionCountMax = 4
    /// Buckets whose region is remembered.
    private static let regionCountMax = 1024

    /// Who asks.
    package func accessKey() async throws -> String { try await provider.credentials().accessKey }

    // MARK: Requests

    /// Makes a request and hands the answer to `receive` when its status is one of those that the call expects.
    func perform<Value>(
        _ call: S3Call,
        body: S3Body? = nil,
        _ receive: (HTTPClientResponse) async throws -> Value
    ) async throws -> Value {
        var corrections = Corrections()
        while true {
            let credentials: S3Credentials
            if let other = corrections.credentials {
                credentials = other
            } else {
                credentials = try await provider.credentials()
            }
            let prepared = try prepare(call, body, credentials, corrections)
            do {
                let requestBody = try await prepared.wire?.requestBody(signing: prepared.signing) ?? .none
                let result = try await transport.perform(prepared.request, body: requestBody) { response in
                    try await self.take(response, call, receive)
                }
                switch result {
                case .success(let value): return value
                case .failure(let answer):
                    guard corrections.count < Self.correctionCountMax, body?.isReplayable ?? true,
                        try await correct(&corrections, answer, call, credentials, prepared.request.origin)
                    else { throw answer.error }
                    corrections.count += 1
                }
            } catch let error as TransportError {
                throw S3ClientError(error)
            }
        }
    }

    func presign(_ call: S3Call, seconds: Int) async throws -> String {
        let (origin, path) = try configuration.endpoint.location(bucket: call.bucket, key: call.key)
        var head = S3RequestHead(
            method: call.method,
            path: path,
            query: call.queryText,
            headers: call.headers,
            isSecure: origin.scheme == .https
        )
        head.headers.set("host", origin.authority)
        let signer = signer(try await provider.credentials(), region: region(of: call.bucket))
        let query = signer.presign(head, expires: seconds, now: now)
        return "\(origin)\(path)?\(query)"
    }

    /// A call whose answer is a document, or nothing.
    func document(
        _ call: S3Call,
        body: S3Body? = nil,
        upTo sizeMax: Int = XMLReader.sizeMax
    ) async throws -> S3Answer {
        var call = call
        call.timeouts = call.timeouts ?? configuration.timeouts
        return try await perform(call, body: body) { response in
            S3Answer(head: response.head, body: try await response.collect(upTo: sizeMax))
        }
    }

    private struct ErrorReply {
        let head: HTTPResponseHead
        let error: S3ClientError
        let receivedAt: Timestamp
    }

    private enum Reply<Value> {
        case success(Value)
        case failure(ErrorReply)
    }

    private func take<Value>(
        _ response: HTTPClientResponse,
        _ call: S3Call,
        _ receive: (HTTPClientResponse) async throws -> Value
    ) async throws -> Reply<Value> {
        if call.accepted.contains(response.head.status) { return .success(try await receive(response)) }
        let now = clock.now()
        var body: [UInt8] = []
        // An error whose document can't be had whole is an error all the same.
        do { body = try await response.collect(upTo: ErrorAnswer.sizeMax) } catch is TransportError {}
        var error = S3ClientError.service(response.head, body: body, subject: call.subject)
        error.retryAfter = RetryAfter.parse(response.head.first("retry-after"), now: now)
        return .failure(ErrorReply(head: response.head, error: error, receivedAt: now))
    }

    private struct Prepared {
        let request: HTTPClientRequest
        let wire: WireBody?
        let signing: ChunkSigning
    }

    private func prepare(
        _ call: S3Call,
        _ body: S3Body?,
        _ credentials: S3Credentials,
        _ corrections: Corrections
    ) throws(S3ClientError) -> Prepared {
        let endpoint = configuration.endpoint
        var (origin, path) = try endpoint.location(bucket: call.bucket, key: call.key)
        if let other = corrections.origin { origin = other }
        var head = S3RequestHead(
            method: call.method,
            path: path,
            query: call.queryText,
            headers: call.headers,
            isSecure: origin.scheme == .https
        )
        head.headers.set("host", origin.authority)
        let wire = body.map {
            WireBody(
                $0,
                signing: configuration.signing,
                isSecure: origin.scheme == .https,
                trailer: call.trailer
            )
        }
        for field in wire?.fields ?? [] {
            // An encoding of the object's own stands behind that of the wire.
            let other = field.name == "content-encoding" ? head.headers.first(field.name) : nil
            head.headers.set(field.name, other.map { "\(field.value),\($0)" } ?? field.value)
        }
        let signer = signer(credentials, region: region(of: call.bucket))
        let mode = wire?.mode ?? Self.emptyPayload
        let signing = signer.sign(&head, payload: mode, now: now)
        let fields = head.headers.fields.filter { $0.name != "host" }.map { HTTPField($0.name, $0.value) }
        let request = HTTPClientRequest(
            method: call.method,
            origin: origin,
            target: path + (call.queryText.map { "?" + $0 } ?? ""),
            fields: fields,
            timeouts: call.timeouts,
            addresses: configuration.addresses
        )
        return Prepared(request: request, wire: wire, signing: signing)
    }

    private static let emptyPayload = PayloadMode.signed(SHA256Hasher.hash([]))

    /// The server's time, as far as it is known.
    private var now: Timestamp {
        let skew = state.withLock { $0.skewMilliseconds }
        return Timestamp(milliseconds: clock.now().milliseconds &+ skew)
    }

    private func region(of bucket: String?) -> String {
        guard let bucket else { return configuration.endpoint.region }
        return state.withLock { $0.regions[bucket] } ?? configuration.endpoint.region
    }

    /// Signers keep their derived keys: one for each region.
    private func signer(_ credentials: S3Credentials, region: String) -> RequestSigner {
        state.withLock { state in
            if let found = state.signers[region], found.credentials == credentials { return found.signer }
            let signer = RequestSigner(
                accessKey: credentials.accessKey,
                secret: credentials.secret,
                token: credentials.token,
                region: region
            )
            if state.signers.count >= 64 { state.signers = [:] }
            state.signers[region] = (credentials, signer)
            return signer
        }
    }

    // MARK: Corrections

    private struct Corrections {
        var count = 0
        var isClockCorrected = false
        /// In place of refused ones.
        var credentials: S3Credentials?
        var origin: HTTPOrigin?
        var redirectCount = 0
    }

    /// - Returns: whether the request is worth to be repeated.
    private func correct(
        _ corrections: inout Corrections,
        _ reply: ErrorReply,
        _ call: S3Call,
        _ credentials: S3Credentials,
        _ origin: HTTPOrigin
    ) async throws -> Bool {
        if !corrections.isClockCorrected, correctClock(reply, call) {
            corrections.isClockCorrected = true
            return true
        }
        if corrections.redirectCount < 2, redirect(&corrections, reply, call, origin) {
            corrections.redirectCount += 1
            return true
        }
        guard corrections.credentials == nil, Self.refusals.contains(reply.error.code) else { return false }
        let other = try await provider.credentials(insteadOf: credentials)
        guard other != credentials else { return false }
        corrections.credentials = other
        return true
    }

    private static let refusals: Set<String> = [
        "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken",
        "SignatureDoesNotMatch",
        "AccessDenied", "TokenRefreshRequired",
    ]

    /// Sets our clock by the server's. Answers to HEAD have no document: there a refusal and clocks that are as far
    /// apart as S3 allows at most say the same.
    private func correctClock(_ reply: ErrorReply, _ call: S3Call) -> Bool {
        guard let text = reply.head.first("date"), let date = HTTPDate.parse(text) else { return false }
        let skew = date.milliseconds - reply.receivedAt.milliseconds
        let isSkewed =
            reply.error.code == "RequestTimeTooSkewed"
            || (call.method == "HEAD" && reply.head.status == 403)
        return state.withLock { state in
            let difference = skew - state.skewMilliseconds
            guard isSkewed, difference.magnitude > UInt64(Self.skewCorrectedMin) else { return false }
            state.skewMilliseconds = skew
            return true
        }
    }

    /// Less than that no server minds.
    private static let skewCorrectedMin: Int64 = 60_000

    /// Takes the region, and the host, that the server names.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html
    private func redirect(
        _ corrections: inout Corrections,
        _ reply: ErrorReply,
        _ call: S3Call,
        _ origin: HTTPOrigin
    ) -> Bool {
        let isRedirect = [301, 307, 308].contains(reply.head.status)
        let isOtherRegion = [
            "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "BadRequest",
        ]
        .contains(reply.error.code)
        guard isRedirect || isOtherRegion else { return false }
        var isChanged = false
        if let bucket = call.bucket, let region = reply.error.region, S3Endpoint.isRegion(region),
            region != self.region(of: bucket)
        {
            state.withLock { state in
                if state.regions.count >= Self.regionCountMax { state.regions = [:] }
                state.regions[bucket] = region
            }
            isChanged = true
        }
        if isRedirect, let location = reply.head.location,
            let other = try? HTTPOrigin.parse(location).origin, other != origin,
            Self.isTrusted(other, from: configuration.endpoint.origin)
        {
            corrections.origin = other
            isChanged = true
        }
        return isChanged
    }

    /// Signed requests and their bodies go on to hosts of the same house only, and never from TLS to plain HTTP.
    package static func isTrusted(_ other: HTTPOrigin, from origin: HTTPOrigin) -> Bool {
        guard other.scheme == origin.scheme || other.scheme == .https else { return false }
        if other.host == origin.host { return true }
        for domain in [".amazonaws.com", ".amazonaws.com.cn"] where origin.host.hasSuffix(domain) {
            return other.host.hasSuffix(domain)
        }
        let labels = origin.host.split(separator: ".")
        guard labels.count >= 3, labels.contains(where: { UInt8($0) == nil }) else { return false }
        return other.host.hasSuffix("." + labels.dropFirst().joined(separator: "."))
    }
}

/// One request to be made.
struct S3Call: Sendable {
    var method: String
    var bucket: String?
    var key: ObjectKey?
    var query: [(name: String, value: String?)] = []
    var headers = HeaderList()
    var accepted: Set<Int> = [200]
    var trailer: ChecksumAlgorithm?
    var timeouts: TransportTimeouts?

    init(_ method: String, bucket: String? = nil, key: ObjectKey? = nil) {
        self.method = method
        self.bucket = bucket
        self.key = key
    }

    mutating func add(_ name: String, _ value: String?) {
        if let value { query.append((name, value)) }
    }

    mutating func setHeader(_ name: String, _ value: String?) {
        if let value { headers.set(name, value) }
    }

    var queryText: String? {
        guard !query.isEmpty else { return nil }
        return query.map { name, value in
            PercentCoding.encode(name, keepsSlash: false)
                + (value.map { "=" + PercentCoding.encode($0, keepsSlash: false) } ?? "")
        }.joined(separator: "&")
    }

    /// For messages.
    var subject: String {
        method + (bucket.map { " of \($0)" } ?? "") + (key.map { "/\($0)" } ?? "")
    }
}

/// An answer whose body was collected.
struct S3Answer {
    let head: HTTPResponseHead
    let body: [UInt8]

    /// What other servers call these documents: rclone the first, moto the second.
    private static let foreignNames = [
        "InitiateMultipartUploadResult": "InitiateMultipartUpload",
        "VersioningConfiguration": "GetBucketVersioningResponse",
    ]

    /// The document, which must have this root.
    /// - Throws: the error that stands in its place: some calls answer 200 before they know.
    func document(_ root: String) throws(S3ClientError) -> XMLElement {
        // What keeps the connection alive meanwhile stands before the document.
        let start = body.firstIndex { ![0x20, 0x09, 0x0A, 0x0D].contains($0) } ?? body.endIndex
        guard start < body.endIndex else { throw .answer("The server answered \(root) with nothing.") }
        let text = start == 0 ? body : [UInt8](body[start...])
        let xml: XMLElement
        do throws(S3Error) {
            xml = try XMLReader.read(text)
        } catch {
            throw .answer("The server answered with a document that can't be read: \(error.message)")
        }
        if ErrorAnswer(xml) != nil {
            var error = S3ClientError.service(head, body: text, subject: root)
            // The status says success: what the code means counts.
            error.isRetryable = ![
                "MalformedXML", "InvalidPart", "InvalidPartOrder", "EntityTooSmall",
                "NoSuchUpload", "NoSuchKey", "AccessDenied", "PreconditionFailed", "InvalidRequest",
            ]
            .contains(error.code)
            error.mayHaveTakenEffect = error.isRetryable
            throw error
        }
        guard xml.name == root || Self.foreignNames[root] == xml.name else {
            throw .answer("The server answered with <\(xml.name.prefix(64))> in place of <\(root)>.")
        }
        return xml
    }
}

/// https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
enum RetryAfter {
    /// Longer ones are cut: a server can't ask for days.
    static let durationMax: Duration = .seconds(3600)

    static func parse(_ text: String?, now: Timestamp) -> Duration? {
        guard let text else { return nil }
        if let seconds = ASCIIText.decimal(text) {
            return min(.seconds(Int64(clamping: min(seconds, 1 << 32))), durationMax)
        }
        guard let date = HTTPDate.parse(text) else { return nil }
        return min(max(.zero, .milliseconds(date.milliseconds - now.milliseconds)), durationMax)
    }
}
