package import StoreModel

/// The key of one segment: seals its chunks, opens runs of its frames.
package struct SegmentCipher: Sendable {
    /// 0 for an object that is put whole.
    package let partNumber: UInt16
    /// Empty for an object that is put whole.
    package let salt: [UInt8]
    private let key: EncryptionKey

    /// The key of an object that is put whole. The data key is new and seals nothing else.
    package static func whole(_ dataKey: EncryptionKey) -> SegmentCipher {
        SegmentCipher(dataKey, partNumber: 0, salt: [])
    }

    /// The key of an upload of a part that is about to begin.
    package static func newPart(
        _ partNumber: UInt16,
        _ dataKey: EncryptionKey,
        random: any RandomSource
    ) -> SegmentCipher {
        precondition(partNumber > 0, "Parts are numbered from 1.")
        return SegmentCipher(
            dataKey,
            partNumber: partNumber,
            salt: random.bytes(count: FrameFormat.saltByteCount)
        )
    }

    /// The key of a part that is stored.
    /// - Parameter stored: how the segment begins; at least the salt.
    package static func part(
        _ partNumber: UInt16,
        _ dataKey: EncryptionKey,
        stored: [UInt8]
    ) throws(EncryptionError) -> SegmentCipher {
        guard partNumber > 0, stored.count >= FrameFormat.saltByteCount else {
            throw EncryptionError(.malformed, "An encrypted part is cut off.")
        }
        let salt = [UInt8](stored.prefix(FrameFormat.saltByteCount))
        return SegmentCipher(dataKey, partNumber: partNumber, salt: salt)
    }

    private init(_ dataKey: EncryptionKey, partNumber: UInt16, salt: [UInt8]) {
        self.partNumber = partNumber
        self.salt = salt
        key = HKDFSHA256.key(from: dataKey, salt: salt, info: "holdfast segment 1 part \(partNumber)")
    }

    /// 16 bytes that follow from the key alone: they tell segments apart without telling anything about what
    /// is in them. They stand for the MD5 in the ETag where that may not be shown.
    package var tag: [UInt8] {
        key.withUnsafeBytes {
            HKDFSHA256.derive(from: $0, salt: [], info: [UInt8]("holdfast entity tag".utf8), byteCount: 16)
        }
    }

    /// Seals a stretch of the segment.
    /// - Parameters:
    ///   - firstFrame: the number of its first frame.
    ///   - isEnd: whether the segment ends with it. Otherwise it consists of whole frames.
    package func seal(_ plaintext: [UInt8], firstFrame: UInt64, isEnd: Bool) -> [UInt8] {
        guard !plaintext.isEmpty else { return [] }
        let size = FrameFormat.plaintextByteCountMax
        let prefix = firstFrame == 0 ? salt : []
        let frameCount = (prefix.count + plaintext.count + size - 1) / size
        precondition(
            isEnd || prefix.count + plaintext.count == frameCount * size,
            "Only the last frame of a segment is shorter."
        )
        let count = prefix.count + plaintext.count + frameCount * AESGCM.tagByteCount
        return [UInt8](unsafeUninitializedCapacity: count) { output, filled in
            var cipher = AESGCM.sealing(key)
            let output = UnsafeMutableRawBufferPointer(output)
            output.copyBytes(from: prefix)
            filled = prefix.count
            plaintext.withUnsafeBytes { plaintext in
                var offset = 0
                for index in 0..<frameCount {
                    let end = min((index + 1) * size - prefix.count, plaintext.count)
                    let isLast = isEnd && index == frameCount - 1
                    cipher.seal(
                        UnsafeRawBufferPointer(rebasing: plaintext[offset..<end]),
                        nonce: FrameFormat.nonce(frame: firstFrame + UInt64(index), isLast: isLast),
                        authenticating: [],
                        to: UnsafeMutableRawBufferPointer(rebasing: output[filled...])
                    )
                    filled += end - offset + AESGCM.tagByteCount
                    offset = end
                }
            }
        }
    }

    /// Opens frames that follow each other.
    /// - Parameters:
    ///   - stored: whole frames; with frame 0 of a part, its salt as well.
    ///   - frameCount: of the segment.
    /// - Throws: `EncryptionError` with `.notAuthentic`, or `.malformed` when these are no frames of the
    /// segment.
    package func open(
        _ stored: [UInt8],
        firstFrame: UInt64,
        frameCount: UInt64
    ) throws(EncryptionError) -> [UInt8] {
        let size = FrameFormat.storedByteCountMax
        let count = (stored.count + size - 1) / size
        let prefixCount = firstFrame == 0 ? salt.count : 0
        let plaintextCount = stored.count - prefixCount - count * AESGCM.tagByteCount
        guard firstFrame < frameCount, UInt64(count) <= frameCount - firstFrame, plaintextCount > 0 else {
            throw EncryptionError(.malformed, "An encrypted frame is cut off.")
        }
        var isAuthentic = true
        let plaintext = [UInt8](unsafeUninitializedCapacity: plaintextCount) { output, filled in
            var cipher = AESGCM.opening(key)
            let output = UnsafeMutableRawBufferPointer(output)
            stored.withUnsafeBytes { stored in
                var offset = prefixCount
                for index in 0..<count {
                    let end = min((index + 1) * size, stored.count)
                    let frame = firstFrame + UInt64(index)
                    isAuthentic =
                        end - offset > AESGCM.tagByteCount
                        && cipher.open(
                            UnsafeRawBufferPointer(rebasing: stored[offset..<end]),
                            nonce: FrameFormat.nonce(frame: frame, isLast: frame == frameCount - 1),
                            authenticating: [],
                            to: UnsafeMutableRawBufferPointer(rebasing: output[filled...])
                        )
                    guard isAuthentic else { return }
                    filled += end - offset - AESGCM.tagByteCount
                    offset = end
                }
            }
        }
        guard isAuthentic else {
            throw EncryptionError(.notAuthentic, "An encrypted frame is not what was written with this key.")
        }
        return plaintext
    }
}
