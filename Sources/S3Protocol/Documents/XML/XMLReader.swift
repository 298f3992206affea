internal import CXML2

/// Reads a client's XML by libxml2, within bounds that no document of S3 needs to leave.
///
/// 1. No DTD, so no entity but the five of XML and numeric references: nothing expands, nothing is fetched. Markup
///    that begins with `<!` and is no comment and no CDATA section is refused before the parser sees it.
/// 2. Time is linear in the size: a tag is short (libxml2 compares each attribute with each other), the depth is
///    bounded, and the parser's own limits (XML_PARSE_HUGE not set) stand.
/// 3. Memory is bounded by the number of elements and by the size of the body.
package enum XMLReader {
    /// A DeleteObjects of 1,000 keys of 1,024 bytes, escaped, with its version ids, stays below.
    package static let sizeMax = 4 << 20
    package static let depthMax = 16
    /// A CompleteMultipartUpload of 10,000 parts with five elements each stays below.
    package static let elementCountMax = 100_000
    /// From `<` to `>`. S3's longest are those with the two namespaces of an ACL.
    package static let tagSizeMax = 1024
    package static let attributeCountMax = 8

    /// - Throws: MalformedXML, or MaxMessageLengthExceeded.
    package static func read(_ body: [UInt8]) throws(S3Error) -> XMLElement {
        guard body.count <= sizeMax else { throw S3Error(.maxMessageLengthExceeded) }
        try screen(body)
        _ = libraryIsReady
        let root = body.withUnsafeBytes { bytes in Result { () throws(S3Error) in try parse(bytes) } }
        return try root.get()
    }

    /// Once for the process, before the first parse: libxml2 asks for it where there are threads.
    private static let libraryIsReady: Void = xmlInitParser()

    /// Refuses what the parser shall not see.
    private static func screen(_ body: [UInt8]) throws(S3Error) {
        guard !body.contains(0), String(validating: body, as: UTF8.self) != nil else {
            throw .malformedXML("The document is not UTF-8.")
        }
        var rest = body[...]
        while let start = rest.firstIndex(of: UInt8(ascii: "<")) {
            rest = rest[start...]
            if rest.starts(with: "<!--".utf8) {
                rest = try skip(rest, past: "-->")
            } else if rest.starts(with: "<![CDATA[".utf8) {
                rest = try skip(rest, past: "]]>")
            } else if rest.starts(with: "<!".utf8) {
                throw .malformedXML("Document type declarations are not allowed.")
            } else if let end = rest.prefix(tagSizeMax).firstIndex(of: UInt8(ascii: ">")) {
                rest = rest[(end + 1)...]
            } else {
                throw .malformedXML("A tag is not closed, or is longer than \(tagSizeMax) bytes.")
            }
        }
    }

    private static func skip(
        _ bytes: ArraySlice<UInt8>,
        past mark: StaticString
    ) throws(S3Error) -> ArraySlice<UInt8> {
        let pattern = mark.withUTF8Buffer { [UInt8]($0) }
        var rest = bytes
        while let start = rest.firstIndex(of: pattern[0]) {
            rest = rest[start...]
            if rest.starts(with: pattern) { return rest.dropFirst(pattern.count) }
            rest = rest.dropFirst()
        }
        throw .malformedXML("A comment or CDATA section is not closed.")
    }

    private static func parse(_ bytes: UnsafeRawBufferPointer) throws(S3Error) -> XMLElement {
        let options =
            XML_PARSE_NONET.rawValue | XML_PARSE_NOERROR.rawValue | XML_PARSE_NOWARNING.rawValue
            | XML_PARSE_NOCDATA.rawValue
        let start = bytes.assumingMemoryBound(to: CChar.self).baseAddress
        guard let reader = xmlReaderForMemory(start, Int32(bytes.count), nil, "UTF-8", Int32(options)) else {
            throw .malformedXML("The document is empty.")
        }
        defer { xmlFreeTextReader(reader) }
        var tree = TreeBuilder()
        while true {
            switch xmlTextReaderRead(reader) {
            case 1: try tree.take(reader)
            case 0: return try tree.finish()
            default: throw .malformedXML("The document is not well-formed.")
            }
        }
    }

    /// Puts the reader's events together. The open elements stand in an array, outermost first: no recursion.
    private struct TreeBuilder {
        private var open: [XMLElement] = []
        private var root: XMLElement?
        private var elementCount = 0

        mutating func take(_ reader: xmlTextReaderPtr) throws(S3Error) {
            switch UInt32(bitPattern: xmlTextReaderNodeType(reader)) {
            case XML_READER_TYPE_ELEMENT.rawValue: try begin(reader)
            case XML_READER_TYPE_END_ELEMENT.rawValue: end()
            case XML_READER_TYPE_TEXT.rawValue, XML_READER_TYPE_CDATA.rawValue,
                XML_READER_TYPE_WHITESPACE.rawValue, XML_READER_TYPE_SIGNIFICANT_WHITESPACE.rawValue:
                if !open.isEmpty, let value = xmlTextReaderConstValue(reader) {
                    open[open.count - 1].text += String(cString: value)
                }
            case XML_READER_TYPE_COMMENT.rawValue, XML_READER_TYPE_XML_DECLARATION.rawValue: break
            default: throw .malformedXML("The document holds more than elements and text.")
            }
        }

        private mutating func begin(_ reader: xmlTextReaderPtr) throws(S3Error) {
            elementCount += 1
            guard elementCount <= elementCountMax else { throw .malformedXML("Too many elements.") }
            guard open.count < depthMax else { throw .malformedXML("Elements are nested too deeply.") }
            guard let name = xmlTextReaderConstLocalName(reader) else { throw S3Error(.malformedXML) }
            // Asked before the attributes move the reader away from the element.
            let isEmpty = xmlTextReaderIsEmptyElement(reader) == 1
            let namespace = xmlTextReaderConstNamespaceUri(reader).map { String(cString: $0) }
            let text = String(cString: name)
            open.append(XMLElement(text, namespace: namespace, attributes: try attributes(reader)))
            if isEmpty { end() }
        }

        private func attributes(_ reader: xmlTextReaderPtr) throws(S3Error) -> [XMLElement.Attribute] {
            let count = xmlTextReaderAttributeCount(reader)
            guard count > 0 else { return [] }
            guard count <= attributeCountMax else {
                throw .malformedXML("An element has too many attributes.")
            }
            var attributes: [XMLElement.Attribute] = []
            while xmlTextReaderMoveToNextAttribute(reader) == 1 {
                guard xmlTextReaderIsNamespaceDecl(reader) != 1,
                    let name = xmlTextReaderConstLocalName(reader)
                else { continue }
                let namespace = xmlTextReaderConstNamespaceUri(reader).map { String(cString: $0) }
                let value = xmlTextReaderConstValue(reader).map { String(cString: $0) } ?? ""
                attributes.append(.init(name: String(cString: name), namespace: namespace, value: value))
            }
            _ = xmlTextReaderMoveToElement(reader)
            return attributes
        }

        private mutating func end() {
            guard let element = open.popLast() else { return }
            if open.isEmpty { root = element } else { open[open.count - 1].children.append(element) }
        }

        func finish() throws(S3Error) -> XMLElement {
            guard let root, open.isEmpty else { throw .malformedXML("The document is not complete.") }
            return root
        }
    }
}
