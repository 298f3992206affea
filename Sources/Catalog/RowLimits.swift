internal import StoreModel

/// Bounds on what goes into a row: a batch, a page and the index count on rows being small.
enum RowLimits {
    static let etagSizeMax = 256
    static let ownerSizeMax = 256
    static let checksumCountMax = 16
    static let headerSizeMax = 8 << 10
    static let checksumSizeMax = 2 << 10
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html: 128 and 256 characters;
    /// four bytes each at most.
    static let tagNameSizeMax = 128 * 4
    static let tagValueSizeMax = 256 * 4

    static func check(
        content: ObjectContent,
        metadata: ObjectMetadata,
        tags: [NamedValue]
    ) throws(StoreError) {
        guard content.size <= Limits.objectSizeMax else {
            throw StoreError(
                .entityTooLarge,
                "The object has \(content.size) bytes; at most \(Limits.objectSizeMax) are allowed."
            )
        }
        guard content.etag.utf8.count <= etagSizeMax else {
            throw StoreError(.invalidArgument, "The ETag has more than \(etagSizeMax) bytes.")
        }
        if case .inline(let chunks) = content.manifest, chunks.count > Limits.inlineManifestEntryCountMax {
            throw StoreError(
                .internalFault,
                "An inline manifest of \(chunks.count) chunks; more than \(Limits.inlineManifestEntryCountMax)"
                    + " belong into a tree."
            )
        }
        guard content.checksums.others.count <= checksumCountMax,
            size(of: content.checksums.others) <= checksumSizeMax
        else { throw StoreError(.invalidArgument, "Too many or too long checksums.") }
        guard size(of: metadata.userMetadata) <= Limits.userMetadataSizeMax else {
            throw StoreError(
                .metadataTooLarge,
                "The user metadata has \(size(of: metadata.userMetadata)) bytes; at most"
                    + " \(Limits.userMetadataSizeMax) are allowed."
            )
        }
        guard !metadata.userMetadata.contains(where: \.name.isEmpty),
            !metadata.otherHeaders.contains(where: \.name.isEmpty)
        else { throw StoreError(.invalidArgument, "A metadata entry or header has no name.") }
        let headers = size(of: metadata.otherHeaders) + (metadata.contentType?.utf8.count ?? 0)
        guard headers <= headerSizeMax else {
            throw StoreError(
                .metadataTooLarge,
                "The stored headers have \(headers) bytes; at most \(headerSizeMax) are allowed."
            )
        }
        try check(tags: tags)
    }

    static func check(tags: [NamedValue]) throws(StoreError) {
        guard tags.count <= Limits.tagCountMax else {
            throw StoreError(
                .invalidArgument,
                "\(tags.count) tags; at most \(Limits.tagCountMax) are allowed."
            )
        }
        guard Set(tags.map(\.name)).count == tags.count else {
            throw StoreError(.invalidArgument, "Two tags have the same name.")
        }
        for tag in tags where tag.name.utf8.count > tagNameSizeMax || tag.value.utf8.count > tagValueSizeMax {
            throw StoreError(.invalidArgument, "The tag \(quoted(tag.name)) or its value is too long.")
        }
    }

    static func check(_ attributes: VersionAttributes) throws(StoreError) {
        try check(owner: attributes.owner)
        let size = attributes.list.reduce(0) { $0 + 5 + $1.bytes.count }
        guard size <= Limits.attributeSizeMax else {
            throw StoreError(
                .metadataTooLarge,
                "The attributes have \(size) bytes; at most \(Limits.attributeSizeMax) are allowed."
            )
        }
    }

    static func check(document key: [UInt8], body: [UInt8]) throws(StoreError) {
        guard (1...Limits.documentKeySizeMax).contains(key.count) else {
            throw StoreError(
                .invalidArgument,
                "The key of a document has \(key.count) bytes; 1 to \(Limits.documentKeySizeMax) are allowed."
            )
        }
        guard body.count <= Limits.documentBodySizeMax else {
            throw StoreError(
                .entityTooLarge,
                "A document has \(body.count) bytes; at most \(Limits.documentBodySizeMax) are allowed."
            )
        }
    }

    static func check(owner: String?) throws(StoreError) {
        guard (owner?.utf8.count ?? 0) <= ownerSizeMax else {
            throw StoreError(.invalidArgument, "The owner's name has more than \(ownerSizeMax) bytes.")
        }
    }

    private static func size(of pairs: [NamedValue]) -> Int {
        pairs.reduce(0) { $0 + $1.name.utf8.count + $1.value.utf8.count }
    }
}
