package import StoreModel

/// The Range header of a read: one range of bytes.
/// https://www.rfc-editor.org/rfc/rfc9110#name-range
package enum ByteRangeHeader: Hashable, Sendable {
    /// `bytes=first-last` or `bytes=first-`; the last byte is part of the range.
    case from(first: UInt64, last: UInt64?)
    /// `bytes=-count`: the end of the object.
    case suffix(count: UInt64)

    /// Nil when the header asks for nothing that can be given in one piece: several ranges, another unit, no range at
    /// all. As in S3 and by RFC 9110 such a header does not count, and the whole object is the answer.
    package init?(_ text: String) {
        guard let (first, last) = Self.bounds(text) else { return nil }
        if first.isEmpty {
            guard let count = Self.number(last) else { return nil }
            self = .suffix(count: count)
        } else if last.isEmpty {
            guard let first = Self.number(first) else { return nil }
            self = .from(first: first, last: nil)
        } else {
            guard let first = Self.number(first), let last = Self.number(last), first <= last else {
                return nil
            }
            self = .from(first: first, last: last)
        }
    }

    /// - Returns: nil when no byte of the object is in the range.
    package func resolved(in size: UInt64) -> ByteRange? {
        switch self {
        case .from(let first, let last):
            guard first < size else { return nil }
            let length = min(last ?? UInt64.max, size - 1) - first + 1
            return try? ByteRange(offset: first, length: length, of: size)
        case .suffix(let count):
            guard count > 0, size > 0 else { return nil }
            let length = min(count, size)
            return try? ByteRange(offset: size - length, length: length, of: size)
        }
    }

    /// - Throws: `InvalidRange` when no byte of the object is in the range.
    package func resolve(in size: UInt64) throws(S3Error) -> ByteRange {
        guard let range = resolved(in: size) else {
            throw S3Error(
                .invalidRange,
                details: [("RangeRequested", text), ("ActualObjectSize", "\(size)")],
                headers: [("content-range", "bytes */\(size)")]
            )
        }
        return range
    }

    package var text: String {
        switch self {
        case .from(let first, let last): "bytes=\(first)-\(last.map { "\($0)" } ?? "")"
        case .suffix(let count): "bytes=-\(count)"
        }
    }

    /// The range of UploadPartCopy, which needs both ends and must lie inside the source.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
    package static func copySource(_ text: String) throws(S3Error) -> ByteRangeHeader {
        guard let range = ByteRangeHeader(text), case .from(_, .some) = range else {
            throw .invalidArgument(
                "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are "
                    + "the zero-based offsets of the first and last bytes to copy",
                name: "x-amz-copy-source-range",
                value: text
            )
        }
        return range
    }

    /// - Throws: `InvalidArgument` when the range goes past the end of the source.
    package func resolveInside(source size: UInt64) throws(S3Error) -> ByteRange {
        guard case .from(_, let last?) = self, last < size, let range = resolved(in: size) else {
            throw .invalidArgument(
                "Range specified is not valid for source object of size: \(size)",
                name: "x-amz-copy-source-range",
                value: text
            )
        }
        return range
    }

    private static func bounds(_ text: String) -> (Substring, Substring)? {
        guard text.utf8.count <= 128, ASCIIText.hasPrefixIgnoringCase(text, "bytes=") else { return nil }
        let range = ASCIIText.trimmedSlice(text.dropFirst("bytes=".count))
        guard let dash = range.utf8.firstIndex(of: UInt8(ascii: "-")) else { return nil }
        return (range[..<dash], range[range.utf8.index(after: dash)...])
    }

    /// Numbers past what fits are as good as the largest one.
    private static func number(_ text: Substring) -> UInt64? {
        guard !text.isEmpty, text.utf8.allSatisfy({ ASCIIText.isDigit($0) }) else { return nil }
        return UInt64(text) ?? UInt64.max
    }
}

extension ByteRange {
    /// `Content-Range` of a 206.
    package func contentRange(of size: UInt64) -> String {
        length == 0 ? "bytes */\(size)" : "bytes \(offset)-\(end - 1)/\(size)"
    }
}
