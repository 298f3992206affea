internal import BlobVolume
internal import Foundation
internal import Logging
internal import StoreModel
internal import Synchronization

/// A store's directory whose configuration changes while the store is open, and the copies of it in the volumes.
final class StorePlace: Sendable {
    private let state: Mutex<StoreDirectory>
    /// One writer at a time for each volume's copy, which writes what is newest then.
    private let writers = Mutex<[VolumeID: Writer]>([:])

    private final class Writer: Sendable {
        let turn = Mutex(())
    }

    init(_ directory: StoreDirectory) { state = Mutex(directory) }

    var directory: StoreDirectory { state.withLock { $0 } }

    /// Changes the configuration; on return it is durable. On failure it is as before.
    func change(_ body: (inout StoreConfiguration) -> Void) throws {
        try state.withLock { directory in
            var next = directory
            body(&next.configuration)
            try next.save()
            directory = next
        }
    }

    // MARK: Copies

    private enum Found: Sendable {
        case same
        /// Missing, damaged or older: to be written.
        case behind
        /// Another one of this generation or a later one: what store.json says has to become newer than that.
        case ahead(UInt64)
        /// No volume of this store is there, or its copy is one that this program can't judge.
        case untouchable(String)
    }

    /// Refuses to open a store by an old store.json. Copies are written after store.json: one of a later generation that
    /// names other volumes proves that this store.json was put back, and what was stored since on the other volumes
    /// would be hidden.
    /// - Throws: `.storeDamaged`.
    func refuseIfStale(of volumes: Set<VolumeID>) async throws {
        let newer = await eachVolume(of: volumes) { volume, directory -> UInt64? in
            guard let disk = try? Self.disk(of: volume, in: directory),
                let copy = try? StoreCopy.read(from: disk)
            else { return nil }
            let (own, other) = (directory.configuration, copy.configuration)
            let isOther = Set(own.volumes.map(\.id)) != Set(other.volumes.map(\.id))
            return own.storeID == other.storeID && other.generation > own.generation && isOther
                ? other.generation : nil
        }
        guard let (path, generation) = newer.compactMap({ entry in entry.1.map { (entry.path, $0) } }).first
        else { return }
        throw StoreError(
            .storeDamaged,
            "store.json is older than its copy in \(path) (generation \(directory.configuration.generation), the copy "
                + "\(generation)) and names other volumes. Nothing was opened.",
            advice: "Move store.json aside, then: holdfast init --recover, with --volume for each volume."
        )
    }

    /// Brings every volume that is there its copy of the configuration. What can't be written is told to the log, and
    /// tried again when the store is opened: store.json is what counts.
    /// - Parameter volumes: those to ask; nil: all. One that hangs makes this wait.
    func refreshCopies(_ logger: Logger, of volumes: Set<VolumeID>? = nil) async {
        let found = await eachVolume(of: volumes) { Self.look(at: $0, in: $1) }
        let newest = found.compactMap { if case .ahead(let generation) = $0.1 { generation } else { nil } }
            .max()
        let isUncounted = directory.configuration.generation == 0
        if newest != nil || isUncounted {
            do {
                try change { $0.generation = max($0.generation, newest ?? 0) }
            } catch {
                logger.warning("store.json can't be written.", metadata: ["error": "\(error)"])
                return
            }
        } else if found.allSatisfy({ if case .same = $0.1 { true } else { false } }) {
            return
        }
        for (path, problem) in await eachVolume(of: volumes, { self.write(to: $0, in: $1) }) {
            guard let problem else { continue }
            logger.warning(
                "A volume has no copy of store.json of the newest state.",
                metadata: ["volume": "\(path)", "problem": "\(problem)"]
            )
        }
    }

    /// Runs a blocking call for each volume, side by side; one that hangs is left out.
    private func eachVolume<Value: Sendable>(
        of volumes: Set<VolumeID>?,
        _ body: @escaping @Sendable (StoreConfiguration.Volume, StoreDirectory) -> Value
    ) async -> [(path: String, Value)] {
        let directory = directory
        return await withTaskGroup(of: (String, Value?).self) { group in
            for volume in directory.configuration.volumes where volumes?.contains(volume.id) != false {
                group.addTask {
                    let path = directory.volumePath(volume)
                    let value = await StoreDirectory.bounded(Limits.identityDeadline, "hf-copy") {
                        body(volume, directory)
                    }
                    return (path, value)
                }
            }
            var results: [(String, Value)] = []
            for await (path, value) in group {
                if let value { results.append((path, value)) }
            }
            return results
        }
    }

    private static func look(at volume: StoreConfiguration.Volume, in directory: StoreDirectory) -> Found {
        do {
            guard let disk = try disk(of: volume, in: directory) else {
                return .untouchable("it is not there")
            }
            guard let copy = try StoreCopy.read(from: disk) else { return .behind }
            let wanted = try directory.copy.encoded()
            if try copy.encoded() == wanted { return .same }
            let isOlder = copy.configuration.generation < directory.configuration.generation
            return isOlder ? .behind : .ahead(copy.configuration.generation)
        } catch let error as StoreError where error.code == .storeDamaged {
            return .behind
        } catch {
            return .untouchable("\(error)")
        }
    }

    /// - Returns: why the volume has no copy of what is newest; nil when it has one, or is not there.
    private func write(to volume: StoreConfiguration.Volume, in directory: StoreDirectory) -> String? {
        let writer = writers.withLock { writers in
            let writer = writers[volume.id] ?? Writer()
            writers[volume.id] = writer
            return writer
        }
        return writer.turn.withLock { _ in
            let newest = self.directory
            switch Self.look(at: volume, in: newest) {
            case .same: return nil
            case .ahead: return "it has a copy of a later state"
            case .untouchable(let why): return why
            case .behind: break
            }
            do {
                guard let disk = try Self.disk(of: volume, in: newest) else { return nil }
                try newest.copy.write(to: disk)
                return nil
            } catch {
                return "\(error)"
            }
        }
    }

    /// The directory of a volume, nil when that volume of this store is not there.
    private static func disk(
        of volume: StoreConfiguration.Volume,
        in directory: StoreDirectory
    ) throws -> (any Disk)? {
        guard let disk = try? PosixDisk(path: directory.volumePath(volume)),
            let found = try? BlobVolume.readIdentity(disk)
        else { return nil }
        let isIt = found.storeID == directory.configuration.storeID && found.volumeID == volume.id
        return isIt ? disk : nil
    }
}

extension StoreDirectory {
    /// What each volume is to have.
    var copy: StoreCopy {
        StoreCopy(storeDirectory: LocalStore.absolute(path), configuration: configuration)
    }
}
