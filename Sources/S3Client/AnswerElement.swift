internal import ContentHashing
internal import S3Protocol
internal import StoreModel

/// An element of a server's answer. What is asked of it is there and right, or the answer is refused; what is not
/// asked for is passed over: servers add elements.
struct AnswerElement {
    let xml: XMLElement
    /// Whether names were percent-encoded by the server, as they were asked to be.
    let isEncoded: Bool

    init(_ xml: XMLElement, isEncoded: Bool = false) {
        self.xml = xml
        self.isEncoded = isEncoded
    }

    func children(_ name: String) -> [AnswerElement] {
        xml.children(named: name).map { AnswerElement($0, isEncoded: isEncoded) }
    }

    func optionalText(_ name: String) throws(S3ClientError) -> String? {
        do throws(S3Error) {
            return try xml.text(of: name)
        } catch {
            throw .answer("The element \(name) of an answer can't be read.")
        }
    }

    func text(_ name: String) throws(S3ClientError) -> String {
        guard let text = try optionalText(name) else {
            throw .answer("The element \(xml.name) of an answer lacks \(name).")
        }
        return text
    }

    /// A name that may be percent-encoded: nil where it is missing or empty.
    func optionalName(_ name: String) throws(S3ClientError) -> String? {
        guard let text = try optionalText(name), !text.isEmpty else { return nil }
        guard isEncoded else { return text }
        // Amazon writes a space as a plus; a plus itself is encoded.
        guard let decoded = PercentCoding.decodeText(text, plusIsSpace: true) else {
            throw .answer("The element \(name) of an answer is not percent-encoded UTF-8.")
        }
        return decoded
    }

    func name(_ name: String) throws(S3ClientError) -> String {
        guard let text = try optionalName(name) else {
            throw .answer("The element \(xml.name) of an answer lacks \(name).")
        }
        return text
    }

    func key(_ name: String = "Key") throws(S3ClientError) -> ObjectKey {
        let text = try self.name(name)
        do throws(StoreError) {
            return try ObjectKey(text)
        } catch {
            throw .answer("The server lists a key that can't be one: \(error.message)")
        }
    }

    func boolean(_ name: String) throws(S3ClientError) -> Bool {
        do throws(S3Error) {
            return try xml.boolean(of: name) ?? false
        } catch {
            throw .answer("The element \(name) of an answer is neither true nor false.")
        }
    }

    func count(_ name: String) throws(S3ClientError) -> UInt64 {
        guard let number = ASCIIText.decimal(try text(name)) else {
            throw .answer("The element \(name) of an answer is not a number.")
        }
        return number
    }

    func time(_ name: String) throws(S3ClientError) -> Timestamp {
        guard let time = ISOTime(try text(name)) else {
            throw .answer("The element \(name) of an answer is not a time.")
        }
        return time.timestamp
    }

    /// Without its quotes.
    func entityTag(_ name: String = "ETag") throws(S3ClientError) -> String {
        EntityTag.unquoted(try text(name))
    }

    /// The first checksum that stands there; one that is composite or can't be read is none.
    func checksum() -> Checksum? {
        for algorithm in ChecksumAlgorithm.allCases {
            guard let text = xml.children(named: algorithm.elementName).first?.text else { continue }
            if let checksum = Checksum(algorithm, base64: text) { return checksum }
        }
        return nil
    }
}

enum EntityTag {
    static func unquoted(_ text: String) -> String {
        guard text.utf8.count >= 2, text.utf8.first == UInt8(ascii: "\""),
            text.utf8.last == UInt8(ascii: "\"")
        else { return text }
        return String(text.dropFirst().dropLast())
    }

    /// As conditions write it.
    static func quoted(_ tag: String) -> String { tag == "*" ? tag : "\"\(tag)\"" }
}
