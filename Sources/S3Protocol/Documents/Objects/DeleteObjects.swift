/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
package struct DeleteRequest: XMLRequest, Hashable {
    package static let objectCountMax = 1000

    package struct Object: Hashable, Sendable {
        /// As sent; whether it can be a key is decided for each object, not for the request.
        package let key: String
        package let versionID: String?
        /// Conditions: without quotes, or `*`.
        package let entityTag: String?
        package let lastModified: String?
        package let size: UInt64?
    }

    package let objects: [Object]
    /// Only failures are reported.
    package let isQuiet: Bool

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("Delete")
        try xml.requireOnly(["Object", "Quiet"])
        isQuiet = try xml.boolean(of: "Quiet") ?? false
        let elements = xml.children(named: "Object")
        guard (1...Self.objectCountMax).contains(elements.count) else {
            throw .malformedXML("There must be 1 to 1,000 objects.")
        }
        var objects: [Object] = []
        for element in elements { objects.append(try Object(element)) }
        self.objects = objects
    }
}

extension DeleteRequest.Object {
    init(_ xml: XMLElement) throws(S3Error) {
        try xml.requireOnly(["Key", "VersionId", "ETag", "LastModifiedTime", "Size"])
        key = try xml.requiredText(of: "Key")
        versionID = try xml.word(of: "VersionId").flatMap { $0.isEmpty ? nil : $0 }
        entityTag = try xml.word(of: "ETag").map { EntityTagText.unquoted($0) }
        lastModified = try xml.word(of: "LastModifiedTime")
        let size = try xml.integer(of: "Size")
        guard size.map({ $0 >= 0 }) ?? true else { throw .malformedXML("A size is negative.") }
        self.size = size.map { UInt64($0) }
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html#API_DeleteObjects_ResponseSyntax
package struct DeleteResult: XMLResponse, Hashable {
    package enum Entry: Hashable, Sendable {
        /// - Parameters:
        ///   - versionID: the version that was named in the request.
        ///   - marker: the delete marker that was made, or that was removed.
        case deleted(key: String, versionID: String?, marker: String?)
        case failed(key: String, versionID: String?, code: String, message: String)
    }

    package var entries: [Entry]
    package var isQuiet: Bool

    package init(entries: [Entry], isQuiet: Bool) {
        self.entries = entries
        self.isQuiet = isQuiet
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("DeleteResult") { writer in
            for entry in entries { render(entry, into: &writer) }
        }
    }

    private func render(_ entry: Entry, into writer: inout XMLWriter) {
        switch entry {
        case .deleted(let key, let versionID, let marker):
            guard !isQuiet else { return }
            writer.element("Deleted") { writer in
                writer.element("Key", key)
                writer.optional("VersionId", versionID)
                if let marker {
                    writer.element("DeleteMarker", true)
                    writer.element("DeleteMarkerVersionId", marker)
                }
            }
        case .failed(let key, let versionID, let code, let message):
            writer.element("Error") { writer in
                writer.element("Key", key)
                writer.optional("VersionId", versionID)
                writer.element("Code", code)
                writer.element("Message", message)
            }
        }
    }
}
