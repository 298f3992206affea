import BlobVolume
import ContentHashing
import StoreModel
import Testing

@Suite struct CommitBatchTests {
    private let batch = CommitBatch(
        epoch: 3,
        predecessor: LogPosition(epoch: 2, sequence: 41, hash: SHA256Hasher.hash([7])),
        commitIndex: 40,
        stateHash: .init(high: 5, low: 6),
        timestamp: Timestamp(milliseconds: 1_700_000_000_123),
        body: [1, 2, 3, 4, 5]
    )

    @Test func aBatchSurvivesItsBinaryForm() throws {
        let copy = try CommitBatch(decoding: batch.encode())
        #expect(copy.position == batch.position)
        #expect(copy.position.sequence == 42)
        #expect(copy.predecessor == batch.predecessor)
        #expect(copy.commitIndex == 40)
        #expect(copy.stateHash == batch.stateHash)
        #expect(copy.timestamp == batch.timestamp)
        #expect(copy.body == batch.body)
        #expect(copy.position.hash == SHA256Hasher.hash(batch.encode()))
        #expect(batch.encode().count == batch.encodedByteCount)
    }

    @Test func anyChangedByteGivesAnErrorOrAnotherHash() {
        let bytes = batch.encode()
        for index in bytes.indices {
            var damaged = bytes
            damaged[index] ^= 0x10
            guard let decoded = try? CommitBatch(decoding: damaged) else { continue }
            #expect(decoded.position.hash != batch.position.hash, "byte \(index)")
        }
    }

    @Test func everyTruncatedFormIsRefused() {
        let bytes = batch.encode()
        for count in 0..<bytes.count {
            #expect(throws: ByteReader.Failure.self) { try CommitBatch(decoding: [UInt8](bytes[..<count])) }
        }
        #expect(throws: ByteReader.Failure.self) { try CommitBatch(decoding: bytes + [0]) }
    }
}
