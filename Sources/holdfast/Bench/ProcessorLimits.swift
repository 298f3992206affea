internal import ContentHashing
internal import Glibc
internal import StoreModel
internal import Synchronization

/// Bytes per second of one core, of what every stored byte goes through.
struct ProcessorLimits: Sendable {
    var sha256: Double
    var md5: Double
    var xxh3: Double
    var memoryCopy: Double
    var cutPoints: Double
    /// Of an upload's work on every byte (MD5, SHA-256 twice, cut points), with all cores at it at once.
    var upload: Double
    var coreCount: Int
}

extension LimitsBenchmark {
    /// Searches a block for cut points, as an upload does.
    typealias CutPointSearch = @Sendable (UnsafeRawBufferPointer) -> Void

    /// Measures what the processor can do, for about `seconds` each.
    static func processorLimits(
        seconds: Double = 0.5,
        cutPoints: @escaping CutPointSearch
    ) throws(StoreError) -> ProcessorLimits {
        let coreCount = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        let target = Target(byteCount: workingByteCount)
        return ProcessorLimits(
            sha256: rate(seconds, hashSHA256),
            md5: rate(seconds, hashMD5),
            xxh3: rate(seconds) { precondition(BlockChecksum.xxh3($0) != 1, "Keeps the call.") },
            memoryCopy: rate(seconds) { target.copy($0) },
            cutPoints: rate(seconds, cutPoints),
            upload: try uploadRate(seconds, threadCount: coreCount, cutPoints: cutPoints),
            coreCount: coreCount
        )
    }

    /// Larger than the caches: data that is uploaded comes from memory.
    private static let workingByteCount = 64 << 20

    private static func hashSHA256(_ block: UnsafeRawBufferPointer) { _ = SHA256Hasher.hash(block) }
    private static func hashMD5(_ block: UnsafeRawBufferPointer) { _ = MD5Hasher.hash(block) }

    /// Gives `body` one block after the other until the time is over; bytes per second.
    static func rate(_ seconds: Double, _ body: (UnsafeRawBufferPointer) -> Void) -> Double {
        let content = noise(byteCount: workingByteCount)
        return content.withUnsafeBytes { bytes in
            var byteCount = 0
            let start = ContinuousClock.now
            while true {
                let offset = byteCount % workingByteCount
                body(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + blockByteCount]))
                byteCount += blockByteCount
                let elapsed = Double((ContinuousClock.now - start).nanoseconds) / 1e9
                if elapsed >= seconds { return Double(byteCount) / elapsed }
            }
        }
    }

    private static func uploadRate(
        _ seconds: Double,
        threadCount: Int,
        cutPoints: @escaping CutPointSearch
    ) throws(StoreError) -> Double {
        let total = Mutex(0.0)
        try BenchThreads.run(count: threadCount) { _ in
            let rate = rate(seconds) { block in
                cutPoints(block)
                hashMD5(block)
                hashSHA256(block)
                hashSHA256(block)
            }
            total.withLock { $0 += rate }
        }
        return total.withLock { $0 }
    }

    /// Where the copy goes.
    private final class Target {
        private let bytes: UnsafeMutableRawBufferPointer
        private var offset = 0

        init(byteCount: Int) {
            bytes = .allocate(byteCount: byteCount, alignment: 4096)
            bytes.initializeMemory(as: UInt8.self, repeating: 0)
        }

        deinit { bytes.deallocate() }

        func copy(_ block: UnsafeRawBufferPointer) {
            if offset + block.count > bytes.count { offset = 0 }
            UnsafeMutableRawBufferPointer(rebasing: bytes[offset..<offset + block.count]).copyMemory(
                from: block
            )
            offset += block.count
        }
    }
}
