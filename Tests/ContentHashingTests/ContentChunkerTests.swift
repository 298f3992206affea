import ContentHashing
import StoreModel
import Testing

@Suite struct ContentChunkerTests {
    /// Small enough for quick tests, large enough that the four-lane path runs.
    private static let smallSizes = ContentChunker.Sizes(min: 4 << 10, target: 16 << 10, max: 64 << 10)

    @Test func theConstantsNeverChange() {
        let constants = ContentChunker.gearConstants
        var bytes = ByteWriter()
        for constant in constants { bytes.write(constant) }
        #expect(ContentChunker.version == 1)
        #expect(constants.count == 256)
        #expect(constants[0] == 0x4C6D_4F4D_C321_AB6B)
        #expect(constants[255] == 0x9EDF_9F89_F290_F142)
        #expect(
            SHA256Hasher.hash(bytes.bytes).hex
                == "61f42b7ce769d75ed03286540b19d0cdb47d21c291357106aa867e5c9d7a3856"
        )
    }

    @Test func theCutsNeverChange() {
        let lengths = chunkLengths(of: noise(count: 16 << 20, seed: 1), pieceSize: 1 << 20, sizes: .standard)
        #expect(
            lengths == [
                982_231, 954_674, 1_202_423, 896_062, 1_072_185, 635_057, 1_688_704, 1_126_647, 1_193_037,
                999_582,
                1_041_017, 986_135, 934_711, 1_015_779, 1_239_475, 809_497,
            ]
        )
    }

    @Test func cutsAreThoseOfTheRuleWrittenDownPlainly() {
        for seed in UInt64(1)...4 {
            let bytes = noise(count: 1 << 20, seed: seed)
            let expected = plainChunkLengths(of: bytes, min: 4 << 10, target: 16 << 10, max: 64 << 10)
            #expect(chunkLengths(of: bytes, pieceSize: bytes.count, sizes: Self.smallSizes) == expected)
        }
    }

    @Test(arguments: [1, 7, 63, 64, 65, 511, 512, 2048, 4095, 4096, 16_383, 65_537, 1 << 20])
    func piecesOfAnySizeGiveTheSameCuts(pieceSize: Int) {
        let bytes = noise(count: 512 << 10, seed: 9)
        let whole = chunkLengths(of: bytes, pieceSize: bytes.count, sizes: Self.smallSizes)
        #expect(chunkLengths(of: bytes, pieceSize: pieceSize, sizes: Self.smallSizes) == whole)
    }

    @Test func bytesInsertedInFrontLeaveMostChunksAsTheyWere() {
        let original = noise(count: 16 << 20, seed: 3)
        let before = Set(chunkDigests(of: original))
        let after = chunkDigests(of: noise(count: 1001, seed: 4) + original)
        let shared = after.count { before.contains($0) }
        #expect(before.count > 10)
        #expect(shared >= after.count - 3)
    }

    @Test func anEditInTheMiddleChangesOnlyTheChunksAroundIt() {
        var bytes = noise(count: 16 << 20, seed: 5)
        let before = Set(chunkDigests(of: bytes))
        bytes.replaceSubrange((8 << 20)..<(8 << 20) + 10, with: noise(count: 25, seed: 6))
        let after = chunkDigests(of: bytes)
        #expect(after.count { !before.contains($0) } <= 3)
    }

    @Test func sizesStayWithinTheirBoundsAndNearTheTarget() {
        let lengths = chunkLengths(of: noise(count: 32 << 20, seed: 7), pieceSize: 1 << 20, sizes: .standard)
        #expect(lengths.dropLast().allSatisfy { (Limits.chunkSizeMin...Limits.chunkSizeMax).contains($0) })
        let mean = lengths.reduce(0, +) / lengths.count
        #expect((Limits.chunkSizeTarget * 8 / 10...Limits.chunkSizeTarget * 12 / 10).contains(mean))
    }

    @Test func equalBytesAreCutAtTheMaximum() {
        let lengths = chunkLengths(
            of: [UInt8](repeating: 0, count: 9 << 20),
            pieceSize: 1 << 20,
            sizes: .standard
        )
        #expect(lengths == [4 << 20, 4 << 20, 1 << 20])
    }

    @Test func nothingIsCutOutOfNoBytes() {
        var chunker = ContentChunker()
        let end = UnsafeRawBufferPointer(start: nil, count: 0)
        #expect(chunker.endOfChunk(in: end) == nil)
    }
}

/// Lengths of the chunks of `bytes`, passed in piece by piece.
private func chunkLengths(of bytes: [UInt8], pieceSize: Int, sizes: ContentChunker.Sizes) -> [Int] {
    var chunker = ContentChunker(sizes)
    var lengths: [Int] = []
    var current = 0
    bytes.withUnsafeBytes { whole in
        for start in stride(from: 0, to: whole.count, by: pieceSize) {
            var rest = UnsafeRawBufferPointer(rebasing: whole[start..<min(start + pieceSize, whole.count)])
            while let end = chunker.endOfChunk(in: rest) {
                lengths.append(current + end)
                current = 0
                rest = UnsafeRawBufferPointer(rebasing: rest[end...])
            }
            current += rest.count
        }
    }
    if current > 0 { lengths.append(current) }
    return lengths
}

private func chunkDigests(of bytes: [UInt8]) -> [Digest] {
    var start = 0
    return chunkLengths(of: bytes, pieceSize: 1 << 20, sizes: .standard).map { length in
        defer { start += length }
        return SHA256Hasher.hash([UInt8](bytes[start..<start + length]))
    }
}

/// The rule as its definition reads: one byte at a time, the hash of the last 64 bytes computed afresh.
private func plainChunkLengths(of bytes: [UInt8], min: Int, target: Int, max: Int) -> [Int] {
    let constants = ContentChunker.gearConstants
    let normal = target / 16 * 13
    var lengths: [Int] = []
    var start = 0
    var hash: UInt64 = 0
    for end in 1...bytes.count {
        let length = end - start
        hash = hash << 1 &+ constants[Int(bytes[end - 1])]
        guard length >= min else { continue }
        let threshold = UInt64.max / UInt64(length < normal ? target * 4 : target / 4)
        if hash < threshold || length == max {
            lengths.append(length)
            start = end
        }
    }
    if start < bytes.count { lengths.append(bytes.count - start) }
    return lengths
}

/// Bytes that don't repeat, the same for the same seed on every machine.
private func noise(count: Int, seed: UInt64) -> [UInt8] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        let raw = UnsafeMutableRawBufferPointer(buffer)
        var offset = 0
        while offset < count {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            withUnsafeBytes(of: state.littleEndian) { word in
                let part = word.prefix(count - offset)
                UnsafeMutableRawBufferPointer(rebasing: raw[offset...]).copyBytes(from: part)
            }
            offset += 8
        }
        filled = count
    }
}
