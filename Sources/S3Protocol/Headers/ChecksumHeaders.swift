package import ContentHashing
package import StoreModel

/// What a client says about the checksums of what it sends.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
package struct ChecksumHeaders: Hashable, Sendable {
    /// `Content-MD5`
    package var contentMD5: MD5Digest?
    /// The value of an `x-amz-checksum-…` header.
    package var checksum: Checksum?
    /// The algorithm whose value stands in the trailer.
    package var trailer: ChecksumAlgorithm?
    /// The form of a multipart object, of CreateMultipartUpload and CompleteMultipartUpload.
    package var type: ChecksumType?

    package init() {}

    /// What is computed and kept beside the object: what the client declared.
    package var algorithm: ChecksumAlgorithm? { checksum?.algorithm ?? trailer }

    /// - Throws: `InvalidDigest` for a Content-MD5 that is none, `InvalidRequest` for checksums that are not valid or
    ///   contradict each other.
    package init(_ headers: HeaderList) throws(S3Error) {
        contentMD5 = try Self.contentMD5(headers)
        for field in headers.fields where field.name.hasPrefix("x-amz-checksum-") {
            if Self.qualifiers.contains(field.name) { continue }
            guard let algorithm = ChecksumAlgorithm(headerName: field.name) else {
                throw .notImplemented(header: field.name)
            }
            guard checksum == nil else {
                throw S3Error(
                    .invalidRequest,
                    "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
                )
            }
            checksum = try Self.value(field.value, algorithm)
        }
        trailer = try Self.trailer(headers)
        guard checksum == nil || trailer == nil else {
            throw S3Error(
                .invalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
            )
        }
        type = try Self.type(of: headers)
        try checkDeclared(headers)
    }

    private static let qualifiers: Set<String> = [
        "x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type",
    ]

    /// The value that the trailer brought for the announced algorithm.
    package func trailerChecksum(_ trailers: HeaderList) throws(S3Error) -> Checksum? {
        guard let trailer else { return nil }
        guard let text = trailers.first(trailer.headerName) else { throw S3Error(.malformedTrailer) }
        return try Self.value(text, trailer)
    }

    /// The algorithm that a new upload names for its parts.
    package static func uploadAlgorithm(_ headers: HeaderList) throws(S3Error) -> ChecksumAlgorithm? {
        try algorithm(named: headers.single("x-amz-checksum-algorithm"))
    }

    /// Whether a read wants to see the checksums.
    package static func isRequested(_ headers: HeaderList) throws(S3Error) -> Bool {
        guard let mode = try headers.single("x-amz-checksum-mode") else { return false }
        guard ASCIIText.equalIgnoringCase(mode, "ENABLED") else {
            throw .invalidArgument(
                "Value for x-amz-checksum-mode header is invalid.",
                name: "x-amz-checksum-mode",
                value: mode
            )
        }
        return true
    }

    private static func contentMD5(_ headers: HeaderList) throws(S3Error) -> MD5Digest? {
        guard let text = try headers.single("content-md5") else { return nil }
        guard let bytes = Base64.decode(text), bytes.count == MD5Digest.byteCount,
            let digest = bytes.withUnsafeBytes({ MD5Digest(bytes: $0) })
        else { throw S3Error(.invalidDigest, details: [("Content-MD5", String(text.prefix(128)))]) }
        return digest
    }

    private static func value(
        _ text: String,
        _ algorithm: ChecksumAlgorithm
    ) throws(S3Error) -> Checksum {
        guard text.utf8.count <= 128, let checksum = Checksum(algorithm, base64: text) else {
            throw S3Error(.invalidRequest, "Value for \(algorithm.headerName) header is invalid.")
        }
        return checksum
    }

    /// Other trailers are nothing to a server of objects; an unknown checksum among them must not go unchecked.
    private static func trailer(_ headers: HeaderList) throws(S3Error) -> ChecksumAlgorithm? {
        var found: ChecksumAlgorithm?
        for value in headers.all("x-amz-trailer") {
            for part in value.split(separator: ",") {
                let name = ASCIIText.lowercased(String(ASCIIText.trimmedSlice(part)))
                guard let algorithm = ChecksumAlgorithm(headerName: name), found == nil else {
                    throw S3Error(
                        .invalidRequest,
                        "The value specified in the x-amz-trailer header is not supported"
                    )
                }
                found = algorithm
            }
        }
        return found
    }

    private static func algorithm(named name: String?) throws(S3Error) -> ChecksumAlgorithm? {
        guard let name else { return nil }
        guard name.utf8.count <= 32, let algorithm = ChecksumAlgorithm(name: name) else {
            throw S3Error(
                .invalidRequest,
                "Checksum algorithm provided is unsupported. Please try again with any of the valid types: "
                    + "[CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"
            )
        }
        return algorithm
    }

    /// `x-amz-checksum-type`
    package static func type(of headers: HeaderList) throws(S3Error) -> ChecksumType? {
        guard let text = try headers.single("x-amz-checksum-type") else { return nil }
        switch ASCIIText.lowercased(text) {
        case "composite": return .composite
        case "full_object": return .fullObject
        default: throw S3Error(.invalidRequest, "Value for x-amz-checksum-type header is invalid.")
        }
    }

    /// SDKs name the algorithm a second time; MD5 of older ones is what Content-MD5 carries.
    private func checkDeclared(_ headers: HeaderList) throws(S3Error) {
        guard let name = try headers.single("x-amz-sdk-checksum-algorithm"), !name.isEmpty,
            !ASCIIText.equalIgnoringCase(name, "MD5")
        else { return }
        guard let declared = try Self.algorithm(named: name) else { return }
        guard let algorithm else {
            throw S3Error(
                .invalidRequest,
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer "
                    + "headers were found."
            )
        }
        guard declared == algorithm else {
            throw S3Error(.invalidRequest, "Value for x-amz-sdk-checksum-algorithm header is invalid.")
        }
    }
}
