package import ContentHashing
package import StoreModel

/// A property of a version that not every version has.
package struct VersionAttribute: Hashable, Sendable {
    package let tag: UInt8
    package let bytes: [UInt8]

    package init(tag: UInt8, bytes: [UInt8]) {
        self.tag = tag
        self.bytes = bytes
    }
}

/// The properties of a version that not every version has, by tag: at most one each, in the order of the tags.
package struct VersionAttributes: Hashable, Sendable {
    /// The numbers are in the rows and never change their meaning. Unknown ones are kept as they are.
    package struct Tag: RawRepresentable, Hashable, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        package static let owner = Tag(rawValue: 1)
        package static let accessControlList = Tag(rawValue: 2)
        package static let retention = Tag(rawValue: 3)
        package static let legalHold = Tag(rawValue: 4)
        package static let encryption = Tag(rawValue: 5)
        package static let partList = Tag(rawValue: 6)
        package static let checksumType = Tag(rawValue: 7)
        package static let storageClass = Tag(rawValue: 8)
        package static let wholeSHA256 = Tag(rawValue: 9)

        /// They belong to the bytes: a copy that shares the bytes has them as well.
        package static let ofContent: Set<Tag> = [.encryption, .partList, .checksumType, .wholeSHA256]
    }

    package private(set) var list: [VersionAttribute]

    package static let none = VersionAttributes()

    package init() { list = [] }

    /// - Parameter list: in the order of the tags, which differ.
    init(ordered list: [VersionAttribute]) { self.list = list }

    package var isEmpty: Bool { list.isEmpty }

    package subscript(_ tag: Tag) -> [UInt8]? {
        get { list.first { $0.tag == tag.rawValue }?.bytes }
        set {
            list.removeAll { $0.tag == tag.rawValue }
            guard let newValue else { return }
            let index = list.firstIndex { $0.tag > tag.rawValue } ?? list.endIndex
            list.insert(VersionAttribute(tag: tag.rawValue, bytes: newValue), at: index)
        }
    }

    /// Those that belong to the bytes.
    package var ofContent: VersionAttributes {
        VersionAttributes(ordered: list.filter { Tag.ofContent.contains(Tag(rawValue: $0.tag)) })
    }
}

/// One attribute of a version that is set (or, with nil, removed).
package struct AttributeChange: Hashable, Sendable {
    package let tag: VersionAttributes.Tag
    package let bytes: [UInt8]?

    package init(_ tag: VersionAttributes.Tag, _ bytes: [UInt8]?) {
        self.tag = tag
        self.bytes = bytes
    }
}

/// Until when a version may not be removed.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
package struct ObjectRetention: Hashable, Sendable {
    package enum Mode: UInt8, Hashable, Sendable {
        /// Can be lifted by who may bypass it.
        case governance = 1
        /// Can't be lifted by anyone.
        case compliance = 2
    }

    package let mode: Mode
    package let until: Timestamp

    package init(mode: Mode, until: Timestamp) {
        self.mode = mode
        self.until = until
    }

    package init?(_ bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        guard let raw = try? reader.read(UInt8.self), let mode = Mode(rawValue: raw),
            let until = try? reader.read(Int64.self), reader.remaining == 0
        else { return nil }
        self.init(mode: mode, until: Timestamp(milliseconds: until))
    }

    package var bytes: [UInt8] {
        var writer = ByteWriter(capacity: 9)
        writer.write(mode.rawValue)
        writer.write(until.milliseconds)
        return writer.bytes
    }
}

extension VersionAttributes {
    private func text(_ tag: Tag) -> String? { self[tag].map { String(decoding: $0, as: UTF8.self) } }

    /// nil: the bucket's owner.
    package var owner: String? {
        get { text(.owner) }
        set { self[.owner] = newValue.map { Array($0.utf8) } }
    }

    package var accessControlList: [UInt8]? {
        get { self[.accessControlList] }
        set { self[.accessControlList] = newValue }
    }

    package var retention: ObjectRetention? {
        get { self[.retention].flatMap { ObjectRetention($0) } }
        set { self[.retention] = newValue?.bytes }
    }

    /// nil: never set.
    package var legalHold: Bool? {
        get { self[.legalHold].map { $0 != [0] } }
        set { self[.legalHold] = newValue.map { [$0 ? 1 : 0] } }
    }

    package var encryption: [UInt8]? {
        get { self[.encryption] }
        set { self[.encryption] = newValue }
    }

    /// Bytes that are stored for the content where they aren't the content itself: of an encrypted version. They stand
    /// in every encryption attribute, from byte 2 on (ObjectEncryption.swift), so that no key is needed to check them.
    package var storedSize: UInt64? {
        guard let bytes = encryption else { return nil }
        var reader = ByteReader(bytes[...].dropFirst(2))
        return try? reader.read(UInt64.self)
    }

    package var checksumType: ChecksumType? {
        get { self[.checksumType]?.first.flatMap { ChecksumType(rawValue: $0) } }
        set { self[.checksumType] = newValue.map { [$0.rawValue] } }
    }

    package var storageClass: String? {
        get { text(.storageClass) }
        set { self[.storageClass] = newValue.map { Array($0.utf8) } }
    }

    /// Of the whole, found after the version was made: of one that came in parts.
    package var wholeSHA256: Digest? {
        get { self[.wholeSHA256].flatMap { Digest($0) } }
        set { self[.wholeSHA256] = newValue?.bytes }
    }

    /// The parts that the object was put in.
    package var partList: PartListReference? {
        get { self[.partList].flatMap { PartListReference($0) } }
        set { self[.partList] = newValue?.bytes }
    }
}

extension VersionRow {
    /// Bytes that the manifest lists.
    package var storedSize: UInt64 { attributes.storedSize ?? size }

    /// Of the whole, where it is known: since the version was made, or found later.
    package var sha256: Digest? { checksums.sha256 ?? attributes.wholeSHA256 }

    /// Every payload that must live as long as the row: the object's, and a list of its parts that stands outside.
    package var payloads: [PayloadReference] {
        var payloads: [PayloadReference] = []
        if kind == .object { payloads.append(PayloadReference(manifest: manifest, size: storedSize)) }
        if case .stored(let list) = attributes.partList { payloads.append(list) }
        return payloads
    }

    /// Whether the version may not be removed at `time`.
    package func isLocked(at time: Timestamp, bypassesGovernance: Bool) -> Bool {
        if attributes.legalHold == true { return true }
        guard let retention = attributes.retention, retention.until > time else { return false }
        return retention.mode == .compliance || !bypassesGovernance
    }
}
