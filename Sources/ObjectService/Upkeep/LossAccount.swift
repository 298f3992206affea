package import StoreModel

// Part of a finding's document. Little-endian; text has its length in front:
//
//   number of versions that need the chunk (8), of which these are the first: number (4), versions · number of copies (4),
//   copies
//
//   version: bucket (text) · key (text) · id (text) · flags (1: 1 newest of its key) · state (1) · size (8) · number of
//   mirrors (1), their names (text)
//   copy: volume (16) · 1 and when it was read (8), or 0 · what is wrong with it (text; empty: nothing)

/// What is left around a chunk that no volume has any more: the versions that need it, other versions of the same keys,
/// where each of them is whole, and how the copy of every volume was found.
package struct LossAccount: Hashable, Sendable {
    package struct Version: Hashable, Sendable {
        package enum State: UInt8, Hashable, Sendable {
            /// It needs the chunk.
            case lost = 0
            /// It needs another chunk that no volume has.
            case damaged
            /// All its bytes were read and are good.
            case whole
            /// The volumes have all its chunks by their indexes; it was too large to be read for this.
            case listed

            package var name: String {
                switch self {
                case .lost: "lost"
                case .damaged: "damaged"
                case .whole: "whole"
                case .listed: "listed"
                }
            }
        }

        package let bucket: String
        package let key: String
        package let id: String
        package let isNewest: Bool
        package let size: UInt64
        package var state: State
        /// Those that have the version, by the store's records.
        package var mirrors: [String]

        /// In a finding's document.
        var byteCount: Int {
            23 + bucket.utf8.count + key.utf8.count + id.utf8.count
                + mirrors.prefix(LossAccount.mirrorsMax).reduce(0) { $0 + 4 + $1.utf8.count }
        }
    }

    package struct Copy: Hashable, Sendable {
        package let volume: VolumeID
        package let verifiedAt: Timestamp?
        /// nil: it is good.
        package let problem: String?
    }

    /// Those that need the chunk come first.
    package private(set) var versions: [Version] = []
    /// Versions that need the chunk: all of them, also where there are too many to be named.
    package var neededCount: UInt64 = 0
    package var copies: [Copy] = []

    static let versionsMax = 128
    private static let mirrorsMax = 16
    /// Of what is said of a copy, in bytes.
    private static let problemSizeMax = 256
    private var versionByteCount = 0

    init() {}

    /// Whether there is room for another version, by number and by bytes.
    func hasRoom(for version: Version) -> Bool {
        versions.count < Self.versionsMax
            && versionByteCount + version.byteCount <= Limits.lossAccountByteCountMax
    }

    /// Names a version where there is room.
    mutating func add(_ version: Version) {
        guard hasRoom(for: version) else { return }
        versions.append(version)
        versionByteCount += version.byteCount
    }

    func write(to writer: inout ByteWriter) {
        writer.write(neededCount)
        writer.write(UInt32(min(versions.count, Self.versionsMax)))
        for version in versions.prefix(Self.versionsMax) {
            writer.write(text: version.bucket)
            writer.write(text: version.key)
            writer.write(text: version.id)
            writer.write(version.isNewest ? 1 : 0 as UInt8)
            writer.write(version.state.rawValue)
            writer.write(version.size)
            let mirrors = version.mirrors.prefix(Self.mirrorsMax)
            writer.write(UInt8(mirrors.count))
            for mirror in mirrors { writer.write(text: mirror) }
        }
        writer.write(UInt32(copies.count))
        for copy in copies {
            writer.write(copy.volume)
            writer.write(copy.verifiedAt == nil ? 0 : 1 as UInt8)
            if let time = copy.verifiedAt { writer.write(time.milliseconds) }
            let problem = (copy.problem ?? "").utf8.prefix(Self.problemSizeMax)
            writer.write(text: String(decoding: problem, as: UTF8.self))
        }
    }

    init(from reader: inout ByteReader) throws(ByteReader.Failure) {
        neededCount = try reader.read(UInt64.self)
        let count = try reader.read(UInt32.self)
        guard count <= Self.versionsMax else { throw ByteReader.Failure("too many versions") }
        for _ in 0..<count {
            let version = try Version(from: &reader)
            versions.append(version)
            versionByteCount += version.byteCount
        }
        let copyCount = try reader.read(UInt32.self)
        for _ in 0..<copyCount {
            let volume = try reader.readUniqueID()
            var time: Timestamp?
            if try reader.read(UInt8.self) == 1 {
                time = Timestamp(milliseconds: try reader.read(Int64.self))
            }
            let problem = try reader.readText()
            copies.append(
                Copy(volume: volume, verifiedAt: time, problem: problem.isEmpty ? nil : problem)
            )
        }
    }
}

extension LossAccount.Version {
    fileprivate init(from reader: inout ByteReader) throws(ByteReader.Failure) {
        bucket = try reader.readText()
        key = try reader.readText()
        id = try reader.readText()
        isNewest = try reader.read(UInt8.self) & 1 == 1
        guard let state = State(rawValue: try reader.read(UInt8.self)) else {
            throw ByteReader.Failure("an unknown state of a version")
        }
        self.state = state
        size = try reader.read(UInt64.self)
        mirrors = []
        let count = try reader.read(UInt8.self)
        for _ in 0..<count { mirrors.append(try reader.readText()) }
    }
}
