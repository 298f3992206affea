/// Takes apart a body of multipart/form-data as its bytes come: the fields in front of the file, then the file.
/// https://www.rfc-editor.org/rfc/rfc7578
/// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTForms.html
///
/// 1. What comes out does not depend on how the input is split.
/// 2. Everything in front of the file is bounded; of the file no more is kept than one boundary.
/// 3. What follows the file does not count, as in S3: whoever checked the fields saw all that count.
package struct PostFormParser: Sendable {
    /// All that is in front of the file's bytes.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/HTTPPOSTForms.html
    package static let preDataLengthMax = 20 << 10
    private static let fieldCountMax = 128

    private enum State: Sendable {
        /// In front of the first boundary.
        case start
        /// Behind a boundary: a line end, or the end of the form.
        case boundaryEnd
        case partHeaders
        case field(name: String)
        case file
        case done
        case failed(S3Error)
    }

    /// `\r\n--boundary`
    private let delimiter: [UInt8]
    private var state = State.start
    private var pending: [UInt8]
    private var preDataLength = 0
    private var fields: [PostForm.Field] = []
    private var fileName: String?

    /// - Throws: `MalformedPOSTRequest` without a boundary that RFC 2046 allows.
    package init(contentType: String) throws(S3Error) {
        guard let boundary = Self.boundary(in: contentType) else {
            throw S3Error(.malformedPOSTRequest, "The boundary of the form is missing or malformed.")
        }
        delimiter = [UInt8]("\r\n--\(boundary)".utf8)
        // The first boundary may stand at the very start, where no line ended.
        pending = [0x0D, 0x0A]
    }

    /// The form, as soon as the bytes of its file begin.
    package var form: PostForm? {
        switch state {
        case .file, .done: PostForm(fields: fields, fileName: fileName)
        default: nil
        }
    }

    package var isComplete: Bool {
        if case .done = state { return true }
        return false
    }

    /// Takes in the next bytes of the body.
    /// - Returns: content of the file. The first comes when `form` is there.
    package mutating func push(_ input: some Sequence<UInt8>) throws(S3Error) -> [UInt8] {
        if case .failed(let error) = state { throw error }
        if case .done = state { return [] }
        pending.append(contentsOf: input)
        do throws(S3Error) {
            return try run()
        } catch {
            state = .failed(error)
            throw error
        }
    }

    /// To be called at the end of the body.
    package mutating func finish() throws(S3Error) {
        switch state {
        case .done: return
        case .failed(let error): throw error
        case .file: throw S3Error(.incompleteBody, "The form ended within its file.")
        default: throw S3Error(.malformedPOSTRequest)
        }
    }

    private mutating func run() throws(S3Error) -> [UInt8] {
        var content: [UInt8] = []
        while true {
            switch state {
            case .start:
                guard let end = endOfDelimiter() else {
                    try keepBounded()
                    return content
                }
                try consume(end)
                state = .boundaryEnd
            case .boundaryEnd:
                guard let next = try partStart() else { return content }
                state = next
            case .partHeaders:
                guard let next = try takePartHeaders() else { return content }
                state = next
            case .field(let name):
                guard let end = endOfDelimiter() else {
                    try keepBounded()
                    return content
                }
                try take(field: name, Array(pending[..<(end - delimiter.count)]))
                try consume(end)
                state = .boundaryEnd
            case .file:
                guard let end = endOfDelimiter() else {
                    // What could be the start of a boundary waits for the next bytes.
                    let safe = max(0, pending.count - delimiter.count + 1)
                    content.append(contentsOf: pending[..<safe])
                    pending.removeFirst(safe)
                    return content
                }
                content.append(contentsOf: pending[..<(end - delimiter.count)])
                pending = []
                state = .done
            case .done:
                return content
            case .failed(let error):
                throw error
            }
        }
    }

    // MARK: Parts

    /// Behind a boundary stands a line end, or two dashes.
    private mutating func partStart() throws(S3Error) -> State? {
        guard pending.count >= 2 else { return nil }
        if pending.starts(with: [0x0D, 0x0A]) {
            // The line end stays: headers end where an empty line follows one.
            return .partHeaders
        }
        if pending.starts(with: [0x2D, 0x2D]) {
            throw S3Error(.incorrectNumberOfFilesInPostRequest)
        }
        throw S3Error(.malformedPOSTRequest)
    }

    private mutating func takePartHeaders() throws(S3Error) -> State? {
        guard let end = Self.find([0x0D, 0x0A, 0x0D, 0x0A], in: pending) else {
            try keepBounded()
            return nil
        }
        guard let text = String(validating: pending[..<end], as: UTF8.self) else {
            throw S3Error(.malformedPOSTRequest)
        }
        // The empty line's end stays: an empty value is followed by the boundary's own.
        try consume(end + 4)
        var name: String?
        var file: String?
        for line in text.split(separator: "\r\n") {
            guard let colon = line.utf8.firstIndex(of: UInt8(ascii: ":")) else {
                throw S3Error(.malformedPOSTRequest)
            }
            guard ASCIIText.equalIgnoringCase(line[..<colon], "content-disposition") else { continue }
            let value = line[line.utf8.index(after: colon)...]
            name = Self.parameter("name", of: value)
            file = Self.parameter("filename", of: value)
        }
        guard let name, !name.isEmpty else { throw S3Error(.malformedPOSTRequest) }
        if ASCIIText.equalIgnoringCase(name, "file") {
            fileName = file ?? ""
            return .file
        }
        return .field(name: ASCIIText.lowercased(name))
    }

    private mutating func take(field name: String, _ bytes: [UInt8]) throws(S3Error) {
        guard let value = String(validating: bytes, as: UTF8.self), fields.count < Self.fieldCountMax else {
            throw S3Error(.malformedPOSTRequest)
        }
        guard !fields.contains(where: { $0.name == name }) else {
            throw .invalidArgument("A form field was given twice.", name: name, value: "")
        }
        fields.append(PostForm.Field(name: name, value: value))
    }

    // MARK: Bytes

    private func endOfDelimiter() -> Int? { Self.find(delimiter, in: pending).map { $0 + delimiter.count } }

    private mutating func consume(_ count: Int) throws(S3Error) {
        preDataLength += count
        pending.removeFirst(count)
        try keepBounded(alreadyTaken: true)
    }

    private func keepBounded(alreadyTaken: Bool = false) throws(S3Error) {
        let length = preDataLength + (alreadyTaken ? 0 : pending.count)
        guard length <= Self.preDataLengthMax else { throw S3Error(.maxPostPreDataLengthExceeded) }
    }

    private static func find(_ pattern: [UInt8], in bytes: [UInt8]) -> Int? {
        guard let first = pattern.first, bytes.count >= pattern.count else { return nil }
        return bytes.withUnsafeBufferPointer { bytes in
            var start = 0
            let last = bytes.count - pattern.count
            while start <= last {
                if bytes[start] == first && pattern.indices.allSatisfy({ bytes[start + $0] == pattern[$0] }) {
                    return start
                }
                start += 1
            }
            return nil
        }
    }

    // MARK: Parameters of headers

    /// One to 70 of the characters of RFC 2046.
    private static func boundary(in contentType: String) -> String? {
        guard contentType.utf8.count <= 512,
            ASCIIText.hasPrefixIgnoringCase(contentType, "multipart/form-data"),
            let boundary = parameter("boundary", of: contentType[...])
        else { return nil }
        let isAllowed = boundary.utf8.allSatisfy { byte in
            ASCIIText.isDigit(byte) || ASCIIText.isUpper(byte) || ASCIIText.isLower(byte)
                || "'()+_,-./:=? ".utf8.contains(byte)
        }
        return isAllowed && (1...70).contains(boundary.utf8.count) ? boundary : nil
    }

    /// The value of `; name=value` or `; name="value"`. Browsers write a quote inside as `%22`, others as `\"`.
    private static func parameter(_ name: String, of text: Substring) -> String? {
        var bytes = text.utf8.drop { $0 != UInt8(ascii: ";") }
        while !bytes.isEmpty {
            bytes = bytes.dropFirst().drop { ASCIIText.isBlank($0) }
            let key = bytes.prefix { $0 != UInt8(ascii: "=") && $0 != UInt8(ascii: ";") }
            bytes = bytes.dropFirst(key.count)
            guard bytes.first == UInt8(ascii: "=") else { continue }
            let (value, rest) = parameterValue(bytes.dropFirst())
            if ASCIIText.equalIgnoringCase(Substring(key), name) { return value }
            bytes = rest.drop { $0 != UInt8(ascii: ";") }
        }
        return nil
    }

    private static func parameterValue(
        _ bytes: Substring.UTF8View
    ) -> (value: String, rest: Substring.UTF8View) {
        guard bytes.first == UInt8(ascii: "\"") else {
            let token = bytes.prefix { $0 != UInt8(ascii: ";") }
            return (String(ASCIIText.trimmedSlice(Substring(token))), bytes.dropFirst(token.count))
        }
        var rest = bytes.dropFirst()
        var value: [UInt8] = []
        while let byte = rest.popFirst(), byte != UInt8(ascii: "\"") {
            if byte == UInt8(ascii: "\\"), rest.first == UInt8(ascii: "\"") {
                _ = rest.popFirst()
                value.append(UInt8(ascii: "\""))
            } else {
                value.append(byte)
            }
        }
        return (String(decoding: value, as: UTF8.self), rest)
    }
}
