package import Catalog
internal import CurlTransport
package import Encryption
internal import Logging
package import Mirroring
package import ObjectService
internal import Observability
internal import Replication
internal import S3Gateway
internal import ServiceLifecycle
package import StoreModel
internal import Synchronization

/// The store as mirrors see it.
package struct MirroredStore: MirrorStore {
    let objects: ObjectStore

    package init(objects: ObjectStore) { self.objects = objects }

    package func read<Value: Sendable>(
        _ body: @escaping @Sendable (any CatalogReader) throws -> Value
    ) async throws -> Value {
        try await objects.readCatalog(body)
    }

    package func write(_ documents: [DocumentWrite]) async throws {
        try await objects.write(documents: documents)
    }

    package func generation(of space: DocumentSpace) -> UInt64 { objects.documentGeneration(of: space) }

    package func bytes(of version: VersionRow, _ range: ByteRange) async throws -> [UInt8] {
        try await ClientLoad.inBackground { try await read(version, range) }
    }

    private func read(_ version: VersionRow, _ range: ByteRange) async throws -> [UInt8] {
        let reader = try objects.read(version, range: .from(range.offset, length: range.length))
        guard let first = try await reader.next() else { return [] }
        if UInt64(first.count) == range.length { return first }
        var bytes = first
        bytes.reserveCapacity(Int(range.length))
        while let piece = try await reader.next() { bytes += piece }
        return bytes
    }

    package func parts(of version: VersionRow) async throws -> [ObjectPart]? {
        try await ClientLoad.inBackground { try await objects.parts(of: version) }
    }

    package func sha256(
        of version: VersionRow,
        isHurried: @escaping @Sendable () -> Bool,
        spend: @Sendable (_ byteCount: UInt64, _ mayWait: Bool) async throws -> Void
    ) async throws -> Digest {
        try await objects.sha256(of: version, isHurried: isHurried, spend: spend)
    }

    package func needsClientKey(_ version: VersionRow) throws -> Bool {
        try version.encryption?.sort == .clientKey
    }

    package func seal(_ secret: [UInt8], context: String) async throws -> SealedSecret {
        SealedSecret(secret, under: try await objects.sealingRing(), context: context, random: SystemRandom())
    }

    package func isSealedWithNewestKey(_ secret: SealedSecret) throws -> Bool {
        secret.keeper == .masterKey(try objects.openingRing().newest.id)
    }

    package func open(_ secret: SealedSecret, context: String) throws -> [UInt8] {
        let ring = try objects.openingRing()
        do throws(EncryptionError) {
            return try secret.open(with: ring, context: context)
        } catch {
            throw StoreError(
                .masterKeyUnavailable,
                "The credentials of a mirror can't be opened: \(error.message)",
                advice: "Put the store's master.key back, or give the mirror its credentials anew.",
                cause: error
            )
        }
    }
}

/// libcurl, started when a mirror first needs it.
final class MirrorTransports: Sendable {
    private let authorityFile: String?
    private let started = Mutex<CurlTransport?>(nil)

    init(authorityFile: String?) { self.authorityFile = authorityFile }

    func transport() throws -> CurlTransport {
        try started.withLock { started in
            if let started { return started }
            var configuration = TransportConfiguration()
            configuration.authorityFile = authorityFile
            configuration.transferCountMax = 128
            configuration.transferCountPerHostMax = 64
            // An answer that does not begin is a backend that hangs.
            configuration.timeouts.firstByte = .seconds(60)
            let made: CurlTransport
            do {
                made = try CurlTransport(configuration)
            } catch {
                throw StoreError(.internalFault, "Requests to mirrors can't be made: \(error)", cause: error)
            }
            started = made
            return made
        }
    }

    func shutdown() { started.withLock { $0?.shutdown() } }
}

/// Bytes that no replica has any more, from the mirrors.
package struct MirrorContentRescue: ContentRescue {
    private let rescue: MirrorRescue

    package init(_ service: MirrorService) { rescue = MirrorRescue(service) }

    package func isThere() async -> Bool { await rescue.isThere() }

    package func bytes(
        of version: VersionRow,
        _ range: ByteRange,
        from mirror: String?,
        where isGood: @Sendable ([UInt8]) -> Bool
    ) async -> RescuedBytes? {
        await rescue.bytes(of: version, range, from: mirror, where: isGood).map {
            RescuedBytes(bytes: $0.bytes, mirror: $0.mirror)
        }
    }

    package func holders(of version: VersionRow) async -> [String] { await rescue.holders(of: version) }
}

/// For clients that wait until mirrors have what they have put.
private struct StoreMirrorWatch: MirrorWatch {
    let service: MirrorService

    func outlook(of version: VersionRow, in mirrors: [String], isAwaited: Bool) async throws -> MirrorOutlook
    {
        try await service.outlook(of: version, in: mirrors, isAwaited: isAwaited)
    }

    func taker(of key: ObjectKey, tags: [NamedValue], in bucket: BucketName, among mirrors: [String])
        async throws -> String?
    {
        try await service.taker(of: key, tags: tags, in: bucket, among: mirrors)
    }
}

/// A restore into this store.
package struct StoreRestoreTarget: MirrorRestoreTarget {
    private let objects: ObjectStore

    package init(_ objects: ObjectStore) { self.objects = objects }

    package func prepare(_ bucket: BucketName) async throws {
        do {
            _ = try await objects.createBucket(bucket, versioning: .enabled)
        } catch let error as StoreError where error.code == .bucketAlreadyExists {
        }
    }

    package func versionCount(_ bucket: BucketName, _ key: ObjectKey) async throws -> Int {
        var count = 0
        var before: VersionID?
        while true {
            let page = try await objects.history(bucket: bucket, key: key, before: before)
            guard let last = page.last else { return count }
            count += page.count
            before = last.id
        }
    }

    package func put(
        _ bucket: BucketName,
        _ key: ObjectKey,
        _ properties: MirrorProperties,
        size: UInt64,
        sha256: Digest?,
        next: @escaping @Sendable (UInt64) async throws -> [UInt8]?
    ) async throws {
        var metadata = ObjectMetadata()
        metadata = ObjectMetadata(
            contentType: properties.contentType,
            otherHeaders: properties.otherHeaders.map { NamedValue($0.0, $0.1) },
            userMetadata: properties.userMetadata.map { NamedValue($0.0, $0.1) }
        )
        let request = PutRequest(
            bucket: bucket,
            key: key,
            metadata: metadata,
            tags: properties.tags.map { NamedValue($0.0, $0.1) },
            expectation: BodyExpectation(size: size, sha256: sha256)
        )
        _ = try await objects.put(request, body: OffsetSource(next))
    }

    package func delete(_ bucket: BucketName, _ key: ObjectKey) async throws {
        _ = try await objects.delete(VersionAddress(bucket: bucket, key: key))
    }
}

private final class OffsetSource: ByteSource {
    private let read: @Sendable (UInt64) async throws -> [UInt8]?
    private var offset: UInt64 = 0

    init(_ read: @escaping @Sendable (UInt64) async throws -> [UInt8]?) { self.read = read }

    func next() async throws -> [UInt8]? {
        guard let piece = try await read(offset) else { return nil }
        offset += UInt64(piece.count)
        return piece
    }
}

extension LocalStore {
    /// - Parameter authorityFile: a PEM file that is trusted in place of the system's authorities.
    static func mirrorService(
        _ objects: ObjectStore,
        load: ClientLoad,
        authorityFile: String?,
        logger: Logger
    ) -> (MirrorService, MirrorTransports) {
        let transports = MirrorTransports(authorityFile: authorityFile)
        let service = MirrorService(
            MirrorDirectory(MirroredStore(objects: objects)),
            make: { settings, credentials in
                try S3MirrorBackend(settings, credentials, try transports.transport())
            },
            // The store's lock is held: no other process can work on its mirrors.
            isAlone: true,
            load: load,
            logger: logger
        )
        objects.rescue = MirrorContentRescue(service)
        objects.mirrorWatch = StoreMirrorWatch(service: service)
        return (service, transports)
    }

    /// Waits until the mirrors have a version, for a command that holds the store: they are worked on here meanwhile, and
    /// until the store is closed.
    /// - Throws: `.notMirrored`.
    package func acknowledge(_ version: VersionRow, _ policy: MirrorAcknowledgement?) async throws {
        guard let policy else { return }
        mirrorWork.withLock { work in
            if work == nil { work = Task { await mirrors.run() } }
        }
        try await objects.waitForMirrors(policy, of: version)
    }

    /// Restores from a backend that this store needn't know.
    package func restore(
        from settings: MirrorSettings,
        _ credentials: MirrorCredentials,
        bucket: BucketName?,
        key: ObjectKey?
    ) async throws -> MirrorRestoreReport {
        let backend = try S3MirrorBackend(settings, credentials, try transports.transport())
        let restore = MirrorRestore(backend, prefix: settings.prefix, to: StoreRestoreTarget(objects))
        return try await restore.run(bucket: bucket, key: key)
    }
}

/// Runs the mirrors beside the servers.
struct MirrorRunner: Service {
    let mirrors: MirrorService
    let accounts: AccountDirectory
    let audits: MirrorAudits

    func run() async throws {
        // A rotation of the master key that was cut short is brought to its end; that of mirrors they do themselves.
        _ = try? await accounts.sealAnew()
        await cancelWhenGracefulShutdown {
            async let audited: Void = audits.run()
            await mirrors.run()
            await audited
        }
    }
}

extension MirrorAudits {
    /// For the metrics.
    func samples() async -> [MetricSample] {
        guard let jobs = try? await jobs() else { return [] }
        return jobs.flatMap { row, job -> [MetricSample] in
            let name = row.name.description
            func gauge(_ metric: String, _ help: String, _ value: Double, kind: String? = nil) -> MetricSample
            {
                let labels = [("mirror", name)] + (kind.map { [("kind", $0)] } ?? [])
                return MetricSample(
                    "holdfast_mirror_audit_" + metric,
                    help: help,
                    labels: labels,
                    value: value
                )
            }
            let end = Double(job.lastPassEndedAt?.milliseconds ?? 0) / 1000
            let help = "Differences that the last audit has found so far."
            return [
                gauge("running", "Whether the audit runs.", job.state == .running ? 1 : 0),
                gauge(
                    "checked",
                    "Versions that the last audit has compared so far.",
                    Double(job.checkedCount)
                ),
                gauge("found", help, Double(job.missingCount), kind: "missing"),
                gauge("found", help, Double(job.differentCount), kind: "different"),
                gauge("found", help, Double(job.extraCount), kind: "extra"),
                gauge(
                    "last_completed_seconds",
                    "When the last audit was completed, in seconds since 1970; 0: never.",
                    end
                ),
            ]
        }
    }
}

extension MirrorService {
    /// For the metrics.
    func samples() async -> [MetricSample] {
        guard let list = try? await status() else { return [] }
        let now = SystemClock().now()
        return list.flatMap { status -> [MetricSample] in
            let labels = [("mirror", status.row.name.description)]
            func gauge(_ name: String, _ help: String, _ value: Double) -> MetricSample {
                MetricSample("holdfast_mirror_" + name, help: help, labels: labels, value: value)
            }
            func counter(_ name: String, _ help: String, _ value: UInt64) -> MetricSample {
                MetricSample(
                    "holdfast_mirror_" + name,
                    help: help,
                    kind: .counter,
                    labels: labels,
                    value: Double(value)
                )
            }
            let breaker: Double =
                switch status.worker.breaker {
                case .closed: 0
                case .halfOpen: 1
                case .open: 2
                }
            return [
                gauge("pending", "Changes that wait to be mirrored.", Double(status.pendingCount)),
                gauge("pending_bytes", "Bytes of the versions that wait.", Double(status.pendingBytes)),
                gauge("lag_seconds", "Age of the oldest new change that waits.", status.lag(at: now)),
                gauge(
                    "backfill_pending",
                    "Versions from before the mirror that are queued.",
                    Double(status.beforeCount)
                ),
                gauge(
                    "backfill_lag_seconds",
                    "How long versions from before the mirror have waited for it.",
                    status.backfillLag(at: now)
                ),
                gauge(
                    "failed",
                    "Changes that were given up and wait for somebody.",
                    Double(status.deadCount)
                ),
                gauge(
                    "yielding",
                    "1: it goes at the pace that is set beside clients.",
                    status.worker.isYielding ? 1 : 0
                ),
                MetricSample(
                    "holdfast_mirror_yielded_seconds_total",
                    help: "How long its requests have waited for clients.",
                    kind: .counter,
                    labels: labels,
                    value: Double(status.worker.yieldedNanoseconds) / 1e9
                ),
                gauge("breaker", "0: closed, 1: half-open, 2: open.", breaker),
                counter("done_total", "Changes that were mirrored.", status.worker.doneCount),
                counter("sent_bytes_total", "Bytes of versions that were mirrored.", status.worker.sentBytes),
                counter("errors_total", "Attempts that failed.", status.worker.failureCount),
            ]
        }
    }
}
