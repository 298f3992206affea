internal import ObjectService
internal import StoreModel
internal import Synchronization

/// Bytes that no two objects of a benchmark share, made at memory speed: a block of noise, with a different word mixed
/// into every piece.
struct BenchContent: Sendable {
    private let noise = LimitsBenchmark.noise(byteCount: pieceByteCount)
    /// Objects of other benchmarks of the process have other bytes.
    private let salt: UInt64

    init(salt: UInt64) { self.salt = salt }

    static let pieceByteCount = 256 << 10

    /// The bytes of one piece of one object.
    func piece(object: Int, index: Int, byteCount: Int) -> [UInt8] {
        precondition(byteCount <= Self.pieceByteCount, "A piece is made from one block of noise.")
        var word = salt &+ UInt64(truncatingIfNeeded: object) &* 0x9E37_79B9_7F4A_7C15
        word = word &+ UInt64(truncatingIfNeeded: index) &* 0xD6E8_FEB8_6659_FD93
        word = (word ^ word >> 32) &* 0xD6E8_FEB8_6659_FD93
        word ^= word >> 32
        return [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
            noise.withUnsafeBytes { noise in
                let target = UnsafeMutableRawBufferPointer(buffer)
                var offset = 0
                while offset + 8 <= byteCount {
                    let mixed = noise.loadUnaligned(fromByteOffset: offset, as: UInt64.self) ^ word
                    target.storeBytes(of: mixed, toByteOffset: offset, as: UInt64.self)
                    offset += 8
                }
                while offset < byteCount {
                    target[offset] = noise[offset] ^ UInt8(truncatingIfNeeded: word)
                    offset += 1
                }
            }
            count = byteCount
        }
    }
}

/// One object of a benchmark on its way in.
final class BenchSource: ByteSource {
    private let content: BenchContent
    private let object: Int
    private let size: UInt64
    private var offset: UInt64 = 0
    private var index = 0

    init(_ content: BenchContent, object: Int, size: UInt64) {
        self.content = content
        self.object = object
        self.size = size
    }

    func next() async throws -> [UInt8]? {
        guard offset < size else { return nil }
        try Task.checkCancellation()
        let count = Int(min(size - offset, UInt64(BenchContent.pieceByteCount)))
        defer {
            offset += UInt64(count)
            index += 1
        }
        return content.piece(object: object, index: index, byteCount: count)
    }
}

/// What many calls of the same kind took.
struct LoadResult: Sendable {
    var operations: Int
    var bytes: UInt64
    var latency: LatencyHistogram
    var usage: ProcessUsage

    var operationsPerSecond: Double { Double(operations) / max(usage.wallSeconds, 1e-9) }
    var bytesPerSecond: Double { Double(bytes) / max(usage.wallSeconds, 1e-9) }
}

/// Makes calls, so many at a time: each of the tasks begins its next one when its last has returned.
enum BenchLoad {
    /// - Parameter body: makes the call with this number and returns the bytes that it moved.
    static func run(
        count: Int,
        concurrency: Int,
        _ body: @escaping @Sendable (Int) async throws -> UInt64
    ) async throws -> LoadResult {
        let turn = Counter()
        ProcessUsage.resetPeak()
        let start = ProcessUsage.now()
        var result = LoadResult(operations: count, bytes: 0, latency: LatencyHistogram(), usage: start)
        try await withThrowingTaskGroup(of: (LatencyHistogram, UInt64).self) { group in
            for _ in 0..<max(1, min(concurrency, count)) {
                group.addTask {
                    var latency = LatencyHistogram()
                    var bytes: UInt64 = 0
                    while true {
                        let index = turn.next()
                        guard index < count else { return (latency, bytes) }
                        try Task.checkCancellation()
                        let began = ContinuousClock.now
                        bytes += try await body(index)
                        latency.record(nanoseconds: (ContinuousClock.now - began).nanoseconds)
                    }
                }
            }
            for try await (latency, bytes) in group {
                result.latency.merge(latency)
                result.bytes += bytes
            }
        }
        result.usage = ProcessUsage.now().since(start)
        return result
    }

    private final class Counter: Sendable {
        private let value = Atomic<Int>(0)

        func next() -> Int { value.wrappingAdd(1, ordering: .relaxed).oldValue }
    }
}
