import BlobVolume
import StoreModel
import StoreTestKit
import Testing

extension Disk {
    func put(_ name: String, _ text: String, isSynced: Bool = false) throws {
        let file = try open(name, .create)
        try file.write(text, at: 0)
        if isSynced { try file.sync() }
        file.close()
    }

    func text(_ name: String) throws -> String {
        let file = try open(name, .read)
        var bytes = [UInt8](repeating: 0, count: Int(try file.size()))
        let count = try bytes.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}

extension DiskFile {
    func write(_ text: String, at offset: UInt64) throws {
        try [UInt8](text.utf8).withUnsafeBytes { try write([$0], at: offset) }
    }

    func write(_ bytes: [UInt8], at offset: UInt64) throws {
        try bytes.withUnsafeBytes { try write([$0], at: offset) }
    }
}

/// A disk with one durable file "a" that holds "old".
private func prepared() throws -> CrashDisk {
    let disk = CrashDisk()
    try disk.put("a", "old", isSynced: true)
    try disk.syncDirectory("")
    return disk
}

private func outcomes<Value: Hashable>(
    of disk: CrashDisk,
    seedCount: UInt64 = 200,
    _ value: (CrashDisk) throws -> Value
) rethrows -> Set<Value> {
    let image = disk.image
    return Set(try (0..<seedCount).map { try value(CrashDisk(image.restarted(after: .torn(seed: $0)))) })
}

@Suite("CrashDisk")
struct CrashDiskTests {
    @Test("Content and name that were synced survive every crash")
    func syncedSurvives() throws {
        for mode in [CrashMode.killOnly, .kept, .dropped] + (0..<50).map({ CrashMode.torn(seed: $0) }) {
            #expect(try prepared().crash(mode).text("a") == "old")
        }
    }

    @Test("A write that was not synced is lost when dropped, there when kept, either when torn")
    func unsyncedWrite() throws {
        let disk = try prepared()
        try disk.open("a", .update).write("new", at: 0)
        #expect(try disk.text("a") == "new")
        #expect(try disk.crash(.dropped).text("a") == "old")
        #expect(try disk.crash(.kept).text("a") == "new")
        #expect(try outcomes(of: disk) { try $0.text("a") } == ["old", "new"])
    }

    @Test("Un-synced writes survive independently of each other, in any subset")
    func writesAreIndependent() throws {
        let disk = CrashDisk()
        let file = try disk.open("f", .create)
        try file.write("...", at: 0)
        try file.sync()
        try disk.syncDirectory("")
        for (offset, letter) in ["a", "b", "c"].enumerated() { try file.write(letter, at: UInt64(offset)) }
        let expected: Set = ["...", "a..", ".b.", "..c", "ab.", "a.c", ".bc", "abc"]
        #expect(try outcomes(of: disk) { try $0.text("f") } == expected)
    }

    @Test("A torn write is torn at sectors: as a prefix, as a suffix, with holes; never inside of a sector")
    func tornAtSectors() throws {
        let disk = CrashDisk()
        let file = try disk.open("f", .create)
        try file.write([UInt8](repeating: 1, count: 4 * 512), at: 0)
        try file.sync()
        try disk.syncDirectory("")
        // From the middle of the first sector to the middle of the last.
        try file.write([UInt8](repeating: 2, count: 3 * 512), at: 256)
        let patterns = outcomes(of: disk, seedCount: 2000) { disk in
            let bytes = disk.image.contents(of: "f") ?? []
            let written = stride(from: 0, to: 4, by: 1).map {
                bytes[$0 * 512 + 256 - ($0 == 3 ? 256 : 0)] == 2
            }
            let expected = (0..<4 * 512).map { position -> UInt8 in
                (256..<256 + 3 * 512).contains(position) && written[position / 512] ? 2 : 1
            }
            #expect(bytes == expected)
            return written
        }
        #expect(patterns.count == 16, "All subsets of four sectors")
    }

    @Test("A torn write beyond the end leaves zeros or a shorter file, never other bytes")
    func tornExtension() throws {
        let disk = CrashDisk()
        let file = try disk.open("f", .create)
        try disk.syncDirectory("")
        try file.write([UInt8](repeating: 7, count: 3 * 512), at: 0)
        let sizes = outcomes(of: disk) { disk in
            let bytes = disk.image.contents(of: "f") ?? []
            for start in stride(from: 0, to: bytes.count, by: 512) {
                #expect(Set(bytes[start..<start + 512]).count == 1 && [0, 7].contains(bytes[start]))
            }
            return bytes.count / 512
        }
        #expect(sizes == [0, 1, 2, 3])
    }

    @Test("A synced content without a synced name is lost with the name")
    func contentSyncDoesNotKeepTheName() throws {
        let disk = CrashDisk()
        try disk.put("f", "text", isSynced: true)
        #expect(try !disk.crash(.dropped).exists("f"))
        #expect(try outcomes(of: disk) { try $0.exists("f") } == [true, false])
    }

    @Test("A synced name without synced content is an empty file when dropped")
    func nameSyncDoesNotKeepTheContent() throws {
        let disk = CrashDisk()
        try disk.put("f", "text")
        try disk.syncDirectory("")
        #expect(try disk.crash(.dropped).text("f").isEmpty)
    }

    @Test("A rename that was not synced may be lost, and is never half done")
    func renameIsAtomic() throws {
        let disk = try prepared()
        try disk.put("a.new", "new", isSynced: true)
        try disk.syncDirectory("")
        try disk.rename("a.new", to: "a")
        #expect(try disk.list("") == ["a"])
        #expect(try disk.crash(.dropped).text("a") == "old")
        let seen = try outcomes(of: disk) { try [$0.text("a")] + $0.list("").sorted() }
        #expect(seen == [["old", "a", "a.new"], ["new", "a"]])
    }

    @Test("Content sync, rename and directory sync together replace a file for good")
    func fullReplacement() throws {
        let disk = try prepared()
        try disk.put("a.new", "new", isSynced: true)
        try disk.rename("a.new", to: "a")
        try disk.syncDirectory("")
        #expect(disk.image.unsyncedChangeCount == 0)
        #expect(try outcomes(of: disk) { try [$0.text("a")] + $0.list("") } == [["new", "a"]])
    }

    @Test("A rename before the content is synced can leave an empty file")
    func renameWithoutContentSync() throws {
        let disk = try prepared()
        try disk.put("a.new", "new")
        try disk.rename("a.new", to: "a")
        try disk.syncDirectory("")
        #expect(try disk.crash(.dropped).text("a").isEmpty)
    }

    @Test("A rename across directories is durable only when both are synced")
    func renameAcrossDirectories() throws {
        let disk = CrashDisk()
        try disk.makeDirectory("d")
        try disk.put("f", "text", isSynced: true)
        try disk.syncDirectory("")
        try disk.rename("f", to: "d/f")
        try disk.syncDirectory("d")
        #expect(disk.crash(.dropped).image.fileNames == ["f"])
        let again = CrashDisk(disk.image)
        try again.syncDirectory("")
        #expect(again.crash(.dropped).image.fileNames == ["d/f"])
    }

    @Test("A directory that was not synced into its parent takes its files with it")
    func directoryNames() throws {
        let disk = CrashDisk()
        try disk.makeDirectory("d")
        try disk.put("d/f", "text", isSynced: true)
        try disk.syncDirectory("d")
        #expect(disk.crash(.dropped).image.fileNames.isEmpty)
        let again = CrashDisk(disk.image)
        try again.syncDirectory("")
        #expect(again.crash(.dropped).image.fileNames == ["d/f"])
    }

    @Test("A removal that was not synced may be undone")
    func removal() throws {
        let disk = try prepared()
        try disk.remove("a")
        #expect(try disk.crash(.dropped).text("a") == "old")
        #expect(try outcomes(of: disk) { try $0.exists("a") } == [true, false])
        #expect(try !disk.crash(.kept).exists("a"))
    }

    @Test("No crash gives one file two names")
    func chainOfRenames() throws {
        let disk = try prepared()
        try disk.rename("a", to: "b")
        try disk.rename("b", to: "c")
        try disk.put("a", "other", isSynced: true)
        let seen = try outcomes(of: disk) { disk in
            try disk.list("").sorted().map { "\($0)=\(try disk.text($0))" }
        }
        for names in seen { #expect(names.filter { $0.hasSuffix("old") }.count <= 1) }
        #expect(
            seen.contains(["a=old"]) && seen.contains(["a=other", "c=old"])
                && seen.contains(["a=other", "b=old"])
        )
    }

    @Test("A killed process loses nothing, but a later power cut still takes what was not synced")
    func killThenPowerCut() throws {
        let disk = try prepared()
        try disk.open("a", .update).write("new", at: 0)
        try disk.put("b", "text", isSynced: true)
        let killed = disk.crash(.killOnly)
        #expect(try killed.text("a") == "new" && killed.text("b") == "text")
        let cut = CrashDisk(killed.image).crash(.dropped)
        #expect(try cut.text("a") == "old" && !cut.exists("b"))
        try killed.open("a", .update).sync()
        try killed.syncDirectory("")
        let synced = killed.crash(.dropped)
        #expect(try synced.text("a") == "new" && synced.text("b") == "text")
    }

    @Test("Truncating and punching are undone with the rest of what was not synced")
    func truncateAndPunch() throws {
        let disk = CrashDisk()
        let file = try disk.open("f", .create)
        try file.write([UInt8](repeating: 1, count: 10_000), at: 0)
        try file.sync()
        try disk.syncDirectory("")
        try file.truncate(to: 100)
        try file.truncate(to: 200)
        #expect(
            disk.image.contents(of: "f") == [UInt8](repeating: 1, count: 100)
                + [UInt8](repeating: 0, count: 100)
        )
        #expect(disk.crash(.dropped).image.size(of: "f") == 10_000)

        let again = disk.crash(.dropped)
        let same = try again.open("f", .update)
        #expect(try same.allocatedSize() == 3 * 4096)
        try same.punchHole(offset: 1000, length: 8000)
        #expect(try same.allocatedSize() == 2 * 4096)
        #expect(try same.size() == 10_000)
        #expect(again.image.contents(of: "f")?.count { $0 == 0 } == 8000)
        #expect(again.crash(.dropped).image.contents(of: "f")?.count { $0 == 0 } == 0)
    }
}
