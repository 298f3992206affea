internal import ArgumentParser
internal import StoreModel

struct Restore: NetworkCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make an older version the newest again.",
        discussion: """
            The older version is added as a new one; no bytes move and nothing is lost. Without --version \
            the newest version that is not a delete marker is taken: that undoes 'holdfast rm'.

              holdfast restore models/tiny/weights.safetensors
              holdfast restore models/tiny/weights.safetensors --version ID
            """
    )

    @Argument(help: "BUCKET/KEY")
    var address: String

    @OptionGroup var version: VersionOption

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let place = try ObjectAddress(address)
        let key = try place.key()
        let choice = try version.choice()
        let (restored, id) = try await withSession { session in
            let version = try await self.source(of: key, in: place.bucket, choice, session)
            let id = version.id == .unknown ? version.versionName : version.id.description
            return (try await session.restore(version), id)
        }
        try output.result(PutReport(version: restored, isStored: true)) {
            ["Restored \(restored.address) from version \(id); it is now version \(restored.versionName)"]
        }
    }

    private func source(
        of key: ObjectKey,
        in bucket: BucketName,
        _ choice: VersionChoice,
        _ session: any ObjectSession
    ) async throws -> VersionReport {
        switch choice {
        case .id, .null: return try await session.head(bucket: bucket, key: key, choice)
        case .newest:
            let versions = try await ObjectHistory.versions(of: key, in: bucket, session: session)
            guard let newest = versions.first else {
                throw StoreError(.noSuchKey, "\(quoted("\(bucket)/\(key)")) has no versions.")
            }
            guard newest.kind == .deleteMarker else {
                throw CommandError(
                    .usage,
                    "\(quoted("\(bucket)/\(key)")) is not deleted: which version is meant?",
                    advice: "Name it with --version ID; 'holdfast log' shows the versions."
                )
            }
            guard let object = versions.first(where: { $0.kind == .object }) else {
                throw StoreError(.noSuchVersion, "\(quoted("\(bucket)/\(key)")) has only delete markers.")
            }
            return object
        }
    }
}
