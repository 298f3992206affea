internal import ContentHashing
internal import ObjectService
internal import S3Client
internal import S3Protocol
internal import StoreModel

/// One object on its way to a server: whole when it fits a part, else in parts, several at a time.
///
/// 1. The server compares what it got with what was sent: the SHA-256 of each request is signed, and of an object in
///    parts the CRC-64/NVME of the whole is told at the end. What differs does not become visible.
/// 2. Parts are made again when they fail; the whole is put together once.
/// 3. An upload that fails is aborted, also when the command is stopped.
/// 4. In memory are at most `concurrencyMax` parts and the one that is being read.
struct RemoteUpload {
    static let concurrencyMax = 3

    struct Made {
        let entityTag: String
        let versionID: String?
    }

    let client: S3Client
    let retry: S3Retry
    let budget: S3RetryBudget

    func run(_ request: UploadRequest, from source: any ByteSource) async throws -> Made {
        var reader = PartReader(source: source)
        let first = try await reader.next(upTo: Self.partSize(1, of: request.expectedSize))
        let isSmall = reader.isAtEnd
        return isSmall
            ? try await putWhole(request, first) : try await putParts(request, first: first, reader: &reader)
    }

    private func putWhole(_ request: UploadRequest, _ bytes: [UInt8]) async throws -> Made {
        try check(request, digest: SHA256Hasher.hash(bytes), size: UInt64(bytes.count))
        let result = try await client.putObject(
            request.bucket.description,
            request.key,
            .bytes(bytes),
            options: options(request),
            integrity: S3Integrity(
                checksum: Checksummer.checksum(.crc64nvme, of: bytes)
            )
        )
        return Made(entityTag: result.entityTag, versionID: result.versionID)
    }

    private func putParts(
        _ request: UploadRequest,
        first: [UInt8],
        reader: inout PartReader
    ) async throws -> Made {
        let bucket = request.bucket.description
        let id = try await client.createUpload(
            bucket,
            request.key,
            options: options(request),
            checksum: .crc64nvme,
            checksumType: .fullObject
        )
        do {
            let parts = try await sendParts(request, uploadID: id, first: first, reader: &reader)
            try check(request, digest: reader.digest, size: reader.size)
            let made = try await client.completeUpload(
                bucket,
                request.key,
                uploadID: id,
                parts: parts,
                checksum: reader.checksum,
                options: options(request)
            )
            return Made(entityTag: made.entityTag, versionID: made.versionID)
        } catch {
            let (client, key) = (client, request.key)
            // In a task of its own: this one may be cancelled.
            await Task { try? await client.abortUpload(bucket, key, uploadID: id) }.value
            throw error
        }
    }

    private func sendParts(
        _ request: UploadRequest,
        uploadID: String,
        first: [UInt8],
        reader: inout PartReader
    ) async throws -> [S3UploadedPart] {
        try await withThrowingTaskGroup(of: S3UploadedPart.self) { group in
            var parts: [S3UploadedPart] = []
            var bytes = first
            var number = 1
            var runningCount = 0
            while !bytes.isEmpty {
                guard number <= Limits.partCountMax else {
                    throw StoreError(
                        .entityTooLarge,
                        "The object has more than \(Limits.partCountMax) parts."
                    )
                }
                if runningCount == Self.concurrencyMax, let part = try await group.next() {
                    parts.append(part)
                    runningCount -= 1
                }
                let (piece, place) = (bytes, number)
                group.addTask { [self] in
                    try await part(piece, place, request.bucket.description, request.key, uploadID)
                }
                runningCount += 1
                number += 1
                bytes = try await reader.next(upTo: Self.partSize(number, of: request.expectedSize))
            }
            while let part = try await group.next() { parts.append(part) }
            return parts.sorted { $0.number < $1.number }
        }
    }

    @inline(never)
    private func part(
        _ bytes: [UInt8],
        _ number: Int,
        _ bucket: String,
        _ key: ObjectKey,
        _ uploadID: String
    ) async throws -> S3UploadedPart {
        let checksum = Checksummer.checksum(.crc64nvme, of: bytes)
        return try await retry.run(budget: budget) {
            try await client.uploadPart(
                bucket,
                key,
                uploadID: uploadID,
                number: number,
                .bytes(bytes),
                integrity: S3Integrity(checksum: checksum)
            )
        }
    }

    private func options(_ request: UploadRequest) -> S3ObjectOptions {
        var options = S3ObjectOptions()
        options.contentType = request.contentType
        options.metadata = request.userMetadata
        options.tags = request.tags.map { TagSet.Tag(key: $0.name, value: $0.value) }
        options.ifMatch = request.ifMatch
        options.ifNoneMatch = request.onlyIfAbsent ? "*" : nil
        return options
    }

    private func check(_ request: UploadRequest, digest: Digest, size: UInt64) throws {
        if let expected = request.expectedSize, expected != size {
            throw CommandError(
                .fileChanged,
                "The source had \(expected) bytes and gave \(size); nothing was stored."
            )
        }
        guard let expected = request.expectedSHA256, expected != digest else { return }
        throw StoreError(
            .badDigest,
            "The bytes have the SHA-256 \(digest), and \(expected) was expected; nothing was stored."
        )
    }

    /// Parts are 8 MiB, and larger where the object would have too many: with an unknown size the later ones are.
    static func partSize(_ number: Int, of size: UInt64?) -> Int {
        let usual = 8 << 20
        if let size {
            let needed = Int(clamping: size / 9000 + 1)
            return max(usual, (needed + (1 << 20) - 1) & ~((1 << 20) - 1))
        }
        return number <= 1000 ? usual : number <= 5000 ? usual * 4 : usual * 16
    }
}

/// Cuts a source into parts and keeps what is known of the whole.
private struct PartReader: ~Copyable {
    private let source: any ByteSource
    private var rest: [UInt8] = []
    private var hasher = SHA256Hasher()
    private var checksummer = Checksummer(.crc64nvme)
    private(set) var size: UInt64 = 0
    private var isSourceDone = false

    init(source: any ByteSource) { self.source = source }

    var isAtEnd: Bool { isSourceDone && rest.isEmpty }

    /// The next part: shorter than asked for only at the end, and then perhaps empty.
    mutating func next(upTo count: Int) async throws -> [UInt8] {
        // One byte more than the part, so that the end is known with the last one.
        while !isSourceDone, rest.count <= count {
            try Task.checkCancellation()
            guard let piece = try await source.next() else {
                isSourceDone = true
                break
            }
            piece.withUnsafeBytes {
                hasher.update($0)
                checksummer.update($0)
            }
            size += UInt64(piece.count)
            rest += piece
        }
        guard rest.count > count else {
            defer { rest = [] }
            return rest
        }
        let part = [UInt8](rest[..<count])
        rest.removeFirst(count)
        return part
    }

    var digest: Digest { hasher.current() }

    /// Of all that was read. Asked once, at the end.
    var checksum: Checksum {
        mutating get {
            var last = Checksummer(.crc64nvme)
            swap(&last, &checksummer)
            return last.finish()
        }
    }
}
