internal import ArgumentParser
internal import StoreModel

struct Remove: NetworkCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm",
        abstract: "Delete an object, or one version of it for good.",
        discussion: """
            In a bucket that keeps versions a delete adds a delete marker: the object is hidden, its \
            versions stay, and 'holdfast restore' brings it back. With --version that one version is \
            removed for good. A bucket that keeps none deletes for good; where versioning is suspended, the \
            null version goes and the others stay. Deleting what is not there is no error. Deletes work on a \
            full store.

              holdfast rm models/tiny/weights.safetensors
              holdfast rm models/tiny/weights.safetensors --version ID
              holdfast rm --recursive models/llama/v1/
            """
    )

    @Argument(help: "BUCKET/KEY, or BUCKET/PREFIX/ with --recursive.")
    var address: String

    @OptionGroup var version: VersionOption

    @Flag(name: [.short, .long], help: "Delete every object whose key begins with the prefix.")
    var recursive = false

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    private struct ManyReport: Encodable {
        let bucket: String
        let prefix: String
        let deleted: UInt64
        /// As in `DeletionReport`; absent where nothing was deleted, and where it changed meanwhile.
        let versioning: String?
    }

    func execute(_ output: Output) async throws {
        let place = try ObjectAddress(address)
        let choice = try version.choice()
        if recursive { return try await removeTree(place, output) }
        let key = try place.key()
        let report = try await withSession { try await $0.delete(bucket: place.bucket, key: key, choice) }
        try output.result(report) {
            let shown = HumanFormat.visible(place.description)
            switch report.versioning.flatMap({ BucketVersioning(rawValue: $0) }) {
            case .enabled:
                return [
                    "Deleted \(shown); its versions are kept (delete marker \(report.deleteMarker ?? ""))"
                ]
            case .suspended:
                return [
                    "Deleted \(shown); a null version is gone for good, versions with an id are kept (versioning is "
                        + "suspended)"
                ]
            case .off: return ["Deleted \(shown) for good: the bucket keeps no versions"]
            case nil:
                guard let version = report.removedVersion else {
                    return ["\(shown): there was nothing to delete"]
                }
                return ["Removed version \(version) of \(shown) for good"]
            }
        }
    }

    private func removeTree(_ place: ObjectAddress, _ output: Output) async throws {
        guard version.text == nil else {
            throw CommandError(.usage, "--version is for one object, not for many.")
        }
        guard place.isPrefix else {
            throw CommandError(
                .usage,
                "With --recursive the address is a prefix and ends with a slash: \(place)/"
            )
        }
        let (deleted, kept) = try await withSession { session in
            var deleted: UInt64 = 0
            var kept: Set<String?> = []
            // Deleting takes the keys off the list, so the next page starts where the last one ended.
            var continuation: ListingContinuation?
            repeat {
                let page = try await session.list(
                    bucket: place.bucket,
                    prefix: place.rest,
                    isRecursive: true,
                    continuation: continuation
                )
                let keys = page.entries.compactMap { entry in
                    if case .object(let version) = entry { version.key } else { nil }
                }
                try await forEachConcurrently(keys, limit: TreeUpload.concurrencyMax) { key in
                    try Task.checkCancellation()
                    return try await session.delete(bucket: place.bucket, key: key, .newest).versioning
                } receive: { versioning in
                    deleted += 1
                    kept.insert(versioning)
                }
                continuation = page.continuation
            } while continuation != nil
            return (deleted, kept)
        }
        let versioning = kept.count == 1 ? kept.first ?? nil : nil
        let report = ManyReport(
            bucket: place.bucket.description,
            prefix: place.rest,
            deleted: deleted,
            versioning: versioning
        )
        try output.result(report) {
            let rest =
                switch versioning.flatMap({ BucketVersioning(rawValue: $0) }) {
                case .enabled: "; their versions are kept"
                case .suspended:
                    "; null versions are gone for good, versions with an id are kept (versioning is suspended)"
                case .off: " for good: the bucket keeps no versions"
                case nil: ""
                }
            return ["Deleted \(HumanFormat.count(deleted, "object"))\(rest)"]
        }
    }
}
