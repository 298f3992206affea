internal import Catalog
package import Logging
package import ObjectService
package import Observability
internal import S3Protocol
internal import ServiceLifecycle
package import StoreModel
internal import Synchronization

/// Delivers the access logs of buckets into the buckets that they are to go to.
///
/// As in S3, delivery is best effort: lines wait in memory, within a bound, and are written at intervals and when the
/// server stops. What could not be delivered is counted.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerLogs.html
package final class BucketLogs: Service {
    package struct Configuration: Sendable {
        package var interval = Duration.seconds(300)
        /// Bytes that wait, of all buckets.
        package var sizeMax = 16 << 20

        package init() {}
    }

    /// Which log a line belongs to.
    struct Destination: Hashable {
        let source: BucketName
        let owner: String
        let target: BucketName
        let prefix: String
        let partition: String?
    }

    private struct State {
        var lines: [Destination: [UInt8]] = [:]
        var size = 0
        var deliveredCount: UInt64 = 0
        var lostCount: UInt64 = 0
    }

    private let objects: ObjectStore
    private let configuration: Configuration
    private let clock: any StoreClock
    private let random: any RandomSource
    private let logger: Logger
    private let state = Mutex(State())

    package init(
        _ objects: ObjectStore,
        configuration: Configuration = Configuration(),
        clock: any StoreClock = SystemClock(),
        random: any RandomSource = SystemRandom(),
        logger: Logger
    ) {
        self.objects = objects
        self.configuration = configuration
        self.clock = clock
        self.random = random
        self.logger = logger
    }

    func append(_ line: String, to destination: Destination) {
        state.withLock { state in
            guard state.size + line.utf8.count <= configuration.sizeMax else {
                state.lostCount += 1
                return
            }
            state.lines[destination, default: []] += line.utf8
            state.size += line.utf8.count
        }
    }

    package func run() async throws {
        await cancelWhenGracefulShutdown { await self.deliverRegularly() }
        await deliver()
    }

    private func deliverRegularly() async {
        while !Task.isCancelled {
            do { try await clock.sleep(for: configuration.interval) } catch { return }
            await deliver()
        }
    }

    /// Writes what waits.
    package func deliver() async {
        let waiting = state.withLock { state in
            defer { (state.lines, state.size) = ([:], 0) }
            return state.lines
        }
        for (destination, bytes) in waiting {
            do {
                try await deliver(bytes, to: destination)
                state.withLock { $0.deliveredCount += 1 }
            } catch {
                state.withLock { $0.lostCount += UInt64(bytes.count { $0 == UInt8(ascii: "\n") }) }
                logger.warning(
                    "An access log could not be delivered.",
                    metadata: ["bucket": "\(destination.target)", "error": "\(error)"]
                )
            }
        }
    }

    private func deliver(_ bytes: [UInt8], to destination: Destination) async throws {
        // The target may have another owner by now, and nobody writes into another's bucket.
        let target = try await objects.bucketConfiguration(destination.target).bucket
        guard (target.owner ?? destination.owner) == destination.owner else {
            throw StoreError(.conflict, "The bucket \(destination.target) belongs to another account.")
        }
        let name = try ObjectKey(bytes: [UInt8]((destination.prefix + newName(destination)).utf8))
        let request = PutRequest(
            bucket: destination.target,
            key: name,
            metadata: ObjectMetadata(contentType: "text/plain"),
            expectation: BodyExpectation(size: UInt64(bytes.count))
        )
        _ = try await objects.put(request, body: BufferByteSource(bytes))
    }

    private func newName(_ destination: Destination) -> String {
        let time = CivilTime(clock.now())
        let pad = BucketLogLine.padded
        let date = "\(time.year)-\(pad(time.month))-\(pad(time.day))"
        let digits = String(random.next(), radix: 16, uppercase: true)
        let unique = String(repeating: "0", count: 16 - digits.count) + digits
        let name = "\(date)-\(pad(time.hour))-\(pad(time.minute))-\(pad(time.second))-\(unique)"
        guard let partition = destination.partition else { return name }
        return "\(partition)/\(time.year)/\(pad(time.month))/\(pad(time.day))/\(name)"
    }

    package func samples() -> [MetricSample] {
        let (delivered, lost, size) = state.withLock { ($0.deliveredCount, $0.lostCount, $0.size) }
        return [
            MetricSample(
                "holdfast_bucket_logs_delivered_total",
                help: "Objects with access logs that were written into buckets.",
                kind: .counter,
                value: Double(delivered)
            ),
            MetricSample(
                "holdfast_bucket_logs_lost_lines_total",
                help: "Lines of access logs that could not be kept or delivered.",
                kind: .counter,
                value: Double(lost)
            ),
            MetricSample(
                "holdfast_bucket_logs_waiting_bytes",
                help: "Lines of access logs that wait for their delivery.",
                value: Double(size)
            ),
        ]
    }
}

extension S3Service {
    /// Adds a line to the log of the bucket that a request was about, if it has one.
    func log(_ record: AccessRecord, _ request: GatewayRequest, _ route: S3Route?) async {
        guard let bucketLogs, let route, let bucket = route.bucket,
            let access = try? await access(to: bucket),
            let target = access.logging?.target, let targetName = try? BucketName(target.bucket)
        else { return }
        var partition: String?
        if case .partitioned = target.keyFormat {
            let account = PolicyPrincipal.accountNumber(of: access.owner)
            partition = "\(account)/\(configuration.region)/\(bucket)"
        }
        let line = BucketLogLine(
            bucketOwner: access.owner,
            bucket: bucket.description,
            request: request,
            route: route,
            record: record,
            hostID: hostID
        )
        bucketLogs.append(
            line.text(),
            to: .init(
                source: bucket,
                owner: access.owner,
                target: targetName,
                prefix: target.prefix,
                partition: partition
            )
        )
    }
}
