import BlobVolume
import Catalog
import CatalogSQLite
import ContentHashing
import Foundation
import Logging
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization

@testable import Replication

/// The disks of one store, as they are while it is closed, and a directory for its index.
final class EngineFixture {
    let storeID = StoreID(high: 1, low: 2)
    let quorum = QuorumConfiguration.standard
    private(set) var ids: [VolumeID] = []
    /// The names that chunks are placed by: of the volumes that the store was made with.
    private var placementIDs: [VolumeID] = []
    var images: [DiskImage] = []
    let directory: URL
    var options = VolumeOptions()
    /// What the engine has of the world outside: time and chance.
    var clock: any StoreClock = SystemClock()
    var random: any RandomSource = SystemRandom()
    var makeTimers: () -> any Timers = { SystemTimers() }
    var configure: (inout Replicator.Configuration) -> Void = { configuration in
        configuration.arrivalProbeInterval = .milliseconds(5)
        configuration.inspectionInterval = .milliseconds(5)
    }
    /// Called with each volume's number before its threads are made, with nil after that of the last.
    var willOpen: (Int?) -> Void = { _ in }

    init(volumeCount: Int = 3) throws {
        let parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
        directory = URL(fileURLWithPath: "\(parent)/holdfast-engine-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        options.reserveBytes = 1 << 20
        options.logSegmentSizeMin = 256 << 10
        options.logSegmentSizeMax = 256 << 10
        options.bulkSegmentSizeMax = 4 << 20
        options.preparesSpareInBackground = false
        options.expectedStore = storeID
        ids = (0..<volumeCount).map { VolumeID(high: 7, low: UInt64($0) + 1) }
        placementIDs = ids
        for id in ids { images.append(try format(id, promise: 1)) }
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    private func format(_ id: VolumeID, promise: UInt64) throws -> DiskImage {
        let disk = CrashDisk()
        var identity = VolumeIdentity(
            storeID: storeID,
            volumeID: id,
            promise: promise,
            logSet: LogSet(version: 1, members: Array(ids.prefix(quorum.replicaCount)).sorted()),
            quorum: quorum,
            createdAt: Timestamp(milliseconds: 1)
        )
        if promise == 0 { identity.memberships = [] }
        try BlobVolume.format(disk, identity: identity, options: options)
        return disk.image
    }

    /// Puts an empty volume with a new identity in the place of one.
    func replaceVolume(_ index: Int) throws {
        ids[index] = VolumeID(high: 8, low: UInt64(index) + 1)
        images[index] = try format(ids[index], promise: 0)
    }

    func indexPath(_ name: String = "catalog.sqlite") -> String {
        directory.appendingPathComponent(name).path
    }

    func copyIndex(from original: String = "catalog.sqlite", to name: String) throws {
        for suffix in ["", "-wal", "-shm", "-sum"] {
            let source = indexPath(original) + suffix
            try? FileManager.default.removeItem(atPath: indexPath(name) + suffix)
            if FileManager.default.fileExists(atPath: source) {
                try FileManager.default.copyItem(atPath: source, toPath: indexPath(name) + suffix)
            }
        }
    }

    func removeIndex(_ name: String = "catalog.sqlite") throws {
        try SQLiteCatalog.remove(at: indexPath(name))
    }

    /// Opens the store with the volumes that are present.
    /// - Parameters:
    ///   - dyingAt: the changing call, counted from the beginning of the opening, at which the process dies.
    ///   - prepare: called when the volumes are open, before the log is recovered.
    func open(
        _ present: [Int]? = nil,
        index name: String = "catalog.sqlite",
        maintained: Bool = true,
        dyingAt: Int? = nil,
        snapshots: SnapshotSchedule = SnapshotSchedule(),
        prepare: (Int, FaultyDisk) -> Void = { _, _ in },
        opener: Replicator.VolumeOpener? = nil,
        inspector: Replicator.VolumeInspector? = nil
    ) async throws -> Engine {
        let trip = Trip()
        if let dyingAt { trip.arm(dyingAt) }
        var disks: [Int: (crash: CrashDisk, faulty: FaultyDisk)] = [:]
        var opened: [Int: BlobVolume] = [:]
        // What a failed opening left on the disks is what the next one finds.
        var isOpen = false
        defer { if !isOpen { for (index, disk) in disks { images[index] = disk.crash.image } } }
        for index in present ?? Array(ids.indices) {
            let crash = CrashDisk(images[index], label: "volume \(index + 1)")
            disks[index] = (crash, FaultyDisk(TripDisk(crash, trip)))
        }
        let identities = try disks.values.map { try BlobVolume.readIdentity($0.faulty) }
        let promises = Dictionary(uniqueKeysWithValues: identities.map { ($0.volumeID, $0.promise) })
        let failures = identities.flatMap { $0.failed.map { $0 } }
        let failed = Dictionary(
            failures.filter { $0.value.epoch >= promises[$0.key] ?? 0 }.map { ($0.key, $0.value) },
            uniquingKeysWith: PeerFailure.later
        )
        for (index, disk) in disks {
            var options = options(for: index)
            options.discardUnsynced = failed[ids[index]] != nil
            options.acknowledged = failed[ids[index]]?.acknowledged
            opened[index] = try BlobVolume.open(disk.faulty, options: options)
        }
        for (index, disk) in disks { prepare(index, disk.faulty) }
        let slots = ids.enumerated().map { index, id in
            willOpen(index)
            return VolumeSet.Slot(
                id: id,
                label: "volume \(index + 1)",
                failureDomain: "\(index)",
                placementID: placementIDs[index],
                replica: opened[index].map { LocalReplica($0, label: "volume \(index + 1)") },
                problem: opened[index] == nil ? "no volume is there" : nil
            )
        }
        willOpen(nil)
        let catalog = try SQLiteCatalog(path: indexPath(name))
        do {
            var configuration = Replicator.Configuration(storeID: storeID, quorum: quorum)
            configuration.snapshots = snapshots
            configure(&configuration)
            let (replicator, didRebuild) = try await Replicator.open(
                configuration,
                volumes: try VolumeSet(slots),
                catalog: catalog,
                mustRebuildCatalog: false,
                clock: clock,
                random: random,
                timers: makeTimers(),
                logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }),
                opener: opener,
                inspector: inspector
            )
            isOpen = true
            return Engine(
                replicator: replicator,
                catalog: catalog,
                trip: trip,
                disks: disks,
                volumes: opened,
                didRebuild: didRebuild,
                maintained: maintained,
                objects: ObjectStore(storage: replicator, random: random, clock: clock)
            )
        } catch {
            try? catalog.close()
            for slot in slots { slot.replica?.close(deadline: .seconds(2)) }
            throw error
        }
    }

    /// A volume that appears while the store is open, as soon as `isThere`; and the disk that it is on.
    func arrival(
        of index: Int,
        when isThere: @escaping @Sendable () -> Bool
    ) -> (opener: Replicator.VolumeOpener, disk: CrashDisk) {
        let disk = CrashDisk(images[index], label: "volume \(index + 1)")
        let options = options(for: index)
        let opener: Replicator.VolumeOpener = { wanted in
            guard wanted == index, isThere() else {
                return .failure(VolumeError(.identityMissing, "It is away still.", path: disk.label))
            }
            do throws(VolumeError) {
                return .success(LocalReplica(try BlobVolume.open(disk, options: options), label: disk.label))
            } catch {
                return .failure(error)
            }
        }
        return (opener, disk)
    }

    private func options(for index: Int) -> VolumeOptions {
        var expecting = options
        expecting.expectedVolume = ids[index]
        return expecting
    }

    func take(_ image: DiskImage, of index: Int) { images[index] = image }

    /// Takes over what is on the disks of an engine that was closed.
    func take(_ engine: Engine, after mode: CrashMode? = nil) {
        for (index, disk) in engine.disks {
            images[index] = mode.map { disk.crash.image.restarted(after: $0) } ?? disk.crash.image
        }
    }
}

private final class EndMark: Sendable {
    let hasEnded = Atomic<Bool>(false)
}

/// A store that is open over simulated disks.
final class Engine: Sendable {
    let replicator: Replicator
    let objects: ObjectStore
    let catalog: SQLiteCatalog
    let trip: Trip
    let disks: [Int: (crash: CrashDisk, faulty: FaultyDisk)]
    let volumes: [Int: BlobVolume]
    let didRebuild: Bool
    private let maintenance: Task<Void, Never>?

    init(
        replicator: Replicator,
        catalog: SQLiteCatalog,
        trip: Trip,
        disks: [Int: (crash: CrashDisk, faulty: FaultyDisk)],
        volumes: [Int: BlobVolume],
        didRebuild: Bool,
        maintained: Bool,
        objects: ObjectStore
    ) {
        self.replicator = replicator
        self.catalog = catalog
        self.trip = trip
        self.disks = disks
        self.volumes = volumes
        self.didRebuild = didRebuild
        self.objects = objects
        maintenance = maintained ? Task { await replicator.runMaintenance() } : nil
    }

    /// Parts may be small here: the disks are simulated.
    var objectsWithSmallParts: ObjectStore {
        var limits = PipelineLimits()
        limits.partSizeMin = 1
        return ObjectStore(storage: replicator, limits: limits)
    }

    func close(deadline: Duration = .seconds(5)) async {
        maintenance?.cancel()
        await replicator.quiesce(within: .seconds(2))
        replicator.close(deadline: deadline)
        if let maintenance, ThreadSimulation.current == nil {
            _ = await value(of: maintenance, within: .seconds(2))
        } else if let maintenance {
            // In the world's time.
            let mark = EndMark()
            Task {
                await maintenance.value
                mark.hasEnded.store(true, ordering: .relaxed)
            }
            for _ in 0..<200 where !mark.hasEnded.load(ordering: .relaxed) {
                try? await replicator.clock.sleep(for: .milliseconds(10))
            }
        }
        try? catalog.close()
    }

    func disk(_ index: Int) -> FaultyDisk {
        guard let disk = disks[index] else {
            preconditionFailure("Volume \(index) was left out of this store.")
        }
        return disk.faulty
    }

    /// Polls, because what is waited for happens on threads of the store.
    func eventually(within deadline: Duration = .seconds(20), _ condition: () async throws -> Bool)
        async rethrows -> Bool
    {
        let end = ContinuousClock.now + deadline
        while ContinuousClock.now < end {
            if try await condition() { return true }
            try? await Task.sleep(for: .milliseconds(5))
        }
        return false
    }

    /// Whether every volume that is present holds everything.
    var isWhole: Bool { replicator.replicatorStatus().wholeCount == disks.count }
}

// MARK: - Use cases, short

extension Engine {
    static let bucketName = "models"

    var bucket: BucketName { get throws { try BucketName(Self.bucketName) } }

    func makeBucket() async throws { _ = try await objects.createBucket(try bucket) }

    @discardableResult
    func put(_ key: String, _ bytes: [UInt8], _ conditions: Conditions = .none) async throws -> VersionRow {
        try await objects.put(
            PutRequest(
                bucket: try bucket,
                key: try ObjectKey(bytes: [UInt8](key.utf8)),
                conditions: conditions
            ),
            body: BufferByteSource(bytes)
        )
    }

    func address(_ key: String, _ selector: VersionSelector = .newest) throws -> VersionAddress {
        VersionAddress(bucket: try bucket, key: try ObjectKey(bytes: [UInt8](key.utf8)), selector: selector)
    }

    func get(_ key: String, _ selector: VersionSelector = .newest) async throws -> [UInt8] {
        let reader = try await objects.get(try address(key, selector))
        var bytes: [UInt8] = []
        while let piece = try await reader.next() { bytes += piece }
        return bytes
    }

    func delete(_ key: String, _ selector: VersionSelector = .newest) async throws -> DeleteResult {
        try await objects.delete(try address(key, selector))
    }

    func versions() async throws -> [VersionRow] {
        var rows: [VersionRow] = []
        try await replicator.currentCatalog().forEachVersion { row in
            rows.append(row)
            return true
        }
        return rows
    }
}

func randomBytes(_ count: Int, seed: UInt64) -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    var bytes = [UInt8](repeating: 0, count: count)
    bytes.withUnsafeMutableBytes { buffer in
        var offset = 0
        while offset < count {
            withUnsafeBytes(of: generator.next()) { word in
                for byte in word where offset < count {
                    buffer[offset] = byte
                    offset += 1
                }
            }
        }
    }
    return bytes
}

// MARK: - The end of a process

/// Counts the calls that change disks, over all of them, and stops every disk at a planned one.
final class Trip: Sendable {
    private struct State {
        var count = 0
        var limit: Int?
        var isDead = false
    }

    private let state = Mutex(State())

    var count: Int { state.withLock { $0.count } }
    var isDead: Bool { state.withLock { $0.isDead } }

    /// The process dies before the changing call with this number, counted from now and from 1.
    func arm(_ number: Int) { state.withLock { $0.limit = $0.count + number } }
    func kill() { state.withLock { $0.isDead = true } }

    func check(_ name: String, isChange: Bool) throws(DiskError) {
        let isDead = state.withLock { state in
            if state.isDead { return true }
            guard isChange else { return false }
            state.count += 1
            if let limit = state.limit, state.count >= limit { state.isDead = true }
            return state.isDead
        }
        if isDead { throw DiskError(.inputOutput, call: "trip", path: name, detail: "the process has died") }
    }
}

/// Passes calls on until the process dies.
final class TripDisk: Disk {
    private let base: any Disk
    private let trip: Trip
    let label: String

    init(_ base: any Disk, _ trip: Trip) {
        self.base = base
        self.trip = trip
        label = base.label
    }

    func open(_ name: String, _ mode: DiskOpenMode) throws(DiskError) -> any DiskFile {
        let isCreating = if case .create = mode { true } else { false }
        try trip.check(name, isChange: isCreating)
        return TripFile(try base.open(name, mode), name, trip)
    }

    func exists(_ name: String) throws(DiskError) -> Bool {
        try trip.check(name, isChange: false)
        return try base.exists(name)
    }

    func list(_ directory: String) throws(DiskError) -> [String] {
        try trip.check(directory, isChange: false)
        return try base.list(directory)
    }

    func makeDirectory(_ name: String) throws(DiskError) {
        try trip.check(name, isChange: true)
        try base.makeDirectory(name)
    }

    func rename(_ source: String, to destination: String) throws(DiskError) {
        try trip.check(source, isChange: true)
        try base.rename(source, to: destination)
    }

    func remove(_ name: String) throws(DiskError) {
        try trip.check(name, isChange: true)
        try base.remove(name)
    }

    func syncDirectory(_ name: String) throws(DiskError) {
        try trip.check(name, isChange: true)
        try base.syncDirectory(name)
    }

    func lock(_ name: String, content: [UInt8]) throws(DiskError) -> any DiskLock {
        try trip.check(name, isChange: true)
        return try base.lock(name, content: content)
    }

    func space() throws(DiskError) -> DiskSpace { try base.space() }
    func deviceID() throws(DiskError) -> UInt64 { try base.deviceID() }
}

private final class TripFile: DiskFile, SyncLosing {
    private let base: any DiskFile
    private let name: String
    private let trip: Trip

    init(_ base: any DiskFile, _ name: String, _ trip: Trip) {
        self.base = base
        self.name = name
        self.trip = trip
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        try trip.check(name, isChange: false)
        return try base.read(into: buffer, at: offset)
    }

    func write(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        try trip.check(name, isChange: true)
        try base.write(pieces, at: offset)
    }

    func writeDirect(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        try trip.check(name, isChange: true)
        try base.writeDirect(pieces, at: offset)
    }

    func sync() throws(DiskError) {
        try trip.check(name, isChange: true)
        try base.sync()
    }

    func failSync() throws(DiskError) { try (base as? any SyncLosing)?.failSync() }

    func startWriteback(offset: UInt64, length: UInt64) throws(DiskError) {
        try trip.check(name, isChange: false)
        try base.startWriteback(offset: offset, length: length)
    }

    func truncate(to size: UInt64) throws(DiskError) {
        try trip.check(name, isChange: true)
        try base.truncate(to: size)
    }

    func punchHole(offset: UInt64, length: UInt64) throws(DiskError) {
        try trip.check(name, isChange: true)
        try base.punchHole(offset: offset, length: length)
    }

    func size() throws(DiskError) -> UInt64 { try base.size() }
    func allocatedSize() throws(DiskError) -> UInt64 { try base.allocatedSize() }
    func close() { base.close() }
}

/// What a task gives within a deadline, or nil: a task that is stuck is left behind.
private func value<Value: Sendable>(of task: Task<Value, Never>, within deadline: Duration) async -> Value? {
    await withCheckedContinuation { continuation in
        let once = OnceContinuation<Value?>(continuation)
        let sleeper = Task {
            try? await Task.sleep(for: deadline)
            once.resume(returning: nil)
        }
        Task {
            once.resume(returning: await task.value)
            sleeper.cancel()
        }
    }
}
