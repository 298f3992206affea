internal import StoreModel

/// What the headers of an upload say about the object: its standard headers and its user metadata.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
package struct ObjectHeaders: Hashable, Sendable {
    package struct Entry: Hashable, Sendable {
        /// In lower case; of user metadata without the prefix.
        package let name: String
        package let value: String

        package init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    package static let metadataPrefix = "x-amz-meta-"
    package static let contentTypeDefault = "binary/octet-stream"

    /// The names of standard headers that stay with an object, in the order in which they are shown.
    package static let standardNames = [
        "cache-control", "content-disposition", "content-encoding", "content-language", "content-type",
        "expires",
        "x-amz-website-redirect-location",
    ]

    /// Without those that were not given.
    package var standard: [Entry] = []
    package var userMetadata: [Entry] = []
    /// `x-amz-tagging`, as it came.
    package var tagging: String?
    package var encryption = RequestedEncryption.unspecified

    package init() {}

    /// - Throws: `MetadataTooLarge`, `InvalidStorageClass`, `NotImplemented` and `InvalidArgument` for what can't be
    ///   kept or done.
    package init(_ headers: HeaderList) throws(S3Error) {
        try Self.refuseUnserved(headers)
        try Self.checkStorageClass(headers)
        standard = try Self.standard(headers)
        userMetadata = try Self.userMetadata(headers)
        tagging = try headers.single("x-amz-tagging")
        encryption = try RequestedEncryption(headers)
    }

    package var contentType: String { value("content-type") ?? Self.contentTypeDefault }

    /// The value of a standard header; `name` in lower case.
    package func value(_ name: String) -> String? { standard.first { $0.name == name }?.value }

    private static func standard(_ headers: HeaderList) throws(S3Error) -> [Entry] {
        var entries: [Entry] = []
        var total = 0
        for name in standardNames {
            var value = headers.all(name).joined(separator: ", ")
            if name == "content-encoding" { value = withoutChunking(value) }
            guard !value.isEmpty else { continue }
            try HeaderValue.check(value, of: name)
            if name == "x-amz-website-redirect-location" { try checkRedirect(value) }
            total += value.utf8.count
            entries.append(Entry(name: name, value: value))
        }
        // What is stored with a version must stay small whatever the limits of the HTTP server are.
        guard total <= standardSizeMax else { throw S3Error(.requestHeaderSectionTooLarge) }
        return entries
    }

    private static let standardSizeMax = 8192

    /// `aws-chunked` is how the body travels, not what the object is.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
    private static func withoutChunking(_ text: String) -> String {
        guard !text.isEmpty else { return text }
        return text.split(separator: ",").map { ASCIIText.trimmedSlice($0) }
            .filter { !$0.isEmpty && !ASCIIText.equalIgnoringCase($0, "aws-chunked") }
            .joined(separator: ",")
    }

    private static func userMetadata(_ headers: HeaderList) throws(S3Error) -> [Entry] {
        var entries: [Entry] = []
        var size = 0
        for field in headers.fields where field.name.hasPrefix(metadataPrefix) {
            let name = String(field.name.dropFirst(metadataPrefix.utf8.count))
            guard !name.isEmpty else { continue }
            try HeaderValue.check(field.value, of: field.name)
            size += field.value.utf8.count
            if let index = entries.firstIndex(where: { $0.name == name }) {
                // Fields of one name are one field with a list.
                entries[index] = Entry(name: name, value: entries[index].value + "," + field.value)
                size += 1
            } else {
                size += name.utf8.count
                entries.append(Entry(name: name, value: field.value))
            }
        }
        guard size <= Limits.userMetadataSizeMax else {
            throw S3Error(
                .metadataTooLarge,
                details: [("Size", "\(size)"), ("MaxSizeAllowed", "\(Limits.userMetadataSizeMax)")]
            )
        }
        return entries
    }

    private static func checkStorageClass(_ headers: HeaderList) throws(S3Error) {
        guard let text = try headers.single("x-amz-storage-class"), text != "STANDARD" else { return }
        throw S3Error(.invalidStorageClass, details: [("StorageClassRequested", String(text.prefix(64)))])
    }

    private static func checkRedirect(_ value: String) throws(S3Error) {
        guard value.hasPrefix("/") || value.hasPrefix("http://") || value.hasPrefix("https://") else {
            throw .invalidArgument(
                "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
                name: "x-amz-website-redirect-location",
                value: value
            )
        }
    }

    /// What S3 would do and Holdfast does not: not to be ignored in silence.
    private static func refuseUnserved(_ headers: HeaderList) throws(S3Error) {
        for name in ["x-amz-write-offset-bytes", "x-amz-rename-source"] where headers.contains(name) {
            throw .notImplemented(header: name)
        }
    }
}

/// What may stand in a header that goes back to clients.
package enum HeaderValue {
    /// - Throws: `InvalidArgument` for control characters: a line end would start a header of the client's making.
    package static func check(_ value: String, of name: String) throws(S3Error) {
        guard value.utf8.allSatisfy({ ($0 >= 0x20 && $0 != 0x7F) || $0 == 0x09 }) else {
            throw .invalidArgument("A header value may not hold control characters.", name: name, value: "")
        }
    }
}

/// The `response-…` parameters of a read, which replace headers of the response.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
package enum ResponseOverrides {
    private static let names: [String: String] = [
        "response-cache-control": "cache-control",
        "response-content-disposition": "content-disposition",
        "response-content-encoding": "content-encoding",
        "response-content-language": "content-language",
        "response-content-type": "content-type",
        "response-expires": "expires",
    ]

    /// - Parameter isSigned: whether the request has a verified signature: others must not choose what a browser
    ///   makes of the object.
    package static func parse(
        _ query: QueryItems,
        isSigned: Bool
    ) throws(S3Error) -> [(name: String, value: String)] {
        var overrides: [(name: String, value: String)] = []
        for item in query.items {
            guard let name = names[item.name] else { continue }
            guard isSigned else {
                throw S3Error(
                    .invalidRequest,
                    "Request specific response headers cannot be used for anonymous GET requests."
                )
            }
            try HeaderValue.check(item.value, of: item.name)
            guard item.value.utf8.count <= 4096, !overrides.contains(where: { $0.name == name }) else {
                throw .invalidArgument(
                    "The value is too long, or was given twice.",
                    name: item.name,
                    value: ""
                )
            }
            overrides.append((name, item.value))
        }
        return overrides
    }
}

/// The directives of a copy.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
package struct CopyDirectives: Hashable, Sendable {
    package let replacesMetadata: Bool
    package let replacesTagging: Bool

    package init(_ headers: HeaderList) throws(S3Error) {
        replacesMetadata = try Self.isReplace(
            headers,
            "x-amz-metadata-directive",
            "Unknown metadata directive."
        )
        replacesTagging = try Self.isReplace(headers, "x-amz-tagging-directive", "Unknown tagging directive.")
    }

    private static func isReplace(
        _ headers: HeaderList,
        _ name: String,
        _ message: String
    ) throws(S3Error) -> Bool {
        switch try headers.single(name) {
        case nil, "COPY"?: false
        case "REPLACE"?: true
        case let other?: throw .invalidArgument(message, name: name, value: other)
        }
    }
}
