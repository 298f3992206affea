internal import Mirroring
internal import StoreModel

/// What of a mirror is compared.
package struct MirrorDifferenceQuery: Sendable {
    package var bucket: String?
    package var prefix = ""
    /// The member `next` of the page before.
    package var after: String?
    package var isDeep = false

    package init() {}
}

package struct MirrorDifferenceDocument: Codable, Hashable, Sendable {
    /// "missing", "different", "extra" or "stale".
    package var kind: String
    package var mirror: String
    /// As in the backend.
    package var key: String
    package var version: String?
    /// "waiting" to be sent, or "givenUp"; absent: nobody knew of it.
    package var standing: String?
    package var detail: String
}

/// A page of what is not the same in a mirror and in the store, in the order of keys.
package struct MirrorDifferencePageDocument: Codable, Hashable, Sendable {
    package var checked: UInt64
    package var differences: [MirrorDifferenceDocument]
    /// Give it as `after` for the next page; absent: that was all. A page may be empty and not the last.
    package var next: String?
}

extension StoreAdministration {
    private static let keysOfPage = 500

    package func mirrorDifferences(_ name: String, _ query: MirrorDifferenceQuery) async throws
        -> MirrorDifferencePageDocument
    {
        var scope = MirrorAudit.Scope()
        scope.bucket = try query.bucket.map { text throws(StoreError) in try BucketName(text) }
        scope.prefix = Array(query.prefix.utf8)
        scope.isDeep = query.isDeep
        scope.listsWaiting = true
        let position = try query.after.map { text throws(StoreError) in try MirrorPosition(text: text) }
        return try await compare(name, scope) { audit in
            let (report, next) = try await audit.page(after: position, keyCountMax: Self.keysOfPage)
            return MirrorDifferencePageDocument(
                checked: report.checkedCount,
                differences: report.differences.map { MirrorDifferenceDocument($0, name) },
                next: next?.text
            )
        }
    }
}

extension MirrorDifferenceDocument {
    fileprivate init(_ difference: MirrorDifference, _ mirror: String) {
        let isKnown = difference.standing == .waiting || difference.standing == .givenUp
        self.init(
            kind: difference.kind.rawValue,
            mirror: mirror,
            key: difference.key,
            version: difference.version?.description,
            standing: isKnown ? difference.standing?.rawValue : nil,
            detail: difference.detail
        )
    }
}
