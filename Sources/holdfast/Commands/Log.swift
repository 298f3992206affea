internal import ArgumentParser
internal import StoreModel

struct Log: NetworkCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the versions of an object, newest first.",
        discussion: """
            Delete markers are versions too: they hide the object, and 'holdfast restore' brings it back.

              holdfast log models/tiny/weights.safetensors
              holdfast get models/tiny/weights.safetensors --version ID old.safetensors
            """
    )

    @Argument(help: "BUCKET/KEY")
    var address: String

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    var onlyReads: Bool { true }

    func execute(_ output: Output) async throws {
        let place = try ObjectAddress(address)
        let key = try place.key()
        try await withSession { session in
            let versions = try await ObjectHistory.versions(of: key, in: place.bucket, session: session)
            guard !versions.isEmpty else {
                throw StoreError(
                    .noSuchKey,
                    "\(quoted(place.description)) has no versions.",
                    advice: "'holdfast ls \(place.bucket)' shows what is there."
                )
            }
            var list = try ListOutput(
                output,
                header: ["bucket": place.bucket.description, "key": key.description],
                name: "versions"
            )
            try list.append(versions) { version in
                let size = version.kind == .deleteMarker ? "deleted" : HumanFormat.size(version.size)
                let padding = String(repeating: " ", count: max(0, 10 - size.count))
                let digest = version.sha256.map { "  sha256 \($0.hex.prefix(12))…" } ?? ""
                let newest = version.isLatest == true ? "  newest" : ""
                return
                    "\(version.versionName)  \(version.createdAt.readable)  \(padding)\(size)\(digest)\(newest)"
            }
            try list.finish(isComplete: true)
        }
    }
}

/// All versions of one key.
enum ObjectHistory {
    static func versions(
        of key: ObjectKey,
        in bucket: BucketName,
        session: any ObjectSession
    ) async throws -> [VersionReport] {
        try await session.history(bucket: bucket, key: key)
    }
}
