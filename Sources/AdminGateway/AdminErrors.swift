internal import S3Gateway
internal import S3Protocol
internal import StoreModel

/// The one table from what goes wrong to what the admin API answers.
enum AdminErrors {
    struct Answer {
        let status: Int
        let detail: ErrorDocument.Detail
        var headers: [HeaderField] = []
    }

    /// - Returns: nil when the client is gone and nobody needs an answer.
    static func answer(to error: any Error, requestID: String) -> Answer? {
        func answer(
            _ status: Int,
            _ code: String,
            _ message: String,
            advice: String? = nil,
            _ headers: [HeaderField] = []
        ) -> Answer {
            Answer(
                status: status,
                detail: .init(code: code, message: message, advice: advice, requestID: requestID),
                headers: headers
            )
        }
        switch error {
        case let error as AdminRefusal:
            let allow =
                error.allowedMethods.isEmpty
                ? [] : [HeaderField("Allow", error.allowedMethods.joined(separator: ", "))]
            return answer(error.status, error.code, error.message, allow)
        case let error as S3Error:
            return answer(error.status, error.code.rawValue, error.message)
        case let error as StoreError:
            guard error.code != .cancelled else { return nil }
            let status = Self.status[error.code] ?? 500
            let retry = status == 503 ? [HeaderField("Retry-After", "5")] : []
            return answer(status, error.code.description, error.message, advice: error.advice, retry)
        case let error as TransportProblem:
            return answer(error.status, error.kind.rawValue, error.message)
        case is CancellationError:
            return nil
        default:
            return answer(
                500,
                StoreError.Code.internalFault.description,
                "The request met a fault of the server."
            )
        }
    }

    /// What is not here is a fault of the server: 500.
    private static let status: [StoreError.Code: Int] = [
        .noSuchAccount: 404,
        .noSuchAccessKey: 404,
        .noSuchBucket: 404,
        .noSuchKey: 404,
        .noSuchVersion: 404,
        .noSuchSetting: 404,
        .badDigest: 409,
        .conflict: 409,
        .storeAlreadyExists: 409,
        .preconditionFailed: 409,
        .invalidArgument: 400,
        .accessDenied: 403,
        .notEnoughReplicas: 503,
        .catalogUnavailable: 503,
        .dataUnavailable: 503,
        .deadlineExceeded: 503,
        .overloaded: 503,
        .notMirrored: 503,
        .storeFull: 507,
    ]
}
