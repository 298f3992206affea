package import ContentHashing
package import StoreModel

/// What a client says its body is. A body that is anything else is refused, and nothing of it becomes visible.
package struct BodyExpectation: Hashable, Sendable {
    package var size: UInt64?
    package var sha256: Digest?
    package var md5: MD5Digest?
    /// Of the algorithm that the request asks for.
    package var checksum: Checksum?
    /// The SHA-256 that is part of the request's signature: the same digest with another error.
    package var signedSHA256: Digest?

    package init(
        size: UInt64? = nil,
        sha256: Digest? = nil,
        md5: MD5Digest? = nil,
        checksum: Checksum? = nil,
        signedSHA256: Digest? = nil
    ) {
        self.size = size
        self.sha256 = sha256
        self.md5 = md5
        self.checksum = checksum
        self.signedSHA256 = signedSHA256
    }

    package static let none = BodyExpectation()

    /// Refuses a body as soon as it is too long.
    func check(countSoFar count: UInt64, sizeMax: UInt64) throws(StoreError) {
        guard count <= sizeMax else {
            throw StoreError(.entityTooLarge, "The body has more than \(sizeMax) bytes.")
        }
        if let size, count > size {
            throw StoreError(.badDigest, "The body has more than the \(size) bytes that were declared.")
        }
    }

    func check(_ found: BodyDigests) throws(StoreError) {
        if let size, found.size != size {
            throw StoreError(.badDigest, "The body has \(found.size) bytes; \(size) were declared.")
        }
        if let expected = signedSHA256, expected != found.sha256 {
            throw StoreError(
                .payloadHashMismatch,
                "The body has the SHA-256 \(found.sha256); \(expected) was signed."
            )
        }
        if let expected = sha256, expected != found.sha256 {
            throw StoreError(
                .badDigest,
                "The body has the SHA-256 \(found.sha256); \(expected) was declared."
            )
        }
        if let expected = md5, expected != found.md5 {
            throw StoreError(
                .badDigest,
                "The Content-MD5 you specified did not match what we received: "
                    + "the body has the MD5 \(found.md5); \(expected) was declared."
            )
        }
        if let expected = checksum, expected != found.checksum {
            throw StoreError(
                .badDigest,
                "The \(expected.algorithm.name) you specified did not match the calculated checksum: "
                    + "the body has \(found.checksum?.base64 ?? "none"); \(expected.base64) was declared."
            )
        }
    }
}

/// What a body turned out to be.
struct BodyDigests {
    let size: UInt64
    let sha256: Digest
    let md5: MD5Digest
    let checksum: Checksum?
}

/// What is to be found out about a body while it is taken in.
package struct BodyRequirements: Sendable {
    package var expectation: BodyExpectation
    /// Asked for after the last piece: what a trailer says.
    package var expectationAtEnd: (@Sendable () async throws -> BodyExpectation)?
    /// A further checksum that is computed, beside SHA-256 and MD5, and kept.
    package var checksum: ChecksumAlgorithm?
    package var sizeMax: UInt64

    package init(
        expectation: BodyExpectation = .none,
        expectationAtEnd: (@Sendable () async throws -> BodyExpectation)? = nil,
        checksum: ChecksumAlgorithm? = nil,
        sizeMax: UInt64 = Limits.objectSizeMax
    ) {
        self.expectation = expectation
        self.expectationAtEnd = expectationAtEnd
        self.checksum = checksum
        self.sizeMax = sizeMax
    }

    func check(countSoFar count: UInt64) throws(StoreError) {
        try expectation.check(countSoFar: count, sizeMax: sizeMax)
    }

    func check(_ found: BodyDigests) async throws {
        try expectation.check(found)
        if let expectationAtEnd { try await expectationAtEnd().check(found) }
    }
}
