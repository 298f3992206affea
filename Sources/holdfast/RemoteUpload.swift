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
/// 3. An upload that fails is aborted, also when the command is stopped. One that was killed, or could not be aborted, is
///    gone on with when the same command runs again (`PendingUpload`): a part is not sent again when the server has one
///    of that size and MD5. Not where the server would encrypt a new upload in another way by now: then it begins anew.
/// 4. In memory are at most `concurrencyMax` parts and the one that is being read.
struct RemoteUpload {
    static let concurrencyMax = 3

    struct Made {
        let entityTag: String
        let versionID: String?
        var resumedBytes: UInt64 = 0
    }

    private struct SentPart: Sendable {
        let part: S3UploadedPart
        /// An earlier run has sent it.
        let wasThere: Bool
    }

    let client: S3Client
    let endpoint: String
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
        let digest = SHA256Hasher.hash(bytes)
        try check(request, digest: digest, size: UInt64(bytes.count))
        let result = try await client.putObject(
            request.bucket.description,
            request.key,
            .bytes(bytes, sha256: digest),
            options: options(request),
            integrity: S3Integrity(
                checksum: Checksummer.checksum(.crc64nvme, of: bytes)
            )
        )
        await endEarlier(request)
        return Made(entityTag: result.entityTag, versionID: result.versionID)
    }

    private func putParts(
        _ request: UploadRequest,
        first: [UInt8],
        reader: inout PartReader
    ) async throws -> Made {
        let bucket = request.bucket.description
        let note = await pendingUpload(request)
        let begun = try await begin(request, note)
        let id = begun.upload.uploadID
        do {
            let sent = try await sendParts(
                request,
                uploadID: id,
                begun.parts,
                first: first,
                reader: &reader
            )
            try check(request, digest: reader.digest, size: reader.size)
            let made = try await client.completeUpload(
                bucket,
                request.key,
                uploadID: id,
                parts: sent.map(\.part),
                checksum: reader.checksum,
                options: options(request)
            )
            await note?.keep(nil, leftovers: begun.leftovers)
            return Made(
                entityTag: made.entityTag,
                versionID: made.versionID,
                resumedBytes: sent.reduce(0) { $0 + ($1.wasThere ? $1.part.size : 0) }
            )
        } catch {
            // In a task of its own: this one may be cancelled.
            await Task { [self] in
                let isEnded = await end([id], request).isEmpty
                await note?.keep(isEnded ? nil : begun.upload, leftovers: begun.leftovers)
            }.value
            throw error
        }
    }

    // MARK: Going on

    /// Only of a source whose size is known: it decides where parts end.
    private func pendingUpload(_ request: UploadRequest) async -> PendingUpload? {
        guard let size = request.expectedSize else { return nil }
        return await pendingUpload(request, size: size, creates: true)
    }

    private func pendingUpload(
        _ request: UploadRequest,
        size: UInt64,
        creates: Bool
    ) async -> PendingUpload? {
        guard let accessKey = try? await client.accessKey() else { return nil }
        return await PendingUpload.open(
            PendingUpload.Terms(
                endpoint: endpoint,
                accessKey: accessKey,
                bucket: request.bucket.description,
                key: request.key.description,
                size: size,
                partSize: Self.partSize(1, of: size),
                contentType: request.contentType,
                metadata: request.userMetadata.flatMap { [$0.name, $0.value] },
                tags: request.tags.flatMap { [$0.name, $0.value] }
            ),
            creates: creates
        )
    }

    /// The object was put whole. What an earlier run has left of a larger one is of no use any more.
    private func endEarlier(_ request: UploadRequest) async {
        let note = await pendingUpload(request, size: request.expectedSize ?? 0, creates: false)
        guard let note else { return }
        let left = await end(await note.earlier()?.uploadIDs ?? [], request)
        await note.keep(nil, leftovers: left)
    }

    /// The upload to send parts of.
    private struct Begun: Sendable {
        var upload: PendingUpload.Upload
        /// Those that the server has.
        var parts: [Int: S3UploadedPart] = [:]
        /// Uploads that are of no use, and could not be ended.
        var leftovers: [String] = []
    }

    /// An upload is begun in any case: no other call tells everybody who may put how the server would encrypt it now. It is
    /// ended again when the earlier one is gone on with.
    private func begin(_ request: UploadRequest, _ note: PendingUpload?) async throws -> Begun {
        let earlier = await note?.earlier()
        var parts: [Int: S3UploadedPart]?
        if let old = earlier?.upload, request.resumes, earlier?.isSame == true {
            parts = try await self.parts(of: old.uploadID, request)
        }
        let new: PendingUpload.Upload
        do {
            new = try await create(request)
        } catch {
            // What an earlier run has left can still be gone on with.
            if earlier == nil { await note?.keep(nil, leftovers: []) }
            throw error
        }
        var begun = Begun(upload: new)
        if let parts, let old = earlier?.upload, old.encryption == new.encryption {
            begun = Begun(upload: old, parts: parts)
        }
        let uploadIDs = (earlier?.uploadIDs ?? []) + [new.uploadID]
        begun.leftovers = uploadIDs.filter { $0 != begun.upload.uploadID }
        // Noted before any of them is ended: who is killed here leaves all of them.
        await note?.keep(begun.upload, leftovers: begun.leftovers)
        guard !begun.leftovers.isEmpty else { return begun }
        begun.leftovers = await end(begun.leftovers, request)
        await note?.keep(begun.upload, leftovers: begun.leftovers)
        return begun
    }

    @inline(never)
    private func create(_ request: UploadRequest) async throws -> PendingUpload.Upload {
        let begun = try await client.createUpload(
            request.bucket.description,
            request.key,
            options: options(request),
            checksum: .crc64nvme,
            checksumType: .fullObject
        )
        return PendingUpload.Upload(uploadID: begun.uploadID, encryption: begun.encryption)
    }

    /// Any other 404 says nothing about the upload: it may be a proxy's.
    private static let ended = "NoSuchUpload"

    /// - Returns: nil when the upload is no more, or its parts may not be listed.
    @inline(never)
    private func parts(of uploadID: String, _ request: UploadRequest) async throws -> [Int: S3UploadedPart]? {
        do {
            let parts = try await retry.run(budget: budget) {
                try await client.listParts(request.bucket.description, request.key, uploadID: uploadID)
            }
            return Dictionary(parts.map { ($0.number, $0) }, uniquingKeysWith: { _, last in last })
        } catch let error as S3ClientError where error.code == Self.ended || error.isRefused {
            return nil
        }
    }

    /// - Returns: those that may still be there.
    private func end(_ uploadIDs: [String], _ request: UploadRequest) async -> [String] {
        var left: [String] = []
        for uploadID in uploadIDs {
            do {
                try await client.abortUpload(request.bucket.description, request.key, uploadID: uploadID)
            } catch let error as S3ClientError where error.code == Self.ended {
                continue
            } catch {
                left.append(uploadID)
            }
        }
        return left
    }

    private func sendParts(
        _ request: UploadRequest,
        uploadID: String,
        _ known: [Int: S3UploadedPart],
        first: [UInt8],
        reader: inout PartReader
    ) async throws -> [SentPart] {
        try await withThrowingTaskGroup(of: SentPart.self) { group in
            var parts: [SentPart] = []
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
                let (piece, place, there) = (bytes, number, known[number])
                group.addTask { [self] in
                    let checksum = Checksummer.checksum(.crc64nvme, of: piece)
                    if let same = there.flatMap({ Self.same($0, as: piece, checksum) }) {
                        return SentPart(part: same, wasThere: true)
                    }
                    let made = try await part(piece, checksum, place, request, uploadID)
                    return SentPart(part: made, wasThere: false)
                }
                runningCount += 1
                number += 1
                bytes = try await reader.next(upTo: Self.partSize(number, of: request.expectedSize))
            }
            while let part = try await group.next() { parts.append(part) }
            return parts.sorted { $0.part.number < $1.part.number }
        }
    }

    /// The part that the server has, when it is these bytes. The tag of a part is the MD5 of its bytes, but for some kinds of
    /// encryption: such a part is sent again.
    private static func same(
        _ there: S3UploadedPart,
        as bytes: [UInt8],
        _ checksum: Checksum
    ) -> S3UploadedPart? {
        guard there.size == UInt64(bytes.count), there.checksum == nil || there.checksum == checksum,
            there.entityTag.lowercased() == bytes.withUnsafeBytes({ MD5Hasher.hash($0) }).hex
        else { return nil }
        return S3UploadedPart(
            number: there.number,
            entityTag: there.entityTag,
            size: there.size,
            checksum: checksum
        )
    }

    @inline(never)
    private func part(
        _ bytes: [UInt8],
        _ checksum: Checksum,
        _ number: Int,
        _ request: UploadRequest,
        _ uploadID: String
    ) async throws -> S3UploadedPart {
        try await retry.run(budget: budget) {
            try await client.uploadPart(
                request.bucket.description,
                request.key,
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
