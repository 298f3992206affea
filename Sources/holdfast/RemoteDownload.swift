internal import S3Client
internal import S3Protocol
internal import StoreModel
internal import Synchronization

/// An object on its way from a server: small ones in one stream, large ones in ranges, several at a time.
///
/// 1. Bytes are given in order, each once, whatever order they came in.
/// 2. All ranges are of one version: named by its id, or by its tag where it has none.
/// 3. A connection that breaks is followed by one that goes on behind the last byte.
/// 4. In memory are at most `concurrencyMax` ranges of a download, and of all downloads together about twice as many.
struct RemoteDownload: Sendable {
    static let rangeSize: UInt64 = 8 << 20
    static let concurrencyMax = 4

    /// How many downloads are under way: what they may have in flight is shared.
    ///
    /// No lock: two of them in one async function, before and behind an await, would be inlined with one thread's identity
    /// for both, and end the program.
    final class Active: Sendable {
        private let count = Atomic<Int>(0)

        fileprivate func enter() { count.wrappingAdd(1, ordering: .relaxed) }
        fileprivate func leave() { count.wrappingSubtract(1, ordering: .relaxed) }
        /// Ranges that each download may have in flight now.
        fileprivate var share: Int {
            max(1, min(concurrencyMax, 2 * concurrencyMax / max(count.load(ordering: .relaxed), 1)))
        }
    }

    let client: S3Client
    let retry: S3Retry
    let budget: S3RetryBudget
    let active: Active
    let version: VersionReport
    /// As S3 names the version; nil when it has no id.
    let versionName: String?

    func run(from offset: UInt64, _ take: ([UInt8]) async throws -> Void) async throws {
        active.enter()
        defer { active.leave() }
        guard version.size > offset, version.size - offset >= 2 * Self.rangeSize else {
            return try await stream(offset, version.size, take)
        }
        try await ranges(from: offset, take)
    }

    private func ranges(from offset: UInt64, _ take: ([UInt8]) async throws -> Void) async throws {
        let count = Int((version.size - offset + Self.rangeSize - 1) / Self.rangeSize)
        try await withThrowingTaskGroup(of: (index: Int, pieces: [[UInt8]]).self) { group in
            var (started, given) = (0, 0)
            var ready: [Int: [[UInt8]]] = [:]
            while given < count {
                // What is ready and not given yet counts: a slow reader holds the others back.
                while started < count, started - given < active.share {
                    let index = started
                    let start = offset + UInt64(index) * Self.rangeSize
                    group.addTask { [self] in (index, try await range(start, Self.rangeSize)) }
                    started += 1
                }
                guard let found = try await group.next() else { break }
                ready[found.index] = found.pieces
                while let pieces = ready.removeValue(forKey: given) {
                    for piece in pieces { try await take(piece) }
                    given += 1
                }
            }
        }
    }

    @inline(never)
    private func range(_ start: UInt64, _ length: UInt64) async throws -> [[UInt8]] {
        var pieces: [[UInt8]] = []
        try await stream(start, min(start + length, version.size)) { pieces.append($0) }
        return pieces
    }

    /// Brings the bytes from one offset up to another.
    private func stream(
        _ start: UInt64,
        _ end: UInt64,
        _ take: ([UInt8]) async throws -> Void
    ) async throws {
        var position = start
        var attempt = 0
        let isWhole = start == 0 && end == version.size
        while position < end || (end == 0 && attempt == 0) {
            let first = position
            do {
                try await client.getObject(
                    version.bucket.description,
                    version.key,
                    range: first == 0 && isWhole ? nil : .from(first: first, last: end - 1),
                    versionID: versionName,
                    // Of a version without an id only its tag says whether it is the same still.
                    ifMatch: versionName == nil || version.isNull ? version.etag : nil
                ) { object in
                    guard object.info.size == version.size else {
                        throw S3ClientError.integrity("The object is not the one that was listed.")
                    }
                    while let piece = try await object.next() {
                        try await take(piece)
                        position += UInt64(piece.count)
                    }
                }
                budget.noteSuccess()
                if end == 0 { return }
            } catch let error as S3ClientError {
                attempt = position > first ? 0 : attempt + 1
                guard error.isRetryable, attempt < retry.attemptCountMax, budget.take() else {
                    throw RemoteErrors.storeError(error, isChange: false)
                }
                let delay = retry.delay(
                    attempt: attempt,
                    retryAfter: error.retryAfter,
                    random: SystemRandom()
                )
                try await Task.sleep(for: delay)
            }
        }
    }
}
