package import StoreModel

// What is wanted of the volumes, as a document of the catalog: space `setting`, key "volume/layout".
//
//   format 1: u8 1 · u64 version · u16 count · entries · u8 count · log set that is wanted (16 bytes each)
//   an entry: 16 bytes volume · 16 bytes the name it is placed under · u8 role · u8 flags (1: it is new) ·
//             u64 version at which it gained chunks last · u64 version for which it was last found whole

/// Which volumes a store has, what is wanted of each, and which of them must be compared with the catalog because
/// chunks belong on them that did not before.
///
/// The order of writes, when something changes:
///
///     add      identity in the empty directory → store.json → (the volume joins) → this document → chunks move
///     drain    this document → its part of the log goes to another volume → chunks are copied → whole
///     remove   (whole, the log set without it, an empty measured difference) → store.json → this document
///     replace  identity → store.json → (the old one leaves, the new one joins) → this document → filled → audited → whole
///
/// Invariants:
/// 1. store.json alone decides which volumes there are; this document what is wanted of them. After a crash between the
///    two the store that is opened brings the document in line (`aligned`): a volume that only store.json has is new, one
///    that only the document has is gone. Both make the volumes that gained chunks by it be compared with the catalog.
/// 2. A volume whose `filledAt` is before its `gainedAt` is not whole, whatever its watermark says. It becomes whole only
///    by a walk over everything alive that found nothing missing on it.
/// 3. Chunks are placed by a new layout only after the document is committed; copies at old places are never touched
///    here.
/// 4. An older document is never written over a newer one: every write expects the bytes that it was made from.
package struct VolumeLayout: Sendable, Hashable {
    package struct Entry: Sendable, Hashable {
        package let id: VolumeID
        package let placementID: VolumeID
        package var role: VolumeRole
        /// Added or put in the place of another, and not yet found whole.
        package var isNew: Bool
        package var gainedAt: UInt64
        package var filledAt: UInt64

        package var mustBeFilled: Bool { filledAt < gainedAt }
    }

    package static let key = [UInt8]("volume/layout".utf8)
    private static let format: UInt8 = 1

    package private(set) var version: UInt64
    package private(set) var entries: [Entry]
    /// The volumes that are to carry the log; empty when nobody said.
    package private(set) var logTarget: [VolumeID]

    private init(version: UInt64, entries: [Entry], logTarget: [VolumeID]) {
        self.version = version
        self.entries = entries
        self.logTarget = logTarget
    }

    /// A store of which nobody has said anything: all volumes are active, and their watermarks tell what they lack.
    package init(founding volumes: [(id: VolumeID, placementID: VolumeID)]) {
        version = 0
        logTarget = []
        entries = volumes.map {
            Entry(
                id: $0.id,
                placementID: $0.placementID,
                role: .active,
                isNew: false,
                gainedAt: 0,
                filledAt: 0
            )
        }
    }

    package subscript(_ id: VolumeID) -> Entry? { entries.first { $0.id == id } }
    package var roles: [VolumeID: VolumeRole] {
        Dictionary(entries.map { ($0.id, $0.role) }, uniquingKeysWith: { first, _ in first })
    }

    // MARK: Changes

    /// The layout for the volumes that store.json names; nil when it is in line with them.
    package func aligned(with volumes: [(id: VolumeID, placementID: VolumeID)]) -> VolumeLayout? {
        let gone = entries.filter { entry in !volumes.contains { $0.id == entry.id } }
        let new = volumes.filter { volume in self[volume.id] == nil }
        guard !gone.isEmpty || !new.isEmpty else { return nil }
        var next = self
        next.version += 1
        next.entries.removeAll { entry in gone.contains { $0.id == entry.id } }
        // What was drained, or has a successor under its name, leaves nothing behind that others must take over.
        let orphans = gone.filter { entry in
            entry.role != .draining && !new.contains { $0.placementID == entry.placementID }
        }
        if !orphans.isEmpty { next.letOthersGain() }
        for volume in new {
            next.entries.append(
                Entry(
                    id: volume.id,
                    placementID: volume.placementID,
                    role: .active,
                    isNew: true,
                    gainedAt: next.version,
                    filledAt: 0
                )
            )
        }
        next.logTarget = logTarget.map { id in
            guard let old = gone.first(where: { $0.id == id }) else { return id }
            return new.first { $0.placementID == old.placementID }?.id ?? id
        }.filter { id in volumes.contains { $0.id == id } }
        if next.logTarget.count != logTarget.count { next.logTarget = [] }
        return next
    }

    /// - Returns: nil when the volume has that role, or is unknown.
    package func setting(_ role: VolumeRole, of id: VolumeID, replicaCount: Int) -> VolumeLayout? {
        guard let index = entries.firstIndex(where: { $0.id == id }), entries[index].role != role else {
            return nil
        }
        var next = self
        next.version += 1
        let before = entries[index].role
        next.entries[index].role = role
        switch role {
        case .active:
            next.entries[index].gainedAt = next.version
        case .readOnly:
            if before == .draining { next.entries[index].gainedAt = next.version }
            if entries.count(where: { $0.role != .draining }) > replicaCount { next.letOthersGain(but: id) }
        case .draining:
            // With no more volumes than replicas the others have everything already; the walk that asks costs little.
            next.letOthersGain(but: id)
            next.logTarget.removeAll { $0 == id }
            if next.logTarget.count != logTarget.count { next.logTarget = [] }
        }
        return next
    }

    package func settingLogTarget(_ volumes: [VolumeID]) -> VolumeLayout {
        var next = self
        next.version += 1
        next.logTarget = volumes.sorted()
        return next
    }

    /// The volume was found whole by a walk that began when the layout had `version`.
    /// - Returns: nil when that is no news, or chunks came to belong on it since.
    package func filled(_ id: VolumeID, at version: UInt64) -> VolumeLayout? {
        guard let index = entries.firstIndex(where: { $0.id == id }), entries[index].mustBeFilled,
            entries[index].gainedAt <= version
        else { return nil }
        var next = self
        next.version += 1
        next.entries[index].filledAt = max(version, entries[index].gainedAt)
        next.entries[index].isNew = false
        return next
    }

    private mutating func letOthersGain(but id: VolumeID? = nil) {
        for index in entries.indices where entries[index].id != id && entries[index].role == .active {
            entries[index].gainedAt = version
        }
    }

    // MARK: Bytes

    package func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.format)
        writer.write(version)
        writer.write(UInt16(entries.count))
        for entry in entries {
            writer.write(entry.id)
            writer.write(entry.placementID)
            writer.write(entry.role.rawValue)
            writer.write(UInt8(entry.isNew ? 1 : 0))
            writer.write(entry.gainedAt)
            writer.write(entry.filledAt)
        }
        writer.write(UInt8(logTarget.count))
        for id in logTarget { writer.write(id) }
        return writer.bytes
    }

    /// - Throws: `StoreError` with `.unsupportedFormat` or `.storeDamaged`.
    package init(decoding bytes: [UInt8]) throws(StoreError) {
        guard bytes.first == Self.format else {
            throw StoreError(
                .unsupportedFormat,
                "The catalog's layout of the volumes has format \(bytes.first ?? 0), this program reads \(Self.format).",
                advice: "Use the version of the program that wrote it, or a newer one."
            )
        }
        do throws(ByteReader.Failure) {
            var reader = ByteReader(bytes.dropFirst())
            let version = try reader.read(UInt64.self)
            var entries: [Entry] = []
            for _ in 0..<(try reader.read(UInt16.self)) { entries.append(try Self.readEntry(&reader)) }
            guard Set(entries.map(\.id)).count == entries.count else {
                throw ByteReader.Failure("a volume stands twice in it")
            }
            var target: [VolumeID] = []
            for _ in 0..<(try reader.read(UInt8.self)) { target.append(try reader.readUniqueID()) }
            try reader.finish()
            self.init(version: version, entries: entries, logTarget: target)
        } catch {
            throw StoreError(.storeDamaged, "The catalog's layout of the volumes can't be read: \(error).")
        }
    }

    private static func readEntry(_ reader: inout ByteReader) throws(ByteReader.Failure) -> Entry {
        let id = try reader.readUniqueID()
        let placementID = try reader.readUniqueID()
        guard let role = VolumeRole(rawValue: try reader.read(UInt8.self)) else {
            throw ByteReader.Failure("unknown role")
        }
        let flags = try reader.read(UInt8.self)
        guard flags <= 1 else { throw ByteReader.Failure("unknown flags") }
        return Entry(
            id: id,
            placementID: placementID,
            role: role,
            isNew: flags == 1,
            gainedAt: try reader.read(UInt64.self),
            filledAt: try reader.read(UInt64.self)
        )
    }
}
