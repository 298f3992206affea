internal import ArgumentParser
internal import Foundation
internal import StoreModel

/// The options that every command takes.
struct GlobalOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "The store's directory (default: $HOLDFAST_STORE, else ./holdfast-data).",
            valueName: "dir"
        ),
        completion: .directory
    )
    var store: String?

    @Flag(name: .long, help: "Print one JSON document instead of text; errors are JSON on standard error.")
    var json = false

    @Flag(name: [.short, .long], help: "No progress, no remarks: results and errors only.")
    var quiet = false

    @Option(
        name: .long,
        help: ArgumentHelp("How long to wait for a store that another process holds.", valueName: "seconds")
    )
    var lockTimeout: Double = 5

    func validate() throws {
        if let store, store.isEmpty { throw ValidationError("--store needs the path of a directory.") }
        guard lockTimeout >= 0, lockTimeout <= 86_400 else {
            throw ValidationError("--lock-timeout \(lockTimeout): give seconds from 0 to 86400.")
        }
    }

    var storePath: String {
        if let store { return store }
        if let store = ProcessInfo.processInfo.environment["HOLDFAST_STORE"], !store.isEmpty { return store }
        return "./holdfast-data"
    }

    var location: StoreLocation {
        StoreLocation(path: storePath, lockTimeout: .milliseconds(Int64(lockTimeout * 1000)))
    }
}
