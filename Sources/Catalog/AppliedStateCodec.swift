package import StoreModel

// Applied state: 1 format (1), 48 position, 16 state hash, 8 last sequence, 8 last time (ms),
// 1 flag, log set if 1 (as in a commit batch), 1 count (0…2), snapshot notes (as in a commit batch).

/// The byte form of `AppliedState`, in the index and at the head of snapshots.
package enum AppliedStateCodec {
    private static let format: UInt8 = 1
    package static let snapshotCountMax = 2

    package static func encode(_ state: AppliedState) -> [UInt8] {
        var writer = ByteWriter(capacity: 160)
        writer.write(format)
        writer.write(state.position)
        writer.write(state.stateHash)
        writer.write(state.lastVersionSequence)
        writer.write(state.lastTimestamp.milliseconds)
        writer.write(UInt8(state.logSet == nil ? 0 : 1))
        if let note = state.logSet { writer.write(note) }
        let snapshots = state.snapshots.prefix(snapshotCountMax)
        writer.write(UInt8(snapshots.count))
        for note in snapshots { writer.write(note) }
        return writer.bytes
    }

    package static func decode(_ bytes: [UInt8]) throws(ByteReader.Failure) -> AppliedState {
        var reader = ByteReader(bytes)
        let found = try reader.read(UInt8.self)
        guard found == format else { throw ByteReader.Failure("an applied state of format \(found)") }
        let position = try reader.readPosition()
        let stateHash = try reader.readStateHash()
        let sequence = try reader.readOrdinal()
        let time = Timestamp(milliseconds: try reader.read(Int64.self))
        let flag = try reader.read(UInt8.self)
        guard flag <= 1 else { throw ByteReader.Failure("unknown flag \(flag)") }
        let logSet = flag == 1 ? try reader.readLogSet() : nil
        let count = try reader.read(UInt8.self)
        guard count <= snapshotCountMax else { throw ByteReader.Failure("\(count) snapshots") }
        var snapshots: [SnapshotNote] = []
        for _ in 0..<count { snapshots.append(try reader.readSnapshotNote()) }
        try reader.finish()
        return AppliedState(
            position: position,
            stateHash: stateHash,
            lastVersionSequence: sequence,
            lastTimestamp: time,
            logSet: logSet,
            snapshots: snapshots
        )
    }
}
