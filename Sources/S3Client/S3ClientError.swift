package import CurlTransport
internal import S3Protocol

/// Why a call to an S3 server has no result: what, from whom, and what to make of it.
///
/// Messages may hold buckets, keys and what the server said, never secrets.
package struct S3ClientError: Error, Sendable, CustomStringConvertible {
    package enum Kind: String, Sendable {
        /// The server answered with an error; `code` is S3's.
        case service
        /// No answer; `code` is the transport's.
        case transport
        /// An answer that makes no sense, or more of it than there may be.
        case answer
        /// The credentials can't be had.
        case credentials
        /// The call can't be made as it stands.
        case request
        /// The bytes that came are not those that were asked for.
        case integrity
    }

    package let kind: Kind
    /// `NoSuchKey`, `connectFailed`; for metrics and decisions.
    package let code: String
    package let message: String
    package var status: Int?
    package var requestID: String?
    /// What the server asked to wait.
    package var retryAfter: Duration?
    /// Whether the same call may succeed later.
    package var isRetryable: Bool
    /// Whether the call may have had its effect nevertheless.
    package var mayHaveTakenEffect: Bool
    package var transport: TransportError?
    /// Whether the server said it in S3's words, not by a status alone.
    package var isDocumented = false
    /// The region that the server names.
    var region: String?

    package init(
        _ kind: Kind,
        code: String,
        _ message: String,
        isRetryable: Bool = false,
        mayHaveTakenEffect: Bool = false
    ) {
        self.kind = kind
        self.code = code
        self.message = message
        self.isRetryable = isRetryable
        self.mayHaveTakenEffect = mayHaveTakenEffect
    }

    package init(_ error: TransportError) {
        self.init(
            .transport,
            code: error.code.description,
            error.message,
            isRetryable: error.isTransient,
            mayHaveTakenEffect: error.requestMayHaveArrived
        )
        transport = error
    }

    package static func request(_ message: String) -> S3ClientError {
        S3ClientError(.request, code: "InvalidRequest", message)
    }

    /// A call that got such an answer may have had its effect.
    package static func answer(_ message: String) -> S3ClientError {
        S3ClientError(.answer, code: "InvalidAnswer", message, isRetryable: true, mayHaveTakenEffect: true)
    }

    package static func integrity(_ message: String) -> S3ClientError {
        S3ClientError(.integrity, code: "IntegrityFailure", message, isRetryable: true)
    }

    package var isNotFound: Bool { status == 404 }
    /// A condition of the request does not hold.
    package var isPreconditionFailed: Bool { status == 412 }
    /// The key that was used is not known, not valid any more, or not allowed to do this.
    package var isRefused: Bool { status == 401 || status == 403 }

    package var description: String {
        var text = "\(code): \(message)"
        if let status { text += " (status \(status)" + (requestID.map { ", request \($0))" } ?? ")") }
        return text
    }
}

extension S3ClientError {
    /// What an error answer says. Its body is at most `ErrorAnswer.sizeMax` bytes; it may be missing or anything.
    static func service(_ head: HTTPResponseHead, body: [UInt8], subject: String) -> S3ClientError {
        let document = ErrorAnswer(body)
        let code = document?.code ?? codeByStatus(head.status)
        var error = S3ClientError(
            .service,
            code: code,
            document?.message
                ?? "The server answered \(subject): \(sentence(head.status)) (status \(head.status)).",
            isRetryable: isRetryable(code: code, status: head.status),
            // The server failed while it worked on it.
            mayHaveTakenEffect: head.status >= 500
        )
        error.status = head.status
        error.isDocumented = document != nil
        error.requestID = document?.requestID ?? head.first("x-amz-request-id").map { String($0.prefix(128)) }
        error.region = head.first("x-amz-bucket-region") ?? document?.region
        return error
    }

    /// Of answers without a body, as to HEAD.
    private static func codeByStatus(_ status: Int) -> String {
        switch status {
        case 301, 307, 308: "PermanentRedirect"
        case 304: "NotModified"
        case 400: "BadRequest"
        case 401, 403: "AccessDenied"
        case 404: "NotFound"
        case 405: "MethodNotAllowed"
        case 409: "Conflict"
        case 412: "PreconditionFailed"
        case 416: "InvalidRange"
        case 429: "TooManyRequests"
        case 500: "InternalError"
        case 501: "NotImplemented"
        case 503: "ServiceUnavailable"
        case 507: "InsufficientStorage"
        default: "Status\(status)"
        }
    }

    /// What answers without a body mean, as to HEAD.
    private static func sentence(_ status: Int) -> String {
        switch status {
        case 301, 307, 308: "it is elsewhere, and the answer names no place that is trusted"
        case 304: "it has not changed"
        case 400: "the request lacks something, or has what does not belong there"
        case 401, 403: "access is denied"
        case 404: "there is no such thing"
        case 405: "it is a delete marker, or nothing that can be asked for that"
        case 409: "it does not go with the present state"
        case 412: "a condition does not hold"
        case 416: "the range lies outside"
        case 429: "there were too many requests"
        case 500: "the server failed"
        case 501: "the server does not know how to"
        case 502, 504: "a server behind it does not answer"
        case 503: "not at this time"
        case 507: "there is no room left"
        default: "an answer that is not expected there"
        }
    }

    private static func isRetryable(code: String, status: Int) -> Bool {
        switch code {
        case "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted",
            "ConditionalRequestConflict", "TooManyRequests", "Throttling", "ThrottlingException",
            "RequestThrottled", "RequestLimitExceeded", "BandwidthLimitExceeded", "RequestTimeTooSkewed",
            "IncompleteBody", "Busy", "InsufficientStorage":
            true
        case "NotImplemented": false
        default: [408, 425, 429, 500, 502, 503, 504].contains(status)
        }
    }
}

/// The document of an error, as far as it can be read.
struct ErrorAnswer {
    static let sizeMax = 64 << 10

    let code: String
    let message: String
    let requestID: String?
    let region: String?

    init?(_ body: [UInt8]) {
        guard !body.isEmpty, body.count <= Self.sizeMax, let xml = try? XMLReader.read(body) else {
            return nil
        }
        self.init(xml)
    }

    init?(_ xml: XMLElement) {
        guard xml.name == "Error", let code = Self.text(xml, "Code"), !code.isEmpty else { return nil }
        self.code = code
        message = Self.text(xml, "Message") ?? code
        requestID = Self.text(xml, "RequestId")
        region = Self.text(xml, "Region")
    }

    /// What goes into a message for people is short and has no line ends.
    private static func text(_ xml: XMLElement, _ name: String) -> String? {
        guard let child = xml.children(named: name).first else { return nil }
        return String(child.text.prefix(512).map { $0.isNewline || $0 == "\t" ? " " : $0 })
    }
}
