package import StoreModel

/// The header `x-amz-copy-source`: bucket, key and perhaps a version, percent-encoded.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
package struct CopySource: Hashable, Sendable {
    package static let headerName = "x-amz-copy-source"

    package let bucket: BucketName
    package let key: ObjectKey
    /// As the client wrote it: an id, or `null`.
    package let versionID: String?

    package init(bucket: BucketName, key: ObjectKey, versionID: String?) {
        self.bucket = bucket
        self.key = key
        self.versionID = versionID
    }

    package init(_ headers: HeaderList) throws(S3Error) {
        guard let text = try headers.single(Self.headerName) else { throw Self.malformed("") }
        try self.init(text)
    }

    /// `/bucket/key?versionId=…`, with or without the slash in front. A question mark that belongs to the key is
    /// encoded: the version is cut off before anything is decoded.
    package init(_ text: String) throws(S3Error) {
        guard text.utf8.count <= 4096 else { throw Self.malformed(text) }
        if text.hasPrefix("arn:") { throw .notImplemented(header: Self.headerName) }
        var path = text[...]
        var version: String?
        if let mark = path.utf8.lastIndex(of: UInt8(ascii: "?")) {
            let query = path[path.utf8.index(after: mark)...]
            if query.hasPrefix(Self.versionParameter) {
                version = PercentCoding.decodeText(
                    query.dropFirst(Self.versionParameter.count),
                    plusIsSpace: false
                )
                guard let version, !version.isEmpty else {
                    throw .invalidArgument(
                        "Version id cannot be the empty string",
                        name: "versionId",
                        value: ""
                    )
                }
                path = path[..<mark]
            }
        }
        if path.utf8.first == UInt8(ascii: "/") { path = path.dropFirst() }
        // Clients that encode everything encode the slash behind the bucket as well.
        guard let bytes = PercentCoding.decode(path, plusIsSpace: false),
            let split = bytes.firstIndex(of: UInt8(ascii: "/")), split > 0, split + 1 < bytes.count
        else { throw Self.malformed(text) }
        do {
            bucket = try BucketName(String(decoding: bytes[..<split], as: UTF8.self))
        } catch {
            throw S3Error(.invalidBucketName)
        }
        do {
            key = try ObjectKey(bytes: [UInt8](bytes[(split + 1)...]))
        } catch {
            throw error.code == .keyTooLong ? S3Error(.keyTooLong) : Self.malformed(text)
        }
        versionID = version
    }

    package var headerValue: String {
        let path =
            PercentCoding.encode("/\(bucket)/".utf8, keepsSlash: true)
            + PercentCoding.encode(key.bytes, keepsSlash: true)
        return path + (versionID.map { "?versionId=" + PercentCoding.encode($0, keepsSlash: false) } ?? "")
    }

    private static let versionParameter = "versionId="

    private static func malformed(_ text: String) -> S3Error {
        .invalidArgument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            name: headerName,
            value: text
        )
    }
}
