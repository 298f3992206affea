internal import ContentHashing
internal import CurlTransport
internal import ObjectService
internal import S3Client
internal import StoreModel
internal import Synchronization

/// A load for any S3 server: workers, each of which makes its next call when its last has returned.
struct ServerBenchmark: Sendable {
    enum Operation: String, CaseIterable, Sendable {
        case put, get, head, list, multipart
    }

    struct Plan: Sendable {
        var mix: OperationMix
        /// Each new object has one of them, by chance.
        var sizes: [UInt64]
        var concurrency: Int
        var duration: Duration
        /// Calls at most; nil: until the time is over.
        var countMax: Int?
        /// Objects that are there to be read and listed.
        var objectCount: Int
        var partSize: UInt64
        /// Whether every byte that comes is compared, not only their number.
        var verifies: Bool
        var seed: UInt64
    }

    /// What one kind of call took.
    struct Tally: Sendable {
        var latency = LatencyHistogram()
        var bytes: UInt64 = 0
        var failures: [String: Int] = [:]

        mutating func merge(_ other: Tally) {
            latency.merge(other.latency)
            bytes += other.bytes
            failures.merge(other.failures) { $0 + $1 }
        }
    }

    /// Failures in a row after which a worker gives up: a server that is away is no load.
    private static let failuresInARowMax = 20
    /// Larger bodies are made while they are sent.
    private static let bodyInMemoryMax: UInt64 = 1 << 20
    private static let partsAtATime = 4
    static let keysPerPage = 1000

    let client: S3Client
    let bucket: String
    /// Keys begin with it.
    let prefix: String
    let plan: Plan
    private let content: BenchContent

    init(client: S3Client, bucket: String, prefix: String, plan: Plan) {
        (self.client, self.bucket, self.prefix, self.plan) = (client, bucket, prefix, plan)
        content = BenchContent(salt: plan.seed << 40)
    }

    // MARK: Objects

    /// Chance that depends on nothing but the seed and the number.
    private func chance(_ number: Int, _ use: UInt64) -> UInt64 {
        var value = plan.seed &+ use &* 0xA076_1D64_78BD_642F
        value = value &+ UInt64(truncatingIfNeeded: number) &* 0x9E37_79B9_7F4A_7C15
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }

    private func size(of number: Int) -> UInt64 {
        plan.sizes[Int(chance(number, 1) % UInt64(plan.sizes.count))]
    }

    private func key(_ kind: String, _ number: Int) throws -> ObjectKey {
        try EngineBenchmarks.key("\(prefix)\(kind)/", number)
    }

    private func body(_ number: Int, _ size: UInt64) -> S3Body {
        guard size > Self.bodyInMemoryMax else {
            var bytes: [UInt8] = []
            bytes.reserveCapacity(Int(size))
            var index = 0
            while UInt64(bytes.count) < size {
                let count = min(Int(size) - bytes.count, BenchContent.pieceByteCount)
                bytes += content.piece(object: number, index: index, byteCount: count)
                index += 1
            }
            return .bytes(bytes)
        }
        return .stream(length: size) { [content] in
            let source = BenchSource(content, object: number, size: size)
            return { try await source.next() }
        }
    }

    /// Stores what the calls read.
    func prepare() async throws {
        let turn = Turn()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<min(plan.concurrency, plan.objectCount) {
                group.addTask {
                    while let number = turn.next(below: plan.objectCount) {
                        _ = try await client.putObject(
                            bucket,
                            try key("read", number),
                            body(number, size(of: number))
                        )
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    // MARK: Load

    /// - Returns: what each kind of call took, and what this process used meanwhile.
    func run() async throws -> (tallies: [Operation: Tally], usage: ProcessUsage) {
        let turn = Turn()
        let end = ContinuousClock.now + plan.duration
        let start = ProcessUsage.now()
        var tallies: [Operation: Tally] = [:]
        try await withThrowingTaskGroup(of: [Operation: Tally].self) { group in
            for _ in 0..<plan.concurrency {
                group.addTask { try await work(turn, until: end) }
            }
            for try await found in group {
                tallies.merge(found) { one, other in
                    var sum = one
                    sum.merge(other)
                    return sum
                }
            }
        }
        return (tallies, ProcessUsage.now().since(start))
    }

    private func work(_ turn: Turn, until end: ContinuousClock.Instant) async throws -> [Operation: Tally] {
        var tallies: [Operation: Tally] = [:]
        var failuresInARow = 0
        while ContinuousClock.now < end, let number = turn.next(below: plan.countMax ?? .max) {
            try Task.checkCancellation()
            let operation = plan.mix.operation(at: chance(number, 2))
            let began = ContinuousClock.now
            do {
                let bytes = try await perform(operation, number)
                let took = (ContinuousClock.now - began).nanoseconds
                tallies[operation, default: Tally()].latency.record(nanoseconds: took)
                tallies[operation, default: Tally()].bytes += bytes
                failuresInARow = 0
            } catch let error as S3ClientError {
                tallies[operation, default: Tally()].failures[error.code, default: 0] += 1
                failuresInARow += 1
                if failuresInARow == Self.failuresInARowMax { throw error }
            }
        }
        return tallies
    }

    /// - Returns: the bytes of the object that were moved.
    private func perform(_ operation: Operation, _ number: Int) async throws -> UInt64 {
        let readable = Int(chance(number, 3) % UInt64(max(1, plan.objectCount)))
        switch operation {
        case .put:
            let size = size(of: number)
            // What is written has other bytes than what is there to be read.
            let body = body(number + plan.objectCount, size)
            _ = try await client.putObject(bucket, try key("put", number), body)
            return size
        case .get:
            return try await client.getObject(bucket, try key("read", readable)) { object in
                try await take(object, number: readable)
            }
        case .head:
            let found = try await client.headObject(bucket, try key("read", readable))
            guard found.size == size(of: readable) else { throw Self.wrongSize(found.size) }
            return 0
        case .list:
            let page = try await client.listObjects(
                bucket,
                prefix: "\(prefix)read/",
                startAfter: try key("read", readable).description,
                countMax: Self.keysPerPage
            )
            let expected = min(Self.keysPerPage, plan.objectCount - readable - 1)
            guard page.objects.count == expected else {
                throw S3ClientError.integrity(
                    "A page has \(page.objects.count) keys in place of \(expected)."
                )
            }
            return 0
        case .multipart:
            return try await uploadInParts(number)
        }
    }

    private func take(_ object: S3Object, number: Int) async throws -> UInt64 {
        let size = size(of: number)
        guard object.info.size == size else { throw Self.wrongSize(object.info.size) }
        var comparison = Comparison(content, object: number, size: size)
        var count: UInt64 = 0
        while let piece = try await object.next() {
            count += UInt64(piece.count)
            if plan.verifies, !comparison.matches(piece) {
                throw S3ClientError.integrity("An object has other bytes than were stored.")
            }
        }
        guard count == size else { throw Self.wrongSize(count) }
        return count
    }

    private static func wrongSize(_ size: UInt64) -> S3ClientError {
        .integrity("An object has \(size) bytes, which is not what was stored.")
    }

    private func uploadInParts(_ number: Int) async throws -> UInt64 {
        let size = max(size(of: number), 1)
        let key = try key("parts", number)
        let id = try await client.createUpload(bucket, key).uploadID
        let count = Int(min(size.dividedUp(by: plan.partSize), UInt64(Limits.partCountMax)))
        do {
            let turn = Turn()
            let parts = try await withThrowingTaskGroup(of: [S3UploadedPart].self) { group in
                for _ in 0..<min(Self.partsAtATime, count) {
                    group.addTask {
                        var parts: [S3UploadedPart] = []
                        while let index = turn.next(below: count) {
                            let length = min(plan.partSize, size - UInt64(index) * plan.partSize)
                            // Each part has bytes of its own.
                            let body = body((number + 1) << 16 + index + plan.objectCount, length)
                            parts.append(
                                try await client.uploadPart(
                                    bucket,
                                    key,
                                    uploadID: id,
                                    number: index + 1,
                                    body
                                )
                            )
                        }
                        return parts
                    }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            _ = try await client.completeUpload(bucket, key, uploadID: id, parts: parts)
        } catch {
            try? await client.abortUpload(bucket, key, uploadID: id)
            throw error
        }
        return size
    }

    // MARK: Afterwards

    /// Removes every version under the prefix. Servers without versions are asked for objects.
    func cleanUp() async throws {
        var marker: S3VersionMarker?
        repeat {
            let page: S3VersionListing
            do {
                page = try await client.listVersions(bucket, prefix: prefix, after: marker)
            } catch let error as S3ClientError where error.code == "NotImplemented" {
                return try await cleanUpObjects()
            }
            try await remove(page.versions.map { ($0.key, $0.versionID) })
            marker = page.next
        } while marker != nil
    }

    private func cleanUpObjects() async throws {
        while true {
            let page = try await client.listObjects(bucket, prefix: prefix)
            guard !page.objects.isEmpty else { return }
            try await remove(page.objects.map { ($0.key, nil) })
        }
    }

    private func remove(_ versions: [(key: ObjectKey, id: String?)]) async throws {
        let turn = Turn()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<min(plan.concurrency, versions.count) {
                group.addTask {
                    while let index = turn.next(below: versions.count) {
                        let (key, id) = versions[index]
                        _ = try await client.deleteObject(bucket, key, versionID: id)
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    /// Hands out numbers.
    private final class Turn: Sendable {
        private let value = Atomic<Int>(0)

        func next(below end: Int) -> Int? {
            let number = value.wrappingAdd(1, ordering: .relaxed).oldValue
            return number < end ? number : nil
        }
    }
}

/// Which calls are made, and how often: `get`, or `get=90,put=10`.
struct OperationMix: Sendable {
    /// In the order in which they were named.
    let shares: [(operation: ServerBenchmark.Operation, weight: UInt64)]

    init?(_ text: String) {
        var shares: [(operation: ServerBenchmark.Operation, weight: UInt64)] = []
        for item in text.split(separator: ",", omittingEmptySubsequences: false) {
            let parts = item.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let operation = ServerBenchmark.Operation(rawValue: String(parts[0])),
                !shares.contains(where: { $0.operation == operation })
            else { return nil }
            var weight: UInt64 = 1
            if parts.count == 2 {
                guard let number = UInt64(parts[1]), (1...1_000_000).contains(number) else { return nil }
                weight = number
            }
            shares.append((operation, weight))
        }
        guard !shares.isEmpty else { return nil }
        self.shares = shares
    }

    /// - Parameter chance: any number; all are equally likely.
    func operation(at chance: UInt64) -> ServerBenchmark.Operation {
        var rest = chance % shares.reduce(0) { $0 + $1.weight }
        for (operation, weight) in shares {
            if rest < weight { return operation }
            rest -= weight
        }
        return shares[0].operation
    }

    var reads: Bool { shares.contains { [.get, .head, .list].contains($0.operation) } }

    var description: String {
        shares.count == 1
            ? shares[0].operation.rawValue
            : shares.map { "\($0.operation.rawValue)=\($0.weight)" }.joined(separator: ",")
    }
}

/// Compares an object that comes in pieces of any length with what was stored.
private struct Comparison {
    private let source: BenchContent
    private let object: Int
    private let size: UInt64
    private var offset: UInt64 = 0
    private var index = 0
    private var expected: ArraySlice<UInt8> = []

    init(_ source: BenchContent, object: Int, size: UInt64) {
        (self.source, self.object, self.size) = (source, object, size)
    }

    mutating func matches(_ piece: [UInt8]) -> Bool {
        var rest = piece[...]
        while !rest.isEmpty {
            if expected.isEmpty {
                let count = Int(min(size - min(offset, size), UInt64(BenchContent.pieceByteCount)))
                guard count > 0 else { return false }
                expected = source.piece(object: object, index: index, byteCount: count)[...]
                offset += UInt64(count)
                index += 1
            }
            let count = min(rest.count, expected.count)
            guard rest.prefix(count).elementsEqual(expected.prefix(count)) else { return false }
            rest = rest.dropFirst(count)
            expected = expected.dropFirst(count)
        }
        return true
    }
}

extension UInt64 {
    fileprivate func dividedUp(by divisor: UInt64) -> UInt64 {
        self / divisor + (self % divisor == 0 ? 0 : 1)
    }
}
