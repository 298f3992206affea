package import BlobVolume
internal import Encryption
internal import Foundation
internal import Replication
package import StoreModel

/// How the replacement of a volume went.
package struct ReplacementReport: Sendable {
    package let label: String
    /// What the new volume holds.
    package let recordCount: Int
    package let payloadBytes: UInt64
    /// What is still missing on it, in words.
    package let remaining: [String]
}

extension LocalStore {
    /// Makes a store: its volumes first, its configuration last, so that a half-made one is no store.
    /// - Parameter volumePaths: empty means one directory for each replica inside the store directory.
    /// - Throws: `StoreError` with `.storeAlreadyExists` when a store or anything else is in the way.
    package static func create(
        _ path: String,
        volumePaths: [String] = [],
        quorum: QuorumConfiguration = .standard,
        options: VolumeOptions = VolumeOptions()
    ) async throws -> StoreConfiguration {
        guard volumePaths.isEmpty || volumePaths.count >= quorum.replicaCount else {
            throw StoreError(
                .invalidArgument,
                "\(volumePaths.count) volumes for \(quorum.replicaCount) replicas: each replica needs its own volume."
            )
        }
        guard Set(volumePaths.map(absolute)).count == volumePaths.count else {
            throw StoreError(.invalidArgument, "The same directory is named for two volumes.")
        }
        if FileManager.default.fileExists(atPath: path + "/" + StoreConfiguration.fileName) {
            throw StoreError(.storeAlreadyExists, "There is a store in \(quoted(path)) already.")
        }
        let random = SystemRandom()
        let now = SystemClock().now()
        let inside =
            volumePaths.isEmpty
            ? (1...quorum.replicaCount).map { "volumes/\($0)" } : volumePaths.map(absolute)
        let volumes = inside.map { place in
            let id = VolumeID.random(from: random)
            return StoreConfiguration.Volume(id: id, path: place, weight: 1, failureDomain: id.description)
        }
        var configuration = StoreConfiguration(
            storeID: StoreID.random(from: random),
            quorum: quorum,
            createdAt: now,
            volumes: volumes
        )
        configuration.generation = 1
        try makeDirectory(path)
        for volume in volumes {
            let place = volume.path.hasPrefix("/") ? volume.path : path + "/" + volume.path
            try refuseVolume(at: place, newStore: path)
            try refuseForeignFiles(at: place)
        }
        let disk = try openDisk(path)
        let members = volumes.prefix(quorum.replicaCount).map(\.id)
        for volume in volumes {
            let place = volume.path.hasPrefix("/") ? volume.path : path + "/" + volume.path
            try formatVolume(
                at: place,
                VolumeIdentity(
                    storeID: configuration.storeID,
                    volumeID: volume.id,
                    promise: 1,
                    logSet: LogSet(version: 1, members: members.sorted()),
                    quorum: quorum,
                    createdAt: now
                ),
                options
            )
        }
        do throws(DiskError) {
            try disk.syncDirectory("")
        } catch {
            throw StoreError(.inputOutput, "The store directory can't be synced.", cause: error)
        }
        let copy = StoreCopy(storeDirectory: absolute(path), configuration: configuration)
        for volume in volumes {
            let place = volume.path.hasPrefix("/") ? volume.path : path + "/" + volume.path
            try copy.write(to: try openDisk(place))
        }
        let masterKey = MasterKeyFile(storeDirectory: path)
        if try masterKey.load() == nil { try masterKey.create(MasterKeyRing(from: random)) }
        let json = try configuration.json()
        do throws(DiskError) {
            try disk.replaceFile(StoreConfiguration.fileName, with: json)
        } catch {
            throw StoreError(.inputOutput, "The store's configuration can't be written.", cause: error)
        }
        return configuration
    }

    /// Puts an empty volume in the place of one that is lost: gives it a new identity, fills it from the others, and
    /// lets it take the lost one's place in the log set.
    /// - Parameter volumePath: the path of the lost volume (an empty or missing directory now), or with `oldPath` a new
    ///   place for it.
    /// - Throws: `StoreError`: `.conflict` when the old volume is still there, or the new place is not empty.
    package static func replaceVolume(
        _ path: String,
        oldPath: String,
        newPath: String?,
        options: Options = Options()
    ) async throws -> ReplacementReport {
        var directory = try await StoreDirectory.lock(path, timeout: options.lockTimeout)
        let label: String
        let inPlace: VolumeID?
        do {
            (label, inPlace) = try prepareReplacement(
                &directory,
                oldPath: oldPath,
                newPath: newPath,
                options.volume
            )
        } catch {
            directory.lock.release()
            throw error
        }
        directory.lock.release()
        let store = try await open(path, options)
        do {
            if let inPlace, !store.isReplacementUnfinished(by: inPlace) { throw occupied(label, by: inPlace) }
            try await store.finishReplacements(within: .seconds(30))
            let remaining = await store.settle(within: .seconds(7 * 24 * 3600))
            let space = store.replicator.replicatorStatus().volumes.first { $0.label == label }?.space
            try await store.close()
            return ReplacementReport(
                label: label,
                recordCount: space?.recordCount ?? 0,
                payloadBytes: space?.payloadBytes ?? 0,
                remaining: remaining
            )
        } catch {
            _ = try? await store.close()
            throw error
        }
    }

    static func occupied(_ place: String, by volume: VolumeID) -> StoreError {
        StoreError(
            .conflict,
            "\(quoted(place)) holds volume \(volume) already; a replacement starts empty.",
            advice: "If its disk is to be given up, move the directory away first."
        )
    }

    /// - Returns: the new volume's place, and the volume when it was there already: whether its replacement was
    ///   interrupted can be told only when the store is open.
    private static func prepareReplacement(
        _ directory: inout StoreDirectory,
        oldPath: String,
        newPath: String?,
        _ options: VolumeOptions
    ) throws -> (place: String, inPlace: VolumeID?) {
        let wanted = absolute(oldPath)
        let paths = directory.configuration.volumes.map { absolute(directory.volumePath($0)) }
        guard let index = paths.firstIndex(of: wanted) else {
            throw StoreError(
                .invalidArgument,
                "\(quoted(oldPath)) is no volume of this store. Its volumes: \(paths.joined(separator: ", "))."
            )
        }
        let place = newPath.map(absolute) ?? directory.volumePath(directory.configuration.volumes[index])
        let old = directory.configuration.volumes[index]
        if let holder = try identity(at: place) {
            // A replacement that was interrupted is taken up again; anything else is in the way.
            let isOfThisStore = holder.storeID == directory.configuration.storeID
            if isOfThisStore, newPath == nil, holder.volumeID == directory.configuration.volumes[index].id {
                return (place, holder.volumeID)
            }
            guard isOfThisStore, holder.promise == 0 else { throw occupied(place, by: holder.volumeID) }
            directory.configuration.volumes[index].id = holder.volumeID
        } else {
            try refuseForeignFiles(at: place)
            let id = VolumeID.random(from: SystemRandom())
            var identity = VolumeIdentity(
                storeID: directory.configuration.storeID,
                volumeID: id,
                promise: 0,
                logSet: LogSet(version: 0, members: []),
                quorum: directory.configuration.quorum,
                createdAt: SystemClock().now()
            )
            identity.memberships = []
            try formatVolume(at: place, identity, options)
            directory.configuration.volumes[index].id = id
        }
        // The new one is placed under the old one's name: nothing else moves.
        directory.configuration.volumes[index].placementID = old.placementID ?? old.id
        if let newPath { directory.configuration.volumes[index].path = absolute(newPath) }
        try directory.save()
        return (place, nil)
    }

    static func identity(at path: String) throws -> VolumeIdentity? {
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        return try? BlobVolume.readIdentity(try openDisk(path))
    }

    /// A volume with data is no place for a new one; it may be what is left of a store whose directory was lost.
    private static func refuseVolume(at place: String, newStore path: String) throws(StoreError) {
        guard let found = try? identity(at: place) else { return }
        throw StoreError(
            .storeAlreadyExists,
            "\(quoted(place)) holds volume \(found.volumeID) of store \(found.storeID).",
            advice:
                "If the directory of that store was lost, make it again with: holdfast init --store \(path) "
                + "--recover --volume \(place), with --volume for each of its volumes. For a new store use empty directories."
        )
    }

    /// What a directory may hold before a volume is made in it: what file systems put into every one, and what a
    /// making that was interrupted left behind (`BlobVolume.format` judges that).
    private static let harmlessNames: Set<String> = ["lost+found", "segments", "quarantine", "lock"]

    static func refuseForeignFiles(at place: String) throws(StoreError) {
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: place) else { return }
        let foreign = names.filter { !harmlessNames.contains($0) && !$0.hasPrefix("volume.json") }
        guard let first = foreign.min() else { return }
        throw StoreError(
            .storeAlreadyExists,
            "\(quoted(place)) is not empty: it holds \(quoted(first))"
                + (foreign.count > 1 ? " and \(foreign.count - 1) more." : "."),
            advice: "Use an empty directory for each volume."
        )
    }

    static func formatVolume(at place: String, _ identity: VolumeIdentity, _ options: VolumeOptions)
        throws
    {
        try makeDirectory(place)
        do throws(VolumeError) {
            try BlobVolume.format(try openVolumeDisk(place), identity: identity, options: options)
        } catch {
            let isInTheWay = error.code == .alreadyExists
            throw StoreError(
                isInTheWay ? .storeAlreadyExists : .inputOutput,
                "No volume can be made in \(quoted(place)).",
                advice: isInTheWay ? "Use an empty directory." : nil,
                cause: error
            )
        }
    }

    private static func openVolumeDisk(_ path: String) throws(VolumeError) -> any Disk {
        do throws(DiskError) {
            return try PosixDisk(path: path)
        } catch {
            throw VolumeError(.inputOutput, "The directory can't be opened.", path: path, cause: error)
        }
    }

    static func openDisk(_ path: String) throws(StoreError) -> any Disk {
        do throws(DiskError) {
            return try PosixDisk(path: path)
        } catch {
            throw StoreError(.inputOutput, "The directory \(quoted(path)) can't be opened.", cause: error)
        }
    }

    /// Makes a directory that only this user may enter, and what is missing above it, each name durable. What is there
    /// keeps its permissions.
    static func makeDirectory(_ path: String) throws(StoreError) {
        let url = URL(fileURLWithPath: path).standardizedFileURL
        guard !FileManager.default.fileExists(atPath: url.path) else { return }
        let parent = url.deletingLastPathComponent()
        if parent.path != url.path { try makeDirectory(parent.path) }
        do {
            try FileManager.default.createDirectory(
                atPath: url.path,
                withIntermediateDirectories: false,
                attributes: [.posixPermissions: 0o700]
            )
        } catch {
            throw StoreError(.inputOutput, "The directory \(quoted(path)) can't be made.", cause: error)
        }
        do throws(DiskError) {
            try PosixDisk(path: parent.path).syncDirectory("")
        } catch {
            throw StoreError(
                .inputOutput,
                "The directory \(quoted(parent.path)) can't be synced.",
                cause: error
            )
        }
    }

    static func absolute(_ path: String) -> String {
        URL(fileURLWithPath: path).standardizedFileURL.path
    }
}
