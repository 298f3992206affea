package import StoreModel

/// The exit codes of the command line. They are part of its interface: a number never changes its meaning.
///
/// | code | name | meaning |
/// |---|---|---|
/// | 0 | success | everything that was asked for is done |
/// | 1 | internalFault | a fault of holdfast itself, or an error without a code of its own |
/// | 2 | usage | wrong arguments, or a name that is not allowed |
/// | 3 | notFound | no such store, bucket, key or version |
/// | 4 | conflict | it exists already, is not empty, or a condition does not hold |
/// | 5 | unavailable | not enough replicas, or too busy: nothing became visible, try again later |
/// | 6 | damaged | damaged or missing data that no replica could make good |
/// | 7 | storeInUse | another process holds the store |
/// | 8 | full | no room left for new data |
/// | 9 | outcomeUnknown | the change may or may not have become durable; a later read tells |
/// | 10 | unsupportedFormat | the store was written by a version this one does not understand |
/// | 11 | localFile | a local file, directory or stream could not be read or written |
/// | 12 | partlyDone | several files or keys: some were done, some were skipped or failed |
/// | 13 | inputOutput | a disk of the store answered with an error |
/// | 14 | repaired | a scrub found damage and repaired all of it |
/// | 15 | notMirrored | stored, but a mirror that the bucket waits for does not have it yet; it will get it |
/// | 16 | denied | the key is not known, or its account may not do that |
/// | 17 | unreachable | no answer from the server that was asked: nothing was changed |
/// | 130, 143 | interrupted, terminated | stopped by SIGINT or SIGTERM; a download can be resumed |
/// | 141 | brokenPipe | the reader of standard output went away |
package enum ExitStatus: Int32, Sendable {
    case success = 0
    case internalFault = 1
    case usage = 2
    case notFound = 3
    case conflict = 4
    case unavailable = 5
    case damaged = 6
    case storeInUse = 7
    case full = 8
    case outcomeUnknown = 9
    case unsupportedFormat = 10
    case localFile = 11
    case partlyDone = 12
    case inputOutput = 13
    case repaired = 14
    case notMirrored = 15
    case denied = 16
    case unreachable = 17
    case interrupted = 130
    case brokenPipe = 141
    case terminated = 143

    /// The one table from the store's error codes to exit codes.
    private static let table: [StoreError.Code: ExitStatus] = [
        .noSuchBucket: .notFound,
        .noSuchKey: .notFound,
        .noSuchVersion: .notFound,
        .storeNotFound: .notFound,
        .methodNotAllowed: .notFound,
        .bucketAlreadyExists: .conflict,
        .bucketNotEmpty: .conflict,
        .storeAlreadyExists: .conflict,
        .preconditionFailed: .conflict,
        .conflict: .conflict,
        .badDigest: .conflict,
        .invalidBucketName: .usage,
        .invalidKey: .usage,
        .keyTooLong: .usage,
        .invalidArgument: .usage,
        .invalidRange: .usage,
        .metadataTooLarge: .usage,
        .entityTooLarge: .usage,
        .notEnoughReplicas: .unavailable,
        .catalogUnavailable: .unavailable,
        .overloaded: .unavailable,
        .deadlineExceeded: .unavailable,
        .dataUnavailable: .damaged,
        .storeDamaged: .damaged,
        .storeInUse: .storeInUse,
        .storeFull: .full,
        .outcomeUnknown: .outcomeUnknown,
        .unsupportedFormat: .unsupportedFormat,
        .inputOutput: .inputOutput,
        .cancelled: .interrupted,
        .internalFault: .internalFault,
        .noSuchUpload: .notFound,
        .noSuchSetting: .notFound,
        .invalidPart: .conflict,
        .invalidPartOrder: .usage,
        .entityTooSmall: .usage,
        .objectLocked: .conflict,
        .invalidBucketState: .conflict,
        .payloadHashMismatch: .conflict,
        .accessDenied: .denied,
        .masterKeyUnavailable: .localFile,
        .encryptionKeyMissing: .usage,
        .encryptionKeyUnexpected: .usage,
        .noSuchAccount: .notFound,
        .noSuchAccessKey: .notFound,
        .serverUnreachable: .unreachable,
        .notMirrored: .notMirrored,
        .fileAccessDenied: .localFile,
    ]

    package init(_ code: StoreError.Code) { self = Self.table[code] ?? .internalFault }
}
