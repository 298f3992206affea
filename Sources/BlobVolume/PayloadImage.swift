internal import ContentHashing
internal import StoreModel
internal import Synchronization

/// A large payload as it stands in a bulk segment, which is the same in every volume but for the record's header: laid
/// out and summed up once, by the volume that comes first, written by all of them from where it is.
///
///   offset          what
///        0          room for header and block table
///        H          payload
///        …          zeros up to a multiple of 4,096
///
/// It begins at a multiple of 4,096 in memory as in the file, so that all of it but the first page can be written past
/// the page cache without another copy. There is memory for a few images at a time (`ImageMemory`); without one each
/// volume lays the record out by itself, which costs a copy and a checksum more.
final class PayloadImage: Sendable {
    /// `@unchecked Sendable` holds because the memory is written before a value is made, and never again while it lives.
    struct Content: @unchecked Sendable {
        let memory: UnsafeRawBufferPointer
        /// Of each block of the payload.
        let checksums: [UInt64]
        let payloadByteCount: Int
    }

    private enum State {
        case unmade
        case made(Content)
        /// There was no memory when it was needed first.
        case none
    }

    private let state = Mutex(State.unmade)

    deinit {
        state.withLock { state in
            if case .made(let content) = state { ImageMemory.giveBack(content.memory) }
        }
    }

    /// Lays the payload out now, if there is memory for it and for one more: whoever writes it finds it done, and clients' payloads
    /// find room beside those that wait for a full queue.
    func prepare(_ bytes: [UInt8]) {
        state.withLock { state in
            let count = Int(RecordFormat.recordByteCount(bytes.count, .bulk))
            guard case .unmade = state, let memory = ImageMemory.take(byteCount: count, leaving: 1) else {
                return
            }
            state = .made(Self.lay(bytes, out: memory))
        }
    }

    /// - Parameter bytes: the payload; the same in every call.
    func content(of bytes: [UInt8]) -> Content? {
        state.withLock { state in
            switch state {
            case .made(let content): return content
            case .none: return nil
            case .unmade:
                let count = Int(RecordFormat.recordByteCount(bytes.count, .bulk))
                guard let memory = ImageMemory.take(byteCount: count) else {
                    state = .none
                    return nil
                }
                let content = Self.lay(bytes, out: memory)
                state = .made(content)
                return content
            }
        }
    }

    private static func lay(_ bytes: [UInt8], out memory: UnsafeMutableRawBufferPointer) -> Content {
        let head = RecordFormat.headByteCount(bytes.count)
        let end = head + bytes.count
        UnsafeMutableRawBufferPointer(rebasing: memory[..<head]).initializeMemory(
            as: UInt8.self,
            repeating: 0
        )
        UnsafeMutableRawBufferPointer(rebasing: memory[head..<end]).copyBytes(from: bytes)
        UnsafeMutableRawBufferPointer(rebasing: memory[end...]).initializeMemory(as: UInt8.self, repeating: 0)
        let payload = UnsafeRawBufferPointer(rebasing: memory[head..<end])
        let block = RecordFormat.blockByteCount
        let checksums = (0..<RecordFormat.blockCount(bytes.count)).map { index in
            BlockChecksum.xxh3(payload.slice(index * block, min(block, payload.count - index * block)))
        }
        return Content(
            memory: UnsafeRawBufferPointer(memory),
            checksums: checksums,
            payloadByteCount: bytes.count
        )
    }
}

/// Memory for images: stretches of one size, made when they are first needed and kept, so that it neither grows nor falls
/// to pieces.
private enum ImageMemory {
    private static let byteCount = Int(RecordFormat.recordByteCount(Limits.chunkSizeMax, .bulk))

    private struct State {
        /// Addresses of what nobody has.
        var free: [UInt] = []
        var count = 0
    }

    private static let state = Mutex(State())

    /// - Parameter spare: how many stretches must be left for others.
    /// - Returns: nil when all of it is taken, or more is wanted than one stretch has.
    static func take(byteCount wanted: Int, leaving spare: Int = 0) -> UnsafeMutableRawBufferPointer? {
        guard wanted <= byteCount else { return nil }
        let (address, mayMake) = state.withLock { state -> (UInt?, Bool) in
            let left = state.free.count + Limits.payloadImageCountMax - state.count
            guard left > spare else { return (nil, false) }
            if let address = state.free.popLast() { return (address, false) }
            guard state.count < Limits.payloadImageCountMax else { return (nil, false) }
            state.count += 1
            return (nil, true)
        }
        if mayMake {
            let made = UnsafeMutableRawBufferPointer.allocate(
                byteCount: byteCount,
                alignment: Int(SegmentKind.bulk.alignment)
            )
            return UnsafeMutableRawBufferPointer(rebasing: made[..<wanted])
        }
        guard let address, let start = UnsafeMutableRawPointer(bitPattern: address) else { return nil }
        return UnsafeMutableRawBufferPointer(start: start, count: wanted)
    }

    static func giveBack(_ memory: UnsafeRawBufferPointer) {
        state.withLock { $0.free.append(UInt(bitPattern: memory.baseAddress)) }
    }
}
