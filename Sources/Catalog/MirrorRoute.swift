package import StoreModel

// Mirrors as the catalog knows them: which versions go where. What a backend is, Mirroring knows.
//
//   Space setting, key "mirror/route/" and the mirror's number (8 bytes, big-endian); body:
//     offset  size  field
//          0     1  format version, 1
//          1     2  number of rules, 1 to 64
//          …     …  each rule: bucket pattern (text), key prefix (counted), 1 flag: 1 = a tag, its name and value (text)
//
// Integers are little-endian; text and counted bytes have a length of 4 bytes in front.

/// Number of a mirror: drawn at random when it is added, so that one that is added again is another one.
package struct MirrorID: Hashable, Sendable, BitwiseCopyable, Comparable, RawRepresentable {
    package let rawValue: UInt64
    package init(rawValue: UInt64) { self.rawValue = rawValue }
    package static func < (left: MirrorID, right: MirrorID) -> Bool { left.rawValue < right.rawValue }
}

/// Which versions a mirror takes.
package struct MirrorRule: Hashable, Sendable {
    /// `*` is any text, `?` any character.
    package let bucketPattern: String
    package let keyPrefix: [UInt8]
    /// A tag that a version must have. Deletes don't ask for it: what they are about may have had it.
    package let tag: NamedValue?

    package init(bucketPattern: String = "*", keyPrefix: [UInt8] = [], tag: NamedValue? = nil) {
        self.bucketPattern = bucketPattern
        self.keyPrefix = keyPrefix
        self.tag = tag
    }

    package func matches(bucket: BucketName, key: ObjectKey) -> Bool {
        key.bytes.starts(with: keyPrefix)
            && Self.matches([UInt8](bucketPattern.utf8), [UInt8](bucket.description.utf8))
    }

    /// Goes back to the last star only.
    private static func matches(_ pattern: [UInt8], _ text: [UInt8]) -> Bool {
        var (patternIndex, textIndex) = (0, 0)
        var star: (pattern: Int, text: Int)?
        while textIndex < text.count {
            if patternIndex < pattern.count, pattern[patternIndex] == UInt8(ascii: "*") {
                star = (patternIndex, textIndex)
                patternIndex += 1
            } else if patternIndex < pattern.count,
                pattern[patternIndex] == text[textIndex] || pattern[patternIndex] == UInt8(ascii: "?")
            {
                patternIndex += 1
                textIndex += 1
            } else if let last = star {
                star = (last.pattern, last.text + 1)
                patternIndex = last.pattern + 1
                textIndex = last.text + 1
            } else {
                return false
            }
        }
        return pattern[patternIndex...].allSatisfy { $0 == UInt8(ascii: "*") }
    }
}

/// The rules of one mirror: a version that any of them takes is mirrored.
package struct MirrorRoute: Hashable, Sendable {
    package static let ruleCountMax = 64
    private static let format: UInt8 = 1

    package let id: MirrorID
    package let rules: [MirrorRule]

    package init(id: MirrorID, rules: [MirrorRule]) {
        self.id = id
        self.rules = rules
    }

    /// Whether anything of this key may be mirrored.
    package func matches(bucket: BucketName, key: ObjectKey) -> Bool {
        rules.contains { $0.matches(bucket: bucket, key: key) }
    }

    /// Whether a version of this key with these tags is mirrored.
    package func matches(bucket: BucketName, key: ObjectKey, tags: [NamedValue]) -> Bool {
        rules.contains { rule in
            rule.matches(bucket: bucket, key: key) && (rule.tag.map { tags.contains($0) } ?? true)
        }
    }

    /// Whether this version is mirrored. Delete markers have no tags.
    package func matches(bucket: BucketName, row: VersionRow) -> Bool {
        row.isDeleteMarker
            ? matches(bucket: bucket, key: row.key) : matches(bucket: bucket, key: row.key, tags: row.tags)
    }

    /// Whether some rule asks for a tag.
    package var asksForTags: Bool { rules.contains { $0.tag != nil } }

    package var body: [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.write(Self.format)
        writer.write(UInt16(clamping: rules.count))
        for rule in rules.prefix(Int(UInt16.max)) {
            writer.write(text: rule.bucketPattern)
            writer.write(counted: rule.keyPrefix)
            writer.write(UInt8(rule.tag == nil ? 0 : 1))
            if let tag = rule.tag {
                writer.write(text: tag.name)
                writer.write(text: tag.value)
            }
        }
        return writer.bytes
    }

    package init(_ document: DocumentRow) throws(CatalogError) {
        guard let id = MirrorKey.id(of: document.key, under: MirrorKey.routePrefix) else {
            throw CatalogError(.damaged, "The key of a mirror's rules is wrong.")
        }
        var reader = ByteReader(document.body)
        do throws(ByteReader.Failure) {
            let format = try reader.read(UInt8.self)
            guard format == Self.format else {
                throw ByteReader.Failure("they have format \(format); this program reads \(Self.format)")
            }
            let count = Int(try reader.read(UInt16.self))
            guard (1...Self.ruleCountMax).contains(count) else { throw ByteReader.Failure("\(count) rules") }
            var rules: [MirrorRule] = []
            for _ in 0..<count {
                let pattern = try reader.readText()
                let prefix = try reader.readCounted()
                let flag = try reader.read(UInt8.self)
                guard flag <= 1 else { throw ByteReader.Failure("unknown flag \(flag)") }
                let tag = flag == 1 ? NamedValue(try reader.readText(), try reader.readText()) : nil
                rules.append(MirrorRule(bucketPattern: pattern, keyPrefix: prefix, tag: tag))
            }
            try reader.finish()
            self.init(id: id, rules: rules)
        } catch {
            throw CatalogError(.unsupportedFormat, "The rules of a mirror can't be read: \(error).")
        }
    }

    /// The document, to be written.
    package var document: DocumentRow {
        DocumentRow(space: .setting, key: MirrorKey.route(id), body: body)
    }

    /// All that are there.
    package static func all(in reader: any CatalogReader) throws(CatalogError) -> [MirrorRoute] {
        var routes: [MirrorRoute] = []
        for row in try reader.documents(.setting, prefix: MirrorKey.routePrefix, limit: .max) {
            routes.append(try MirrorRoute(row))
        }
        return routes
    }
}
