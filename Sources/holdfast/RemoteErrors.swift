internal import CurlTransport
internal import ObjectService
internal import S3Client
internal import StoreModel

/// What a server's answer means in the words of the commands: the same codes, and so the same exit codes, as from a
/// store in a directory.
enum RemoteErrors {
    /// - Parameter isChange: whether the call was to change something: then no answer leaves the outcome open.
    static func translate<Value>(
        isChange: Bool = false,
        _ body: () async throws -> Value
    ) async throws -> Value {
        do {
            return try await body()
        } catch let error as S3ClientError {
            throw storeError(error, isChange: isChange)
        }
    }

    static func storeError(_ error: S3ClientError, isChange: Bool) -> any Error {
        if error.transport?.code == .cancelled { return CancellationError() }
        let request = error.requestID.map { " (request \($0))" } ?? ""
        let message = error.message + request
        if error.kind == .credentials || error.kind == .request { return CommandError(.usage, message) }
        if error.kind == .integrity { return CommandError(.damagedData, message) }
        if let code = codes[error.code] {
            return StoreError(code, message, advice: advice[error.code], cause: error)
        }
        // S3 has no code for it.
        if error.message.hasPrefix(StoreError.notMirroredBeginning) {
            return StoreError(.notMirrored, message, cause: error)
        }
        if isChange, error.mayHaveTakenEffect {
            return StoreError(.outcomeUnknown, "No answer that tells: \(message)", cause: error)
        }
        if error.kind == .transport {
            return StoreError(.serverUnreachable, message, advice: unreachable(error), cause: error)
        }
        return StoreError(byStatus(error.status ?? 0), message, cause: error)
    }

    private static func unreachable(_ error: S3ClientError) -> String? {
        switch error.transport?.code {
        case .certificateRejected?: "Nothing was sent. Name the authority that signed it with --ca-file FILE."
        case .connectFailed?, .nameNotResolved?: "Is the server up, and is --endpoint right?"
        default: nil
        }
    }

    private static let codes: [String: StoreError.Code] = [
        "NoSuchBucket": .noSuchBucket, "NoSuchKey": .noSuchKey, "NoSuchVersion": .noSuchVersion,
        "NoSuchUpload": .noSuchUpload, "BucketAlreadyExists": .bucketAlreadyExists,
        "BucketAlreadyOwnedByYou": .bucketAlreadyExists, "BucketNotEmpty": .bucketNotEmpty,
        "InvalidBucketName": .invalidBucketName, "KeyTooLongError": .keyTooLong,
        "MetadataTooLarge": .metadataTooLarge, "PreconditionFailed": .preconditionFailed,
        "ConditionalRequestConflict": .conflict, "MethodNotAllowed": .methodNotAllowed,
        "BadDigest": .badDigest,
        "XAmzContentChecksumMismatch": .badDigest, "XAmzContentSHA256Mismatch": .payloadHashMismatch,
        "EntityTooLarge": .entityTooLarge, "InsufficientStorage": .storeFull, "SlowDown": .overloaded,
        "InvalidRange": .invalidRange, "InvalidTag": .invalidArgument, "InvalidArgument": .invalidArgument,
        "InvalidBucketState": .invalidBucketState, "AccessDenied": .accessDenied,
        "InvalidAccessKeyId": .accessDenied, "SignatureDoesNotMatch": .accessDenied,
        "ExpiredToken": .accessDenied, "RequestTimeTooSkewed": .accessDenied,
        "IllegalVersioningConfigurationException": .invalidBucketState,
    ]

    private static let advice: [String: String] = [
        "InvalidAccessKeyId": "Look at HOLDFAST_ACCESS_KEY, or at the file with the keys.",
        "SignatureDoesNotMatch": "Look at HOLDFAST_SECRET_KEY, or at the file with the keys.",
        "AccessDenied": "The account may not do that.",
    ]

    private static func byStatus(_ status: Int) -> StoreError.Code {
        switch status {
        case 401, 403: .accessDenied
        case 404: .noSuchKey
        case 409: .conflict
        case 412: .preconditionFailed
        case 429: .overloaded
        case 400...499: .invalidArgument
        case 503: .notEnoughReplicas
        case 507: .storeFull
        default: .serverUnreachable
        }
    }
}
