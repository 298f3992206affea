/// Which objects a rule is about: everything that is said has to hold.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_LifecycleRuleFilter.html
package struct LifecycleFilter: Hashable, Sendable {
    package let prefix: String?
    package let tags: [TagSet.Tag]
    package let sizeGreaterThan: Int64?
    package let sizeLessThan: Int64?
    /// As the client wrote it, so that it gets back what it gave.
    private let form: Form

    private enum Form: Hashable, Sendable {
        /// `<Prefix>` in the rule: how rules were written at first.
        case rulePrefix
        case filter
        case conjunction
    }

    package var hasSize: Bool { sizeGreaterThan != nil || sizeLessThan != nil }

    init(rule: XMLElement) throws(S3Error) {
        switch (try rule.child("Prefix"), try rule.child("Filter")) {
        case (let prefix?, nil):
            try self.init(form: .rulePrefix, prefix: prefix.leafText())
        case (nil, let filter?): try self.init(filter: filter)
        default: throw .malformedXML("A rule has one of Filter and Prefix.")
        }
    }

    private init(
        form: Form,
        prefix: String? = nil,
        tags: [TagSet.Tag] = [],
        sizeGreaterThan: Int64? = nil,
        sizeLessThan: Int64? = nil
    ) throws(S3Error) {
        self.form = form
        self.prefix = prefix
        self.tags = tags
        self.sizeGreaterThan = sizeGreaterThan
        self.sizeLessThan = sizeLessThan
        guard (prefix ?? "").utf8.count <= 1024 else {
            throw S3Error(.invalidRequest, "The maximum size of a prefix is 1024")
        }
        guard Set(tags.map(\.key)).count == tags.count else {
            throw S3Error(.invalidRequest, "Duplicate Tag Keys are not allowed.")
        }
        for tag in tags { try tag.check() }
        if let sizeGreaterThan, let sizeLessThan, sizeLessThan <= sizeGreaterThan {
            throw S3Error(
                .invalidRequest,
                "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'."
            )
        }
    }

    private init(filter xml: XMLElement) throws(S3Error) {
        try xml.requireOnly(["And", "Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan"])
        guard xml.children.count <= 1 else {
            throw .malformedXML("A filter with several conditions needs an And element.")
        }
        guard let and = try xml.child("And") else {
            try self.init(conditions: xml, form: .filter)
            return
        }
        try and.requireOnly(["Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan"])
        guard and.children.count >= 2 else { throw .malformedXML("And needs two conditions or more.") }
        try self.init(conditions: and, form: .conjunction)
    }

    private init(conditions xml: XMLElement, form: Form) throws(S3Error) {
        var tags: [TagSet.Tag] = []
        for element in xml.children(named: "Tag") { tags.append(try TagSet.Tag(xml: element)) }
        try self.init(
            form: form,
            prefix: xml.text(of: "Prefix"),
            tags: tags,
            sizeGreaterThan: Self.size(of: "ObjectSizeGreaterThan", in: xml),
            sizeLessThan: Self.size(of: "ObjectSizeLessThan", in: xml)
        )
    }

    private static func size(of name: String, in xml: XMLElement) throws(S3Error) -> Int64? {
        guard let size = try xml.integer(of: name) else { return nil }
        guard size >= (name == "ObjectSizeLessThan" ? 1 : 0) else {
            throw .invalidArgument("'\(name)' must be a positive integer", name: name, value: String(size))
        }
        return size
    }

    func render(into writer: inout XMLWriter) {
        switch form {
        case .rulePrefix: writer.element("Prefix", prefix ?? "")
        case .filter: writer.element("Filter") { renderConditions(into: &$0) }
        case .conjunction:
            writer.element("Filter") { writer in
                writer.element("And") { renderConditions(into: &$0) }
            }
        }
    }

    private func renderConditions(into writer: inout XMLWriter) {
        writer.optional("Prefix", prefix)
        for tag in tags { tag.render(into: &writer) }
        writer.optional("ObjectSizeGreaterThan", sizeGreaterThan)
        writer.optional("ObjectSizeLessThan", sizeLessThan)
    }

    package func matches(key: ObjectKeyText) -> Bool { prefix.map { key.hasPrefix($0) } ?? true }

    package func matches(key: ObjectKeyText, size: UInt64, tags present: TagSet) -> Bool {
        matches(key: key) && tags.allSatisfy { present[$0.key] == $0.value }
            && (sizeGreaterThan.map { size > UInt64(clamping: $0) } ?? true)
            && (sizeLessThan.map { size < UInt64(clamping: $0) } ?? true)
    }
}

/// A key as it is compared with prefixes: by its bytes.
package struct ObjectKeyText: Hashable, Sendable {
    package let bytes: [UInt8]

    package init(bytes: [UInt8]) { self.bytes = bytes }
    package init(_ text: String) { bytes = [UInt8](text.utf8) }

    func hasPrefix(_ prefix: String) -> Bool { bytes.starts(with: prefix.utf8) }
}
