internal import ContentHashing
internal import StoreModel

// volume.json and volume.json.2: two copies of one JSON object, written one after the other, each made durable before
// the next is touched (temporary name, fdatasync, rename, fsync of the directory). Its members:
//
//   format            "holdfast volume"
//   formatMajor/Minor numbers; another major is refused. 1, or 2 once the volume has a logFloor, which programs that know
//                     only 1 would take for damage
//   generation        number; the copy with the higher one is the newer
//   storeID, volumeID UUID text
//   createdAt         milliseconds since 1970
//   promise           number
//   votesFromEpoch, votesFromSequence   numbers: the place that the log must have reached for the volume to vote
//   memberships       [{version, members: [UUID text], sinceEpoch, sinceSequence}]: the log sets it knows, by version
//   replicaCount, writeQuorum
//   failed            {volume's UUID text: {epoch, reason, acknowledgedEpoch, acknowledgedSequence}}; the last two are
//                     missing where they were not known, and are ignored by programs that don't know them
//   knownCommitIndex  number
//   logDamaged        true or false
//   attestedTail      {epoch, sequence, hash}, only when logDamaged: where the log ended, when that is certain. Ignored by
//                     programs that don't know it, which drop it when they write
//   frozen            [{segment, end}]
//   watermarks        {logSegment, logOffset, bulkSegment, bulkOffset, complete}: lower bounds of what is fsynced
//   logFloor          {epoch, sequence, hash, fromSegment, fromOffset}, from format 2 on and only when segments with
//                     batches were removed: the log begins after this position. It was written when the log ended at
//                     the place named; what stands in front of that and is not later than the position counts no more
//   clean             true after a clean close
//   failure           why the volume failed, when it did
//
// The file ends with the line `  "checksum": "…"` and a closing brace: SHA-256, in 64 hexadecimal digits, of every
// byte before that line.

/// Reads and writes the two copies of a volume's identity.
struct IdentityFile: Sendable {
    static let names = ["volume.json", "volume.json.2"]
    private static let byteCountMax = 1 << 20

    var identity: VolumeIdentity
    var memory: VolumeMemory
    var generation: UInt64

    /// Writes both copies durably, the first before the second.
    mutating func write(to disk: any Disk) throws(DiskError) {
        generation += 1
        let bytes = encode()
        for name in Self.names {
            do throws(DiskError) {
                try disk.replaceFile(name, with: bytes)
            } catch {
                guard error.code == .full, IdentityReserve.release(on: disk) else { throw error }
                try disk.replaceFile(name, with: bytes)
                IdentityReserve.ensure(on: disk)
            }
        }
    }

    /// What the two copies say.
    struct Loaded {
        let file: IdentityFile
        /// Why a copy is not used, by its name: missing, damaged or older.
        let faults: [(name: String, reason: String)]
    }

    /// - Throws: `.identityMissing`, `.unsupportedFormat`, `.corrupt` when no copy is good, `.inputOutput`.
    static func load(from disk: any Disk) throws(VolumeError) -> Loaded {
        var best: IdentityFile?
        var faults: [(name: String, reason: String)] = []
        var foundAny = false
        var newer: String?
        var refusal: DiskError?
        for name in names {
            do throws(DiskError) {
                let file = try disk.open(name, .read)
                defer { file.close() }
                foundAny = true
                let bytes = try file.read(count: byteCountMax, at: 0)
                newer = newer ?? newerFormat(bytes)
                let copy = try decode(bytes, path: disk.label)
                if let other = best, other.generation != copy.generation {
                    faults.append(
                        (other.generation < copy.generation ? names[0] : name, "older than the other copy")
                    )
                    if other.generation > copy.generation { continue }
                }
                best = copy
            } catch {
                guard error.code == .notFound else {
                    faults.append((name, error.description))
                    foundAny = true
                    if error.code == .permission { refusal = error }
                    continue
                }
                faults.append((name, "missing"))
            }
        }
        if let newer {
            throw VolumeError(
                .unsupportedFormat,
                "The volume has format \(newer); this version reads 1 to \(VolumeIdentity.formatMajorMax). Use the version of "
                    + "the program that wrote it, or a later one.",
                path: disk.label
            )
        }
        if let best { return Loaded(file: best, faults: faults) }
        guard foundAny else {
            throw VolumeError(
                .identityMissing,
                "There is no volume in this directory (no volume.json). If it is a mount point, is the disk mounted?",
                path: disk.label
            )
        }
        if let refusal {
            throw VolumeError(
                .inputOutput,
                "The volume's identity may not be read.",
                path: disk.label,
                cause: refusal
            )
        }
        let reasons = faults.map { "\($0.name): \($0.reason)" }.joined(separator: "; ")
        throw VolumeError(
            .corrupt,
            "Neither copy of the volume's identity is readable: \(reasons).",
            path: disk.label
        )
    }

    /// The major version of an intact copy that is not of this format. Its other members may have any form.
    private static func newerFormat(_ bytes: [UInt8]) -> String? {
        guard hasValidChecksum(bytes), let text = try? IdentityText(parsing: bytes),
            let major = text["formatMajor"]?.asUnsigned,
            !(VolumeIdentity.formatMajor...VolumeIdentity.formatMajorMax).contains(major)
        else { return nil }
        return String(major)
    }

    private static func hasValidChecksum(_ bytes: [UInt8]) -> Bool {
        let checksumByteCount = checksumLine(of: []).utf8.count
        let covered = bytes.dropLast(checksumByteCount)
        return bytes.suffix(checksumByteCount).elementsEqual(checksumLine(of: covered).utf8)
    }

    // MARK: Bytes

    func encode() -> [UInt8] {
        var members: [IdentityText.Member] = []
        func add(_ name: String, _ value: IdentityText) { members.append(.init(name: name, value: value)) }
        add("format", .text("holdfast volume"))
        add("formatMajor", .unsigned(identity.formatMajor))
        add("formatMinor", .unsigned(identity.formatMinor))
        add("generation", .unsigned(generation))
        add("storeID", .text(identity.storeID.description))
        add("volumeID", .text(identity.volumeID.description))
        add("createdAt", .number(identity.createdAt.milliseconds))
        add("promise", .unsigned(identity.promise))
        add("votesFromEpoch", .unsigned(identity.votesFromEpoch))
        add("votesFromSequence", .unsigned(identity.votesFromSequence))
        add("memberships", .array(identity.memberships.map(Self.text(of:))))
        add("replicaCount", .unsigned(UInt64(identity.quorum.replicaCount)))
        add("writeQuorum", .unsigned(UInt64(identity.quorum.writeQuorum)))
        let failed = identity.failed.sorted { $0.key < $1.key }
        add(
            "failed",
            .object(
                failed.map { peer, failure in
                    .init(
                        name: peer.description,
                        value: Self.text(of: failure)
                    )
                }
            )
        )
        add("knownCommitIndex", .unsigned(memory.knownCommitIndex))
        add("logDamaged", .boolean(memory.isLogDamaged))
        if let tail = memory.attestedTail, memory.isLogDamaged {
            add("attestedTail", .object(Self.members(of: tail)))
        }
        add(
            "frozen",
            .array(
                memory.frozen.map {
                    .object([
                        .init(name: "segment", value: .unsigned(UInt64($0.number))),
                        .init(name: "end", value: .unsigned($0.end)),
                    ])
                }
            )
        )
        add("watermarks", Self.text(of: memory.watermarks))
        if let floor = memory.logFloor {
            add(
                "logFloor",
                .object(
                    Self.members(of: floor.position) + [
                        .init(name: "fromSegment", value: .unsigned(UInt64(floor.from.segment))),
                        .init(name: "fromOffset", value: .unsigned(floor.from.offset)),
                    ]
                )
            )
        }
        add("clean", .boolean(memory.isClean))
        if let reason = memory.failureReason { add("failure", .text(reason)) }
        var text = ""
        IdentityText.object(members).write(to: &text, indent: 0)
        // The object is closed after the checksum's line.
        text.removeLast(2)
        text += ",\n"
        text += Self.checksumLine(of: [UInt8](text.utf8)[...])
        return [UInt8](text.utf8)
    }

    private static func members(of position: LogPosition) -> [IdentityText.Member] {
        [
            .init(name: "epoch", value: .unsigned(position.epoch)),
            .init(name: "sequence", value: .unsigned(position.sequence)),
            .init(name: "hash", value: .text(position.hash.hex)),
        ]
    }

    private static func position(_ text: IdentityText) -> LogPosition? {
        guard let epoch = text["epoch"]?.asUnsigned, let sequence = text["sequence"]?.asUnsigned,
            let hash = text["hash"]?.asText.flatMap({ Digest(hex: $0) })
        else { return nil }
        return LogPosition(epoch: epoch, sequence: sequence, hash: hash)
    }

    private static func checksumLine(of bytes: ArraySlice<UInt8>) -> String {
        let digest = bytes.withUnsafeBytes { SHA256Hasher.hash($0) }
        return "  \"checksum\": \"\(digest.hex)\"\n}\n"
    }

    private static func text(of set: LogSet) -> IdentityText {
        .object([
            .init(name: "version", value: .unsigned(set.version)),
            .init(name: "members", value: .array(set.members.map { IdentityText.text($0.description) })),
            .init(name: "sinceEpoch", value: .unsigned(set.sinceEpoch)),
            .init(name: "sinceSequence", value: .unsigned(set.sinceSequence)),
        ])
    }

    private static func logSet(_ text: IdentityText) throws(ByteReader.Failure) -> LogSet {
        guard let version = text["version"]?.asUnsigned, let members = text["members"]?.asArray,
            let sinceEpoch = text["sinceEpoch"]?.asUnsigned,
            let sinceSequence = text["sinceSequence"]?.asUnsigned
        else { throw ByteReader.Failure("a membership is malformed") }
        let volumes = members.compactMap { $0.asText.flatMap { VolumeID($0) } }
        guard volumes.count == members.count else { throw ByteReader.Failure("a member is no UUID") }
        return LogSet(
            version: version,
            members: volumes,
            sinceEpoch: sinceEpoch,
            sinceSequence: sinceSequence
        )
    }

    private static func text(of failure: PeerFailure) -> IdentityText {
        var members: [IdentityText.Member] = [
            .init(name: "epoch", value: .unsigned(failure.epoch)),
            .init(name: "reason", value: .text(failure.reason)),
        ]
        if let batch = failure.acknowledged {
            members.append(.init(name: "acknowledgedEpoch", value: .unsigned(batch.epoch)))
            members.append(.init(name: "acknowledgedSequence", value: .unsigned(batch.sequence)))
        }
        return .object(members)
    }

    private static func failure(_ text: IdentityText) throws(ByteReader.Failure) -> PeerFailure {
        guard let epoch = text["epoch"]?.asUnsigned, let reason = text["reason"]?.asText else {
            throw ByteReader.Failure("member failed is missing or malformed")
        }
        guard let batchEpoch = text["acknowledgedEpoch"]?.asUnsigned,
            let sequence = text["acknowledgedSequence"]?.asUnsigned
        else { return PeerFailure(epoch: epoch, reason: reason) }
        let batch = AcknowledgedBatch(epoch: batchEpoch, sequence: sequence)
        return PeerFailure(epoch: epoch, reason: reason, acknowledged: batch)
    }

    private static func text(of marks: VolumeMemory.Watermarks) -> IdentityText {
        .object([
            .init(name: "logSegment", value: .unsigned(UInt64(marks.log.segment))),
            .init(name: "logOffset", value: .unsigned(marks.log.offset)),
            .init(name: "bulkSegment", value: .unsigned(UInt64(marks.bulk.segment))),
            .init(name: "bulkOffset", value: .unsigned(marks.bulk.offset)),
            .init(name: "complete", value: .unsigned(marks.complete)),
        ])
    }

    private static func decode(_ bytes: [UInt8], path: String) throws(DiskError) -> IdentityFile {
        do throws(ByteReader.Failure) {
            return try IdentityFile(decoding: bytes)
        } catch {
            throw DiskError(.inputOutput, call: "decode", path: path, detail: "damaged: \(error)")
        }
    }

    init(identity: VolumeIdentity, memory: VolumeMemory = VolumeMemory(), generation: UInt64 = 0) {
        self.identity = identity
        self.memory = memory
        self.generation = generation
    }

    init(decoding bytes: [UInt8]) throws(ByteReader.Failure) {
        guard Self.hasValidChecksum(bytes) else { throw ByteReader.Failure("the checksum does not hold") }
        let text = try IdentityText(parsing: bytes)
        func member<Value>(_ name: String, _ value: Value?) throws(ByteReader.Failure) -> Value {
            guard let value else { throw ByteReader.Failure("member \(name) is missing or malformed") }
            return value
        }
        func unsigned(_ name: String) throws(ByteReader.Failure) -> UInt64 {
            try member(name, text[name]?.asUnsigned)
        }
        func identifier(_ text: String?) -> UniqueID? { text.flatMap { UniqueID($0) } }
        guard text["format"]?.asText == "holdfast volume" else { throw ByteReader.Failure("not a volume") }
        let memberships = try member("memberships", text["memberships"]?.asArray)
            .map { value throws(ByteReader.Failure) in try Self.logSet(value) }
        let quorum = try? QuorumConfiguration(
            replicaCount: Int(clamping: try unsigned("replicaCount")),
            writeQuorum: Int(clamping: try unsigned("writeQuorum"))
        )
        var failed: [VolumeID: PeerFailure] = [:]
        guard case .object(let failures) = text["failed"] else {
            throw ByteReader.Failure("failed is missing")
        }
        for failure in failures {
            failed[try member("failed", identifier(failure.name))] = try Self.failure(failure.value)
        }
        identity = VolumeIdentity(
            storeID: try member("storeID", identifier(text["storeID"]?.asText)),
            volumeID: try member("volumeID", identifier(text["volumeID"]?.asText)),
            promise: try unsigned("promise"),
            logSet: memberships.first ?? LogSet(version: 0, members: []),
            quorum: try member("writeQuorum", quorum),
            createdAt: Timestamp(milliseconds: try member("createdAt", text["createdAt"]?.asSigned)),
            failed: failed
        )
        identity.memberships = memberships
        identity.votesFromEpoch = try unsigned("votesFromEpoch")
        identity.votesFromSequence = try unsigned("votesFromSequence")
        identity.formatMajor = try unsigned("formatMajor")
        identity.formatMinor = try unsigned("formatMinor")
        generation = try unsigned("generation")
        memory = VolumeMemory()
        memory.knownCommitIndex = try unsigned("knownCommitIndex")
        memory.isLogDamaged = try member("logDamaged", text["logDamaged"]?.asBoolean)
        if let tail = text["attestedTail"], memory.isLogDamaged {
            memory.attestedTail = try member("attestedTail", Self.position(tail))
        }
        memory.watermarks = try Self.watermarks(try member("watermarks", text["watermarks"]))
        if let floor = text["logFloor"] { memory.logFloor = try Self.logFloor(floor) }
        memory.isClean = try member("clean", text["clean"]?.asBoolean)
        memory.failureReason = text["failure"]?.asText
        for value in try member("frozen", text["frozen"]?.asArray) {
            let number = value["segment"]?.asUnsigned.flatMap { UInt32(exactly: $0) }
            memory.frozen.append(
                .init(
                    number: try member("frozen", number),
                    end: try member("frozen", value["end"]?.asUnsigned)
                )
            )
        }
    }

    private static func location(_ text: IdentityText, _ segment: String, _ offset: String)
        -> RecordLocation?
    {
        guard let number = text[segment]?.asUnsigned.flatMap({ UInt32(exactly: $0) }),
            let offset = text[offset]?.asUnsigned, offset % RecordFormat.unit == 0,
            let unit = UInt32(exactly: offset / RecordFormat.unit)
        else { return nil }
        return RecordLocation(segment: number, unit: unit)
    }

    private static func logFloor(_ text: IdentityText) throws(ByteReader.Failure) -> VolumeMemory.LogFloor {
        guard let position = position(text), let from = location(text, "fromSegment", "fromOffset") else {
            throw ByteReader.Failure("the floor of the log is malformed")
        }
        return .init(position: position, from: from)
    }

    private static func watermarks(_ text: IdentityText) throws(ByteReader.Failure) -> VolumeMemory.Watermarks
    {
        guard let log = location(text, "logSegment", "logOffset"),
            let bulk = location(text, "bulkSegment", "bulkOffset"),
            let complete = text["complete"]?.asUnsigned
        else { throw ByteReader.Failure("watermarks are malformed") }
        return VolumeMemory.Watermarks(log: log, bulk: bulk, complete: complete)
    }
}
