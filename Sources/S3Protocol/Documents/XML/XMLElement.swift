/// One element of a parsed document: a plain tree without prefixes, comments or processing instructions.
package struct XMLElement: Hashable, Sendable {
    package struct Attribute: Hashable, Sendable {
        /// Without its prefix.
        package let name: String
        package let namespace: String?
        package let value: String

        package init(name: String, namespace: String?, value: String) {
            self.name = name
            self.namespace = namespace
            self.value = value
        }
    }

    /// Without its prefix.
    package let name: String
    package let namespace: String?
    package let attributes: [Attribute]
    package var children: [XMLElement]
    /// The text directly inside, as it stands: blanks belong to keys.
    package var text: String

    package init(
        _ name: String,
        namespace: String? = nil,
        attributes: [Attribute] = [],
        children: [XMLElement] = [],
        text: String = ""
    ) {
        self.name = name
        self.namespace = namespace
        self.attributes = attributes
        self.children = children
        self.text = text
    }

    package func attribute(_ name: String) -> String? { attributes.first { $0.name == name }?.value }

    package func children(named name: String) -> [XMLElement] { children.filter { $0.name == name } }
}

/// What every reader of a document asks of its elements. S3 answers MalformedXML to anything outside its schema.
extension XMLElement {
    /// - Throws: MalformedXML when the document is another one.
    package func requireName(_ expected: String) throws(S3Error) {
        guard name == expected else { throw .malformedXML("The root element is not \(expected).") }
    }

    /// Nothing but the named children, in any order: what the schema does not know is refused, so that nothing is
    /// ignored that a client relies on.
    package func requireOnly(_ names: Set<String>) throws(S3Error) {
        for child in children where !names.contains(child.name) {
            throw .malformedXML("\(name) may not hold an element \(child.name).")
        }
    }

    /// The child of that name, which may stand once at most.
    package func child(_ childName: String) throws(S3Error) -> XMLElement? {
        let found = children(named: childName)
        guard found.count <= 1 else { throw .malformedXML("\(name) holds \(childName) more than once.") }
        return found.first
    }

    package func requiredChild(_ childName: String) throws(S3Error) -> XMLElement {
        guard let found = try child(childName) else {
            throw .malformedXML("\(name) lacks the element \(childName).")
        }
        return found
    }

    /// The text of a child without children of its own.
    package func text(of childName: String) throws(S3Error) -> String? {
        guard let found = try child(childName) else { return nil }
        return try found.leafText()
    }

    package func requiredText(of childName: String) throws(S3Error) -> String {
        try requiredChild(childName).leafText()
    }

    package func texts(of childName: String) throws(S3Error) -> [String] {
        var texts: [String] = []
        for child in children(named: childName) { texts.append(try child.leafText()) }
        return texts
    }

    package func leafText() throws(S3Error) -> String {
        guard children.isEmpty else { throw .malformedXML("\(name) may hold text only.") }
        return text
    }

    /// The text without blanks at its ends: of words, numbers and dates, never of keys.
    package func word(of childName: String) throws(S3Error) -> String? {
        try text(of: childName).map { XMLText.trimmed($0) }
    }

    package func requiredWord(of childName: String) throws(S3Error) -> String {
        XMLText.trimmed(try requiredText(of: childName))
    }

    /// A decimal number, perhaps negative.
    package func integer(of childName: String) throws(S3Error) -> Int64? {
        guard let word = try word(of: childName) else { return nil }
        guard let number = XMLText.integer(word) else {
            throw .malformedXML("\(childName) is not an integer.")
        }
        return number
    }

    /// `true` or `false`, as XML Schema has it: also 1 and 0; S3 takes any case.
    package func boolean(of childName: String) throws(S3Error) -> Bool? {
        guard let word = try word(of: childName) else { return nil }
        switch word.lowercased() {
        case "true", "1": return true
        case "false", "0": return false
        default: throw .malformedXML("\(childName) is neither true nor false.")
        }
    }

    /// An ISO 8601 date or time.
    package func time(of childName: String) throws(S3Error) -> ISOTime? {
        guard let word = try word(of: childName) else { return nil }
        guard let time = ISOTime(word) else { throw .malformedXML("\(childName) is not an ISO 8601 date.") }
        return time
    }
}

/// Words and numbers in the text of elements.
enum XMLText {
    static func trimmed(_ text: String) -> String {
        func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
        guard let first = text.utf8.first, let last = text.utf8.last, isBlank(first) || isBlank(last) else {
            return text
        }
        var bytes = text.utf8[...]
        while let first = bytes.first, isBlank(first) { bytes.removeFirst() }
        while let last = bytes.last, isBlank(last) { bytes.removeLast() }
        return String(Substring(bytes))
    }

    static func integer(_ word: String) -> Int64? {
        // Int64("+5") would take a sign that S3 refuses; a leading minus is for the message "must be positive".
        let digits = word.utf8.first == UInt8(ascii: "-") ? word.utf8.dropFirst() : word.utf8[...]
        guard !digits.isEmpty, digits.count <= 19,
            digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
        else { return nil }
        return Int64(word)
    }
}

extension S3Error {
    /// The message that S3 gives, and why as a detail.
    package static func malformedXML(_ reason: String) -> S3Error {
        S3Error(.malformedXML, nil, details: [("Reason", String(reason.prefix(300)))])
    }
}

/// A document that a client sends.
package protocol XMLRequest: Sendable {
    init(xml: XMLElement) throws(S3Error)
}

extension XMLRequest {
    /// - Throws: MissingRequestBodyError for nothing at all, MalformedXML for what is not XML within the limits,
    ///   and what the document's own rules give.
    package init(body: [UInt8]) throws(S3Error) {
        guard !body.isEmpty else { throw S3Error(.missingRequestBody) }
        try self.init(xml: XMLReader.read(body))
    }
}

/// A document that the server sends.
package protocol XMLResponse: Sendable {
    func render(into writer: inout XMLWriter)
}

extension XMLResponse {
    /// The whole document with its declaration.
    package var xmlBytes: [UInt8] {
        var writer = XMLWriter()
        render(into: &writer)
        return writer.bytes
    }
}

/// A setting of a bucket: what is stored is the canonical XML.
package typealias XMLSetting = XMLRequest & XMLResponse
