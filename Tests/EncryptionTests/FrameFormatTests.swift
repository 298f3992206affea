import Encryption
import StoreModel
import StoreTestKit
import Testing

private let frame = FrameFormat.plaintextByteCountMax
private let storedFrame = FrameFormat.storedByteCountMax

@Suite struct FrameFormatTests {
    private let random = SeededRandom(seed: 3)

    private func cipher(partNumber: UInt16, _ dataKey: EncryptionKey? = nil) -> SegmentCipher {
        let dataKey = dataKey ?? EncryptionKey(from: random)
        return partNumber == 0 ? .whole(dataKey) : .newPart(partNumber, dataKey, random: random)
    }

    @Test(
        arguments: [0, 3] as [UInt16],
        [
            0, 1, 15, 16, frame - 17, frame - 16, frame - 15, frame - 1, frame, frame + 1, 2 * frame,
            3 * frame + 5,
        ]
    )
    func framesSurviveTheirStoredForm(partNumber: UInt16, count: Int) throws {
        let dataKey = EncryptionKey(from: random)
        let cipher = cipher(partNumber: partNumber, dataKey)
        let plaintext = random.bytes(count: count)
        let layout = SegmentLayout(partNumber: partNumber, size: UInt64(count))
        let stored = cipher.seal(plaintext, firstFrame: 0, isEnd: true)
        #expect(UInt64(stored.count) == layout.storedSize)
        #expect(UInt64((stored.count + storedFrame - 1) / storedFrame) == layout.frameCount)
        guard count > 0 else { return }
        #expect(try cipher.open(stored, firstFrame: 0, frameCount: layout.frameCount) == plaintext)
        guard partNumber > 0 else { return }
        let again = try SegmentCipher.part(partNumber, dataKey, stored: stored)
        #expect(try again.open(stored, firstFrame: 0, frameCount: layout.frameCount) == plaintext)
    }

    @Test(arguments: [0, 3] as [UInt16])
    func aBodySealedInChunksIsTheSameAsSealedAtOnce(partNumber: UInt16) {
        let cipher = cipher(partNumber: partNumber)
        let plaintext = random.bytes(count: 2 * FrameFormat.framesPerChunk * frame + 100)
        var stored: [UInt8] = []
        var rest = plaintext[...]
        var index = 0
        while !rest.isEmpty {
            let chunk = [UInt8](rest.prefix(SegmentLayout.chunkSize(at: index, partNumber: partNumber)))
            rest = rest.dropFirst(chunk.count)
            let sealed = cipher.seal(
                chunk,
                firstFrame: UInt64(index * FrameFormat.framesPerChunk),
                isEnd: rest.isEmpty
            )
            if !rest.isEmpty { #expect(sealed.count == 1 << 20) }
            stored += sealed
            index += 1
        }
        #expect(stored == cipher.seal(plaintext, firstFrame: 0, isEnd: true))
    }

    @Test(arguments: [0, 1] as [UInt16])
    func framesThatWereMovedCutOrChangedDoNotOpen(partNumber: UInt16) throws {
        let dataKey = EncryptionKey(from: random)
        let cipher = cipher(partNumber: partNumber, dataKey)
        let plaintext = random.bytes(count: 2 * frame + 10)
        let stored = cipher.seal(plaintext, firstFrame: 0, isEnd: true)
        let frames = [0..<storedFrame, storedFrame..<2 * storedFrame, 2 * storedFrame..<stored.count].map {
            [UInt8](stored[$0])
        }
        #expect(try cipher.open(frames[1], firstFrame: 1, frameCount: 3).count == frame)
        #expect(code { try cipher.open(frames[1], firstFrame: 0, frameCount: 3) } == .notAuthentic)
        #expect(code { try cipher.open(frames[2], firstFrame: 1, frameCount: 3) } == .notAuthentic)
        // As if the segment had ended earlier, or went on.
        #expect(
            code { try cipher.open(frames[0] + frames[1], firstFrame: 0, frameCount: 2) } == .notAuthentic
        )
        #expect(code { try cipher.open(frames[2], firstFrame: 2, frameCount: 4) } == .notAuthentic)
        #expect(code { try cipher.open(stored, firstFrame: 0, frameCount: 2) } == .malformed)
        #expect(code { try cipher.open(stored, firstFrame: 3, frameCount: 3) } == .malformed)
        let cut = [UInt8](stored.dropLast())
        #expect(code { try cipher.open(cut, firstFrame: 0, frameCount: 3) } == .notAuthentic)
        for index in [16, storedFrame - 17, storedFrame - 1, storedFrame, stored.count - 1] {
            var changed = stored
            changed[index] ^= 0x80
            #expect(code { try cipher.open(changed, firstFrame: 0, frameCount: 3) } == .notAuthentic)
        }
        for count in 0...32 {
            #expect(
                code { try cipher.open([UInt8](stored.prefix(count)), firstFrame: 0, frameCount: 1) } != nil
            )
        }
        let other = self.cipher(partNumber: partNumber)
        #expect(code { try other.open(stored, firstFrame: 0, frameCount: 3) } == .notAuthentic)
    }

    @Test func aPartThatIsSealedAgainGetsAnotherKey() throws {
        let dataKey = EncryptionKey(from: random)
        let plaintext = random.bytes(count: 1000)
        let ciphers = [1, 1, 2, 0].map { cipher(partNumber: $0, dataKey) }
        #expect(Set(ciphers.map(\.tag)).count == ciphers.count)
        let sealed = ciphers.map { [UInt8]($0.seal(plaintext, firstFrame: 0, isEnd: true).suffix(1016)) }
        #expect(Set(sealed).count == sealed.count)
        #expect(code { try SegmentCipher.part(1, dataKey, stored: [1, 2, 3]) } == .malformed)
        let stored = ciphers[0].seal(plaintext, firstFrame: 0, isEnd: true)
        let misplaced = try SegmentCipher.part(2, dataKey, stored: stored)
        #expect(code { try misplaced.open(stored, firstFrame: 0, frameCount: 1) } == .notAuthentic)
    }

    @Test(arguments: [0, 9] as [UInt16])
    func theFramesOfARangeHoldExactlyTheRange(partNumber: UInt16) throws {
        let cipher = cipher(partNumber: partNumber)
        let plaintext = random.bytes(count: 3 * frame + 77)
        let stored = cipher.seal(plaintext, firstFrame: 0, isEnd: true)
        let layout = SegmentLayout(partNumber: partNumber, size: UInt64(plaintext.count))
        let edges = [0, frame - 16, frame, 2 * frame - 16, 2 * frame, 3 * frame, plaintext.count]
            .flatMap { [$0 - 1, $0, $0 + 1] }.filter { (0...plaintext.count).contains($0) }
        for lower in edges {
            for upper in edges where upper > lower {
                let range = layout.frames(of: UInt64(lower)..<UInt64(upper))
                let opened = try cipher.open(
                    [UInt8](stored[Int(range.stored.lowerBound)..<Int(range.stored.upperBound)]),
                    firstFrame: range.frames.lowerBound,
                    frameCount: layout.frameCount
                )
                let read = [UInt8](opened.dropFirst(range.skip).prefix(upper - lower))
                #expect(read == [UInt8](plaintext[lower..<upper]), "\(lower)..<\(upper)")
                #expect(opened.count - range.skip - read.count < frame, "no frame is read for nothing")
            }
        }
    }
}

@Suite struct ObjectEncryptionTests {
    private let random = SeededRandom(seed: 5)

    @Test func anEncryptionSurvivesItsBytes() throws {
        let ring = MasterKeyRing(from: random)
        let dataKey = EncryptionKey(from: random)
        let clientKey = EncryptionKey(from: random)
        for var encryption in [
            ObjectEncryption(sealing: dataKey, under: ring, isInParts: true, random: random),
            ObjectEncryption(sealing: dataKey, under: clientKey, isInParts: false, random: random),
        ] {
            encryption.storedSize = 1 << 40 + 5
            let read = try ObjectEncryption(decoding: encryption.encoded())
            #expect(read == encryption)
            switch read.sort {
            case .storeKey:
                #expect(try read.dataKey(with: ring) == dataKey)
                #expect(code { try read.dataKey(with: clientKey) } == .wrongKey)
            case .clientKey:
                #expect(try read.dataKey(with: clientKey) == dataKey)
                #expect(code { try read.dataKey(with: EncryptionKey(from: random)) } == .wrongKey)
                #expect(code { try read.dataKey(with: ring) } == .wrongKey)
            }
        }
    }

    @Test func hostileBytesGiveAnErrorNotATrap() {
        let key = EncryptionKey(from: random)
        let bytes = ObjectEncryption(sealing: key, under: key, isInParts: false, random: random).encoded()
        for count in 0..<bytes.count {
            #expect(code { try ObjectEncryption(decoding: [UInt8](bytes.prefix(count))) } != nil)
        }
        #expect(code { try ObjectEncryption(decoding: bytes + [0]) } == .malformed)
        for index in bytes.indices {
            var changed = bytes
            changed[index] = 0xFF
            _ = try? ObjectEncryption(decoding: changed)
        }
        for _ in 0..<1000 {
            _ = try? ObjectEncryption(
                decoding: [1, UInt8(truncatingIfNeeded: random.next())] + random.bytes(count: 120)
            )
        }
    }
}
