internal import Catalog
internal import ObjectService
internal import S3Protocol
internal import StoreModel

/// What an administrator can ask about the space of versions.
package protocol SpaceAdministration: Sendable {
    func space(_ request: SpaceRequest) async throws -> SpaceDocument
}

package struct SpaceRequest: Hashable, Sendable {
    /// nil: the whole store.
    package var bucket: String?
    package var prefix = ""
    /// Whether `prefix` is a whole key.
    package var isExact = false
    /// A version id of that key, or "null".
    package var version: String?
    /// "bucket", "prefix", "object" or "version": what gets a row; nil: nothing.
    package var grouping: String?
    package var rowCountMax: Int?

    package init() {}
}

/// The figures of `SpaceFigures`, whose comment says what each one is.
package struct SpaceFiguresDocument: Codable, Hashable, Sendable {
    package var versions: UInt64
    package var deleteMarkers: UInt64
    package var parts: UInt64
    package var chunks: UInt64
    package var logicalBytes: UInt64
    package var storedBytes: UInt64
    package var uniqueBytes: UInt64
    package var sharedBytes: UInt64
    package var physicalBytes: UInt64
    package var freedBytes: UInt64
}

package struct SpaceRowDocument: Codable, Hashable, Sendable {
    /// "bucket", "prefix", "object", "version", "uploads" or "others".
    package var kind: String
    package var name: String
    package var versionID: String?
    package var space: SpaceFiguresDocument
}

package struct SpaceDocument: Codable, Hashable, Sendable {
    package var bucket: String?
    package var prefix: String?
    package var exact: Bool
    package var versionID: String?
    package var total: SpaceFiguresDocument
    package var rows: [SpaceRowDocument]
    package var walks: Int
    /// Manifests that can't be read: what they list is not counted.
    package var unreadableNodes: UInt64
    /// Volumes that could not be asked: their copies are not counted.
    package var volumesNotAsked: [String]
}

extension StoreAdministration {
    package func space(_ request: SpaceRequest) async throws -> SpaceDocument {
        let grouping = try request.grouping.map { text throws(StoreError) -> SpaceGrouping in
            guard let grouping = SpaceGrouping(rawValue: text) else {
                let names = SpaceGrouping.allCases.map(\.rawValue).joined(separator: ", ")
                throw StoreError(.invalidArgument, "\(quoted(text)): rows are for one of \(names).")
            }
            return grouping
        }
        let rowCountMax = request.rowCountMax ?? SpaceReport.rowCountStandard
        guard (1...SpaceReport.rowCountMax).contains(rowCountMax) else {
            throw StoreError(.invalidArgument, "There are 1 to \(SpaceReport.rowCountMax) rows.")
        }
        let isExact = request.isExact || request.version != nil
        if request.bucket == nil, isExact || !request.prefix.isEmpty {
            throw StoreError(.invalidArgument, "A prefix, a key or a version is one of a bucket.")
        }
        let report = try await objects.measureSpace(
            SpaceScope(
                bucket: try request.bucket.map { text throws(StoreError) in try BucketName(text) },
                prefix: [UInt8](request.prefix.utf8),
                isExact: isExact,
                version: try request.version.map(Self.selector)
            ),
            by: grouping,
            rowCountMax: rowCountMax
        )
        let away = try await objects.status().volumes.filter { volume in
            if case .failed = volume.condition { true } else { false }
        }
        return SpaceDocument(
            bucket: request.bucket,
            prefix: request.prefix.isEmpty ? nil : request.prefix,
            exact: isExact,
            versionID: request.version,
            total: SpaceFiguresDocument(report.total),
            rows: report.rows.map(SpaceRowDocument.init),
            walks: report.passCount,
            unreadableNodes: report.unreadableCount,
            volumesNotAsked: away.map(\.label)
        )
    }

    private static func selector(_ text: String) throws(StoreError) -> VersionSelector {
        if text == "null" { return .null }
        guard let id = VersionID(text) else {
            throw StoreError(.noSuchVersion, "\(quoted(text)) is not a version id.")
        }
        return .id(id)
    }
}

extension SpaceFiguresDocument {
    init(_ figures: SpaceFigures) {
        self.init(
            versions: figures.versionCount,
            deleteMarkers: figures.deleteMarkerCount,
            parts: figures.partCount,
            chunks: figures.payloadCount,
            logicalBytes: figures.logicalBytes,
            storedBytes: figures.storedBytes,
            uniqueBytes: figures.uniqueBytes,
            sharedBytes: figures.sharedBytes,
            physicalBytes: figures.physicalBytes,
            freedBytes: figures.freedBytes
        )
    }
}

extension SpaceRowDocument {
    init(_ row: SpaceReport.Row) {
        let (kind, name, version): (String, String, String?) =
            switch row.name {
            case .bucket(let name): ("bucket", name.description, nil)
            case .prefix(let bytes): ("prefix", String(decoding: bytes, as: UTF8.self), nil)
            case .object(let bytes): ("object", String(decoding: bytes, as: UTF8.self), nil)
            case .version(let key, let id, let isNull):
                ("version", String(decoding: key, as: UTF8.self), isNull ? "null" : id.description)
            case .uploads: ("uploads", "parts of uploads under way", nil)
            case .others: ("others", "others", nil)
            }
        self.init(
            kind: kind,
            name: name,
            versionID: version,
            space: SpaceFiguresDocument(row.figures)
        )
    }
}

extension AdminResponder {
    func space(_ query: String?) async throws -> [UInt8] {
        let items = try QueryItems(decoding: query)
        var request = SpaceRequest()
        request.bucket = try items.single("bucket")
        request.prefix = try items.single("prefix") ?? ""
        request.version = try items.single("version")
        request.grouping = try items.single("by")
        switch try items.single("exact") {
        case "true": request.isExact = true
        case "false", nil: break
        default: throw AdminRefusal(400, "invalidArgument", "exact is true or false.")
        }
        if let text = try items.single("limit") {
            guard let limit = Int(text) else {
                throw AdminRefusal(400, "invalidArgument", "\(quoted(text)) is no number.")
            }
            request.rowCountMax = limit
        }
        return try AdminJSON.encode(try await administration.space(request))
    }
}
