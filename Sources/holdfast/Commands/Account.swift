internal import AdminGateway
internal import ArgumentParser

struct Account: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make, list and remove accounts: who owns buckets and has access keys.",
        subcommands: [AccountCreate.self, AccountListing.self, AccountRemove.self]
    )
}

struct AccountCreate: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Make an account.",
        discussion: """
            An account sees its own buckets, and of others' what their access control lists and policies \
            allow. It needs an access key to sign requests with.

              holdfast account create research --email research@example.org
              holdfast key create --account research
            """
    )

    @Argument(help: "Its display name.")
    var name: String

    @Option(name: .long, help: ArgumentHelp("Its e-mail address.", valueName: "address"))
    var email: String?

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let account = try await withAdministration { try await $0.createAccount(name: name, email: email) }
        try output.result(account) {
            ["Made account \(HumanFormat.visible(account.name))", "Canonical id \(account.id)"]
        }
        output.remark("Next: holdfast key create --account \(HumanFormat.visible(account.name))")
    }
}

struct AccountListing: StoreCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the accounts.")

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let accounts = try await withAdministration { try await $0.accounts() }
        try output.result(AccountListDocument(accounts: accounts)) {
            HumanFormat.table(
                accounts.map { account in
                    [
                        HumanFormat.visible(account.name),
                        HumanFormat.visible(account.email ?? "-"),
                        account.state,
                        HumanFormat.count(account.keys, "key"),
                        account.id,
                    ]
                },
                header: ["NAME", "E-MAIL", "STATE", "KEYS", "CANONICAL ID"]
            )
        }
    }
}

struct AccountRemove: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm",
        abstract: "Remove an account that owns no bucket, and its access keys."
    )

    @Argument(help: "Its display name, e-mail address or canonical id.")
    var name: String

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let removed = try await withAdministration { try await $0.removeAccount(name) }
        try output.result(removed) {
            [
                "Removed account \(HumanFormat.visible(removed.name)) and "
                    + HumanFormat.count(removed.removedKeys, "access key")
            ]
        }
    }
}
