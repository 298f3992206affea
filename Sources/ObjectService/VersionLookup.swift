package import Catalog
internal import StoreModel

extension ObjectStore {
    /// Reads the catalog; its faults come out as the store's.
    package func readCatalog<Value: Sendable>(
        _ body: @escaping @Sendable (any CatalogReader) throws -> Value
    ) async throws -> Value {
        do {
            return try await storage.readCatalog(body)
        } catch let error as CatalogError {
            throw error.storeError
        }
    }

    /// The version that is meant, if it can be read.
    func readableVersion(_ address: VersionAddress) async throws -> VersionRow {
        guard address.selector == .newest else {
            return try await readCatalog { reader in try reader.readableVersion(address) }
        }
        do {
            let found = try await storage.newestVersion(of: address.key, in: address.bucket)
            guard found.bucket != nil else { throw StoreError.noBucket(address.bucket) }
            return try address.readable(found.version)
        } catch let error as CatalogError {
            throw error.storeError
        }
    }
}

extension CatalogReader {
    func existingBucket(_ name: BucketName) throws -> BucketRow {
        guard let row = try bucket(named: name) else { throw StoreError.noBucket(name) }
        return row
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html: a GET without a version id whose
    /// newest version is a delete marker gives 404, a GET that names the marker gives 405.
    func readableVersion(_ address: VersionAddress) throws -> VersionRow {
        let bucket = try existingBucket(address.bucket)
        return try address.readable(
            try version(bucket: bucket.id, key: address.key, selector: address.selector)
        )
    }
}

extension StoreError {
    fileprivate static func noBucket(_ name: BucketName) -> StoreError {
        StoreError(.noSuchBucket, "There is no bucket \(quoted(name.description)).")
    }
}

extension VersionAddress {
    /// What the catalog found under this address, if it can be read.
    fileprivate func readable(_ found: VersionRow?) throws(StoreError) -> VersionRow {
        var name: String { "\(quoted(key.bytes)) in \(bucket)" }
        guard let row = found else {
            switch selector {
            case .newest: throw StoreError(.noSuchKey, "There is no object \(name).")
            case .null: throw StoreError(.noSuchVersion, "There is no null version of \(name).")
            case .id(let id): throw StoreError(.noSuchVersion, "There is no version \(id) of \(name).")
            }
        }
        guard !row.isDeleteMarker else {
            if selector == .newest {
                throw StoreError(
                    .noSuchKey,
                    "The object \(name) is deleted.",
                    advice: "Its older versions are there: name one, or restore it."
                )
            }
            throw StoreError(.methodNotAllowed, "The version \(row.id) of \(name) is a delete marker.")
        }
        return row
    }
}
