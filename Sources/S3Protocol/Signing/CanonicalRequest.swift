internal import ContentHashing
package import StoreModel

/// A request in the one form that client and server hash.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html#canonical-request
///
///     method \n path \n query \n (name:value \n)… \n signed names \n payload hash
///
/// For S3 the path is encoded once and never normalised: keys may hold `//` and `..`.
package struct CanonicalRequest: Sendable {
    package let bytes: [UInt8]

    /// - Parameters:
    ///   - signedHeaders: names in lower case, in the order in which they are to stand.
    ///   - omitting: a parameter of the query that is left out: the signature itself.
    package init(
        _ head: S3RequestHead,
        signedHeaders: [String],
        payload: String,
        omitting: String? = nil
    ) {
        var text: [UInt8] = []
        text.reserveCapacity(1024)
        text.append(contentsOf: head.method.utf8)
        text.append(newline)
        Self.append(path: head.path, to: &text)
        text.append(newline)
        Self.append(query: head.query, omitting: omitting, to: &text)
        text.append(newline)
        for name in signedHeaders {
            text.append(contentsOf: name.utf8)
            text.append(UInt8(ascii: ":"))
            var isFirst = true
            for field in head.headers.fields where field.name == name {
                if !isFirst { text.append(UInt8(ascii: ",")) }
                isFirst = false
                Self.append(headerValue: field.value, to: &text)
            }
            text.append(newline)
        }
        text.append(newline)
        for (index, name) in signedHeaders.enumerated() {
            if index > 0 { text.append(UInt8(ascii: ";")) }
            text.append(contentsOf: name.utf8)
        }
        text.append(newline)
        text.append(contentsOf: payload.utf8)
        bytes = text
    }

    package var hash: Digest { SHA256Hasher.hash(bytes) }

    package var text: String { String(decoding: bytes, as: UTF8.self) }

    private static func append(path: String, to text: inout [UInt8]) {
        if path.isEmpty { text.append(UInt8(ascii: "/")) }
        withBytes(of: path) { appendRecoded($0[...], isPath: true, to: &text) }
    }

    /// Runs of blanks become one space; there are none at the ends.
    private static func append(headerValue value: String, to text: inout [UInt8]) {
        withBytes(of: value) { bytes in
            var isAfterBlank = false
            let start = text.count
            for byte in bytes {
                if ASCIIText.isBlank(byte) {
                    isAfterBlank = text.count > start
                } else {
                    if isAfterBlank { text.append(0x20) }
                    isAfterBlank = false
                    text.append(byte)
                }
            }
        }
    }

    /// Where name and value of a parameter stand among the encoded bytes of all.
    private struct Parameter {
        let name: Range<Int>
        let value: Range<Int>

        static func precedes(_ left: Parameter, _ right: Parameter, in bytes: [UInt8]) -> Bool {
            let (leftName, rightName) = (bytes[left.name], bytes[right.name])
            return leftName == rightName
                ? bytes[left.value].lexicographicallyPrecedes(bytes[right.value])
                : leftName.lexicographicallyPrecedes(rightName)
        }
    }

    /// Sorted by encoded name, then by encoded value; a parameter without a value gets an empty one.
    private static func append(query: String?, omitting: String?, to text: inout [UInt8]) {
        guard let query, !query.isEmpty else { return }
        var parameters: [Parameter] = []
        parameters.reserveCapacity(8)
        // One array for all of them: a presigned URL has six and more.
        var encoded: [UInt8] = []
        withBytes(of: query) { bytes in
            encoded.reserveCapacity(bytes.count + bytes.count / 2)
            for pair in bytes.split(separator: UInt8(ascii: "&")) {
                let split = pair.firstIndex(of: UInt8(ascii: "=")) ?? pair.endIndex
                let start = encoded.count
                appendRecoded(pair[..<split], isPath: false, to: &encoded)
                let name = start..<encoded.count
                if let omitting, encoded[name].elementsEqual(omitting.utf8) { continue }
                if split < pair.endIndex {
                    appendRecoded(pair[(split + 1)...], isPath: false, to: &encoded)
                }
                parameters.append(Parameter(name: name, value: name.upperBound..<encoded.count))
            }
        }
        parameters.sort { Parameter.precedes($0, $1, in: encoded) }
        for (index, parameter) in parameters.enumerated() {
            if index > 0 { text.append(UInt8(ascii: "&")) }
            text.append(contentsOf: encoded[parameter.name])
            text.append(UInt8(ascii: "="))
            text.append(contentsOf: encoded[parameter.value])
        }
    }

    /// Decoded and encoded again, as clients differ in what they leave as it is. A broken escape stands for itself:
    /// the router refuses it.
    private static func appendRecoded(
        _ bytes: Slice<UnsafeBufferPointer<UInt8>>,
        isPath: Bool,
        to text: inout [UInt8]
    ) {
        var index = bytes.startIndex
        while index < bytes.endIndex {
            let byte = bytes[index]
            index += 1
            if PercentCoding.isUnreserved(byte) || (isPath && byte == UInt8(ascii: "/")) {
                text.append(byte)
            } else if byte == UInt8(ascii: "%"), index + 2 <= bytes.endIndex,
                let high = PercentCoding.nibble(bytes[index]),
                let low = PercentCoding.nibble(bytes[index + 1])
            {
                PercentCoding.append(high << 4 | low, to: &text, keepsSlash: isPath)
                index += 2
            } else if byte == UInt8(ascii: "+"), !isPath {
                PercentCoding.append(0x20, to: &text, keepsSlash: false)
            } else {
                PercentCoding.append(byte, to: &text, keepsSlash: isPath)
            }
        }
    }

    private static func withBytes(of text: String, _ body: (UnsafeBufferPointer<UInt8>) -> Void) {
        // Strings of Swift are contiguous; withUTF8 makes them so where they are not.
        var text = text
        text.withUTF8(body)
    }
}

private let newline = UInt8(ascii: "\n")
