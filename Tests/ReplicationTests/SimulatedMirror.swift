import Catalog
import Encryption
import HoldfastNode
import Logging
import Mirroring
import ObjectService
import StoreModel
import StoreTestKit

/// A mirror in a simulated world: the real queue, worker and catalog, and a backend that outlives every process.
///
/// Everything happens on the world's thread.
final class SimulatedMirror: @unchecked Sendable {
    private let world: SimulatedWorld
    private let clock: SimulatedClock
    private let random: SeededRandom
    private let keepsVersions: Bool
    private let backend: StrictS3Backend
    private let ring: MasterKeyRing
    private var task: Task<Void, Never>?
    private var hasEnded = true
    private(set) var mirroredCount = 0

    init(_ world: SimulatedWorld, _ clock: SimulatedClock, keepsVersions: Bool) {
        self.world = world
        self.clock = clock
        self.keepsVersions = keepsVersions
        random = SeededRandom(seed: world.seed &+ 7_000)
        backend = StrictS3Backend(keepsVersions: keepsVersions, seed: world.seed &+ 8_000)
        ring = MasterKeyRing(from: random)
    }

    private var name: MirrorName { get throws { try MirrorName("offsite") } }

    private func directory(_ engine: Engine) -> MirrorDirectory {
        let store = Store(base: MirroredStore(objects: engine.objects), ring: ring, random: random)
        return MirrorDirectory(store, clock: clock, random: random)
    }

    private func service(_ engine: Engine) -> MirrorService {
        var limits = MirrorWorkerLimits()
        // What is given up early has to be queued again at the end.
        limits.attemptCountMax = world.seed % 2 == 0 ? 2 : 1000
        limits.pause = .milliseconds(60)
        return MirrorService(
            directory(engine),
            make: { [backend] _, _ in backend },
            isAlone: true,
            limits: limits,
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
        )
    }

    private func add(_ engine: Engine) async throws {
        var settings = MirrorSettings(endpoint: try MirrorEndpoint("https://s3.example.org"), bucket: "b")
        settings.concurrency = 4
        do {
            _ = try await directory(engine).add(
                try name,
                settings,
                rules: [MirrorRule()],
                MirrorCredentials(accessKey: "key", secret: "secret")
            )
        } catch let error as StoreError where error.code == .conflict {
            // It was there already.
        }
    }

    // MARK: Lives

    /// Nothing leaves a process that is dead.
    private func open(to engine: Engine) {
        backend.set(gate: { [self, trip = engine.trip] in
            try await clock.sleep(for: .milliseconds(Int64(random.next() % 20)))
            if trip.isDead { throw MirrorFailure(.unreachable, "The process has died.") }
        })
    }

    /// Works beside the clients of a process; in some worlds from the second one on, so that there is something from before.
    func start(_ engine: Engine, _ random: inout SeededGenerator) async {
        if random.oneIn(3) { return }
        open(to: engine)
        // A store that can't be written gets its mirror later.
        try? await add(engine)
        upset(&random)
        let service = service(engine)
        hasEnded = false
        task = Task {
            await service.run()
            self.hasEnded = true
        }
    }

    /// - Returns: false when what was begun does not end.
    func stop() async -> Bool {
        task?.cancel()
        task = nil
        // What it had under way may wait for a disk that hangs.
        for _ in 0..<1500 where !hasEnded { try? await clock.sleep(for: .milliseconds(100)) }
        return hasEnded
    }

    func upset(_ random: inout SeededGenerator) {
        backend.fail(nil)
        backend.failWrites(nil)
        backend.set(.none)
        switch random.below(6) {
        case 0: backend.fail(MirrorFailure(.unreachable, "No connection."))
        case 1: backend.failWrites(MirrorFailure(.fault, "500"))
        case 2: backend.fail(MirrorFailure(.busy, "SlowDown", retryAfter: .milliseconds(200)))
        case 3, 4: backend.set(.all)
        default: break
        }
    }

    // MARK: The end

    /// With everything healed, the backend gets what the store has.
    /// - Returns: what is wrong.
    func finish(_ engine: Engine, _ keys: [String]) async -> [String] {
        open(to: engine)
        backend.fail(nil)
        backend.failWrites(nil)
        backend.set(.none)
        do {
            try await add(engine)
            let service = service(engine)
            try await service.runUntilIdle()
            _ = try await directory(engine).retry(try name)
            try await service.runUntilIdle()
            let status = try await service.status(of: try await directory(engine).mirror(try name))
            guard status.isUpToDate else {
                return [
                    "The mirror is not up to date: \(status.pendingCount) wait, \(status.deadCount) were given up, "
                        + "\(status.worker)"
                ]
            }
            var problems: [String] = []
            if backend.hasOverlapped { problems.append("Two writes of a key were under way at once.") }
            if backend.uploadCount > 0 { problems.append("Uploads are left at the mirror.") }
            for key in keys { problems += try await compare(key, engine) }
            return problems
        } catch {
            return ["The mirror of a healed store: \(error)"]
        }
    }

    private func compare(_ key: String, _ engine: Engine) async throws -> [String] {
        let history = try await engine.objects.history(bucket: try engine.bucket, key: try ObjectKey(key))
        let mirrored = backend.history("\(Engine.bucketName)/\(key)")
        mirroredCount += mirrored.count
        var problems: [String] = []
        if keepsVersions {
            let wanted = Self.merged(history.reversed().map { $0.isDeleteMarker ? nil : $0.id })
            let found = Self.merged(mirrored.map { $0.isMarker ? nil : $0.properties.holdfastVersion })
            if wanted != found { problems.append("\(key) is \(wanted) here, and \(found) at the mirror.") }
        }
        let newest = history.first.flatMap { $0.isDeleteMarker ? nil : $0 }
        let last = mirrored.last.flatMap { $0.isMarker ? nil : $0 }
        if newest?.id != last?.properties.holdfastVersion {
            problems.append("\(key): the newest version is not the mirror's.")
        }
        for object in mirrored where !object.isMarker {
            guard let id = object.properties.holdfastVersion else { continue }
            guard let row = history.first(where: { $0.id == id }) else {
                problems.append("\(key): the mirror has \(id), which is not here.")
                continue
            }
            if try await engine.get(key, .id(row.id)) != object.bytes {
                problems.append("\(key): \(id) has other bytes at the mirror.")
            }
        }
        return problems
    }

    /// Delete markers in a row are one: those of a backend have no names, so a worker puts no second one on top of one.
    private static func merged(_ history: [VersionID?]) -> [VersionID?] {
        history.enumerated().filter { $0.element != nil || $0.offset == 0 || history[$0.offset - 1] != nil }
            .map(\.element)
    }

    /// The store as mirrors see it, with a master key and a chance that follow from the seed.
    private struct Store: MirrorStore {
        let base: MirroredStore
        let ring: MasterKeyRing
        let random: SeededRandom

        func read<Value: Sendable>(
            _ body: @escaping @Sendable (any CatalogReader) throws -> Value
        ) async throws -> Value {
            try await base.read(body)
        }
        func write(_ documents: [DocumentWrite]) async throws { try await base.write(documents) }
        func generation(of space: DocumentSpace) -> UInt64 { base.generation(of: space) }
        func bytes(of version: VersionRow, _ range: ByteRange) async throws -> [UInt8] {
            try await base.bytes(of: version, range)
        }
        func parts(of version: VersionRow) async throws -> [ObjectPart]? { try await base.parts(of: version) }
        func sha256(
            of version: VersionRow,
            isHurried: @escaping @Sendable () -> Bool,
            spend: @Sendable (_ byteCount: UInt64, _ mayWait: Bool) async throws -> Void
        ) async throws -> Digest {
            try await base.sha256(of: version, isHurried: isHurried, spend: spend)
        }
        func needsClientKey(_ version: VersionRow) throws -> Bool { try base.needsClientKey(version) }
        func seal(_ secret: [UInt8], context: String) async throws -> SealedSecret {
            SealedSecret(secret, under: ring, context: context, random: random)
        }
        func isSealedWithNewestKey(_ secret: SealedSecret) throws -> Bool {
            secret.keeper == .masterKey(ring.newest.id)
        }
        func open(_ secret: SealedSecret, context: String) throws -> [UInt8] {
            try secret.open(with: ring, context: context)
        }
    }
}
