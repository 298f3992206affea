internal import StoreModel

/// Encrypted content: frames of 64 KiB that can be opened one by one, so that a range is read without the
/// rest.
///
/// A segment is what was encrypted in one go: an object that was put whole, or one part of a multipart
/// upload. Stored, it is a sequence of frames without anything in between:
///
///     whole object, every frame        part, first frame             part, other frames
///     offset  size                     offset  size                  as those of a whole object
///          0     n  ciphertext              0    16  salt
///          n    16  tag                    16     n  ciphertext
///                                        16+n    16  tag
///
/// Every frame but the last has 65,536 bytes, which is what the store's volumes have a checksum for: a frame
/// is read without reading a byte for nothing. So it holds 65,520 bytes of plaintext, the first one of a part
/// 65,504. The last frame is shorter and holds at least one. A segment without a byte has no frame.
///
/// 1. Each segment has a key of its own: HKDF-SHA256 of the object's data key, with the salt (none for a whole
///    object), and the info "holdfast segment 1 part " and the part's number, 0 for a whole object. A data key
///    seals one whole object or the parts of one upload, never both; a part that is uploaded a second time gets
///    another random salt. So no key ever seals two segments.
/// 2. The tag is that of AES-256-GCM. The nonce is the frame's number in its segment, from 0, in the last 8 of 12
///    bytes, big-endian; byte 3 is 1 for the last frame, the others are 0. So no nonce comes twice under one
///    key, frames can't change places, and a segment that was cut short doesn't open.
/// 3. What is stored is cut into chunks after every 16th frame, so chunks and frames end together.
package enum FrameFormat {
    package static let storedByteCountMax = 64 << 10
    package static let plaintextByteCountMax = storedByteCountMax - AESGCM.tagByteCount
    package static let framesPerChunk = 16
    package static let saltByteCount = 16

    static func nonce(frame: UInt64, isLast: Bool) -> [UInt8] {
        var nonce: [UInt8] = [0, 0, 0, isLast ? 1 : 0]
        withUnsafeBytes(of: frame.bigEndian) { nonce.append(contentsOf: $0) }
        return nonce
    }
}

/// A stretch of a segment's plaintext as the frames that hold it.
package struct FrameRange: Hashable, Sendable {
    package let frames: Range<UInt64>
    /// Where the frames are in what is stored for the segment.
    package let stored: Range<UInt64>
    /// Bytes of the first frame's plaintext before the stretch.
    package let skip: Int
}

/// What one segment looks like when it is stored; known from its size alone.
package struct SegmentLayout: Hashable, Sendable {
    /// 0 for an object that was put whole.
    package let partNumber: UInt16
    /// Bytes of plaintext.
    package let size: UInt64

    /// - Parameter size: at most `Limits.objectSizeMax`.
    package init(partNumber: UInt16, size: UInt64) {
        precondition(size <= Limits.objectSizeMax, "A segment is not larger than an object.")
        self.partNumber = partNumber
        self.size = size
    }

    /// The salt takes its room from the first frame, as if it were plaintext.
    private var saltSize: UInt64 { Self.saltSize(partNumber: partNumber) }

    private static func saltSize(partNumber: UInt16) -> UInt64 {
        partNumber == 0 ? 0 : UInt64(FrameFormat.saltByteCount)
    }

    package var frameCount: UInt64 {
        guard size > 0 else { return 0 }
        return (saltSize + size - 1) / UInt64(FrameFormat.plaintextByteCountMax) + 1
    }

    package var storedSize: UInt64 {
        size == 0 ? 0 : saltSize + size + frameCount * UInt64(AESGCM.tagByteCount)
    }

    /// Bytes of plaintext in a segment's chunk, from which it follows how a body is cut.
    package static func chunkSize(at index: Int, partNumber: UInt16) -> Int {
        let size = FrameFormat.framesPerChunk * FrameFormat.plaintextByteCountMax
        return index == 0 ? size - Int(saltSize(partNumber: partNumber)) : size
    }

    /// The frames that hold a range, which is not empty and lies within the segment.
    package func frames(of range: Range<UInt64>) -> FrameRange {
        precondition(!range.isEmpty && range.upperBound <= size, "A range of a segment lies in it.")
        let frameSize = UInt64(FrameFormat.plaintextByteCountMax)
        let first = (saltSize + range.lowerBound) / frameSize
        let end = (saltSize + range.upperBound - 1) / frameSize + 1
        let storedFrameSize = UInt64(FrameFormat.storedByteCountMax)
        // The first frame's plaintext begins after the salt, so it begins at 0 for whoever opens it.
        let start = first == 0 ? 0 : first * frameSize - saltSize
        return FrameRange(
            frames: first..<end,
            stored: first * storedFrameSize..<min(end * storedFrameSize, storedSize),
            skip: Int(range.lowerBound - start)
        )
    }
}
