internal import AdminGateway
internal import ArgumentParser

struct Key: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make, list, remove and rotate access keys.",
        discussion: """
            A secret is shown once, when its key is made. It is kept encrypted with the store's master \
            key, the file master.key in the store's directory: keep a copy of that file elsewhere.
            """,
        subcommands: [
            KeyCreate.self, KeyListing.self, KeyRemove.self, KeyRotate.self, KeyBackup.self, KeyRestore.self,
            KeyCheck.self,
        ]
    )
}

struct KeyCreate: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Make an access key and show its secret, once.",
        discussion: """
              holdfast key create --account research --label 'training nodes'
              holdfast key create --json > credentials.json
            """
    )

    @Option(
        name: .long,
        help: ArgumentHelp("Whose: name, e-mail or canonical id (default: root).", valueName: "account")
    )
    var account: String?

    @Option(name: .long, help: ArgumentHelp("What it is for.", valueName: "text"))
    var label: String = ""

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let key = try await withAdministration { try await $0.createKey(account: account, label: label) }
        try output.result(key) { key.lines }
        output.remark("The secret is not shown again.")
    }
}

struct KeyListing: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "List access keys; secrets are not shown."
    )

    @Option(name: .long, help: ArgumentHelp("Only this account's.", valueName: "account"))
    var account: String?

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let keys = try await withAdministration { try await $0.keys(account: account) }
        try output.result(KeyListDocument(keys: keys)) {
            HumanFormat.table(
                keys.map { key in
                    [
                        key.accessKeyID,
                        HumanFormat.visible(key.accountName ?? key.account),
                        key.state,
                        key.createdAt,
                        HumanFormat.visible(key.label ?? ""),
                    ]
                },
                header: ["ACCESS KEY", "ACCOUNT", "STATE", "MADE", "LABEL"]
            )
        }
    }
}

struct KeyRemove: StoreCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove an access key.")

    @Argument(help: "The access key's id.")
    var id: String

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        try await withAdministration { try await $0.removeKey(id) }
        try output.result(RemovedKeyDocument(removedAccessKeyID: id)) {
            ["Removed access key \(HumanFormat.visible(id))"]
        }
    }
}

struct KeyRotate: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "rotate",
        abstract: "Put a new access key in the place of an old one, or renew the master key.",
        discussion: """
            The new key has the same account and label, a new id and a new secret, which is shown once. \
            The old one stops working at once, or goes on with --keep until 'holdfast key rm'.

            With --master a new master key is added to master.key: it encrypts from now on, and all \
            secrets anew; objects that are there stay encrypted with the older ones, which the file keeps. \
            Copy the file again afterwards.

              holdfast key rotate AKIAEXAMPLEEXAMPLE22 --keep
              holdfast key rotate --master
            """
    )

    @Argument(help: "The access key's id.")
    var id: String?

    @Flag(name: .long, help: "Let the old access key go on working.")
    var keep = false

    @Flag(name: .long, help: "Renew the master key instead.")
    var master = false

    @Flag(name: .long, help: "With --master: master.key is lost for good, begin a new one.")
    var acceptLoss = false

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func validate() throws {
        guard master != (id != nil) else { throw ValidationError("Give an access key's id, or --master.") }
        guard !acceptLoss || master else { throw ValidationError("--accept-loss goes with --master.") }
        guard !keep || !master else { throw ValidationError("--keep is for access keys.") }
    }

    func execute(_ output: Output) async throws {
        guard let id else {
            let report = try await withAdministration {
                try await $0.rotateMasterKey(acceptsLoss: acceptLoss)
            }
            try output.result(report) {
                let count = HumanFormat.count(report.secretsSealedAnew, "secret")
                return ["New master key \(report.masterKeyID); \(count) encrypted anew"]
            }
            output.remark("Keep a copy of master.key away from the store.")
            return
        }
        let key = try await withAdministration { try await $0.rotateKey(id, keepsOld: keep) }
        try output.result(key) { key.lines }
        output.remark("The secret is not shown again.")
    }
}

extension NewKeyDocument {
    /// For people.
    fileprivate var lines: [String] {
        [
            "Access key  \(accessKeyID)",
            "Secret      \(secretAccessKey)",
        ]
    }
}
