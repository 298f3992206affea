package import StoreModel

/// Writes the server's XML.
///
/// Text is escaped so that any string stays inside its element. Control characters, which XML 1.0 can't carry,
/// leave as numeric references, as S3 writes them; a client that lists such keys asks for encoding-type=url.
package struct XMLWriter: Sendable {
    /// The namespace of S3's documents.
    package static let namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    /// The namespace of `xsi:type`.
    package static let schemaInstance = "http://www.w3.org/2001/XMLSchema-instance"

    package private(set) var bytes: [UInt8] = []

    /// - Parameter declaration: false for a fragment.
    package init(declaration: Bool = true) {
        bytes.reserveCapacity(512)
        if declaration { raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n") }
    }

    /// The root element in S3's namespace.
    package mutating func root(_ name: String, _ body: (inout XMLWriter) -> Void) {
        element(name, attributes: [("xmlns", Self.namespace)], body)
    }

    package mutating func element(
        _ name: String,
        attributes: [(name: String, value: String)] = [],
        _ body: (inout XMLWriter) -> Void
    ) {
        open(name, attributes)
        body(&self)
        close(name)
    }

    package mutating func element(_ name: String, _ text: String) {
        open(name, [])
        escape(text)
        close(name)
    }

    /// Text inside an open element.
    package mutating func text(_ text: String) { escape(text) }

    /// Nothing when there is no value.
    package mutating func optional(_ name: String, _ text: String?) {
        if let text { element(name, text) }
    }

    package mutating func element(_ name: String, _ value: some BinaryInteger) {
        element(name, String(value))
    }

    package mutating func optional(_ name: String, _ value: (some BinaryInteger)?) {
        if let value { element(name, String(value)) }
    }

    package mutating func element(_ name: String, _ value: Bool) { element(name, value ? "true" : "false") }

    package mutating func optional(_ name: String, _ value: Bool?) {
        if let value { element(name, value) }
    }

    /// Whole seconds, as S3 shows all its times.
    package mutating func element(_ name: String, _ time: Timestamp) {
        element(name, ISOTime(time).text)
    }

    package mutating func optional(_ name: String, _ time: Timestamp?) {
        if let time { element(name, time) }
    }

    /// An entity tag in its quotes.
    package mutating func entityTag(_ tag: String, name: String = "ETag") { element(name, "\"\(tag)\"") }

    private mutating func open(_ name: String, _ attributes: [(name: String, value: String)]) {
        raw("<")
        raw(name)
        for attribute in attributes {
            raw(" ")
            raw(attribute.name)
            raw("=\"")
            escape(attribute.value)
            raw("\"")
        }
        raw(">")
    }

    private mutating func close(_ name: String) {
        raw("</")
        raw(name)
        raw(">")
    }

    private mutating func raw(_ text: String) { bytes.append(contentsOf: text.utf8) }

    private mutating func escape(_ text: String) {
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "&"): raw("&amp;")
            case UInt8(ascii: "<"): raw("&lt;")
            case UInt8(ascii: ">"): raw("&gt;")
            case UInt8(ascii: "\""): raw("&quot;")
            case 0..<0x20, 0x7F: raw("&#x\(String(byte, radix: 16));")
            default: bytes.append(byte)
            }
        }
    }
}

/// How names are shown in listings.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html#API_ListObjectsV2_RequestSyntax
package enum ListingEncoding: Hashable, Sendable {
    case plain
    /// encoding-type=url: percent-encoded, the slash stays.
    case url

    /// Parses the query item encoding-type.
    package init(query: String?) throws(S3Error) {
        switch query {
        case nil, "": self = .plain
        case "url"?: self = .url
        case let other?:
            throw .invalidArgument(
                "Invalid Encoding Method specified in Request",
                name: "encoding-type",
                value: other
            )
        }
    }

    package func encode(_ name: String) -> String {
        switch self {
        case .plain: name
        case .url: PercentCoding.encode(name, keepsSlash: true)
        }
    }

    func render(into writer: inout XMLWriter) {
        if self == .url { writer.element("EncodingType", "url") }
    }
}
