package import BlobVolume
internal import Catalog
internal import CatalogSQLite
internal import Foundation
internal import Replication
internal import StoreModel

/// A store's directory, locked by this process: the configuration, the lock, the catalog's index, and the volumes
/// unless they are elsewhere.
///
///     store.json              StoreConfiguration.swift
///     lock                    the process that has the store
///     master.key              MasterKeyFile.swift
///     catalog/catalog.sqlite  the index: can be lost, is rebuilt from the replicas
///     catalog/rebuilt         it was thrown away, and garbage collection is not on hold for that yet
///     volumes/1, 2, 3         the volumes, by default; each with a copy of store.json (StoreCopy.swift)
package struct StoreDirectory: Sendable {
    package let path: String
    let disk: any Disk
    let lock: any DiskLock
    package var configuration: StoreConfiguration
    /// Nothing is written, neither here nor to a volume: volumes are opened over memory (`OverlayDisk`), and the index is
    /// copied.
    package var isReadOnly = false

    /// Reads the configuration and takes the lock.
    /// - Parameter mayReadOnly: a store on a read-only file system is opened to be read.
    /// - Throws: `StoreError` with `.storeNotFound`, `.storeInUse`, `.unsupportedFormat`, `.storeDamaged`,
    ///   `.fileAccessDenied`.
    package static func lock(
        _ path: String,
        timeout: Duration,
        mayReadOnly: Bool = false
    ) async throws -> StoreDirectory {
        let disk = try open(path)
        do {
            guard try disk.exists(StoreConfiguration.fileName) else { throw notFound(path) }
        } catch let error as DiskError {
            throw failure("The store \(quoted(path)) can't be read", error)
        }
        let lock: any DiskLock
        var isReadOnly = false
        do {
            lock = try await takeLock(disk, path, timeout)
        } catch let error as StoreError {
            guard mayReadOnly, (error.cause as? DiskError)?.code == .readOnly else { throw error }
            isReadOnly = true
            lock = try await takeLock(path, timeout) { () throws(DiskError) in
                try disk.lockForReading("lock")
            }
        }
        do {
            return StoreDirectory(
                path: path,
                disk: disk,
                lock: lock,
                configuration: try readConfiguration(disk, path),
                isReadOnly: isReadOnly
            )
        } catch let error as DiskError {
            lock.release()
            throw failure("The store's configuration can't be read", error)
        } catch {
            lock.release()
            throw error
        }
    }

    /// The configuration of a store that another process may hold.
    /// - Throws: as `lock` does.
    package static func readConfiguration(_ path: String) throws -> StoreConfiguration {
        do {
            return try readConfiguration(try open(path), path)
        } catch let error as DiskError {
            if error.code == .notFound { throw notFound(path) }
            throw failure("The store's configuration can't be read", error)
        }
    }

    private static func readConfiguration(_ disk: any Disk, _ path: String) throws -> StoreConfiguration {
        let bytes = try disk.readFile(
            StoreConfiguration.fileName,
            byteCountMax: StoreConfiguration.byteCountMax
        )
        do throws(StoreError) {
            return try StoreConfiguration(json: bytes, path: path + "/" + StoreConfiguration.fileName)
        } catch {
            guard error.code == .storeDamaged else { throw error }
            throw StoreError(
                error.code,
                error.message,
                advice: "Make it again from its copies in the volumes: holdfast init --store \(path) "
                    + "--recover, with --volume DIR for each volume that is elsewhere.",
                cause: error.cause
            )
        }
    }

    private static func open(_ path: String) throws -> PosixDisk {
        do {
            return try PosixDisk(path: path)
        } catch {
            if error.code == .notFound { throw notFound(path) }
            throw failure("The store directory \(quoted(path)) can't be opened", error)
        }
    }

    private static func notFound(_ path: String) -> StoreError {
        StoreError(
            .storeNotFound,
            "There is no store in \(quoted(path)).",
            advice: "Make one with: holdfast init --store \(path). If it was lost and its volumes are there: "
                + "holdfast init --store \(path) --recover --volume DIR, with --volume for each of them."
        )
    }

    static func takeLock(_ disk: any Disk, _ path: String, _ timeout: Duration) async throws
        -> any DiskLock
    {
        let content = [UInt8]("\(ProcessInfo.processInfo.processIdentifier)\n".utf8)
        return try await takeLock(path, timeout) { () throws(DiskError) in
            try disk.lock("lock", content: content)
        }
    }

    private static func takeLock(
        _ path: String,
        _ timeout: Duration,
        _ take: () throws(DiskError) -> any DiskLock
    ) async throws -> any DiskLock {
        let end = ContinuousClock.now + timeout
        while true {
            do throws(DiskError) {
                return try take()
            } catch {
                guard error.code == .locked else {
                    throw failure("The store \(quoted(path)) can't be locked", error)
                }
                guard ContinuousClock.now < end else { throw inUse(path, holder: error.detail) }
            }
            try await SystemClock().sleep(for: .milliseconds(50))
        }
    }

    /// A call of the file layer that failed: with the system's reason, and what to do about it.
    static func failure(_ what: String, _ error: DiskError) -> StoreError {
        let isDenied = error.code == .permission || error.code == .readOnly
        let advice: String? =
            switch error.code {
            case .readOnly: readOnlyAdvice
            case .permission: "Run the command as the user that the store belongs to."
            default: nil
            }
        return StoreError(
            isDenied ? .fileAccessDenied : .inputOutput,
            "\(what): \(error).",
            advice: advice,
            cause: error
        )
    }

    private static let readOnlyAdvice = """
        This writes to the store: mount its file system so that it can be written. What works on a read-only one: get, ls, \
        log, stat, status, du, fsck, verify --no-repair.
        """

    static func inUse(_ path: String, holder: String) -> StoreError {
        let process = holder.trimmingCharacters(in: .whitespacesAndNewlines)
        return StoreError(
            .storeInUse,
            "The store \(quoted(path)) is in use by process \(process.isEmpty ? "unknown" : process).",
            advice: "Wait until it is done, or use --lock-timeout to wait longer."
        )
    }

    /// Writes the configuration durably, as the next generation. `StorePlace.refreshCopies` brings it to the volumes.
    mutating func save() throws(StoreError) {
        let (generation, isTooHigh) = configuration.generation.addingReportingOverflow(1)
        guard !isTooHigh else {
            throw StoreError(
                .storeDamaged,
                "store.json: no generation can follow \(configuration.generation)."
            )
        }
        var next = configuration
        next.generation = generation
        do throws(DiskError) {
            try disk.replaceFile(StoreConfiguration.fileName, with: try Self.bytes(next))
            configuration = next
        } catch {
            throw Self.failure("The store's configuration can't be written", error)
        }
    }

    private static func bytes(_ configuration: StoreConfiguration) throws(DiskError) -> [UInt8] {
        do throws(StoreError) {
            return try configuration.json()
        } catch {
            throw DiskError(
                .inputOutput,
                call: "encode",
                path: StoreConfiguration.fileName,
                detail: "\(error)"
            )
        }
    }

    package func volumePath(_ volume: StoreConfiguration.Volume) -> String {
        volume.path.hasPrefix("/") ? volume.path : path + "/" + volume.path
    }

    /// Checks every volume's files, one after the other; changes nothing.
    package func checkVolumes(deep: Bool) async -> [(
        label: String, result: Result<VolumeCheckReport, VolumeError>
    )] {
        var results: [(String, Result<VolumeCheckReport, VolumeError>)] = []
        for volume in configuration.volumes {
            let path = volumePath(volume)
            let result: Result<VolumeCheckReport, VolumeError> = await withCheckedContinuation {
                continuation in
                let thread = WorkerThread(name: "hf-check", costMax: 1)
                thread.submit {
                    continuation.resume(returning: Self.checkBlocking(path, deep: deep))
                    thread.stop()
                }
            }
            results.append((path, result))
        }
        return results
    }

    private static func checkBlocking(_ path: String, deep: Bool) -> Result<VolumeCheckReport, VolumeError> {
        let disk: PosixDisk
        do throws(DiskError) {
            disk = try PosixDisk(path: path)
        } catch {
            return .failure(.unopened(path, error))
        }
        do throws(VolumeError) {
            return .success(try VolumeCheck.run(disk, deep: deep))
        } catch {
            return .failure(error)
        }
    }

    /// Lets other processes have the store.
    package func release() { lock.release() }

    // MARK: Catalog

    /// Opens the index; one that is missing, damaged or to be rebuilt is made anew, empty.
    /// - Parameter copy: where a copy of it is, which is opened in its place.
    func openCatalog(mustReset: Bool, copy: CatalogCopy? = nil) throws -> (SQLiteCatalog, isNew: Bool) {
        if let copy { return try openCatalog(at: copy.path, mustReset: mustReset) }
        do throws(DiskError) {
            try disk.makeDirectory("catalog")
        } catch {
            throw Self.failure("The catalog's directory can't be made", error)
        }
        return try openCatalog(at: catalogPath, mustReset: mustReset)
    }

    var catalogPath: String { path + "/catalog/catalog.sqlite" }

    private func openCatalog(at file: String, mustReset: Bool) throws -> (SQLiteCatalog, isNew: Bool) {
        let existed = FileManager.default.fileExists(atPath: file)
        if mustReset || !existed { try noteRebuild() }
        do throws(CatalogError) {
            if mustReset { try SQLiteCatalog.remove(at: file) }
            do throws(CatalogError) {
                return (try SQLiteCatalog(path: file), mustReset || !existed)
            } catch {
                guard error.needsRebuild else { throw error }
            }
        } catch {
            throw error.storeError
        }
        try noteRebuild()
        do throws(CatalogError) {
            try SQLiteCatalog.remove(at: file)
            return (try SQLiteCatalog(path: file), true)
        } catch {
            throw error.storeError
        }
    }

    private static let rebuildNote = "catalog/rebuilt"

    /// Notes, durably, that the index is about to be made anew: whatever happens from here on, garbage collection will be
    /// on hold. Before the index, because a crash must not leave a new one that nobody suspects.
    func noteRebuild() throws(StoreError) {
        guard !isReadOnly else { return }
        do throws(DiskError) {
            if try disk.exists(Self.rebuildNote) { return try disk.syncDirectory("catalog") }
            let file = try disk.open(Self.rebuildNote, .create)
            file.close()
            try disk.syncDirectory("catalog")
            try disk.syncDirectory("")
        } catch {
            throw Self.failure("The catalog's directory can't be written", error)
        }
    }

    /// Whether the index was made anew and the hold on garbage collection is not committed yet.
    var hasRebuildNote: Bool {
        get throws(StoreError) {
            do throws(DiskError) {
                return try disk.exists(Self.rebuildNote)
            } catch {
                throw Self.failure("The catalog's directory can't be read", error)
            }
        }
    }

    func clearRebuildNote() throws(StoreError) {
        do throws(DiskError) {
            try disk.remove(Self.rebuildNote)
            try disk.syncDirectory("catalog")
        } catch {
            throw Self.failure("The catalog's directory can't be written", error)
        }
    }
}
