package import Catalog
package import StoreModel

/// Whose space is asked for: everything, a bucket, a prefix, an object with all its versions, or one version.
package struct SpaceScope: Hashable, Sendable {
    /// nil: the whole store.
    package var bucket: BucketName?
    /// Empty: all keys.
    package var prefix: [UInt8]
    /// Whether `prefix` is a whole key.
    package var isExact: Bool
    /// One version of that key; nil: all of them.
    package var version: VersionSelector?

    package init(
        bucket: BucketName? = nil,
        prefix: [UInt8] = [],
        isExact: Bool = false,
        version: VersionSelector? = nil
    ) {
        self.bucket = bucket
        self.prefix = prefix
        self.isExact = isExact || version != nil
        self.version = version
    }

    func contains(_ key: [UInt8]) -> Bool { isExact ? key == prefix : key.starts(with: prefix) }
}

/// What gets a row of its own.
package enum SpaceGrouping: String, Hashable, Sendable, CaseIterable {
    case bucket, prefix, object, version
}

/// The space of a set of versions and of parts of uploads. A payload is a chunk, a manifest's node or a list of parts.
///
/// 1. `logicalBytes`: the sizes of the versions and parts as clients see them, each counted.
/// 2. `storedBytes`: the payloads that the set names, each once: what they take in one copy, without headers and padding.
/// 3. `uniqueBytes`: those of them that nothing outside the set names: what one copy would be rid of if the set went, and
///    garbage was collected. What snapshots of the catalog and other uploads name is named from outside.
/// 4. `sharedBytes`: the rest of them.
/// 5. `physicalBytes`: the records of all copies of these payloads on all volumes, with headers and padding, surplus copies
///    among them, by the indexes of the volumes that can be asked.
/// 6. `freedBytes`: the same of the unique ones: what the volumes together would be rid of.
package struct SpaceFigures: Hashable, Sendable {
    package var versionCount: UInt64 = 0
    package var deleteMarkerCount: UInt64 = 0
    package var partCount: UInt64 = 0
    package var payloadCount: UInt64 = 0
    package var logicalBytes: UInt64 = 0
    package var storedBytes: UInt64 = 0
    package var uniqueBytes: UInt64 = 0
    package var physicalBytes: UInt64 = 0
    package var freedBytes: UInt64 = 0

    package init() {}

    package var sharedBytes: UInt64 { storedBytes - min(storedBytes, uniqueBytes) }

    mutating func add(_ other: SpaceFigures) {
        versionCount += other.versionCount
        deleteMarkerCount += other.deleteMarkerCount
        partCount += other.partCount
        payloadCount += other.payloadCount
        logicalBytes += other.logicalBytes
        storedBytes += other.storedBytes
        uniqueBytes += other.uniqueBytes
        physicalBytes += other.physicalBytes
        freedBytes += other.freedBytes
    }

    mutating func take(_ length: UInt64, _ physical: UInt64) {
        payloadCount += 1
        storedBytes += length
        uniqueBytes += length
        physicalBytes += physical
        freedBytes += physical
    }

    /// Somebody else names it too. Copies may have come meanwhile: no figure goes below nothing.
    mutating func share(_ length: UInt64, _ physical: UInt64) {
        uniqueBytes -= min(uniqueBytes, length)
        freedBytes -= min(freedBytes, physical)
    }
}

package struct SpaceReport: Hashable, Sendable {
    package struct Row: Hashable, Sendable {
        package enum Name: Hashable, Sendable {
            case bucket(BucketName)
            /// Keys that go on in the same way up to the next slash.
            case prefix([UInt8])
            case object([UInt8])
            case version(key: [UInt8], VersionID, isNull: Bool)
            /// Parts of uploads that are under way.
            case uploads
            /// What had no room among the rows.
            case others
        }

        package let name: Name
        package var figures = SpaceFigures()
    }

    package var total = SpaceFigures()
    /// In the order of their names; `uploads` and `others` last. Their unique bytes are less than the total's where two
    /// rows share what nobody else has.
    package var rows: [Row] = []
    /// Walks that it took.
    package var passCount = 0
    /// Nodes of manifests that no volume has good bytes of: what is below them is not counted.
    package var unreadableCount: UInt64 = 0

    package init() {}
}
