package import StoreModel

/// The conditions of a request.
/// https://www.rfc-editor.org/rfc/rfc9110#name-evaluation-of-preconditions
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
///
/// If-Match decides over If-Unmodified-Since, If-None-Match over If-Modified-Since: with an ETag that matches, the
/// date beside it does not count.
package struct ConditionalHeaders: Hashable, Sendable {
    /// What If-Match and If-None-Match hold.
    package enum Tags: Hashable, Sendable {
        /// `*`
        case any
        /// Without quotes.
        case some([String])

        package func matches(_ etag: String) -> Bool {
            switch self {
            case .any: true
            case .some(let tags): tags.contains(etag)
            }
        }
    }

    package enum Outcome: Hashable, Sendable {
        case proceed
        /// 304; only for reads.
        case notModified
        /// 412
        case preconditionFailed
        /// 404: If-Match on what is not there.
        case noSuchKey
    }

    package var ifMatch: Tags?
    package var ifNoneMatch: Tags?
    package var ifModifiedSince: Timestamp?
    package var ifUnmodifiedSince: Timestamp?
    /// Of DeleteObject: `x-amz-if-match-last-modified-time`.
    package var ifMatchLastModified: Timestamp?
    /// Of DeleteObject: `x-amz-if-match-size`.
    package var ifMatchSize: UInt64?

    package init() {}

    /// The conditions on the object that the request names.
    package init(_ headers: HeaderList) throws(S3Error) {
        self.init(headers, prefix: "")
        if let text = headers.first("x-amz-if-match-last-modified-time") {
            guard let time = HTTPDate.parse(text) ?? ISO8601.parse(text) else {
                throw .invalidArgument(
                    "The time is not valid.",
                    name: "x-amz-if-match-last-modified-time",
                    value: text
                )
            }
            ifMatchLastModified = time
        }
        if let text = headers.first("x-amz-if-match-size") {
            guard let size = ASCIIText.decimal(text) else {
                throw .invalidArgument("The size is not valid.", name: "x-amz-if-match-size", value: text)
            }
            ifMatchSize = size
        }
    }

    /// The conditions on the source of a copy.
    package init(copySource headers: HeaderList) { self.init(headers, prefix: "x-amz-copy-source-") }

    /// Dates that are none do not count, by RFC 9110.
    private init(_ headers: HeaderList, prefix: String) {
        ifMatch = Self.tags(headers.all(prefix + "if-match"))
        ifNoneMatch = Self.tags(headers.all(prefix + "if-none-match"))
        ifModifiedSince = Self.time(headers.first(prefix + "if-modified-since"))
        ifUnmodifiedSince = Self.time(headers.first(prefix + "if-unmodified-since"))
    }

    package var isEmpty: Bool { self == ConditionalHeaders() }

    /// For reads of what is there.
    /// - Parameter etag: without quotes.
    package func evaluateRead(etag: String, lastModified: Timestamp) -> Outcome {
        if let ifMatch {
            guard ifMatch.matches(etag) else { return .preconditionFailed }
        } else if let ifUnmodifiedSince, Self.seconds(lastModified) > Self.seconds(ifUnmodifiedSince) {
            return .preconditionFailed
        }
        if let ifNoneMatch {
            if ifNoneMatch.matches(etag) { return .notModified }
        } else if let ifModifiedSince, Self.seconds(lastModified) <= Self.seconds(ifModifiedSince) {
            return .notModified
        }
        return .proceed
    }

    /// For the source of a copy: nothing is "not modified" there.
    package func evaluateCopySource(etag: String, lastModified: Timestamp) -> Outcome {
        evaluateRead(etag: etag, lastModified: lastModified) == .proceed ? .proceed : .preconditionFailed
    }

    /// For writes and removals.
    /// - Parameter existing: the current version; nil when there is none, or a delete marker.
    package func evaluateWrite(
        existing: (etag: String, lastModified: Timestamp, size: UInt64)?
    ) -> Outcome {
        guard let existing else {
            if ifMatch != nil { return .noSuchKey }
            let needsObject = ifUnmodifiedSince != nil || ifMatchLastModified != nil || ifMatchSize != nil
            return needsObject ? .preconditionFailed : .proceed
        }
        if let ifMatchSize, ifMatchSize != existing.size { return .preconditionFailed }
        if let ifMatchLastModified,
            Self.seconds(ifMatchLastModified) != Self.seconds(existing.lastModified)
        {
            return .preconditionFailed
        }
        let outcome = evaluateRead(etag: existing.etag, lastModified: existing.lastModified)
        return outcome == .notModified ? .preconditionFailed : outcome
    }

    /// Lists of ETags, with quotes and without them, weak ones too.
    private static func tags(_ values: [String]) -> Tags? {
        guard !values.isEmpty else { return nil }
        var tags: [String] = []
        for value in values {
            for part in value.split(separator: ",") {
                var tag = ASCIIText.trimmedSlice(part)
                if tag == "*" { return .any }
                if tag.hasPrefix("W/") { tag = tag.dropFirst(2) }
                tags.append(ETag.unquoted(tag))
            }
        }
        return .some(tags)
    }

    private static func time(_ text: String?) -> Timestamp? { text.flatMap { HTTPDate.parse($0) } }

    /// HTTP dates have whole seconds; what was stored within one must compare as equal to what was shown.
    private static func seconds(_ time: Timestamp) -> Int64 {
        let (quotient, remainder) = time.milliseconds.quotientAndRemainder(dividingBy: 1000)
        return remainder < 0 ? quotient - 1 : quotient
    }
}

/// Entity tags: quoted on the wire, bare inside.
package enum ETag {
    package static func quoted(_ tag: String) -> String { "\"\(tag)\"" }

    package static func unquoted(_ text: some StringProtocol) -> String {
        guard text.utf8.count >= 2, text.hasPrefix("\""), text.hasSuffix("\"") else { return String(text) }
        return String(text.dropFirst().dropLast())
    }
}
