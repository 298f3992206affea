/// What decoding and deciphering can meet. Messages never hold key material or plaintext.
package struct EncryptionError: Error, Sendable, CustomStringConvertible {
    package struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Value: String {
            case malformed, unsupportedVersion, wrongKey, unknownMasterKey, notAuthentic
        }
        private let value: Value

        /// The bytes are not what they should be by their table.
        package static let malformed = Code(value: .malformed)
        /// Written by a newer program.
        package static let unsupportedVersion = Code(value: .unsupportedVersion)
        /// Sealed by another key than the one that was given.
        package static let wrongKey = Code(value: .wrongKey)
        /// Sealed by a master key that the key file doesn't hold.
        package static let unknownMasterKey = Code(value: .unknownMasterKey)
        /// The key is right, the bytes were changed.
        package static let notAuthentic = Code(value: .notAuthentic)

        package var description: String { value.rawValue }
    }

    package let code: Code
    package let message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    package var description: String { "\(code): \(message)" }
}
