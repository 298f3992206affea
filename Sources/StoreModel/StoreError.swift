/// The one error above the mechanisms: what failed, on what, what the store did, what to do.
///
/// `code` is stable (exit codes, S3 codes and metric labels derive from it); messages may hold paths, bucket names
/// and keys, never secrets.
package struct StoreError: Error, Sendable, CustomStringConvertible {
    package struct Code: Hashable, Sendable, CustomStringConvertible {
        fileprivate enum Value: String {
            case noSuchBucket, noSuchKey, noSuchVersion, bucketAlreadyExists, bucketNotEmpty
            case invalidBucketName, invalidKey, keyTooLong, invalidArgument, invalidRange, metadataTooLarge
            case preconditionFailed, conflict, methodNotAllowed, badDigest, entityTooLarge
            case notEnoughReplicas, storeFull, outcomeUnknown, dataUnavailable, catalogUnavailable
            case storeInUse, storeNotFound, storeAlreadyExists, unsupportedFormat, storeDamaged
            case inputOutput, cancelled, deadlineExceeded, overloaded, internalFault
            case noSuchUpload, invalidPart, invalidPartOrder, entityTooSmall, objectLocked, noSuchSetting
            case invalidBucketState, payloadHashMismatch
            case accessDenied, masterKeyUnavailable, encryptionKeyMissing, encryptionKeyUnexpected
            case noSuchAccount, noSuchAccessKey, serverUnreachable, notMirrored, fileAccessDenied
        }

        fileprivate let value: Value

        package static let noSuchBucket = Code(value: .noSuchBucket)
        package static let noSuchKey = Code(value: .noSuchKey)
        package static let noSuchVersion = Code(value: .noSuchVersion)
        package static let bucketAlreadyExists = Code(value: .bucketAlreadyExists)
        package static let bucketNotEmpty = Code(value: .bucketNotEmpty)
        package static let invalidBucketName = Code(value: .invalidBucketName)
        package static let invalidKey = Code(value: .invalidKey)
        package static let keyTooLong = Code(value: .keyTooLong)
        package static let invalidArgument = Code(value: .invalidArgument)
        package static let invalidRange = Code(value: .invalidRange)
        package static let metadataTooLarge = Code(value: .metadataTooLarge)
        /// A condition of a conditional request does not hold.
        package static let preconditionFailed = Code(value: .preconditionFailed)
        package static let conflict = Code(value: .conflict)
        /// The named version is a delete marker, which can't be read.
        package static let methodNotAllowed = Code(value: .methodNotAllowed)
        /// The bytes differ from the digest that the client declared.
        package static let badDigest = Code(value: .badDigest)
        package static let entityTooLarge = Code(value: .entityTooLarge)
        /// Fewer healthy replicas than the operation needs; nothing became visible.
        package static let notEnoughReplicas = Code(value: .notEnoughReplicas)
        package static let storeFull = Code(value: .storeFull)
        /// The mutation may or may not have become durable; a later read tells.
        package static let outcomeUnknown = Code(value: .outcomeUnknown)
        /// No replica holds good bytes of what was asked for.
        package static let dataUnavailable = Code(value: .dataUnavailable)
        package static let catalogUnavailable = Code(value: .catalogUnavailable)
        package static let storeInUse = Code(value: .storeInUse)
        package static let storeNotFound = Code(value: .storeNotFound)
        package static let storeAlreadyExists = Code(value: .storeAlreadyExists)
        package static let unsupportedFormat = Code(value: .unsupportedFormat)
        package static let storeDamaged = Code(value: .storeDamaged)
        package static let inputOutput = Code(value: .inputOutput)
        package static let cancelled = Code(value: .cancelled)
        package static let deadlineExceeded = Code(value: .deadlineExceeded)
        package static let overloaded = Code(value: .overloaded)
        /// An invariant of the store itself does not hold: a bug.
        package static let internalFault = Code(value: .internalFault)
        package static let noSuchUpload = Code(value: .noSuchUpload)
        /// A part that is to be put together isn't there, or is another one than the client says.
        package static let invalidPart = Code(value: .invalidPart)
        package static let invalidPartOrder = Code(value: .invalidPartOrder)
        /// A part that isn't the last one is smaller than a part may be.
        package static let entityTooSmall = Code(value: .entityTooSmall)
        /// A retention or a legal hold forbids it.
        package static let objectLocked = Code(value: .objectLocked)
        package static let noSuchSetting = Code(value: .noSuchSetting)
        /// The bucket's versioning doesn't allow it.
        package static let invalidBucketState = Code(value: .invalidBucketState)
        /// The bytes differ from the SHA-256 that the client signed.
        package static let payloadHashMismatch = Code(value: .payloadHashMismatch)

        /// The key that a client gave is not the one that the object was encrypted with.
        package static let accessDenied = Code(value: .accessDenied)
        /// The master key isn't there, or is not the right one. What is not encrypted can be read all the same.
        package static let masterKeyUnavailable = Code(value: .masterKeyUnavailable)
        /// The object was encrypted with a client's key, which the request must bring.
        package static let encryptionKeyMissing = Code(value: .encryptionKeyMissing)
        /// The request brings a key for an object that was not encrypted with a client's key.
        package static let encryptionKeyUnexpected = Code(value: .encryptionKeyUnexpected)
        package static let noSuchAccount = Code(value: .noSuchAccount)
        package static let noSuchAccessKey = Code(value: .noSuchAccessKey)
        /// No answer from the server that was asked.
        package static let serverUnreachable = Code(value: .serverUnreachable)
        /// The version is in the store; a mirror that its bucket waits for does not have it yet.
        package static let notMirrored = Code(value: .notMirrored)
        /// The system lets this user not read or write the store's files, or they lie on a read-only file system.
        package static let fileAccessDenied = Code(value: .fileAccessDenied)

        package var description: String { value.rawValue }

        /// A code by its name; nil for one that this program does not know.
        package init?(_ description: String) {
            guard let value = Value(rawValue: description) else { return nil }
            self.value = value
        }

        private init(value: Value) { self.value = value }
    }

    package let code: Code
    package let message: String
    /// What to do about it, where there is something to do.
    package let advice: String?
    /// The error below, if any.
    package let cause: (any Error)?

    package init(_ code: Code, _ message: String, advice: String? = nil, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.advice = advice
        self.cause = cause
    }

    package var description: String {
        var text = "\(code): \(message)"
        if let advice { text += " \(advice)" }
        if let cause { text += " (cause: \(cause))" }
        return text
    }
}
