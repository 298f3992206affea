internal import Catalog
internal import ContentHashing
internal import StoreModel

// The bytes on their way: whole when they fit one part, else in parts that a later attempt goes on with.
extension MirrorTransfer {
    func upload(_ row: VersionRow, _ task: MirrorTask, _ key: String) async throws -> MirrorReceipt {
        guard try !store.needsClientKey(row) else {
            throw MirrorRefusal(
                message:
                    "The object is encrypted with a key of its client's (SSE-C), without which it can't be read."
            )
        }
        let partSize = settings.partSize(for: row.size)
        guard row.size > partSize else { return try await uploadWhole(row, key) }
        let cut = try await sourceCut(of: row) ?? MirrorCut(partSize: partSize)
        return try await uploadInParts(row, task, key, cut)
    }

    private func uploadWhole(_ row: VersionRow, _ key: String) async throws -> MirrorReceipt {
        try await memory.with(max(Int(row.size), 64 << 10)) {
            let bytes =
                row.size == 0 ? [] : try await store.bytes(of: row, ByteRange(wholeOf: row.size))
            let body = MirrorBody(hashing: bytes)
            try check(body.sha256, of: row)
            try await pace.request()
            try await pace.bytes(bytes.count)
            let properties = MirrorMetadata.properties(of: row, sha256: body.sha256)
            let receipt = try await backend.put(key, body, properties)
            try await verify(receipt, row, body.md5, key)
            return receipt
        }
    }

    private func check(_ sha256: Digest, of row: VersionRow) throws(StoreError) {
        guard let known = row.sha256, known != sha256 else { return }
        throw StoreError(
            .storeDamaged,
            "The bytes of version \(row.id) have the SHA-256 \(sha256), not \(known) as when it was put."
        )
    }

    private func verify(_ receipt: MirrorReceipt, _ row: VersionRow, _ md5: MD5Digest, _ key: String)
        async throws
    {
        if settings.etagIsMD5, Self.isMD5(receipt.etag) {
            guard receipt.etag == md5.hex else {
                throw MirrorFailure(
                    .mismatch,
                    "It answered the ETag \(receipt.etag) for bytes with the MD5 \(md5.hex)."
                )
            }
            guard proof.isMissing else { return }
        }
        try await verifyKept(receipt, row, key)
    }

    /// For ETags that say nothing about the bytes; each request had a checksum that the backend has compared.
    private func verifyKept(_ receipt: MirrorReceipt, _ row: VersionRow, _ key: String) async throws {
        try await pace.request()
        guard let head = try await backend.head(key, version: keepsVersions ? receipt.versionID : nil) else {
            throw MirrorFailure(.mismatch, "The object isn't there after its upload.")
        }
        guard head.size == row.size else {
            throw MirrorFailure(.mismatch, "It has \(head.size) bytes after an upload of \(row.size).")
        }
        guard let kept = head.properties.holdfastVersion else {
            throw MirrorFailure(
                .unsuited,
                "It did not keep the object's metadata (x-amz-meta-\(MirrorMetadata.version)): what it has would not be known again."
            )
        }
        guard kept == row.id else {
            throw MirrorFailure(.mismatch, "It has version \(kept) after an upload of \(row.id).")
        }
        proof.give()
    }

    // MARK: In parts

    /// The parts that the object came in, when it can go on in them.
    private func sourceCut(of row: VersionRow) async throws -> MirrorCut? {
        // The ETags of encrypted objects are to say nothing of their plaintext: what hashes to them is cut anew.
        guard row.attributes.encryption == nil else { return nil }
        do {
            return try await store.parts(of: row).flatMap { MirrorCut(source: $0, size: row.size, settings) }
        } catch let error as StoreError where error.code != .cancelled {
            // The list of the parts is lost, not the bytes: they can be cut anew.
            return nil
        }
    }

    private func uploadInParts(_ row: VersionRow, _ task: MirrorTask, _ key: String, _ cut: MirrorCut)
        async throws
        -> MirrorReceipt
    {
        let (upload, present) = try await openUpload(row, task, key, cut.partSize)
        // An earlier attempt may have cut it otherwise.
        let md5s = upload.partSize == cut.partSize ? cut.md5s : []
        let count = Int((row.size + upload.partSize - 1) / upload.partSize)
        var parts: [MirrorPart?] = Array(repeating: nil, count: count)
        try await withThrowingTaskGroup(of: MirrorPart.self) { group in
            var next = 1
            func start() {
                guard next <= count else { return }
                let number = next
                next += 1
                group.addTask {
                    let known = md5s.isEmpty ? nil : md5s[number - 1]
                    return try await self.sendPart(number, of: row, upload, key, known, present[number])
                }
            }
            for _ in 0..<Self.partsInFlightMax { start() }
            while let part = try await group.next() {
                parts[part.number - 1] = part
                start()
            }
        }
        try await pace.request()
        let sent = parts.compactMap { $0 }
        let receipt = try await backend.complete(key, upload: upload.uploadID, sent)
        // Each part's ETag was compared with what was sent; that of the whole says that the backend has put these together.
        if settings.etagIsMD5, receipt.etag == Self.etag(of: sent), !proof.isMissing { return receipt }
        try await verifyKept(receipt, row, key)
        return receipt
    }

    private func sendPart(
        _ number: Int,
        of row: VersionRow,
        _ upload: MirrorUpload,
        _ key: String,
        _ md5: MD5Digest?,
        _ present: MirrorPart?
    ) async throws -> MirrorPart {
        let offset = UInt64(number - 1) * upload.partSize
        let range = try ByteRange(offset: offset, length: upload.partSize, of: row.size)
        func isThere(_ md5: MD5Digest) -> Bool { present?.size == range.length && present?.etag == md5.hex }
        if let present, let md5, isThere(md5) { return present }
        return try await memory.with(Int(range.length)) {
            let bytes = try await store.bytes(of: row, range)
            let body = MirrorBody(hashing: bytes, md5: md5)
            if let present, isThere(body.md5) { return present }
            try await pace.request()
            try await pace.bytes(bytes.count)
            let part = try await backend.putPart(key, upload: upload.uploadID, number: number, body)
            guard !settings.etagIsMD5 || !Self.isMD5(part.etag) || part.etag == body.md5.hex else {
                throw MirrorFailure(
                    .mismatch,
                    "It answered the ETag \(part.etag) for part \(number) with the MD5 \(body.md5.hex)."
                )
            }
            return part
        }
    }

    /// What S3 makes of the ETags of parts.
    /// - Returns: nil when one of them is no MD5.
    private static func etag(of parts: [MirrorPart]) -> String? {
        let md5s = parts.compactMap { MD5Digest(hex: $0.etag) }
        return md5s.count == parts.count ? MD5Digest.etag(ofParts: md5s) : nil
    }

    /// The upload that an earlier attempt has begun, with the parts that are there; or a new one, noted before its first
    /// part is sent.
    private func openUpload(_ row: VersionRow, _ task: MirrorTask, _ key: String, _ partSize: UInt64)
        async throws -> (
            MirrorUpload, [Int: MirrorPart]
        )
    {
        if let known = try await MirrorUpload.load(id, task.sequence, from: store) {
            if known.version == row.id {
                do {
                    try await pace.request()
                    let parts = try await backend.parts(key, upload: known.uploadID)
                    return (known, Dictionary(parts.map { ($0.number, $0) }, uniquingKeysWith: { $1 }))
                } catch let failure as MirrorFailure where failure.kind == .noUpload {
                    // It was ended or thrown away there: begin again.
                }
            } else {
                try await backend.abort(key, upload: known.uploadID)
            }
        }
        let sha256 = try await sha256(of: row)
        try await pace.request()
        let uploadID = try await backend.startUpload(key, MirrorMetadata.properties(of: row, sha256: sha256))
        let upload = MirrorUpload(uploadID: uploadID, partSize: partSize, version: row.id)
        try await store.write([upload.creation(id, task.sequence)])
        return (upload, [:])
    }

    /// Of an object that was put in parts, or is encrypted, it may not be known yet.
    private func sha256(of row: VersionRow) async throws -> Digest {
        if let known = row.sha256 { return known }
        return try await searches.with(1) {
            try await store.sha256(of: row, isHurried: { [pace] in pace.isAwaited }) {
                [pace] count, mayWait in
                try await pace.read(count, mayWait: mayWait)
            }
        }
    }
}

extension MirrorStore {
    func document(_ space: DocumentSpace, _ key: [UInt8]) async throws -> DocumentRow? {
        try await read { reader in try reader.document(space, key) }
    }
}
