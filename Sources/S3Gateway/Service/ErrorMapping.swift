package import S3Protocol
package import StoreModel

/// The one table from what goes wrong below to what S3 answers.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
package enum ErrorMapping {
    /// - Returns: nil when the client is gone and nobody needs an answer.
    package static func s3Error(for error: any Error) -> S3Error? {
        switch error {
        case let error as S3Error: error
        case let error as StoreError: s3Error(for: error)
        case let problem as TransportProblem: s3Error(for: problem)
        case is CancellationError: nil
        default: S3Error(.internalError)
        }
    }

    static func s3Error(for problem: TransportProblem) -> S3Error? {
        switch problem.kind {
        case .connectionLost: nil
        case .foreignUser: S3Error(.accessDenied)
        case .bodyTruncated: S3Error(.incompleteBody)
        case .bodyTooSlow, .headTimeout: S3Error(.requestTimeout)
        case .bodyTooLarge: S3Error(.entityTooLarge)
        case .headersTooLarge: S3Error(.requestHeaderSectionTooLarge)
        case .targetTooLong: S3Error(.invalidURI, problem.message)
        case .unsupportedCoding: S3Error(.notImplemented, problem.message)
        case .tooManyConnections: S3Error(.slowDown, headers: [("Retry-After", "1")])
        case .malformed, .unsupportedVersion, .unsupportedExpectation: S3Error(.badRequest, problem.message)
        }
    }

    package static func s3Error(for error: StoreError) -> S3Error? {
        if error.code == .cancelled { return nil }
        guard let row = table[error.code] else { return S3Error(.internalError) }
        var answer = S3Error(row.code, row.usesMessage ? error.message : row.message)
        // S3 names the condition; the message begins with it.
        if error.code == .preconditionFailed, error.message.hasPrefix("If-") {
            let name = error.message.prefix { $0 != ":" && $0 != " " }
            answer.details.append(("Condition", String(name)))
        }
        if row.code.status == 503 { answer.headers.append(("Retry-After", row.retryAfter)) }
        return answer
    }

    private struct Row {
        let code: S3ErrorCode
        /// Whether the store's message says more than S3's usual one.
        var usesMessage = false
        /// Instead of S3's usual one.
        var message: String?
        /// Seconds.
        var retryAfter = "1"
    }

    private static let table: [StoreError.Code: Row] = [
        .noSuchBucket: Row(code: .noSuchBucket),
        .noSuchKey: Row(code: .noSuchKey),
        .noSuchVersion: Row(code: .noSuchVersion),
        .bucketAlreadyExists: Row(code: .bucketAlreadyExists),
        .bucketNotEmpty: Row(code: .bucketNotEmpty),
        .invalidBucketName: Row(code: .invalidBucketName),
        .invalidKey: Row(code: .invalidArgument, usesMessage: true),
        .keyTooLong: Row(code: .keyTooLong),
        .invalidArgument: Row(code: .invalidArgument, usesMessage: true),
        .invalidRange: Row(code: .invalidRange),
        .metadataTooLarge: Row(code: .metadataTooLarge),
        .preconditionFailed: Row(code: .preconditionFailed),
        .conflict: Row(code: .operationAborted),
        .methodNotAllowed: Row(code: .methodNotAllowed),
        .badDigest: Row(code: .badDigest),
        .payloadHashMismatch: Row(code: .contentSHA256Mismatch),
        .entityTooLarge: Row(code: .entityTooLarge),
        .entityTooSmall: Row(code: .entityTooSmall),
        .noSuchUpload: Row(code: .noSuchUpload),
        .invalidPart: Row(code: .invalidPart),
        .invalidPartOrder: Row(code: .invalidPartOrder),
        .objectLocked: Row(code: .accessDenied, usesMessage: true),
        .accessDenied: Row(code: .accessDenied),
        .encryptionKeyMissing: Row(
            code: .invalidRequest,
            message: "The object was stored using a form of Server Side Encryption. "
                + "The correct parameters must be provided to retrieve the object."
        ),
        .encryptionKeyUnexpected: Row(
            code: .invalidRequest,
            message: "The encryption parameters are not applicable to this object."
        ),
        .masterKeyUnavailable: Row(code: .serviceUnavailable, usesMessage: true, retryAfter: "30"),
        .invalidBucketState: Row(code: .invalidBucketState, usesMessage: true),
        .notEnoughReplicas: Row(code: .serviceUnavailable, usesMessage: true, retryAfter: "5"),
        .catalogUnavailable: Row(code: .serviceUnavailable, usesMessage: true, retryAfter: "5"),
        .dataUnavailable: Row(code: .serviceUnavailable, usesMessage: true, retryAfter: "30"),
        .deadlineExceeded: Row(code: .serviceUnavailable, usesMessage: true),
        .overloaded: Row(code: .slowDown),
        .notMirrored: Row(code: .serviceUnavailable, usesMessage: true, retryAfter: "5"),
        // The outcome may be either: a client must not take it for a refusal, and may repeat the request.
        .outcomeUnknown: Row(code: .internalError, usesMessage: true),
        .storeFull: Row(code: .insufficientStorage),
    ]
}
