internal import StoreModel

/// An error of the command line itself: about arguments and local files, where a `StoreError` is about the
/// store.
package struct CommandError: Error, Sendable, CustomStringConvertible {
    package enum Code: String, Sendable {
        case usage
        case fileNotFound, fileUnreadable, fileUnwritable, isDirectory, notADirectory, notARegularFile
        case fileChanged, localInputOutput
        case downloadBusy
        case damagedData
        case unhealthy
        case partlyDone
        case interrupted, terminated
        case brokenPipe
    }

    package let code: Code
    package let message: String
    package let advice: String?

    package init(_ code: Code, _ message: String, advice: String? = nil) {
        self.code = code
        self.message = message
        self.advice = advice
    }

    package var exitStatus: ExitStatus {
        switch code {
        case .usage: .usage
        case .fileNotFound, .fileUnreadable, .fileUnwritable, .isDirectory, .notADirectory, .notARegularFile,
            .fileChanged, .localInputOutput, .downloadBusy:
            .localFile
        case .damagedData: .damaged
        case .unhealthy: .unavailable
        case .partlyDone: .partlyDone
        case .interrupted: .interrupted
        case .terminated: .terminated
        case .brokenPipe: .brokenPipe
        }
    }

    package var description: String { advice.map { "\(message) \($0)" } ?? message }
}

/// What is said about an error: the same for people and for programs.
package struct ErrorReport: Encodable, Sendable {
    /// Stable name of what went wrong, for example `noSuchKey`.
    package let code: String
    package let message: String
    /// What to do about it; absent when there is nothing to do.
    package let advice: String?
    package let exitCode: Int32

    package init(_ error: any Error) {
        switch error {
        case let error as StoreError:
            code = error.code.description
            message = error.message
            advice = error.advice ?? Self.advice(for: error.code)
            exitCode = ExitStatus(error.code).rawValue
        case let error as CommandError:
            code = error.code.rawValue
            message = error.message
            advice = error.advice
            exitCode = error.exitStatus.rawValue
        case is CancellationError:
            code = CommandError.Code.interrupted.rawValue
            message = "Stopped before the end."
            advice = nil
            exitCode = ExitStatus.interrupted.rawValue
        default:
            code = StoreError.Code.internalFault.description
            message = "\(error)"
            advice = nil
            exitCode = ExitStatus.internalFault.rawValue
        }
    }

    /// Advice in the command line's own words, where the store gave none.
    private static func advice(for code: StoreError.Code) -> String? {
        switch code {
        case .storeNotFound: "Make one with 'holdfast init', or name it with --store or HOLDFAST_STORE."
        case .noSuchBucket: "'holdfast ls' shows the buckets; 'holdfast bucket create NAME' makes one."
        case .noSuchKey:
            "'holdfast ls BUCKET/PREFIX' shows what is there; 'holdfast log' shows deleted versions."
        case .noSuchVersion: "'holdfast log BUCKET/KEY' shows the versions."
        case .noSuchUpload: "'holdfast upload ls BUCKET' shows those that are under way."
        case .methodNotAllowed: "That version is a delete marker; 'holdfast log BUCKET/KEY' shows the others."
        case .bucketNotEmpty: "'holdfast ls --versions BUCKET' shows what it still holds."
        case .notEnoughReplicas, .catalogUnavailable: "'holdfast status' shows which volumes are missing."
        case .dataUnavailable: "Bring missing volumes back; 'holdfast verify' shows what is affected."
        case .storeInUse: "Wait for that process to end, or give it longer with --lock-timeout SECONDS."
        case .storeFull: "Free space on the volumes, or delete: deletes work on a full store."
        case .outcomeUnknown:
            "'holdfast log BUCKET/KEY' tells whether the change is there; repeating it is safe."
        case .unsupportedFormat: "Use the version of holdfast that wrote the store, or a newer one."
        default: nil
        }
    }
}
