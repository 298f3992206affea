import BlobVolume
import Glibc
import StoreModel
import Testing

/// A disk that is only read: what is written stays in memory.
struct OverlayDiskTests {
    private let directory = TemporaryDirectory()
    private let base: PosixDisk

    init() throws {
        base = try directory.disk()
        let file = try base.open("a", .create)
        try file.write((0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }, at: 0)
        file.close()
        try base.makeDirectory("segments")
        try base.open("lock", .create).close()
    }

    private func bytes(_ disk: some Disk, _ name: String) throws -> [UInt8] {
        let file = try disk.open(name, .read)
        return try file.read(count: Int(try file.size()), at: 0)
    }

    @Test("Files read as below, and changes are seen by all who have them open")
    func changes() throws {
        let disk = OverlayDisk(base)
        let reader = try disk.open("a", .read)
        let writer = try disk.open("a", .update)
        var expected = try bytes(base, "a")
        // Over the border of two pages, behind the end, and then a hole in it all.
        try writer.write([UInt8](repeating: 7, count: 1000), at: 65_000)
        expected.replaceSubrange(65_000..<66_000, with: repeatElement(7, count: 1000))
        try writer.write([1, 2, 3], at: 300_000)
        expected += [UInt8](repeating: 0, count: 100_000) + [1, 2, 3]
        try writer.punchHole(offset: 60_000, length: 80_000)
        expected.replaceSubrange(60_000..<140_000, with: repeatElement(0, count: 80_000))
        #expect(try reader.size() == 300_003)
        #expect(try bytes(disk, "a") == expected)
        #expect(try reader.read(count: 10, at: 299_999) == [0, 1, 2, 3])
        // What is cut does not come back when the file grows again.
        try writer.truncate(to: 150_000)
        try writer.write([9], at: 199_999)
        expected = Array(expected[..<150_000]) + [UInt8](repeating: 0, count: 49_999) + [9]
        #expect(try bytes(disk, "a") == expected)
    }

    @Test("Names come and go in memory; below nothing changes")
    func names() throws {
        let before = try bytes(base, "a")
        let disk = OverlayDisk(base)
        let made = try disk.open("segments/new", .create)
        try made.write([5, 6], at: 0)
        #expect(throws: DiskError.self) { try disk.open("segments/new", .create) }
        try disk.rename("segments/new", to: "segments/1")
        try disk.rename("a", to: "b")
        #expect(try bytes(disk, "b") == before)
        #expect(try !disk.exists("a"))
        #expect(throws: DiskError.self) { try disk.open("a", .read) }
        try disk.makeDirectory("quarantine")
        try disk.open("quarantine/x", .create).write([1], at: 0)
        #expect(try disk.list("quarantine") == ["x"])
        #expect(try disk.list("segments") == ["1"])
        #expect(try disk.list("").sorted() == ["b", "lock", "quarantine", "segments"])
        try disk.remove("b")
        #expect(try !disk.exists("b"))
        #expect(try base.list("").sorted() == ["a", "lock", "segments"])
        #expect(try base.list("segments").isEmpty)
        #expect(try bytes(base, "a") == before)
    }

    @Test("Memory is bounded; zeros take none")
    func bounds() throws {
        let disk = OverlayDisk(base, byteCountMax: 128 << 10)
        let file = try disk.open("segments/log", .create)
        try file.write([UInt8](repeating: 0, count: 4 << 20), at: 0)
        #expect(try file.size() == 4 << 20)
        try file.write([1], at: 0)
        try file.write([1], at: 1 << 20)
        let error = #expect(throws: DiskError.self) { try file.write([1], at: 2 << 20) }
        #expect(error?.code == .full)
    }

    @Test("Readers share the lock; a writer is kept out, and keeps them out")
    func locks() throws {
        let disk = OverlayDisk(base)
        let first = try disk.lock("lock", content: [])
        let second = try OverlayDisk(directory.disk()).lock("lock", content: [])
        #expect(throws: DiskError.self) { try directory.disk().lock("lock", content: [1]) }
        first.release()
        second.release()
        let writer = try directory.disk().lock("lock", content: [UInt8]("77".utf8))
        let error = #expect(throws: DiskError.self) { try disk.lock("lock", content: []) }
        #expect(error?.code == .locked)
        #expect(error?.detail == "77")
        writer.release()
    }

    @Test("A volume opens, reads and takes records over it, and its files stay as they are")
    func volume() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        let old = payload(1, count: 5000)
        try volume.commit([old])
        try volume.close()
        let before = try fixture.snapshot()

        let overlay = OverlayDisk(try fixture.directory.disk())
        let opened = try BlobVolume.open(overlay, options: fixture.options)
        let new = payload(2, count: 7000)
        try opened.commit([new])
        #expect(try opened.read(old) == old.bytes)
        #expect(try opened.read(new) == new.bytes)
        try opened.close()
        #expect(try fixture.snapshot() == before)
        let again = try fixture.open()
        defer { try? again.close() }
        #expect(try again.read(old) == old.bytes)
        #expect(throws: VolumeError.self) { try again.read(new) }
    }
}
