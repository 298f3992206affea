package import Catalog
package import StoreModel

/// Which noncurrent versions of a bucket are kept: those for which at least one of the rules says so. Versions that are
/// current, and those that are locked, always are.
///
/// Stored as the bucket's setting `holdfast-retention`, little-endian:
///
///     offset  size  field
///          0     1  format, 1
///          1     1  rules that are there: 1 keepLast, 2 keepYoungerThan
///          2     4  keepLast: so many of the newest noncurrent versions of a key; else 0
///          6     8  keepYoungerThan, seconds since the version became noncurrent; else 0
///         14     1  number of tags
///         15     …  each: length of the name (2), name, 1 when there is a value and 0 when any will do (1), length of
///                   the value (2), value
package struct RetentionPolicy: Hashable, Sendable {
    package struct Tag: Hashable, Sendable {
        package let name: String
        /// nil: any.
        package let value: String?

        package init(_ name: String, _ value: String?) {
            self.name = name
            self.value = value
        }

        fileprivate func matches(_ tag: NamedValue) -> Bool {
            tag.name == name && (value == nil || value == tag.value)
        }
    }

    package let keepLast: Int?
    package let keepYoungerThan: Duration?
    package let keepTagged: [Tag]

    package static let tagCountMax = 16

    /// - Throws: `StoreError` with `.invalidArgument` for a policy without a rule, or one beyond its bounds.
    package init(keepLast: Int?, keepYoungerThan: Duration?, keepTagged: [Tag]) throws(StoreError) {
        guard keepLast != nil || keepYoungerThan != nil || !keepTagged.isEmpty else {
            throw StoreError(
                .invalidArgument,
                "A retention policy needs a rule: without one every noncurrent version would be dropped.",
                advice: "Say --keep-last 0 if that is what you want."
            )
        }
        if let keepLast, !(0...1_000_000).contains(keepLast) {
            throw StoreError(.invalidArgument, "Keep the last 0 to 1000000 versions, not \(keepLast).")
        }
        if let keepYoungerThan, keepYoungerThan < .zero || keepYoungerThan > .seconds(3_155_760_000) {
            throw StoreError(.invalidArgument, "An age lies between nothing and a hundred years.")
        }
        guard keepTagged.count <= Self.tagCountMax else {
            throw StoreError(.invalidArgument, "At most \(Self.tagCountMax) tags, not \(keepTagged.count).")
        }
        for tag in keepTagged {
            guard (1...128).contains(tag.name.utf8.count), tag.value?.utf8.count ?? 0 <= 256 else {
                throw StoreError(
                    .invalidArgument,
                    "The name of a tag has 1 to 128 bytes, its value at most 256."
                )
            }
        }
        self.keepLast = keepLast
        self.keepYoungerThan = keepYoungerThan
        self.keepTagged = keepTagged
    }

    package var body: [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.write(UInt8(1))
        writer.write(UInt8((keepLast == nil ? 0 : 1) | (keepYoungerThan == nil ? 0 : 2)))
        writer.write(UInt32(keepLast ?? 0))
        writer.write(UInt64(keepYoungerThan?.components.seconds ?? 0))
        writer.write(UInt8(keepTagged.count))
        for tag in keepTagged {
            writer.write(UInt16(tag.name.utf8.count))
            writer.write(raw: Array(tag.name.utf8))
            writer.write(UInt8(tag.value == nil ? 0 : 1))
            writer.write(UInt16(tag.value?.utf8.count ?? 0))
            writer.write(raw: Array((tag.value ?? "").utf8))
        }
        return writer.bytes
    }

    /// - Throws: `StoreError` with `.unsupportedFormat` for a newer format, `.storeDamaged` for what can't be read. A policy
    ///   that can't be read drops nothing.
    package init(body: [UInt8]) throws(StoreError) {
        do {
            var reader = ByteReader(body)
            let format = try reader.read(UInt8.self)
            guard format == 1 else {
                throw StoreError(
                    .unsupportedFormat,
                    "A retention policy has format \(format); this program reads 1."
                )
            }
            let rules = try reader.read(UInt8.self)
            let last = try reader.read(UInt32.self)
            let seconds = try reader.read(UInt64.self)
            var tags: [Tag] = []
            for _ in 0..<(try reader.read(UInt8.self)) {
                let name = String(
                    decoding: try reader.read(count: Int(try reader.read(UInt16.self))),
                    as: UTF8.self
                )
                let hasValue = try reader.read(UInt8.self) == 1
                let value = String(
                    decoding: try reader.read(count: Int(try reader.read(UInt16.self))),
                    as: UTF8.self
                )
                tags.append(Tag(name, hasValue ? value : nil))
            }
            guard reader.remaining == 0, rules < 4 else {
                throw ByteReader.Failure("bytes that mean nothing")
            }
            try self.init(
                keepLast: rules & 1 != 0 ? Int(last) : nil,
                keepYoungerThan: rules & 2 != 0 ? .seconds(Int64(clamping: seconds)) : nil,
                keepTagged: tags
            )
        } catch let error as StoreError {
            throw error
        } catch {
            throw StoreError(.storeDamaged, "A retention policy can't be read: \(error).")
        }
    }
}

/// What a policy says of one version, and why.
package struct RetentionDecision: Sendable {
    package let version: VersionRow
    package let isKept: Bool
    package let reason: String
}

/// Judges the versions of a bucket, which come key by key, newest first.
struct RetentionJudge {
    private let policy: RetentionPolicy
    private let now: Timestamp
    private var key: ObjectKey?
    /// Noncurrent object versions of the key that came by.
    private var count = 0
    /// When the version that came by last was made: the next one became noncurrent then.
    private var supersededAt = Timestamp(milliseconds: 0)

    init(_ policy: RetentionPolicy, now: Timestamp) {
        self.policy = policy
        self.now = now
    }

    mutating func judge(_ version: VersionRow) -> RetentionDecision {
        defer { supersededAt = version.createdAt }
        guard version.key == key else {
            key = version.key
            count = 0
            return RetentionDecision(version: version, isKept: true, reason: "it is the current one")
        }
        if !version.isDeleteMarker { count += 1 }
        func kept(_ reason: String) -> RetentionDecision {
            RetentionDecision(version: version, isKept: true, reason: reason)
        }
        if version.attributes.legalHold == true { return kept("a legal hold is on it") }
        if version.isLocked(at: now, bypassesGovernance: false) {
            return kept("it is locked until its retention ends")
        }
        if let last = policy.keepLast, !version.isDeleteMarker, count <= last {
            return kept("it is one of the last \(last) noncurrent versions (number \(count))")
        }
        if let tag = policy.keepTagged.first(where: { wanted in version.tags.contains { wanted.matches($0) } }
        ) {
            return kept("it has the tag \(tag.name)\(tag.value.map { "=" + $0 } ?? "")")
        }
        let age = max(0, now.milliseconds - supersededAt.milliseconds) / 1000
        if let limit = policy.keepYoungerThan, age < limit.components.seconds {
            return kept("it has been noncurrent for \(age) s, less than \(limit.components.seconds) s")
        }
        return RetentionDecision(version: version, isKept: false, reason: reasonToDrop(version, age))
    }

    private func reasonToDrop(_ version: VersionRow, _ age: Int64) -> String {
        var reasons: [String] = []
        if version.isDeleteMarker {
            reasons.append("a delete marker that is noncurrent")
        } else if let last = policy.keepLast {
            reasons.append("number \(count) of the noncurrent versions, \(last) are kept")
        }
        if !policy.keepTagged.isEmpty { reasons.append("none of the tags") }
        if policy.keepYoungerThan != nil { reasons.append("noncurrent for \(age) s") }
        return reasons.joined(separator: ", ")
    }
}
