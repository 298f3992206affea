package import Catalog
internal import ContentHashing
package import Encryption
package import StoreModel

extension ObjectStore {
    /// Makes a version of another key, or of the same. It shares the source's chunks and no bytes are moved, unless it
    /// has to be encrypted in another way.
    /// - Parameters:
    ///   - encryption: nil: as the source is.
    ///   - sourceKey: the key of a source that is encrypted with a client's key.
    /// - Throws: also `.encryptionKeyMissing`, `.encryptionKeyUnexpected`, `.accessDenied`, `.masterKeyUnavailable`.
    package func copy(
        _ command: CopyCommand,
        encryption: EncryptionChoice? = nil,
        sourceKey: EncryptionKey? = nil,
        operation: OperationID? = nil
    ) async throws -> VersionRow {
        let operation = operation ?? newOperation()
        guard let encryption else {
            return try await commit(.copy(command), operation: operation).madeVersion()
        }
        for _ in 0..<Self.copyAttemptsMax {
            let source = try await readableVersion(command.source)
            try command.sourceConditions.check(on: source, key: command.source.key)
            try checkKey(sourceKey, of: source)
            guard encryption.canShare(try source.encryption) else {
                return try await copyBytes(of: source, command, encryption, sourceKey, operation)
            }
            do {
                // The version that was looked at, and no newer one that is encrypted in another way.
                return try await commit(.copy(command.reading(source.id)), operation: operation).madeVersion()
            } catch let error as StoreError where error.code == .noSuchVersion {
                // Overwritten meanwhile, in a bucket that keeps no versions.
                if case .id = command.source.selector { throw error }
            }
        }
        throw StoreError(.conflict, "The object \(quoted(command.source.key.bytes)) changes all the time.")
    }

    private static var copyAttemptsMax: Int { 8 }

    private func copyBytes(
        of source: VersionRow,
        _ command: CopyCommand,
        _ encryption: EncryptionChoice,
        _ sourceKey: EncryptionKey?,
        _ operation: OperationID
    ) async throws -> VersionRow {
        let reader = try read(source, clientKey: sourceKey)
        let algorithm = source.checksums.others.lazy.compactMap { ChecksumAlgorithm(name: $0.name) }.first
        let request = PutRequest(
            bucket: command.bucket,
            key: command.key,
            metadata: command.metadata ?? source.metadata,
            tags: command.tags ?? source.tags,
            attributes: command.attributes,
            encryption: encryption,
            conditions: command.conditions,
            expectation: BodyExpectation(size: source.size),
            checksum: algorithm,
            operation: operation
        )
        return try await put(request, body: ReaderByteSource(reader))
    }
}

extension EncryptionChoice {
    /// Whether a copy that is to be encrypted so can share the bytes of a source that is encrypted like this.
    fileprivate func canShare(_ source: ObjectEncryption?) -> Bool {
        switch self {
        case .none: source == nil
        case .storeKey: source?.sort == .storeKey
        case .clientKey: false
        }
    }
}

extension CopyCommand {
    fileprivate func reading(_ version: VersionID) -> CopyCommand {
        CopyCommand(
            source: VersionAddress(bucket: source.bucket, key: source.key, selector: .id(version)),
            sourceConditions: sourceConditions,
            bucket: bucket,
            key: key,
            metadata: metadata,
            tags: tags,
            attributes: attributes,
            conditions: conditions,
            documents: documents
        )
    }
}
