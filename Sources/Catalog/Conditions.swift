package import StoreModel

extension Conditions {
    /// If-Match on an object that isn't there is 404, on another one 412; If-None-Match on one that is there
    /// is 412. A delete marker counts as not there. A time counts only where no ETag decides.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    /// https://www.rfc-editor.org/rfc/rfc9110#name-precedence-of-preconditions
    package func check(on object: VersionRow?, key: ObjectKey) throws(StoreError) {
        if let ifMatch {
            guard let object else { throw Self.nothing(key, for: "If-Match") }
            guard ifMatch.accepts(object.etag) else {
                throw StoreError(
                    .preconditionFailed,
                    "If-Match: the object \(quoted(key.bytes)) has the ETag \(object.etag)."
                )
            }
        } else if let ifUnmodifiedSince {
            guard let object else { throw Self.nothing(key, for: "If-Unmodified-Since") }
            guard object.createdAt.second <= ifUnmodifiedSince.second else {
                throw StoreError(
                    .preconditionFailed,
                    "If-Unmodified-Since: the object \(quoted(key.bytes)) was modified later."
                )
            }
        }
        if let ifNoneMatch {
            if let object, ifNoneMatch.accepts(object.etag) {
                throw StoreError(
                    .preconditionFailed,
                    "If-None-Match: the object \(quoted(key.bytes)) exists with the ETag \(object.etag)."
                )
            }
        } else if let ifModifiedSince, let object, object.createdAt.second <= ifModifiedSince.second {
            throw StoreError(
                .preconditionFailed,
                "If-Modified-Since: the object \(quoted(key.bytes)) was not modified since."
            )
        }
        try checkIdentity(of: object, key: key)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html: x-amz-if-match-last-modified-time,
    /// x-amz-if-match-size. "If the object doesn't exist, the operation returns a 204."
    private func checkIdentity(of object: VersionRow?, key: ObjectKey) throws(StoreError) {
        guard let object else { return }
        if let ifLastModified, ifLastModified.second != object.createdAt.second {
            throw StoreError(
                .preconditionFailed,
                "The object \(quoted(key.bytes)) was modified at another time."
            )
        }
        if let ifSize, ifSize != object.size {
            throw StoreError(
                .preconditionFailed,
                "The object \(quoted(key.bytes)) has \(object.size) bytes."
            )
        }
    }

    private static func nothing(_ key: ObjectKey, for header: String) -> StoreError {
        StoreError(.noSuchKey, "There is no object \(quoted(key.bytes)) for \(header) to match.")
    }
}

extension Timestamp {
    /// Times in headers have seconds.
    fileprivate var second: Int64 {
        milliseconds >= 0 ? milliseconds / 1000 : (milliseconds - 999) / 1000
    }
}

extension ETagMatch {
    package func accepts(_ etag: String) -> Bool {
        switch self {
        case .any: true
        case .oneOf(let list): list.contains(etag)
        }
    }
}
