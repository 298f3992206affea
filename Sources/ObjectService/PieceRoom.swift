/// Where a reader of an object has its pieces put: what is read and checked there is not copied once more to be sent.
package protocol PieceRoom: AnyObject {
    /// Lets `fill` write `count` bytes; they are in the room only when it answers that they are good.
    /// - Returns: what `fill` answered.
    func place(_ count: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Bool) -> Bool
}

/// A verified piece of an object.
package enum ObjectPiece: Sendable {
    case bytes([UInt8])
    /// So many bytes are in the room that was offered.
    case placed(Int)

    package var count: Int {
        switch self {
        case .bytes(let bytes): bytes.count
        case .placed(let count): count
        }
    }
}

/// Pieces of an object, one after the other.
protocol ChunkFeed: AnyObject {
    /// - Returns: nil at the end.
    func next(into room: any PieceRoom) async throws -> ObjectPiece?
}

/// A room for those who want pieces as arrays.
final class ArrayRoom: PieceRoom {
    private var bytes: [UInt8] = []

    func place(_ count: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Bool) -> Bool {
        var isGood = false
        bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            let room = UnsafeMutableRawBufferPointer(buffer)
            isGood = fill(UnsafeMutableRawBufferPointer(rebasing: room[..<count]))
            initialized = isGood ? count : 0
        }
        if !isGood { bytes = [] }
        return isGood
    }

    func next(of feed: any ChunkFeed) async throws -> [UInt8]? {
        switch try await feed.next(into: self) {
        case .bytes(let bytes): return bytes
        case .placed: return take()
        case nil: return nil
        }
    }

    func take() -> [UInt8] {
        defer { bytes = [] }
        return bytes
    }
}
