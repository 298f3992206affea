internal import ContentHashing
internal import Glibc
internal import StoreModel
internal import Synchronization

/// What this machine can do at best, measured with raw system calls: the yardstick for the engine's own
/// numbers.
///
/// Disk and processor speeds vary from run to run on shared machines; a limit is only worth something when
/// it is measured in the same run as what it is compared with.
enum LimitsBenchmark {
    /// The rounds that a group commit could make if it did nothing but write and sync.
    struct FloorResult: Sendable {
        var roundCount: Int
        /// Bytes of one log.
        var byteCount: Int
        /// Of one round: from the first write until all logs are synced.
        var latency: LatencyHistogram
        var usage: ProcessUsage
        var roundsPerSecond: Double { Double(roundCount) / usage.wallSeconds }
    }

    struct SequentialResult: Sendable {
        var copyCount: Int
        /// Bytes of one copy: of the object.
        var byteCount: Int
        var usage: ProcessUsage
        /// Bytes of the object, not of its copies, per second.
        var bytesPerSecond: Double { Double(byteCount) / usage.wallSeconds }
    }

    /// Beyond this a floor's log is written again from its start, which costs the disk the same.
    static let logByteCountMax = 256 << 20
    /// One write of the sequential benchmark.
    static let blockByteCount = 1 << 20

    /// For each batch size in turn, one write and one fdatasync in each directory's log, in parallel; the
    /// next round begins when all have ended. The logs are preallocated and zeroed.
    static func groupCommitFloor(
        directories: [String],
        batchByteCounts: [Int]
    ) throws(StoreError) -> FloorResult {
        precondition(
            !directories.isEmpty && batchByteCounts.allSatisfy { $0 > 0 },
            "There is something to write."
        )
        let total = batchByteCounts.reduce(0, +)
        let largest = batchByteCounts.max() ?? 0
        let logByteCount = max(largest, min(total, logByteCountMax))
        let content = noise(byteCount: largest)
        let barrier = RoundBarrier(threadCount: directories.count)
        let latency = Mutex(LatencyHistogram())
        // Everything is preallocated before the clock starts; the threads meet once before their first round.
        var files: [ScratchFile] = []
        for directory in directories {
            let file = try ScratchFile(directory: directory)
            try file.preallocate(byteCount: logByteCount)
            files.append(file)
        }
        let logs = files
        let start = ProcessUsage.now()
        try BenchThreads.run(count: logs.count) { (index: Int) throws(StoreError) in
            var offset = 0
            var failure: StoreError?
            for byteCount in batchByteCounts {
                if offset + byteCount > logByteCount { offset = 0 }
                let began = ContinuousClock.now
                if failure == nil {
                    do throws(StoreError) {
                        try logs[index].write(content, count: byteCount, at: offset)
                        try logs[index].sync()
                    } catch {
                        // The others wait at the barrier: go on meeting them, and report at the end.
                        failure = error
                    }
                }
                offset += byteCount
                barrier.wait()
                if index == 0 {
                    latency.withLock { $0.record(nanoseconds: (ContinuousClock.now - began).nanoseconds) }
                }
            }
            if let failure { throw failure }
        }
        return FloorResult(
            roundCount: batchByteCounts.count,
            byteCount: total,
            latency: latency.withLock { $0 },
            usage: ProcessUsage.now().since(start)
        )
    }

    /// Writes one object of this size into every directory in parallel, each with one fdatasync at its end: the
    /// fastest of some runs past the page cache, where the file system allows that, and one run through it. The
    /// limit is what the machine can do, whichever way that is.
    static func sequentialWrite(
        directories: [String],
        byteCount: Int = 1 << 30,
        repetitionCount: Int = 3
    ) throws(StoreError) -> SequentialResult {
        precondition(!directories.isEmpty && byteCount > 0, "There is something to measure.")
        var results = [try writeOnce(directories, byteCount: byteCount, isDirect: false)]
        if ScratchFile.takesDirectWrites(in: directories) {
            for _ in 0..<repetitionCount {
                results.append(try writeOnce(directories, byteCount: byteCount, isDirect: true))
            }
        }
        guard let best = results.max(by: { $0.bytesPerSecond < $1.bytesPerSecond }) else {
            preconditionFailure("At least one run was made.")
        }
        return best
    }

    /// Starts writing back every so many bytes, so that the device never idles.
    private static let pacingByteCount = 8 << 20

    private static func writeOnce(
        _ directories: [String],
        byteCount: Int,
        isDirect: Bool
    ) throws(StoreError) -> SequentialResult {
        let content = noise(byteCount: blockByteCount)
        var files: [ScratchFile] = []
        for directory in directories {
            files.append(try ScratchFile(directory: directory, isDirect: isDirect, content: content))
        }
        let copies = files
        let start = ProcessUsage.now()
        try BenchThreads.run(count: copies.count) { (index: Int) throws(StoreError) in
            let file = copies[index]
            var (offset, paced) = (0, 0)
            while offset < byteCount {
                let length = min(blockByteCount, byteCount - offset)
                if isDirect {
                    try file.writeBlock(at: offset)
                } else {
                    try file.write(content, count: length, at: offset)
                }
                offset += length
                if !isDirect, offset - paced >= pacingByteCount {
                    try file.startWriteback(offset: paced, byteCount: offset - paced)
                    paced = offset
                }
            }
            try file.sync()
        }
        let usage = ProcessUsage.now().since(start)
        return SequentialResult(copyCount: directories.count, byteCount: byteCount, usage: usage)
    }

    /// Bytes that no device can compress.
    static func noise(byteCount: Int) -> [UInt8] {
        var state: UInt64 = 0x9E37_79B9_7F4A_7C15
        return [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
            for index in 0..<byteCount {
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                buffer[index] = UInt8(truncatingIfNeeded: state >> 32)
            }
            count = byteCount
        }
    }
}

extension Duration {
    var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        return UInt64(clamping: seconds) &* 1_000_000_000 &+ UInt64(clamping: attoseconds / 1_000_000_000)
    }
}
