package import StoreModel

/// A fault of the catalog's index.
package struct CatalogError: Error, Sendable, CustomStringConvertible {
    package enum Code: String, Hashable, Sendable {
        /// Bytes of the index are not what was written, or its parts contradict each other.
        case damaged
        /// A batch doesn't follow what was applied.
        case offChain
        /// The state after a batch isn't the one that the batch names.
        case stateMismatch
        /// Written by a newer version of the program, or not by this program.
        case unsupportedFormat
        case inputOutput
        case full
        case closed
        /// The caller broke a rule of this interface: an import into a store that isn't empty, for example.
        case misuse
    }

    package let code: Code
    package let message: String
    package let cause: (any Error)?

    package init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    /// Whether throwing the index away and building it again from the commit log is the cure.
    package var needsRebuild: Bool {
        switch code {
        case .damaged, .offChain, .stateMismatch: true
        case .unsupportedFormat, .inputOutput, .full, .closed, .misuse: false
        }
    }

    /// The same fault as callers above the mechanisms see it.
    package var storeError: StoreError {
        let rebuild =
            "The index is rebuilt from the commit log at the next start; `rebuild-catalog` does it now."
        switch code {
        case .damaged, .offChain, .stateMismatch:
            return StoreError(.storeDamaged, "The catalog's index: \(message)", advice: rebuild, cause: self)
        case .unsupportedFormat:
            return StoreError(.unsupportedFormat, "The catalog's index: \(message)", cause: self)
        case .full:
            return StoreError(.storeFull, "The catalog's index: \(message)", cause: self)
        case .inputOutput, .closed:
            return StoreError(.catalogUnavailable, "The catalog's index: \(message)", cause: self)
        case .misuse:
            return StoreError(.internalFault, "The catalog's index: \(message)", cause: self)
        }
    }

    package var description: String {
        "catalog \(code.rawValue): \(message)" + (cause.map { " (cause: \($0))" } ?? "")
    }
}
