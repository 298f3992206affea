internal import AdminGateway
internal import ArgumentParser
internal import Encryption
internal import HoldfastNode
internal import StoreModel

struct KeyBackup: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup",
        abstract: "Copy the master key away from the store.",
        discussion: """
            Without master.key, encrypted objects and the secrets of access keys are lost; everything else \
            does not need it. The copy is made private (mode 600) and never replaces a file. Repeat it after \
            'holdfast key rotate --master'.

              holdfast key backup /media/safe/master.key
            """
    )

    @Argument(help: "The copy, a new file.", completion: .file())
    var file: String

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let keys = try await withAdministration { try await $0.masterKeys() }
        guard let ring = try MasterKeyFile(storeDirectory: options.storePath).load() else {
            throw StoreError(
                .masterKeyUnavailable,
                keys.used.isEmpty
                    ? "The store has no master key yet: nothing was encrypted, and no access key was made."
                    : "master.key is missing from the store.",
                advice: keys.used.isEmpty ? nil : "Put your copy back: holdfast key restore FILE"
            )
        }
        try MasterKeyCopy.requireAll(keys.used, in: ring, named: "master.key")
        try MasterKeyFile(copy: file).create(ring)
        try output.result(MasterKeyCopy(ring, file: file)) {
            [
                "Copied \(HumanFormat.count(ring.generations.count, "master key")) to \(HumanFormat.visible(file))"
            ]
        }
    }
}

struct KeyRestore: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Put a copy of the master key back.",
        discussion: """
            The copy must hold every master key that the store has used. A running server uses it at once.

              holdfast key restore /media/safe/master.key
            """
    )

    @Argument(help: "The copy.", completion: .file())
    var file: String

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        guard let ring = try MasterKeyFile(copy: file).load() else {
            throw CommandError(.fileUnreadable, "There is no file \(quoted(file)).")
        }
        let target = MasterKeyFile(storeDirectory: options.storePath)
        try await withAdministration { store in
            try MasterKeyCopy.requireAll(try await store.masterKeys().used, in: ring, named: file)
            if let present = try target.load() {
                try MasterKeyCopy.requireAll(present.generations.map(\.id.description), in: ring, named: file)
                try target.replace(ring)
            } else {
                try target.create(ring)
            }
            _ = try await store.reloadMasterKeys()
        }
        try output.result(MasterKeyCopy(ring, file: target.path)) {
            ["Put back \(HumanFormat.count(ring.generations.count, "master key"))"]
        }
    }
}

struct KeyCheck: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Check that master.key, or a copy of it, opens everything that was encrypted.",
        discussion: """
              holdfast key check
              holdfast key check /media/safe/master.key
            """
    )

    @Argument(help: "A copy (default: the store's own file).", completion: .file())
    var file: String?

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let keys = try await withAdministration { try await $0.masterKeys() }
        let source = file.map { MasterKeyFile(copy: $0) } ?? MasterKeyFile(storeDirectory: options.storePath)
        let ring = try source.load()
        if let ring {
            try MasterKeyCopy.requireAll(keys.used, in: ring, named: source.path)
        } else if file != nil || !keys.used.isEmpty {
            throw StoreError(
                .masterKeyUnavailable,
                "There is no file \(quoted(source.path)).",
                advice: "Put your copy back: holdfast key restore FILE"
            )
        }
        try output.result(MasterKeyCopy(ring, file: source.path)) {
            keys.used.isEmpty
                ? ["Nothing was encrypted yet"]
                : ["All \(HumanFormat.count(keys.used.count, "master key")) in use: there"]
        }
    }
}

/// What is said of a file with master keys: ids, never keys.
private struct MasterKeyCopy: Encodable {
    let file: String
    let masterKeyIDs: [String]

    init(_ ring: MasterKeyRing?, file: String) {
        self.file = file
        masterKeyIDs = ring?.generations.map(\.id.description) ?? []
    }

    /// - Throws: `.masterKeyUnavailable` naming the first key that is not in the file.
    static func requireAll(_ ids: [String], in ring: MasterKeyRing, named name: String) throws(StoreError) {
        let held = Set(ring.generations.map(\.id.description))
        guard let lost = ids.first(where: { !held.contains($0) }) else { return }
        throw StoreError(
            .masterKeyUnavailable,
            "\(quoted(name)) does not hold the master key \(lost), which is in use.",
            advice:
                "It is another store's, or older than the last 'holdfast key rotate --master'. Nothing was changed."
        )
    }
}
