internal import Catalog
package import Encryption
package import StoreModel
internal import Synchronization

/// Where the master keys are kept: a file beside the store, not in it.
package protocol MasterKeyStorage: Sendable {
    /// For messages.
    var path: String { get }
    /// - Returns: nil when there is no file.
    func load() throws(StoreError) -> MasterKeyRing?
    /// - Throws: `.conflict` when there is a file already.
    func create(_ ring: MasterKeyRing) throws(StoreError)
    /// Puts the file in the place of the one that is there, whole or not at all.
    func replace(_ ring: MasterKeyRing) throws(StoreError)
}

/// The master keys of an open store.
///
/// 1. A store works without them; only what is encrypted and the secrets of access keys need them.
/// 2. A key is made when it is first needed, but never for a store that has used one: then the file is lost, and a new
///    key would hide that. The ids of the keys that were used stand in the catalog, before anything is sealed.
package final class MasterKeys: Sendable {
    private struct State {
        var ring: MasterKeyRing?
        var failure: StoreError?
        /// Ids that are known to stand in the catalog.
        var recorded: Set<MasterKeyID> = []
    }

    let storage: (any MasterKeyStorage)?
    private let state: Mutex<State>

    /// - Parameter storage: nil: nothing can be sealed or opened.
    package init(_ storage: (any MasterKeyStorage)?) {
        self.storage = storage
        var first = State()
        do throws(StoreError) {
            first.ring = try storage?.load()
        } catch {
            first.failure = error
        }
        state = Mutex(first)
    }

    package static let none = MasterKeys(nil)

    /// Why there are none, if there are none: for a face that tells the state of the store.
    package var problem: StoreError? {
        state.withLock { $0.ring == nil ? $0.failure ?? missing(nil) : nil }
    }

    /// nil when there is no file.
    func ring() throws(StoreError) -> MasterKeyRing? {
        let (ring, failure) = state.withLock { ($0.ring, $0.failure) }
        if let failure { throw failure }
        return ring
    }

    func use(_ ring: MasterKeyRing) {
        state.withLock { state in
            state.ring = ring
            state.failure = nil
        }
    }

    func isRecorded(_ id: MasterKeyID) -> Bool { state.withLock { $0.recorded.contains(id) } }
    func noteRecorded(_ ids: Set<MasterKeyID>) { state.withLock { $0.recorded = ids } }

    func missing(_ id: MasterKeyID?) -> StoreError {
        guard let path = storage?.path else {
            return StoreError(.masterKeyUnavailable, "This store was opened without a master key.")
        }
        let what = id.map { "The master key \($0) is not in \(path)" } ?? "There is no master key in \(path)"
        return StoreError(
            .masterKeyUnavailable,
            "\(what); encrypted objects and the secrets of access keys can't be read without it.",
            advice: "Put your copy of the file back, with mode 600. Everything else works without it."
        )
    }
}

package struct MasterKeyState: Sendable {
    /// Keys with which something was sealed.
    package let used: [MasterKeyID]
    /// Keys of the file, oldest first; empty when there is none.
    package let held: [MasterKeyID]
    /// Why the file can't be used.
    package let problem: StoreError?
}

extension ObjectStore {
    private static let usedKeysDocument = [UInt8]("master-keys".utf8)

    /// The keys that open what was sealed.
    /// - Throws: `.masterKeyUnavailable`.
    package func openingRing() throws(StoreError) -> MasterKeyRing {
        guard let ring = try masterKeys.ring() else { throw masterKeys.missing(nil) }
        return ring
    }

    /// The keys, the newest of which may seal: makes the first one when the store has never had one.
    /// - Throws: `.masterKeyUnavailable`, also when the file is not this store's.
    package func sealingRing() async throws -> MasterKeyRing {
        let known = try masterKeys.ring()
        if let known, masterKeys.isRecorded(known.newest.id) { return known }
        let document = try await usedKeys()
        let used = Self.decode(document)
        let ring: MasterKeyRing
        if let known {
            ring = known
            // A file that holds none of the keys in use is another store's, or one that was made by hand.
            if let lost = used.first, !used.contains(where: { known.generation($0) != nil }) {
                throw masterKeys.missing(lost)
            }
        } else {
            guard used.isEmpty, let storage = masterKeys.storage else { throw masterKeys.missing(used.first) }
            ring = try Self.firstRing(in: storage, random)
            masterKeys.use(ring)
        }
        do {
            try await record(ring, instead: document)
        } catch let error as StoreError where error.code == .conflict {
            // Another task recorded its key at the same time; there is one file, so it is the same key.
            try await record(ring, instead: try await usedKeys())
        }
        return ring
    }

    /// Makes a new master key that seals from now on. Older ones go on opening.
    /// - Parameter acceptsLoss: the file is lost for good: start over with a new one.
    package func addMasterKey(acceptsLoss: Bool) async throws -> MasterKeyID {
        guard let storage = masterKeys.storage else { throw masterKeys.missing(nil) }
        let document = try await usedKeys()
        let ring: MasterKeyRing
        if let known = try masterKeys.ring() {
            guard let added = known.addingGeneration(from: random) else {
                throw StoreError(
                    .invalidArgument,
                    "\(storage.path) holds \(MasterKeyRing.generationCountMax) master keys; there is room for no more."
                )
            }
            ring = added
            try storage.replace(ring)
        } else {
            let used = Self.decode(document)
            guard used.isEmpty || acceptsLoss else { throw masterKeys.missing(used.first) }
            ring = MasterKeyRing(from: random)
            try storage.create(ring)
        }
        masterKeys.use(ring)
        try await record(ring, instead: document)
        return ring.newest.id
    }

    /// Which keys the store has used, and which the file holds.
    package func masterKeyState() async throws -> MasterKeyState {
        let used = Self.decode(try await usedKeys())
        do throws(StoreError) {
            let held = try masterKeys.ring()?.generations.map(\.id) ?? []
            return MasterKeyState(used: used, held: held, problem: nil)
        } catch {
            return MasterKeyState(used: used, held: [], problem: error)
        }
    }

    /// Reads the file again: for one that was put back while the store is open.
    /// - Throws: `.masterKeyUnavailable` when it is not there or can't be used; the keys stay as they were then.
    package func reloadMasterKeys() async throws -> MasterKeyState {
        guard let ring = try masterKeys.storage?.load() else { throw masterKeys.missing(nil) }
        let used = Self.decode(try await usedKeys())
        if let lost = used.first(where: { ring.generation($0) == nil }) { throw masterKeys.missing(lost) }
        masterKeys.use(ring)
        return try await masterKeyState()
    }

    /// A new ring, or the one that another task has just made.
    private static func firstRing(
        in storage: any MasterKeyStorage,
        _ random: any RandomSource
    ) throws(StoreError) -> MasterKeyRing {
        let ring = MasterKeyRing(from: random)
        do throws(StoreError) {
            try storage.create(ring)
            return ring
        } catch {
            guard error.code == .conflict, let made = try storage.load() else { throw error }
            return made
        }
    }

    private func usedKeys() async throws -> [UInt8]? {
        try await readCatalog { try $0.document(.setting, Self.usedKeysDocument)?.body }
    }

    private static func decode(_ body: [UInt8]?) -> [MasterKeyID] {
        guard let body else { return [] }
        return stride(from: 0, to: body.count, by: MasterKeyID.byteCount).compactMap { start in
            MasterKeyID(bytes: [UInt8](body[start...].prefix(MasterKeyID.byteCount)))
        }
    }

    /// The ids of the keys that the store has used, 8 bytes each, in the setting "master-keys".
    private func record(_ ring: MasterKeyRing, instead old: [UInt8]?) async throws {
        let ids = ring.generations.map(\.id)
        let body = ids.flatMap(\.bytes)
        if body != old {
            let write = DocumentWrite(
                space: .setting,
                key: Self.usedKeysDocument,
                expectation: old.map { .equals($0) } ?? .absent,
                body: body
            )
            _ = try await commit(.documents([write]), operation: nil)
        }
        masterKeys.noteRecorded(Set(ids))
    }
}

extension EncryptionError {
    /// As the store's error, about what `subject` names.
    func storeError(_ subject: String, masterKeys: MasterKeys, sealed: SealedSecret?) -> StoreError {
        switch code {
        case .unknownMasterKey:
            if case .masterKey(let id) = sealed?.keeper { return masterKeys.missing(id) }
            return masterKeys.missing(nil)
        case .wrongKey:
            return StoreError(.accessDenied, "\(subject) was encrypted with another key than the one given.")
        case .unsupportedVersion: return StoreError(.unsupportedFormat, "\(subject): \(message)")
        default: return StoreError(.storeDamaged, "\(subject): \(message)")
        }
    }
}
