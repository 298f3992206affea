/// The tags of a bucket or of an object.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
package struct TagSet: XMLSetting, Hashable {
    package enum Subject: Sendable {
        case bucket, object

        var countMax: Int { self == .bucket ? 50 : 10 }
    }

    package struct Tag: Hashable, Sendable {
        package let key: String
        package let value: String

        package init(key: String, value: String) {
            self.key = key
            self.value = value
        }
    }

    package let tags: [Tag]

    package static let empty = TagSet(stored: [])

    /// Tags that were checked when they were stored.
    package init(stored tags: [Tag]) { self.tags = tags }

    /// The tags of an object.
    package init(xml: XMLElement) throws(S3Error) { try self.init(xml: xml, of: .object) }

    package init(body: [UInt8], of subject: Subject) throws(S3Error) {
        guard !body.isEmpty else { throw S3Error(.missingRequestBody) }
        try self.init(xml: XMLReader.read(body), of: subject)
    }

    package init(xml: XMLElement, of subject: Subject) throws(S3Error) {
        try xml.requireName("Tagging")
        try xml.requireOnly(["TagSet"])
        try self.init(tagList: xml.requiredChild("TagSet"), of: subject)
    }

    /// From an element that holds `Tag` elements and nothing else.
    package init(tagList xml: XMLElement, of subject: Subject) throws(S3Error) {
        try xml.requireOnly(["Tag"])
        var tags: [Tag] = []
        for element in xml.children { tags.append(try Tag(xml: element)) }
        try self.init(checking: tags, of: subject)
    }

    /// The header x-amz-tagging: `key=value&key=value`, encoded as in a query.
    package init(header: String) throws(S3Error) {
        var tags: [Tag] = []
        for pair in header.split(separator: "&", omittingEmptySubsequences: true) {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let first = parts.first, let key = PercentCoding.decodeText(first, plusIsSpace: true),
                let value = PercentCoding.decodeText(parts.count > 1 ? parts[1] : "", plusIsSpace: true)
            else { throw Self.malformedHeader(header) }
            tags.append(Tag(key: key, value: value))
        }
        guard Set(tags.map(\.key)).count == tags.count else { throw Self.malformedHeader(header) }
        try self.init(checking: tags, of: .object)
    }

    private static func malformedHeader(_ header: String) -> S3Error {
        .invalidArgument(
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters "
                + "without tag name duplicates.",
            name: "x-amz-tagging",
            value: header
        )
    }

    /// - Throws: InvalidTag with the rule that a tag breaks.
    package init(checking tags: [Tag], of subject: Subject) throws(S3Error) {
        guard tags.count <= subject.countMax else {
            let message =
                subject == .object
                ? "Object tags cannot be greater than 10" : "Bucket tag count cannot be greater than 50"
            throw S3Error(.invalidTag, message)
        }
        for tag in tags { try tag.check() }
        guard Set(tags.map(\.key)).count == tags.count else {
            throw S3Error(.invalidTag, "Cannot provide multiple Tags with the same key")
        }
        self.tags = tags
    }

    package subscript(key: String) -> String? { tags.first { $0.key == key }?.value }

    package var isEmpty: Bool { tags.isEmpty }

    package func render(into writer: inout XMLWriter) {
        writer.root("Tagging") { writer in
            writer.element("TagSet") { writer in
                for tag in tags { tag.render(into: &writer) }
            }
        }
    }
}

extension TagSet.Tag {
    init(xml: XMLElement) throws(S3Error) {
        try xml.requireOnly(["Key", "Value"])
        key = try xml.requiredText(of: "Key")
        value = try xml.requiredText(of: "Value")
    }

    func render(into writer: inout XMLWriter) {
        writer.element("Tag") { writer in
            writer.element("Key", key)
            writer.element("Value", value)
        }
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_control_S3Tag.html
    func check() throws(S3Error) {
        func invalid(_ message: String) -> S3Error {
            S3Error(.invalidTag, message, details: [("TagKey", String(key.prefix(256)))])
        }
        // Characters are counted as UTF-16 code units.
        guard (1...128).contains(key.utf16.count), key.unicodeScalars.allSatisfy(Self.isAllowed) else {
            throw invalid("The TagKey you have provided is invalid")
        }
        guard value.utf16.count <= 256, value.unicodeScalars.allSatisfy(Self.isAllowed) else {
            throw S3Error(
                .invalidTag,
                "The TagValue you have provided is invalid",
                details: [("TagKey", key), ("TagValue", String(value.prefix(512)))]
            )
        }
        guard !ASCIIText.hasPrefixIgnoringCase(key, "aws:") else {
            throw invalid("System tags cannot be added/updated by requester")
        }
    }

    /// Letters, digits and blanks of any script, and + - = . _ : / @
    private static func isAllowed(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar {
        case "+", "-", "=", ".", "_", ":", "/", "@": return true
        default: break
        }
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter,
            .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .letterNumber, .otherNumber,
            .spaceSeparator:
            return true
        default: return false
        }
    }
}
