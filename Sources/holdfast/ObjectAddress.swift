package import StoreModel

/// BUCKET/KEY as people write it. The first slash ends the bucket's name; all that follows is the key, byte
/// for byte: `models/../x` and `models//x` name the keys `../x` and `/x`.
package struct ObjectAddress: Hashable, Sendable, CustomStringConvertible {
    package let bucket: BucketName
    /// What follows the first slash; may be empty or end with a slash.
    package let rest: String

    package init(_ text: String) throws {
        var parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        if text.hasPrefix("s3://") || text.hasPrefix("/") || text.hasPrefix("./") {
            throw CommandError(
                .usage,
                "\(quoted(text)) is not an address in the store.",
                advice: "Write BUCKET/KEY, for example models/llama/weights.safetensors."
            )
        }
        bucket = try BucketName(String(parts.removeFirst()))
        rest = parts.first.map(String.init) ?? ""
        if !rest.isEmpty { _ = try ObjectKey(rest) }
    }

    /// The key.
    /// - Throws: `CommandError` when only a bucket was given.
    package func key() throws -> ObjectKey {
        guard !rest.isEmpty else {
            throw CommandError(
                .usage,
                "\(quoted(bucket.description)) names a bucket, not an object.",
                advice: "Write BUCKET/KEY; 'holdfast ls \(bucket)' shows the keys."
            )
        }
        return try ObjectKey(rest)
    }

    /// Whether the address can stand for many objects: a bucket, or a prefix that ends with a slash.
    package var isPrefix: Bool { rest.isEmpty || rest.hasSuffix("/") }

    package var description: String { "\(bucket)/\(rest)" }
}

extension ObjectKey {
    /// The bytes after the last slash; empty when the key ends with one.
    package var lastComponent: [UInt8] {
        bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).last.map([UInt8].init)
            ?? []
    }
}
