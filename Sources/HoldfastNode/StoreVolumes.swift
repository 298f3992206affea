internal import BlobVolume
internal import Replication
internal import StoreModel

/// The volumes of a store, opened. Every call of a disk runs on a thread of its own and is waited for so long: a disk that
/// hangs leaves the store without that volume, not without an answer.
extension StoreDirectory {
    struct OpenedVolume: Sendable {
        let slot: VolumeSet.Slot
        let report: VolumeOpenReport?
        /// Why it is not open.
        let error: VolumeError?
    }

    /// Opens every volume that can be opened, side by side; the others get the reason why not.
    /// - Throws: `StoreError` when a volume is of an unknown format or held by another process: going on without it
    ///   would be wrong.
    func openVolumes(_ options: VolumeOptions) async throws -> [OpenedVolume] {
        let identities = await identities()
        let failed = failedVolumes(identities)
        let opened = await withTaskGroup(of: (Int, BlobVolume?, VolumeError?).self) { group in
            for (index, volume) in configuration.volumes.enumerated() {
                group.addTask {
                    // What it may have recorded of its peers' failures is not known: it must not be heard later either.
                    if case .noAnswer(let error) = identities[index] { return (index, nil, error) }
                    let volumeOptions = Self.options(options, after: failed[volume.id])
                    let (result, error) = await self.openVolume(volume, volumeOptions)
                    return (index, result, error)
                }
            }
            var results = [(BlobVolume?, VolumeError?)](
                repeating: (nil, nil),
                count: configuration.volumes.count
            )
            for await (index, volume, error) in group { results[index] = (volume, error) }
            return results
        }
        do {
            try checkRefusals(opened.map(\.1))
        } catch {
            for (volume, _) in opened { try? volume?.close() }
            throw error
        }
        return zip(configuration.volumes, opened).map { volume, result in
            let label = volumePath(volume)
            let slot = VolumeSet.Slot(
                id: volume.id,
                label: label,
                weight: volume.weight,
                failureDomain: volume.failureDomain,
                placementID: volume.placementID,
                replica: result.0.map { LocalReplica($0, label: label) },
                problem: result.1.map(Self.problem)
            )
            return OpenedVolume(slot: slot, report: result.0?.openReport, error: result.1)
        }
    }

    /// Opens a volume that was absent, if it is there by now, with what its peers recorded of it in mind.
    func openArrived(_ id: VolumeID, _ options: VolumeOptions) async -> Result<any Replica, VolumeError> {
        guard let index = configuration.volumes.firstIndex(where: { $0.id == id }) else {
            let error = VolumeError(.identityMissing, "It is no volume of this store any more.", path: path)
            return .failure(error)
        }
        let volume = configuration.volumes[index]
        let identities = await identities()
        if case .noAnswer(let error) = identities[index] { return .failure(error) }
        let volumeOptions = Self.options(options, after: failedVolumes(identities)[volume.id])
        let (opened, error) = await openVolume(volume, volumeOptions)
        let path = volumePath(volume)
        if let opened { return .success(LocalReplica(opened, label: path)) }
        return .failure(error ?? VolumeError(.identityMissing, "The volume is not there.", path: path))
    }

    /// Looks whether a volume is where the configuration says: through its path, as somebody who opens it now would.
    func inspect(_ id: VolumeID) async -> VolumeError? {
        guard let volume = configuration.volumes.first(where: { $0.id == id }) else { return nil }
        let path = volumePath(volume)
        let storeID = configuration.storeID
        return await Self.bounded(Limits.identityDeadline, "hf-inspect") { () -> VolumeError? in
            Self.inspectBlocking(path, storeID, id)
        } ?? nil
    }

    private static func inspectBlocking(_ path: String, _ storeID: StoreID, _ id: VolumeID) -> VolumeError? {
        let disk: PosixDisk
        do throws(DiskError) {
            disk = try PosixDisk(path: path)
        } catch {
            return .unopened(path, error)
        }
        do throws(VolumeError) {
            let found = try BlobVolume.readIdentity(disk)
            guard found.storeID == storeID, found.volumeID == id else {
                return VolumeError(.identityMismatch, "volume \(found.volumeID) is there now", path: path)
            }
            return nil
        } catch {
            // What can't be read may be there: that is for its errors to tell.
            guard error.code == .identityMissing else { return nil }
            return error
        }
    }

    private static func problem(_ error: VolumeError) -> String {
        error.code == .identityMissing ? "no volume is there: \(error.message)" : error.description
    }

    // MARK: Identities

    private enum FoundIdentity: Sendable {
        case found(VolumeIdentity)
        case none
        case noAnswer(VolumeError)
    }

    private func identities() async -> [FoundIdentity] {
        await withTaskGroup(of: (Int, FoundIdentity).self) { group in
            for (index, volume) in configuration.volumes.enumerated() {
                let path = volumePath(volume)
                group.addTask { (index, await Self.identity(path)) }
            }
            var results = [FoundIdentity](repeating: .none, count: configuration.volumes.count)
            for await (index, found) in group { results[index] = found }
            return results
        }
    }

    private static func identity(_ path: String) async -> FoundIdentity {
        let found = await bounded(Limits.identityDeadline, "hf-identity") { () -> FoundIdentity in
            guard let disk = try? PosixDisk(path: path), let identity = try? BlobVolume.readIdentity(disk)
            else { return .none }
            return .found(identity)
        }
        return found ?? .noAnswer(.noAnswer(from: path, within: Limits.identityDeadline))
    }

    /// Volumes whose failure a peer recorded since they were last opened. Such a volume may hold bytes in the page
    /// cache that never reached the device, and an fsync now would say that all is well: it must be opened without what
    /// is not known to be synced, and that has to be known before it is opened at all.
    /// The last failure of each, as the peer that knows most of it recorded it.
    private func failedVolumes(_ identities: [FoundIdentity]) -> [VolumeID: PeerFailure] {
        var promises: [VolumeID: UInt64] = [:]
        var failures: [(VolumeID, PeerFailure)] = []
        for case .found(let identity) in identities where identity.storeID == configuration.storeID {
            promises[identity.volumeID] = identity.promise
            failures += identity.failed.map { ($0.key, $0.value) }
        }
        return Dictionary(
            failures.filter { $0.1.epoch >= promises[$0.0] ?? 0 },
            uniquingKeysWith: PeerFailure.later
        )
    }

    private static func options(_ options: VolumeOptions, after failure: PeerFailure?) -> VolumeOptions {
        guard let failure else { return options }
        var changed = options
        changed.discardUnsynced = true
        changed.acknowledged = failure.acknowledged
        return changed
    }

    // MARK: Opening

    private func checkRefusals(_ errors: [VolumeError?]) throws {
        for error in errors.compactMap({ $0 }) {
            switch error.code {
            case .unsupportedFormat:
                throw StoreError(
                    .unsupportedFormat,
                    error.message,
                    advice: "Nothing was changed.",
                    cause: error
                )
            case .locked:
                throw StoreError(.storeInUse, error.message, advice: "Wait until it is done.", cause: error)
            default: continue
            }
        }
    }

    func openVolume(
        _ volume: StoreConfiguration.Volume,
        _ options: VolumeOptions
    ) async -> (BlobVolume?, VolumeError?) {
        var expecting = options
        expecting.expectedStore = configuration.storeID
        expecting.expectedVolume = volume.id
        let path = volumePath(volume)
        let opened = await Self.bounded(
            Limits.volumeOpenDeadline,
            "hf-open",
            late: { try? $0.0?.close() },
            { [expecting, isReadOnly] in Self.openBlocking(path, expecting, isReadOnly: isReadOnly) }
        )
        return opened ?? (nil, .noAnswer(from: path, within: Limits.volumeOpenDeadline))
    }

    private static func openBlocking(
        _ path: String,
        _ options: VolumeOptions,
        isReadOnly: Bool
    ) -> (BlobVolume?, VolumeError?) {
        let disk: PosixDisk
        do throws(DiskError) {
            disk = try PosixDisk(path: path)
        } catch {
            return (nil, .unopened(path, error))
        }
        do throws(VolumeError) {
            let disk: any Disk = isReadOnly ? OverlayDisk(disk) : disk
            return (try BlobVolume.open(disk, options: options), nil)
        } catch {
            return (nil, error)
        }
    }

    /// Runs a blocking call on a thread of its own.
    /// - Parameter late: takes the result, on that thread, when nobody waits for it any more.
    /// - Returns: nil when the call did not return in time.
    package static func bounded<Value: Sendable>(
        _ deadline: Duration,
        _ name: String,
        late: @escaping @Sendable (Value) -> Void = { _ in },
        _ body: @escaping @Sendable () -> Value
    ) async -> Value? {
        await withCheckedContinuation { (continuation: CheckedContinuation<Value?, Never>) in
            let once = OnceContinuation(continuation)
            let thread = WorkerThread(name: name, costMax: 1)
            thread.submit {
                let value = body()
                if !once.resume(returning: value) { late(value) }
                thread.stop()
            }
            openingTimers.schedule(after: deadline) { once.resume(returning: nil) }
        }
    }
}

/// For the deadlines of openings.
private let openingTimers = SystemTimers()
