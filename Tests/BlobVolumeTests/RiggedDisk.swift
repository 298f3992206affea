import BlobVolume
import Synchronization

/// A disk whose calls can be made to fail, and that remembers which files were written.
final class RiggedDisk: Disk {
    struct Rigging: Sendable {
        /// Calls on files whose name ends so fail with this error.
        var failures: [(call: String, suffix: String, error: DiskError)] = []
        var freeBytes: UInt64?
        var written: Set<String> = []
        var reads: [Read] = []
        /// Whether the system has everything in memory.
        var isInMemory = false
        /// How much of it at most a read from there gives.
        var cachedByteCountMax = Int.max
        /// Whether what is read past the page cache has a flipped bit.
        var isDirectDamaged = false
        /// Called in front of every call that can be made to fail.
        var observer: (@Sendable (_ call: String, _ name: String) -> Void)?
    }

    struct Read: Sendable {
        let name: String
        let range: Range<UInt64>
        let isDirect: Bool
    }

    let base: PosixDisk
    let rigging = Mutex(Rigging())

    init(_ base: PosixDisk) { self.base = base }

    func fail(_ call: String, _ suffix: String, _ code: DiskError.Code = .inputOutput) {
        let error = DiskError(
            code,
            call: call,
            path: suffix,
            number: code == .full ? 28 : 5,
            detail: "rigged"
        )
        rigging.withLock { $0.failures.append((call, suffix, error)) }
    }

    func heal() { rigging.withLock { $0.failures = [] } }

    func check(_ call: String, _ name: String) throws(DiskError) {
        rigging.withLock { $0.observer }?(call, name)
        let error = rigging.withLock { rigging -> DiskError? in
            if call == "write" { rigging.written.insert(name) }
            return rigging.failures.first { $0.call == call && name.hasSuffix($0.suffix) }?.error
        }
        if let error { throw error }
    }

    func note(_ name: String, _ offset: UInt64, _ count: Int, isDirect: Bool) {
        let read = Read(name: name, range: offset..<(offset + UInt64(count)), isDirect: isDirect)
        rigging.withLock { $0.reads.append(read) }
    }

    var reads: [Read] { rigging.withLock { $0.reads } }

    var label: String { base.label }
    func open(_ name: String, _ mode: DiskOpenMode) throws(DiskError) -> any DiskFile {
        try check("open", name)
        return RiggedFile(try base.open(name, mode), name, self)
    }
    func exists(_ name: String) throws(DiskError) -> Bool { try base.exists(name) }
    func list(_ directory: String) throws(DiskError) -> [String] { try base.list(directory) }
    func makeDirectory(_ name: String) throws(DiskError) { try base.makeDirectory(name) }
    func rename(_ source: String, to destination: String) throws(DiskError) {
        try base.rename(source, to: destination)
    }
    func remove(_ name: String) throws(DiskError) { try base.remove(name) }
    func syncDirectory(_ name: String) throws(DiskError) { try base.syncDirectory(name) }
    func lock(_ name: String, content: [UInt8]) throws(DiskError) -> any DiskLock {
        try base.lock(name, content: content)
    }
    func space() throws(DiskError) -> DiskSpace {
        var space = try base.space()
        if let free = rigging.withLock({ $0.freeBytes }) { space.freeBytes = free }
        return space
    }
    func deviceID() throws(DiskError) -> UInt64 { try base.deviceID() }
}

private final class RiggedFile: DiskFile {
    let base: any DiskFile
    let name: String
    let disk: RiggedDisk

    init(_ base: any DiskFile, _ name: String, _ disk: RiggedDisk) {
        self.base = base
        self.name = name
        self.disk = disk
    }

    func readDirect(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        try disk.check("read", name)
        try disk.check("direct", name)
        disk.note(name, offset, buffer.count, isDirect: true)
        let count = try base.readDirect(into: buffer, at: offset)
        if count > 0, disk.rigging.withLock({ $0.isDirectDamaged }) { buffer[count / 2] ^= 0x10 }
        return count
    }
    func readDirect(
        into memory: inout ReadMemory,
        from start: Int,
        byteCount: Int,
        at offset: UInt64,
        aheadByteCount: UInt64
    ) throws(DiskError) -> Int {
        try disk.check("read", name)
        disk.note(name, offset, byteCount, isDirect: true)
        return try base.readDirect(
            into: &memory,
            from: start,
            byteCount: byteCount,
            at: offset,
            aheadByteCount: aheadByteCount
        )
    }
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        try disk.check("read", name)
        disk.note(name, offset, buffer.count, isDirect: false)
        return try base.read(into: buffer, at: offset)
    }
    func readCached(
        into buffer: UnsafeMutableRawBufferPointer,
        _ rest: UnsafeMutableRawBufferPointer,
        at offset: UInt64
    ) -> Int? {
        guard disk.rigging.withLock({ $0.isInMemory }),
            let count = try? base.read(into: buffer, at: offset)
        else { return nil }
        let most = disk.rigging.withLock { $0.cachedByteCountMax }
        guard count == buffer.count, rest.count > 0 else { return min(count, most) }
        return (try? base.read(into: rest, at: offset + UInt64(count))).map { min(count + $0, most) }
    }
    func write(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        try checkWrite(pieces, at: offset)
        try base.write(pieces, at: offset)
    }
    func writeDirect(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        try checkWrite(pieces, at: offset)
        try base.writeDirect(pieces, at: offset)
    }
    private func checkWrite(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        do {
            try disk.check("write", name)
        } catch {
            // As a full file system does: a part of it arrives.
            if error.code == .full, let first = pieces.first { try base.write([first], at: offset) }
            throw error
        }
    }
    func sync() throws(DiskError) {
        try disk.check("sync", name)
        try base.sync()
    }
    func startWriteback(offset: UInt64, length: UInt64) throws(DiskError) {
        try base.startWriteback(offset: offset, length: length)
    }
    func truncate(to size: UInt64) throws(DiskError) { try base.truncate(to: size) }
    func punchHole(offset: UInt64, length: UInt64) throws(DiskError) {
        try base.punchHole(offset: offset, length: length)
    }
    func size() throws(DiskError) -> UInt64 { try base.size() }
    func allocatedSize() throws(DiskError) -> UInt64 { try base.allocatedSize() }
    func close() { base.close() }
}
