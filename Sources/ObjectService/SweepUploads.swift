internal import Catalog
internal import StoreModel

extension ObjectStore {
    /// Removes parts that no upload has any more, and uploads of buckets that are gone.
    ///
    /// An upload that ends leaves its parts to be removed in small steps; a crash may come in between. Parts are
    /// only added while their upload is there, and an upload never comes back, so an orphan stays one.
    /// - Returns: how many rows were removed.
    @discardableResult
    package func sweepUploads() async throws -> Int {
        var count = 0
        var from: [UInt8] = []
        while let upload = try await nextUpload(ofParts: true, from: from) {
            try Task.checkCancellation()
            let isThere = try await readCatalog { reader in try reader.document(.upload, upload) != nil }
            if !isThere { count += try await removeAll(.part, under: upload) }
            // Behind every part of the upload.
            from = upload + [0xFF, 0xFF, 0xFF]
        }
        from = []
        while let key = try await nextUpload(ofParts: false, from: from) {
            try Task.checkCancellation()
            let bucket = BucketID(rawValue: key.prefix(8).reduce(0) { $0 << 8 | UInt64($1) })
            let isThere = try await readCatalog { reader in try reader.bucket(id: bucket) != nil }
            if !isThere {
                // Parts of these are orphans then, for the next sweep.
                count += try await removeAll(.upload, under: UploadKey.bucket(bucket))
            }
            from = KeyBounds.successor(ofPrefix: UploadKey.bucket(bucket)) ?? [0xFF]
            if bucket.rawValue == .max { break }
        }
        return count
    }

    /// Sweeps from time to time, until it is cancelled.
    package func maintainUploads(every pause: Duration = .seconds(60)) async {
        while !Task.isCancelled {
            // What a sweep can't do now (no quorum, for example) the next one does.
            _ = try? await sweepUploads()
            do { try await clock.sleep(for: pause) } catch { return }
        }
    }

    /// The key of the next upload, or of the upload that the next part belongs to.
    private func nextUpload(ofParts: Bool, from: [UInt8]) async throws -> [UInt8]? {
        try await readCatalog { reader in
            let rows = try reader.documents(ofParts ? .part : .upload, prefix: [], from: from, limit: 1)
            return rows.first.map { ofParts ? UploadKey.upload(ofPart: $0.key) : $0.key }
        }
    }

    private func removeAll(_ space: DocumentSpace, under prefix: [UInt8]) async throws -> Int {
        var count = 0
        while true {
            let rows = try await readCatalog { reader in
                try reader.documents(space, prefix: prefix, limit: Self.removalCountMax)
            }
            guard !rows.isEmpty else { return count }
            try await write(documents: rows.map { DocumentWrite(space: space, key: $0.key, body: nil) })
            count += rows.count
        }
    }
}
