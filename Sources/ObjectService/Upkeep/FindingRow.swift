internal import Catalog
package import Replication
package import StoreModel

// A finding as a document of the space finding. Key: "scrub/" and the id (16 bytes: milliseconds since 1970, a number that
// makes it unique; big-endian, so that keys stand in the order of time). Body, little-endian; text has its length in front:
//
//   format version (3, 1 byte) · kind (text) · found by (text) · volume (16; zeros: of no volume) · 1 and the chunk's
//   digest (32), or 0 · found at (8) · last seen at (8) · times seen (8) · outcome (1: 0 open, 1 repaired, 2 mended,
//   3 unrepairable, 4 failed, 5 rescued) · of repaired: source (16), verified at (8) · of failed: reason (text) ·
//   of rescued: source (text), verified at (8) · closed at (8, 0: open) · detail (text) · number of names (4), names
//   (text) · since format 2: mirror (text; empty: of none) · number of holders (4), holders (text) · since format 3: 1 and
//   what is left around the chunk (LossAccount.swift), or 0

/// A row of the ledger of findings.
package struct FindingRow: Hashable, Sendable {
    package let id: UniqueID
    package var finding: Finding
    package var lastSeenAt: Timestamp
    package var seenCount: UInt64 = 1
    package var closedAt: Timestamp?
    /// "bucket/key versionId", of those that need the chunk, as far as somebody has looked.
    package var names: [String] = []
    /// Mirrors that have what is lost here, by the records, as far as somebody has looked.
    package var holders: [String] = []
    /// Of what no volume has any more, when somebody has looked: what is left around it.
    package var account: LossAccount?

    static let prefix = [UInt8]("scrub/".utf8)
    static let namesMax = 16
    private static let version: UInt8 = 3
    private static let textSizeMax = 512

    init(id: UniqueID, _ finding: Finding) {
        self.id = id
        self.finding = finding
        lastSeenAt = finding.foundAt
        if finding.outcome != .pending { closedAt = finding.foundAt }
    }

    package var isOpen: Bool { finding.outcome == .pending }

    var key: [UInt8] { Self.prefix + id.bytes }

    var body: [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.version)
        writer.write(text: finding.kind.rawValue)
        writer.write(text: finding.foundBy.rawValue)
        writer.write(finding.volume)
        writer.write(finding.chunk == nil ? 0 : 1 as UInt8)
        if let chunk = finding.chunk { writer.write(chunk) }
        writer.write(finding.foundAt.milliseconds)
        writer.write(lastSeenAt.milliseconds)
        writer.write(seenCount)
        switch finding.outcome {
        case .pending: writer.write(0 as UInt8)
        case .repaired(let source, let verifiedAt):
            writer.write(1 as UInt8)
            writer.write(source)
            writer.write(verifiedAt.milliseconds)
        case .mended: writer.write(2 as UInt8)
        case .unrepairable: writer.write(3 as UInt8)
        case .failed(let reason):
            writer.write(4 as UInt8)
            writer.write(text: Self.short(reason))
        case .rescued(let source, let verifiedAt):
            writer.write(5 as UInt8)
            writer.write(text: source)
            writer.write(verifiedAt.milliseconds)
        }
        writer.write(closedAt?.milliseconds ?? 0)
        writer.write(text: Self.short(finding.detail))
        writer.write(UInt32(min(names.count, Self.namesMax)))
        for name in names.prefix(Self.namesMax) { writer.write(text: name) }
        writer.write(text: finding.mirror ?? "")
        writer.write(UInt32(min(holders.count, Self.namesMax)))
        for name in holders.prefix(Self.namesMax) { writer.write(text: name) }
        writer.write(account == nil ? 0 : 1 as UInt8)
        account?.write(to: &writer)
        return writer.bytes
    }

    private static func short(_ text: String) -> String { String(text.prefix(textSizeMax)) }

    init(_ document: DocumentRow) throws(StoreError) {
        if let version = document.body.first, version > Self.version {
            throw StoreError(
                .unsupportedFormat,
                "A finding in the catalog has format \(version); this program reads 1 to \(Self.version)."
            )
        }
        do throws(ByteReader.Failure) {
            var keyReader = ByteReader(document.key)
            guard try keyReader.read(count: Self.prefix.count).elementsEqual(Self.prefix) else {
                throw ByteReader.Failure("a key that begins otherwise")
            }
            id = try keyReader.readUniqueID()
            try keyReader.finish()
            var reader = ByteReader(document.body)
            let version = try reader.read(UInt8.self)
            guard version >= 1 else { throw ByteReader.Failure("format 0") }
            guard let kind = Finding.Kind(rawValue: try reader.readText()),
                let source = Finding.Source(rawValue: try reader.readText())
            else { throw ByteReader.Failure("an unknown kind") }
            let volume = try reader.readUniqueID()
            let chunk = try reader.read(UInt8.self) == 1 ? try reader.readDigest() : nil
            let foundAt = Timestamp(milliseconds: try reader.read(Int64.self))
            lastSeenAt = Timestamp(milliseconds: try reader.read(Int64.self))
            seenCount = try reader.read(UInt64.self)
            let outcome: Finding.Outcome
            switch try reader.read(UInt8.self) {
            case 0: outcome = .pending
            case 1:
                outcome = .repaired(
                    from: try reader.readUniqueID(),
                    verifiedAt: Timestamp(milliseconds: try reader.read(Int64.self))
                )
            case 2: outcome = .mended
            case 3: outcome = .unrepairable
            case 4: outcome = .failed(try reader.readText())
            case 5:
                outcome = .rescued(
                    from: try reader.readText(),
                    verifiedAt: Timestamp(milliseconds: try reader.read(Int64.self))
                )
            default: throw ByteReader.Failure("an unknown outcome")
            }
            closedAt = try reader.readTime()
            let detail = try reader.readText()
            let count = try reader.read(UInt32.self)
            guard count <= Self.namesMax else { throw ByteReader.Failure("too many names") }
            for _ in 0..<count { names.append(try reader.readText()) }
            var mirror = ""
            if version >= 2 {
                mirror = try reader.readText()
                let count = try reader.read(UInt32.self)
                guard count <= Self.namesMax else { throw ByteReader.Failure("too many mirrors") }
                for _ in 0..<count { holders.append(try reader.readText()) }
            }
            if version >= 3, try reader.read(UInt8.self) == 1 { account = try LossAccount(from: &reader) }
            try reader.finish()
            finding = Finding(
                chunk: chunk,
                volume: volume,
                kind: kind,
                foundBy: source,
                foundAt: foundAt,
                detail: detail,
                outcome: outcome
            )
            finding.mirror = mirror.isEmpty ? nil : mirror
        } catch {
            throw StoreError(.storeDamaged, "A finding in the catalog can't be read: \(error).")
        }
    }
}
