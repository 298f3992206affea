internal import S3Protocol
package import StoreModel

package struct S3ListedObject: Hashable, Sendable {
    package let key: ObjectKey
    package let size: UInt64
    /// Without quotes.
    package let entityTag: String
    package let lastModified: Timestamp
    package let storageClass: String?
}

/// One page.
package struct S3ObjectListing: Sendable {
    package let objects: [S3ListedObject]
    package let commonPrefixes: [String]
    /// Nil on the last page.
    package let nextToken: String?
}

package struct S3ListedVersion: Hashable, Sendable {
    package let key: ObjectKey
    /// "null" for the null version.
    package let versionID: String
    package let isLatest: Bool
    package let isDeleteMarker: Bool
    package let lastModified: Timestamp
    /// Zero and empty of delete markers.
    package let size: UInt64
    package let entityTag: String
    package let storageClass: String?
}

/// Where the next page of versions begins.
package struct S3VersionMarker: Hashable, Sendable {
    /// As the server gave it: the encoded name is decoded.
    package let key: String
    package let versionID: String?

    package init(key: String, versionID: String? = nil) {
        self.key = key
        self.versionID = versionID
    }
}

/// One page; newest version of a key first.
package struct S3VersionListing: Sendable {
    package let versions: [S3ListedVersion]
    package let commonPrefixes: [String]
    /// Nil on the last page.
    package let next: S3VersionMarker?
}

extension S3Client {
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
    package func listObjects(
        _ bucket: String,
        prefix: String = "",
        delimiter: String? = nil,
        startAfter: String? = nil,
        token: String? = nil,
        countMax: Int? = nil
    ) async throws -> S3ObjectListing {
        var call = S3Call("GET", bucket: bucket)
        call.query = [("list-type", "2"), ("encoding-type", "url")]
        call.add("prefix", prefix.isEmpty ? nil : prefix)
        call.add("delimiter", delimiter)
        call.add("start-after", token == nil ? startAfter : nil)
        call.add("continuation-token", token)
        call.add("max-keys", countMax.map { "\($0)" })
        let page = try await listing(call, "ListBucketResult")
        var objects: [S3ListedObject] = []
        for element in page.children("Contents") {
            objects.append(
                S3ListedObject(
                    key: try element.key(),
                    size: try element.count("Size"),
                    entityTag: try element.entityTag(),
                    lastModified: try element.time("LastModified"),
                    storageClass: try element.optionalText("StorageClass")
                )
            )
        }
        var next: String?
        if try page.boolean("IsTruncated") {
            next = try page.text("NextContinuationToken")
            guard next != token, next != "" else {
                throw S3ClientError.answer("The server gave the same page of a listing again.")
            }
        }
        return S3ObjectListing(
            objects: objects,
            commonPrefixes: try Self.prefixes(page),
            nextToken: next
        )
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
    package func listVersions(
        _ bucket: String,
        prefix: String = "",
        delimiter: String? = nil,
        after marker: S3VersionMarker? = nil,
        countMax: Int? = nil
    ) async throws -> S3VersionListing {
        var call = S3Call("GET", bucket: bucket)
        call.query = [("versions", nil), ("encoding-type", "url")]
        call.add("prefix", prefix.isEmpty ? nil : prefix)
        call.add("delimiter", delimiter)
        call.add("key-marker", marker?.key)
        call.add("version-id-marker", marker?.versionID)
        call.add("max-keys", countMax.map { "\($0)" })
        let page = try await listing(call, "ListVersionsResult")
        var versions: [S3ListedVersion] = []
        // Versions and markers in the order in which they stand, not one kind after the other.
        for child in page.xml.children where child.name == "Version" || child.name == "DeleteMarker" {
            versions.append(try Self.version(AnswerElement(child, isEncoded: page.isEncoded)))
        }
        var next: S3VersionMarker?
        if try page.boolean("IsTruncated") {
            next = S3VersionMarker(
                key: try page.name("NextKeyMarker"),
                versionID: try page.optionalText("NextVersionIdMarker")
            )
            guard next != marker else {
                throw S3ClientError.answer("The server gave the same page of a listing again.")
            }
        }
        return S3VersionListing(versions: versions, commonPrefixes: try Self.prefixes(page), next: next)
    }

    private static func version(_ element: AnswerElement) throws(S3ClientError) -> S3ListedVersion {
        let isDeleteMarker = element.xml.name == "DeleteMarker"
        return S3ListedVersion(
            key: try element.key(),
            versionID: try element.optionalText("VersionId") ?? "null",
            isLatest: try element.boolean("IsLatest"),
            isDeleteMarker: isDeleteMarker,
            lastModified: try element.time("LastModified"),
            size: isDeleteMarker ? 0 : try element.count("Size"),
            entityTag: isDeleteMarker ? "" : try element.entityTag(),
            storageClass: try element.optionalText("StorageClass")
        )
    }

    private func listing(_ call: S3Call, _ root: String) async throws -> AnswerElement {
        let xml = try await document(call).document(root)
        let encoding = try AnswerElement(xml).optionalText("EncodingType")
        return AnswerElement(xml, isEncoded: encoding == "url")
    }

    private static func prefixes(_ page: AnswerElement) throws(S3ClientError) -> [String] {
        var prefixes: [String] = []
        for element in page.children("CommonPrefixes") { prefixes.append(try element.name("Prefix")) }
        return prefixes
    }
}
