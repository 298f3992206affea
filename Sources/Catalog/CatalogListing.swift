package import ContentHashing
package import StoreModel

/// A page of a bucket's current objects: keys whose newest version isn't a delete marker.
///
/// Items are keys and common prefixes, in byte order; a page holds the items after `startAfter`. A common
/// prefix is the part of a key up to and with the first delimiter after `prefix`; keys under it don't appear
/// themselves. The last item of a page is where the next one starts after, be it a key or a common prefix.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-prefixes.html
package struct ObjectListRequest: Hashable, Sendable {
    package var bucket: BucketID
    package var prefix: [UInt8]
    /// Empty: no common prefixes.
    package var delimiter: [UInt8]
    /// Empty: from the start. Any bytes; no key needs to be there.
    package var startAfter: [UInt8]
    package var limit: Int

    package init(
        bucket: BucketID,
        prefix: [UInt8] = [],
        delimiter: [UInt8] = [],
        startAfter: [UInt8] = [],
        limit: Int = Limits.listPageSizeMax
    ) {
        self.bucket = bucket
        self.prefix = prefix
        self.delimiter = delimiter
        self.startAfter = startAfter
        self.limit = limit
    }
}

/// A current object on a listing.
package struct ObjectHead: Hashable, Sendable {
    package let key: ObjectKey
    package let id: VersionID
    package let isNull: Bool
    package let size: UInt64
    package let etag: String
    package let createdAt: Timestamp
    /// nil: the bucket's owner.
    package let owner: String?
    /// The algorithms of the further checksums ("CRC32C"), and what they are of.
    package let checksumAlgorithms: [String]
    package let checksumType: ChecksumType?

    package init(
        key: ObjectKey,
        id: VersionID,
        isNull: Bool,
        size: UInt64,
        etag: String,
        createdAt: Timestamp,
        owner: String? = nil,
        checksumAlgorithms: [String] = [],
        checksumType: ChecksumType? = nil
    ) {
        self.key = key
        self.id = id
        self.isNull = isNull
        self.size = size
        self.etag = etag
        self.createdAt = createdAt
        self.owner = owner
        self.checksumAlgorithms = checksumAlgorithms
        self.checksumType = checksumType
    }

    package init(_ row: VersionRow) {
        self.init(
            key: row.key,
            id: row.id,
            isNull: row.isNull,
            size: row.size,
            etag: row.etag,
            createdAt: row.createdAt,
            owner: row.attributes.owner,
            checksumAlgorithms: row.checksums.others.map(\.name),
            checksumType: row.attributes.checksumType
        )
    }
}

package struct ObjectListPage: Hashable, Sendable {
    package let objects: [ObjectHead]
    package let commonPrefixes: [[UInt8]]
    /// `startAfter` of the next page; nil when this is the last one.
    package let next: [UInt8]?

    package init(objects: [ObjectHead], commonPrefixes: [[UInt8]], next: [UInt8]?) {
        self.objects = objects
        self.commonPrefixes = commonPrefixes
        self.next = next
    }
}

/// Where a listing of versions goes on.
package struct VersionListMarker: Hashable, Sendable {
    /// A key or a common prefix.
    package let key: [UInt8]
    /// nil: after all versions of `key`; else after this version of it.
    package let version: VersionID?

    package init(key: [UInt8], version: VersionID? = nil) {
        self.key = key
        self.version = version
    }
}

/// A page of all versions and delete markers: keys in byte order, each key's versions newest first.
package struct VersionListRequest: Hashable, Sendable {
    package var bucket: BucketID
    package var prefix: [UInt8]
    /// Empty: no common prefixes.
    package var delimiter: [UInt8]
    package var startAfter: VersionListMarker?
    package var limit: Int

    package init(
        bucket: BucketID,
        prefix: [UInt8] = [],
        delimiter: [UInt8] = [],
        startAfter: VersionListMarker? = nil,
        limit: Int = Limits.listPageSizeMax
    ) {
        self.bucket = bucket
        self.prefix = prefix
        self.delimiter = delimiter
        self.startAfter = startAfter
        self.limit = limit
    }
}

package struct ListedVersion: Hashable, Sendable {
    package let row: VersionRow
    /// Whether it is the key's newest version.
    package let isNewest: Bool

    package init(row: VersionRow, isNewest: Bool) {
        self.row = row
        self.isNewest = isNewest
    }
}

package struct VersionListPage: Hashable, Sendable {
    package let versions: [ListedVersion]
    package let commonPrefixes: [[UInt8]]
    /// `startAfter` of the next page; nil when this is the last one.
    package let next: VersionListMarker?

    package init(versions: [ListedVersion], commonPrefixes: [[UInt8]], next: VersionListMarker?) {
        self.versions = versions
        self.commonPrefixes = commonPrefixes
        self.next = next
    }
}

/// What a bucket holds; kept up to date with every batch, never counted by a scan.
package struct BucketUsage: Hashable, Sendable {
    /// Keys whose newest version is an object, and their bytes.
    package var objectCount: UInt64
    package var objectBytes: UInt64
    /// All versions but delete markers, and their bytes.
    package var versionCount: UInt64
    package var versionBytes: UInt64
    package var deleteMarkerCount: UInt64

    package init(
        objectCount: UInt64 = 0,
        objectBytes: UInt64 = 0,
        versionCount: UInt64 = 0,
        versionBytes: UInt64 = 0,
        deleteMarkerCount: UInt64 = 0
    ) {
        self.objectCount = objectCount
        self.objectBytes = objectBytes
        self.versionCount = versionCount
        self.versionBytes = versionBytes
        self.deleteMarkerCount = deleteMarkerCount
    }

    package var isEmpty: Bool { self == BucketUsage() }
}
