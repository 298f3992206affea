internal import BlobVolume
internal import Foundation
internal import StoreModel

/// How a store's directory was made again.
package struct StoreRecoveryReport: Sendable {
    package let configuration: StoreConfiguration
    /// The generation that was found, and the volumes whose copy told it.
    package let generation: UInt64
    package let sources: [String]
    package let hasMasterKey: Bool
    package let remarks: [String]
}

extension LocalStore {
    private struct FoundVolume {
        let place: String
        let disk: any Disk
        let identity: VolumeIdentity
        var copy: StoreCopy?
        var problem: String?
    }

    /// Makes the directory of a store again out of its volumes' copies of store.json.
    ///
    /// 1. Of the copies that are whole the one of the highest generation counts; two of that generation that differ are a
    ///    question for a person.
    /// 2. So many volumes must be named that they could open the store: then any change of the volumes that the store
    ///    went on with is in one of them.
    /// 3. No volume may be in use, and nothing in them changes but the copy.
    /// - Parameter volumePaths: where the volumes are now; empty means those in the store's own directory.
    /// - Throws: `StoreError`: `.storeAlreadyExists`, `.invalidArgument` for what is no volume of one store,
    ///   `.notEnoughReplicas` when too few are named, `.storeDamaged` when no copy is whole, `.storeInUse`.
    package static func recover(
        _ path: String,
        volumePaths: [String],
        lockTimeout: Duration = .zero
    ) async throws -> StoreRecoveryReport {
        try refuseReadableStore(path)
        let places = try volumePaths.isEmpty ? volumesInside(path) : volumePaths.map(absolute)
        var found = try places.map(findVolume)
        try checkBelonging(found)
        let locks = try lockAll(found)
        defer { for lock in locks { lock.release() } }
        for index in found.indices {
            do throws(StoreError) {
                found[index].copy = try StoreCopy.read(from: found[index].disk)
                if found[index].copy == nil { found[index].problem = "it has none" }
            } catch {
                // What a later version wrote may be the newest.
                if error.code == .unsupportedFormat { throw error }
                found[index].problem = error.message
            }
        }
        let newest = try newestCopy(found)
        try checkQuorum(found, newest.configuration)
        var configuration = newest.configuration
        var remarks = found.compactMap { volume in
            volume.problem.map { "\(volume.place) had no whole copy of store.json: \($0)" }
        }
        place(&configuration, found, storePath: path, oldStorePath: newest.storeDirectory, &remarks)
        let sources = found.filter { $0.copy?.configuration.generation == configuration.generation }.map(
            \.place
        )
        try makeDirectory(path)
        let disk = try openDisk(path)
        let lock = try await StoreDirectory.takeLock(disk, path, lockTimeout)
        defer { lock.release() }
        // Somebody else may have been faster.
        try refuseReadableStore(path)
        try setAside(disk)
        var directory = StoreDirectory(path: path, disk: disk, lock: lock, configuration: configuration)
        try directory.save()
        for volume in found where configuration.volumes.contains(where: { $0.id == volume.identity.volumeID })
        {
            do throws(StoreError) {
                try directory.copy.write(to: volume.disk)
            } catch {
                remarks.append("\(error.message) It is written when the store is opened.")
            }
        }
        return StoreRecoveryReport(
            configuration: directory.configuration,
            generation: configuration.generation,
            sources: sources,
            hasMasterKey: FileManager.default.fileExists(atPath: path + "/" + MasterKeyFile.fileName),
            remarks: remarks
        )
    }

    // MARK: Looking

    private static func refuseReadableStore(_ path: String) throws {
        do {
            _ = try StoreDirectory.readConfiguration(path)
        } catch let error as StoreError where error.code == .storeNotFound || error.code == .storeDamaged {
            return
        }
        throw StoreError(
            .storeAlreadyExists,
            "There is a store in \(quoted(path)), and its store.json can be read: there is nothing to recover."
        )
    }

    private static func volumesInside(_ path: String) throws(StoreError) -> [String] {
        let parent = absolute(path) + "/volumes"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
        let places = names.sorted().map { parent + "/" + $0 }
            .filter { FileManager.default.fileExists(atPath: $0 + "/volume.json") }
        guard !places.isEmpty else {
            throw StoreError(
                .invalidArgument,
                "There are no volumes in \(quoted(parent)).",
                advice: "Name them: --volume DIR for each."
            )
        }
        return places
    }

    private static func findVolume(_ place: String) throws -> FoundVolume {
        let disk = try openDisk(place)
        do throws(VolumeError) {
            return FoundVolume(place: place, disk: disk, identity: try BlobVolume.readIdentity(disk))
        } catch {
            let code: StoreError.Code =
                switch error.code {
                case .identityMissing: .invalidArgument
                case .unsupportedFormat: .unsupportedFormat
                case .corrupt: .storeDamaged
                default: .inputOutput
                }
            throw StoreError(
                code,
                "\(quoted(place)): \(error.message)",
                advice: "Leave it out if the others are enough: it is looked for when the store is open.",
                cause: error
            )
        }
    }

    private static func checkBelonging(_ found: [FoundVolume]) throws(StoreError) {
        for (index, volume) in found.enumerated() {
            if let first = found.first, first.identity.storeID != volume.identity.storeID {
                throw StoreError(
                    .invalidArgument,
                    "\(quoted(first.place)) is a volume of store \(first.identity.storeID), "
                        + "\(quoted(volume.place)) one of store \(volume.identity.storeID)."
                )
            }
            if let other = found[..<index].first(where: { $0.identity.volumeID == volume.identity.volumeID })
            {
                throw StoreError(
                    .invalidArgument,
                    "\(quoted(other.place)) and \(quoted(volume.place)) are the same volume, "
                        + "\(volume.identity.volumeID).",
                    advice: "One of them is a copy; name the one that the store used last."
                )
            }
        }
    }

    private static func lockAll(_ found: [FoundVolume]) throws(StoreError) -> [any DiskLock] {
        var locks: [any DiskLock] = []
        for volume in found {
            do throws(DiskError) {
                let content = [UInt8](String(ProcessInfo.processInfo.processIdentifier).utf8)
                locks.append(try volume.disk.lock("lock", content: content))
            } catch {
                for lock in locks { lock.release() }
                guard error.code == .locked else {
                    throw StoreError(.inputOutput, "\(quoted(volume.place)) can't be locked.", cause: error)
                }
                throw StoreError(
                    .storeInUse,
                    "\(quoted(volume.place)) is in use by process \(error.detail).",
                    advice: "Stop it first."
                )
            }
        }
        return locks
    }

    // MARK: Choosing

    private static func newestCopy(_ found: [FoundVolume]) throws(StoreError) -> StoreCopy {
        let copies = found.compactMap { volume in volume.copy.map { (volume.place, $0) } }
            .filter { $0.1.configuration.storeID == found.first?.identity.storeID }
        guard let newest = copies.max(by: { $0.1.configuration.generation < $1.1.configuration.generation })
        else {
            let reasons = found.map { "\($0.place): \($0.problem ?? "its copy is of another store")" }
            throw StoreError(
                .storeDamaged,
                "No volume has a whole copy of store.json. \(reasons.joined(separator: "; ")).",
                advice: "Name the other volumes too, or put a copy of store.json back."
            )
        }
        let wanted = try newest.1.encoded()
        for (place, copy) in copies
        where copy.configuration.generation == newest.1.configuration.generation && place != newest.0 {
            guard try copy.encoded() == wanted else {
                throw StoreError(
                    .storeDamaged,
                    "The copies of store.json in \(quoted(newest.0)) and \(quoted(place)) have the same "
                        + "generation, \(copy.configuration.generation), and differ.",
                    advice: "Look at both, and leave out the volume whose copy the store did not use last."
                )
            }
        }
        return newest.1
    }

    /// - Throws: `.notEnoughReplicas` unless the volumes could open the store together.
    private static func checkQuorum(
        _ found: [FoundVolume],
        _ configuration: StoreConfiguration
    ) throws(StoreError) {
        let logSet = found.map(\.identity.logSet).max { $0.version < $1.version }
        let known = configuration.volumes.map(\.id)
        let members = logSet.map(\.members).flatMap { $0.isEmpty ? nil : $0 } ?? known
        // One without a whole copy says nothing of what the store was last.
        let named = found.filter { $0.copy != nil && members.contains($0.identity.volumeID) }.count
        guard named < configuration.quorum.writeQuorum else { return }
        let missing = configuration.volumes.filter { volume in
            !found.contains { $0.identity.volumeID == volume.id }
        }
        throw StoreError(
            .notEnoughReplicas,
            "\(named) of the \(members.count) volumes that carry the commit log were named and have a whole copy of "
                + "store.json; it takes \(configuration.quorum.writeQuorum) to know that none is newer."
                + found.compactMap { volume in volume.problem.map { " \(volume.place): \($0)." } }.joined(),
            advice: "Name the others too. They were in: \(missing.map(\.path).joined(separator: ", "))"
        )
    }

    /// Gives every volume the path where it is now.
    private static func place(
        _ configuration: inout StoreConfiguration,
        _ found: [FoundVolume],
        storePath: String,
        oldStorePath: String,
        _ remarks: inout [String]
    ) {
        let store = absolute(storePath)
        for index in configuration.volumes.indices {
            let volume = configuration.volumes[index]
            if let here = found.first(where: { $0.identity.volumeID == volume.id }) {
                let isInside = here.place.hasPrefix(store + "/")
                configuration.volumes[index].path =
                    isInside ? String(here.place.dropFirst(store.count + 1)) : here.place
            } else {
                let old =
                    volume.path.hasPrefix("/") ? volume.path : absolute(oldStorePath + "/" + volume.path)
                configuration.volumes[index].path = old
                remarks.append("Volume \(volume.id) was not named; it is looked for in \(old).")
            }
        }
        for volume in found
        where !configuration.volumes.contains(where: { $0.id == volume.identity.volumeID }) {
            remarks.append(
                "\(volume.place) was left out: the store no longer counts volume "
                    + "\(volume.identity.volumeID) among its own."
            )
        }
    }

    /// A store.json that can't be read is kept beside the new one.
    private static func setAside(_ disk: any Disk) throws(StoreError) {
        do throws(DiskError) {
            guard try disk.exists(StoreConfiguration.fileName) else { return }
            try disk.rename(StoreConfiguration.fileName, to: StoreConfiguration.fileName + ".damaged")
        } catch {
            throw StoreError(.inputOutput, "The damaged store.json can't be set aside.", cause: error)
        }
    }
}
