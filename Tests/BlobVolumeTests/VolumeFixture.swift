import BlobVolume
import ContentHashing
import Glibc
import StoreModel

/// A directory that is removed at the end of a test.
final class TemporaryDirectory: Sendable {
    let path: String

    /// Memory where there is some: what these tests break, they break themselves.
    static var memory: String { access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp" }

    init(in parent: String = TemporaryDirectory.memory) {
        var template = [CChar]("\(parent)/holdfast-volume-XXXXXX".utf8CString)
        path = template.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress, mkdtemp(base) != nil else {
                fatalError("no temporary directory")
            }
            return String(cString: base)
        }
    }

    deinit { removeTree(path) }

    func disk() throws -> PosixDisk { try PosixDisk(path: path) }
}

private func removeTree(_ path: String) {
    guard let stream = opendir(path) else { return }
    defer { closedir(stream) }
    while let entry = readdir(stream) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name == "." || name == ".." { continue }
        let child = path + "/" + name
        if unlink(child) != 0 { removeTree(child) }
    }
    rmdir(path)
}

/// One volume with small segments in a directory of its own.
struct VolumeFixture {
    let directory = TemporaryDirectory()
    let storeID = StoreID(high: 1, low: 2)
    let volumeID = VolumeID(high: 3, low: 4)
    var options = VolumeFixture.smallOptions

    static var smallOptions: VolumeOptions {
        var options = VolumeOptions()
        options.reserveBytes = 1 << 20
        options.logSegmentSizeMin = 64 << 10
        options.logSegmentSizeMax = 64 << 10
        options.bulkSegmentSizeMax = 4 << 20
        options.preparesSpareInBackground = false
        return options
    }

    init(options: VolumeOptions = VolumeFixture.smallOptions) throws {
        self.options = options
        let identity = VolumeIdentity(
            storeID: storeID,
            volumeID: volumeID,
            logSet: LogSet(version: 1, members: [volumeID, VolumeID(high: 3, low: 5)]),
            quorum: .standard,
            createdAt: Timestamp(milliseconds: 1_700_000_000_000)
        )
        try BlobVolume.format(directory.disk(), identity: identity, options: options)
    }

    func open(_ change: (inout VolumeOptions) -> Void = { _ in }) throws -> BlobVolume {
        var options = options
        change(&options)
        return try BlobVolume.open(directory.disk(), options: options)
    }

    func path(_ name: String) -> String { directory.path + "/" + name }

    /// The segment files, by name.
    func segments() throws -> [String] {
        try directory.disk().list("segments").filter { $0.hasSuffix(".log") || $0.hasSuffix(".bulk") }
            .sorted()
    }

    func bytes(_ name: String) throws -> [UInt8] {
        let file = try directory.disk().open(name, .read)
        return try file.read(count: Int(file.size()), at: 0)
    }

    func overwrite(_ name: String, _ bytes: [UInt8], at offset: UInt64) throws {
        try directory.disk().open(name, .update).write(bytes, at: offset)
    }

    /// Changes one bit pattern of one byte.
    func flip(_ name: String, at offset: UInt64, _ mask: UInt8 = 0x40) throws {
        let file = try directory.disk().open(name, .update)
        let byte = try file.read(count: 1, at: offset)
        try file.write([byte[0] ^ mask], at: offset)
    }
}

/// Deterministic bytes, different for every seed.
func content(_ seed: Int, count: Int) -> [UInt8] {
    var state = UInt64(truncatingIfNeeded: seed) &* 0x9E37_79B9_7F4A_7C15 &+ 1
    var bytes = [UInt8](repeating: 0, count: count)
    for index in bytes.indices {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        bytes[index] = UInt8(truncatingIfNeeded: state >> 24)
    }
    return bytes
}

func payload(_ seed: Int, count: Int = 1000) -> PayloadRecord {
    let bytes = content(seed, count: count)
    return PayloadRecord(digest: SHA256Hasher.hash(bytes), bytes: bytes)
}

func batch(
    after predecessor: LogPosition,
    epoch: UInt64 = 1,
    commitIndex: UInt64 = 0,
    body: [UInt8] = [1, 2, 3]
)
    -> CommitBatch
{
    CommitBatch(
        epoch: epoch,
        predecessor: predecessor,
        commitIndex: commitIndex,
        timestamp: Timestamp(milliseconds: 1_700_000_000_000),
        body: body
    )
}

extension BlobVolume {
    /// The whole payload.
    func read(_ record: PayloadRecord) throws -> [UInt8] {
        try read(record.digest, range: 0..<record.bytes.count)
    }

    /// Appends one batch after the tail, with payloads, and syncs.
    @discardableResult
    func commit(_ payloads: [PayloadRecord] = [], epoch: UInt64 = 1, commitIndex: UInt64 = 0) throws
        -> CommitBatch
    {
        let next = batch(after: logTail, epoch: epoch, commitIndex: commitIndex)
        try appendGroup(payloads: payloads, batch: next)
        try syncLog()
        return next
    }
}

extension VolumeFixture {
    /// Every file of the volume but the lock, by name.
    func snapshot() throws -> [String: [UInt8]] {
        let disk = try directory.disk()
        var files: [String: [UInt8]] = [:]
        for folder in ["", "segments/", "quarantine/"] {
            for name in try disk.list(folder.isEmpty ? "" : String(folder.dropLast())) {
                if ["segments", "quarantine", "lock"].contains(name) { continue }
                files[folder + name] = try bytes(folder + name)
            }
        }
        return files
    }

    /// Makes the volume what a snapshot says.
    func restore(_ files: [String: [UInt8]]) throws {
        let disk = try directory.disk()
        for name in try snapshot().keys where files[name] == nil { try disk.remove(name) }
        for (name, bytes) in files {
            let file = try disk.open(name, disk.exists(name) ? .update : .create)
            try file.truncate(to: 0)
            try file.write(bytes, at: 0)
        }
    }

    /// Checks the volume at rest.
    func check(deep: Bool = true) throws -> VolumeCheckReport {
        try VolumeCheck.run(directory.disk(), deep: deep)
    }
}

/// Finds the only or first place of some bytes.
func place(of needle: [UInt8], in bytes: [UInt8]) -> Int? {
    guard let first = needle.first, bytes.count >= needle.count else { return nil }
    return (0...(bytes.count - needle.count)).first { start in
        bytes[start] == first && bytes[start..<start + needle.count].elementsEqual(needle)
    }
}

func processID() -> Int32 { getpid() }
