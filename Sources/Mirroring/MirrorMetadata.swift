internal import Catalog
internal import S3Protocol
package import StoreModel

/// What a mirror's objects say of themselves, so that they can be told apart and brought back without the store:
/// `x-amz-meta-holdfast-version`, `-sha256` (of the bytes as they are there) and `-time`.
package enum MirrorMetadata {
    package static let version = "holdfast-version"
    package static let sha256 = "holdfast-sha256"
    package static let time = "holdfast-time"

    static func isOwn(_ name: String) -> Bool { [version, sha256, time].contains(name.lowercased()) }

    static func properties(of row: VersionRow, sha256 digest: Digest) -> MirrorProperties {
        var properties = MirrorProperties()
        properties.contentType = row.contentType
        properties.otherHeaders = row.otherHeaders.map { ($0.name, $0.value) }
        // An object that came out of a mirror by a plain copy brings the names along; ours count.
        properties.userMetadata = row.userMetadata.filter { !isOwn($0.name) }.map { ($0.name, $0.value) }
        properties.userMetadata += [
            (version, row.id.description), (sha256, digest.hex), (time, ISO8601.format(row.createdAt)),
        ]
        properties.tags = row.tags.map { ($0.name, $0.value) }
        return properties
    }
}

extension MirrorProperties {
    private func value(_ name: String) -> String? {
        userMetadata.first { $0.0.lowercased() == name }?.1
    }

    /// Which version the object says that it is.
    package var holdfastVersion: VersionID? { value(MirrorMetadata.version).flatMap { VersionID($0) } }
    package var holdfastSHA256: Digest? { value(MirrorMetadata.sha256).flatMap { Digest(hex: $0) } }
}
