package import Catalog
package import StoreModel

extension ObjectStore {
    package func document(_ space: DocumentSpace, _ key: [UInt8]) async throws -> DocumentRow? {
        try await readCatalog { reader in try reader.document(space, key) }
    }

    /// Documents whose keys begin with `prefix`, in the order of their keys.
    /// - Parameter last: the key after which to go on; nil: from the first.
    package func documents(
        _ space: DocumentSpace,
        prefix: [UInt8] = [],
        after last: [UInt8]? = nil,
        limit: Int = Limits.listPageSizeMax
    ) async throws -> [DocumentRow] {
        try await readCatalog { reader in
            try reader.documents(space, prefix: prefix, after: last, limit: limit)
        }
    }

    /// Writes all of the documents, or none.
    /// - Throws: the code that a write names, when its expectation doesn't hold.
    package func write(documents: [DocumentWrite], operation: OperationID? = nil) async throws {
        _ = try await commit(.documents(documents), operation: operation)
    }

    /// Goes up before a change of the space is answered: what was read at a generation is good for as long as the
    /// generation is the same.
    package func documentGeneration(of space: DocumentSpace) -> UInt64 {
        storage.generations.generation(of: space)
    }
}
