/// A bucket name by the S3 rules for general purpose buckets.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
package struct BucketName: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let description: String

    /// Parses a name.
    /// - Throws: `StoreError` with `.invalidBucketName` and the rule that it breaks.
    package init(_ text: String) throws(StoreError) {
        if let broken = Self.brokenRule(of: text) {
            throw StoreError(.invalidBucketName, "Bucket name \(quoted(text)): \(broken).")
        }
        description = text
    }

    private static func brokenRule(of text: String) -> String? {
        let bytes = [UInt8](text.utf8)
        guard (3...63).contains(bytes.count) else { return "it must have 3 to 63 characters" }
        for byte in bytes
        where !isLetterOrDigit(byte) && byte != UInt8(ascii: "-") && byte != UInt8(ascii: ".") {
            return "only lower-case letters, digits, dots and hyphens are allowed"
        }
        guard let first = bytes.first, let last = bytes.last, isLetterOrDigit(first), isLetterOrDigit(last)
        else { return "it must begin and end with a letter or a digit" }
        let dot = UInt8(ascii: ".")
        if bytes.contains(dot) {
            if zip(bytes, bytes.dropFirst()).contains(where: { $0 == dot && $1 == dot }) {
                return "two dots may not follow each other"
            }
            if isAddress(text) { return "it may not look like an IP address" }
        }
        // By bytes: each request names a bucket, and strings are compared by Unicode's rules.
        for prefix in reservedPrefixes where bytes.starts(with: prefix.utf8) {
            return "the prefix \(prefix) is reserved"
        }
        for suffix in reservedSuffixes where bytes.suffix(suffix.utf8.count).elementsEqual(suffix.utf8) {
            return "the suffix \(suffix) is reserved"
        }
        return nil
    }
    private static let reservedPrefixes = ["xn--", "sthree-", "amzn-s3-demo-"]
    private static let reservedSuffixes = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"]

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
            || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }

    private static func isAddress(_ text: String) -> Bool {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts.allSatisfy { part in UInt8(part) != nil }
    }

    package static func < (left: BucketName, right: BucketName) -> Bool {
        left.description < right.description
    }
}

/// An object key: 1 to 1,024 bytes of UTF-8 without NUL, compared as bytes and never used as a path.
package struct ObjectKey: Hashable, Sendable, Comparable, CustomStringConvertible {
    package static let byteCountMax = 1024

    package let bytes: [UInt8]

    /// Parses a key.
    /// - Throws: `StoreError` with `.invalidKey` and the reason.
    package init(bytes: [UInt8]) throws(StoreError) {
        guard !bytes.isEmpty else { throw StoreError(.invalidKey, "An object key may not be empty.") }
        guard bytes.count <= Self.byteCountMax else {
            throw StoreError(
                .keyTooLong,
                "The object key has \(bytes.count) bytes; at most \(Self.byteCountMax) are allowed."
            )
        }
        guard !bytes.contains(0) else {
            throw StoreError(.invalidKey, "The object key \(quoted(bytes)) holds a NUL byte.")
        }
        guard String(validating: bytes, as: UTF8.self) != nil else {
            throw StoreError(.invalidKey, "The object key \(quoted(bytes)) is not valid UTF-8.")
        }
        self.bytes = bytes
    }

    package init(_ text: String) throws(StoreError) {
        try self.init(bytes: [UInt8](text.utf8))
    }

    package var description: String { String(decoding: bytes, as: UTF8.self) }

    package static func < (left: ObjectKey, right: ObjectKey) -> Bool {
        left.bytes.lexicographicallyPrecedes(right.bytes)
    }
}

/// Text for a message: quoted, with control characters escaped and a bounded length.
package func quoted(_ text: String) -> String { quoted([UInt8](text.utf8)) }

/// Bytes for a message: as UTF-8 where they are, quoted, with control characters escaped and a bounded length.
package func quoted(_ bytes: [UInt8]) -> String {
    let shown = bytes.prefix(200)
    var text = "\""
    for scalar in String(decoding: shown, as: UTF8.self).unicodeScalars {
        if scalar.value < 0x20 || scalar.value == 0x7F || scalar == "\"" || scalar == "\\" {
            text += scalar.escaped(asASCII: true)
        } else {
            text.unicodeScalars.append(scalar)
        }
    }
    return text + (bytes.count > shown.count ? "…\"" : "\"")
}
