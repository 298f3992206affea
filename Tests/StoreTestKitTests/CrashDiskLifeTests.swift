import BlobVolume
import StoreModel
import StoreTestKit
import Testing

@Suite("CrashDisk: calls, handles and failures")
struct CrashDiskLifeTests {
    /// Replaces the content of "a" as it should be done: six changing calls.
    private func replace(_ disk: any Disk) throws {
        let file = try disk.open("a.new", .create)
        try file.write("new", at: 0)
        try file.sync()
        try disk.rename("a.new", to: "a")
        try disk.syncDirectory("")
    }

    private func prepared() throws -> CrashDisk {
        let disk = CrashDisk()
        try disk.put("a", "old", isSynced: true)
        try disk.syncDirectory("")
        return CrashDisk(disk.image)
    }

    @Test("A crash at every call in turn: right code shows the old or the new file, whatever was kept")
    func crashLoop() throws {
        var crashes = 0
        var seen: Set<String> = []
        loop: for call in 1...100 {
            for moment in CrashDisk.Moment.allCases {
                let disk = try prepared()
                disk.crash(atCall: call, moment)
                let isDone = (try? replace(disk)) != nil
                guard disk.hasCrashed else {
                    #expect(isDone)
                    break loop
                }
                crashes += 1
                for mode in [CrashMode.killOnly, .kept, .dropped] + (0..<20).map({ CrashMode.torn(seed: $0) })
                {
                    let text = try CrashDisk(disk.image.restarted(after: mode)).text("a")
                    #expect(text == "old" || text == "new", "\(mode) after \(disk.changes)")
                    seen.insert(text)
                }
            }
        }
        #expect(crashes == 10, "Five calls, before and after each")
        #expect(seen == ["old", "new"])
    }

    @Test("The same loop finds the mistake in code that forgets to sync the content")
    func crashLoopFindsMistake() throws {
        let disk = try prepared()
        try disk.put("a.new", "new")
        try disk.rename("a.new", to: "a")
        try disk.syncDirectory("")
        let seen = try (0..<50).map { try CrashDisk(disk.image.restarted(after: .torn(seed: $0))).text("a") }
        #expect(seen.contains(""))
    }

    @Test("The planned call takes effect after, not before, and everything later throws")
    func deadDiskThrows() throws {
        for (moment, expected) in [(CrashDisk.Moment.before, "old"), (.after, "NEW")] {
            let disk = try prepared()
            let file = try disk.open("a", .update)
            disk.crash(atCall: 1, moment)
            #expect(throws: DiskError.self) { try file.write("NEW", at: 0) }
            #expect(disk.hasCrashed)
            #expect(throws: DiskError.self) { try file.write("later", at: 0) }
            #expect(throws: DiskError.self) { try file.sync() }
            #expect(throws: DiskError.self) { try file.size() }
            #expect(throws: DiskError.self) { try disk.list("") }
            #expect(throws: DiskError.self) { try disk.put("b", "text") }
            #expect(try disk.crash(.kept).text("a") == expected)
        }
    }

    @Test("A sync at which the process dies afterwards has made its bytes durable")
    func crashAfterSync() throws {
        for (moment, expected) in [(CrashDisk.Moment.before, "old"), (.after, "NEW")] {
            let disk = try prepared()
            let file = try disk.open("a", .update)
            disk.crash(atCall: 2, moment)
            try file.write("NEW", at: 0)
            #expect(throws: DiskError.self) { try file.sync() }
            #expect(try disk.crash(.dropped).text("a") == expected)
            #expect(disk.changes.map(\.description) == ["write a at 0, 3 bytes", "sync a"])
        }
    }

    @Test("Handles of a crashed disk never reach the disk that follows it")
    func oldHandles() throws {
        let disk = try prepared()
        let file = try disk.open("a", .update)
        let next = disk.crash(.killOnly)
        #expect(throws: DiskError.self) { try file.write("bad", at: 0) }
        #expect(throws: DiskError.self) { try disk.remove("a") }
        #expect(try next.text("a") == "old")
    }

    @Test("A lock names its holder, ends with release, and does not outlive the process")
    func locks() throws {
        let disk = CrashDisk()
        let lock = try disk.lock("lock", content: [UInt8]("4711".utf8))
        let error = #expect(throws: DiskError.self) { try disk.lock("lock", content: []) }
        #expect(error?.code == .locked && error?.detail == "4711")
        lock.release()
        let second = try disk.lock("lock", content: [UInt8]("4712".utf8))
        #expect(try disk.text("lock") == "4712")
        let next = disk.crash(.killOnly)
        #expect(throws: Never.self) { try next.lock("lock", content: []) }
        second.release()
    }

    @Test("A sync after a failed sync does not bring back what the failed one lost")
    func failedSyncLoses() throws {
        let disk = try prepared()
        let faulty = FaultyDisk(disk)
        let file = try faulty.open("a", .update)
        try file.write("XX", at: 0)
        faulty.add(FaultRule(.inputOutputError, on: [.sync]))
        #expect(throws: DiskError.self) { try file.sync() }
        try file.write("new", at: 3)
        try file.sync()
        #expect(try disk.text("a") == "XXdnew", "The page cache hides the loss")
        #expect(try disk.crash(.kept).text("a") == "oldnew")
    }

    @Test("What a failed sync was to make durable may be there, or not")
    func failedSyncIsUncertain() throws {
        let disk = try prepared()
        let faulty = FaultyDisk(disk)
        let file = try faulty.open("a", .update)
        try file.write("new", at: 0)
        faulty.add(FaultRule(.inputOutputError, on: [.sync]))
        #expect(throws: DiskError.self) { try file.sync() }
        let image = disk.image
        #expect(try CrashDisk(image.restarted(after: .dropped)).text("a") == "old")
        #expect(try CrashDisk(image.restarted(after: .kept)).text("a") == "new")
    }

    @Test("Names follow the rules of a file system")
    func nameErrors() throws {
        let disk = try prepared()
        func code(_ body: () throws -> Void) -> DiskError.Code? {
            do { try body() } catch { return (error as? DiskError)?.code }
            return nil
        }
        #expect(code { _ = try disk.open("none", .read) } == .notFound)
        #expect(code { _ = try disk.open("a", .create) } == .exists)
        #expect(code { _ = try disk.open("d/none", .create) } == .notFound)
        #expect(code { try disk.rename("none", to: "b") } == .notFound)
        #expect(code { try disk.remove("none") } == .notFound)
        #expect(code { _ = try disk.list("d") } == .notFound)
        try disk.makeDirectory("d")
        try disk.makeDirectory("d")
        #expect(code { _ = try disk.open("d", .update) } == .isDirectory)
        #expect(code { try disk.open("a", .read).write("x", at: 0) } == .permission)
        try disk.put("d/f", "text")
        #expect(try disk.list("d") == ["f"])
        #expect(try disk.list("").sorted() == ["a", "d"])
        let file = try disk.open("a", .read)
        file.close()
        #expect(code { _ = try file.size() } == .inputOutput)
    }

    @Test("A file that is removed or replaced stays readable through its handle")
    func removedFile() throws {
        let disk = try prepared()
        let file = try disk.open("a", .read)
        try disk.put("b", "other")
        try disk.rename("b", to: "a")
        var bytes = [UInt8](repeating: 0, count: 3)
        _ = try bytes.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
        #expect(bytes == [UInt8]("old".utf8))
        #expect(try disk.text("a") == "other")
    }

    @Test("A flipped bit is durable, is exactly one bit, and copies of an image are independent")
    func flips() throws {
        let before = try prepared().image
        var image = before
        image.flip("a", offset: 1, bit: 5)
        #expect(image.contents(of: "a") == [UInt8]("oLd".utf8))
        #expect(before.contents(of: "a") == [UInt8]("old".utf8))
        #expect(try CrashDisk(image).crash(.dropped).text("a") == "oLd")
        image.overwrite("a", offset: 2, with: [UInt8]("xyz".utf8))
        image.truncate("a", to: 4)
        image.place("b", [1, 2])
        #expect(try CrashDisk(image).crash(.dropped).text("a") == "oLxy")
        image.delete("a")
        #expect(CrashDisk(image).crash(.dropped).image.fileNames == ["b"])
    }

    @Test("The contents agree with a plain array under random writes, cuts and holes")
    func randomContents() throws {
        for seed in 0..<40 as Range<UInt64> {
            let random = SeededRandom(seed: seed)
            func number(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }
            let disk = CrashDisk()
            let file = try disk.open("f", .create)
            try disk.syncDirectory("")
            var model: [UInt8] = []
            var synced: [UInt8] = []
            for step in 0..<60 {
                switch number(6) {
                case 0...2:
                    let offset = number(20_000)
                    let bytes = [UInt8](repeating: number(4) == 0 ? 0 : UInt8(step), count: number(9_000))
                    try file.write(bytes, at: UInt64(offset))
                    if bytes.isEmpty { break }
                    if model.count < offset + bytes.count {
                        model += [UInt8](repeating: 0, count: offset + bytes.count - model.count)
                    }
                    model.replaceSubrange(offset..<offset + bytes.count, with: bytes)
                case 3:
                    let size = number(25_000)
                    try file.truncate(to: UInt64(size))
                    model =
                        Array(model.prefix(size)) + [UInt8](repeating: 0, count: max(0, size - model.count))
                case 4:
                    let (offset, length) = (number(20_000), number(9_000) + 1)
                    try file.punchHole(offset: UInt64(offset), length: UInt64(length))
                    for index in offset..<offset + length where index < model.count { model[index] = 0 }
                default:
                    try file.sync()
                    synced = model
                }
            }
            let image = disk.image
            #expect(image.contents(of: "f") == model)
            #expect(image.restarted(after: .kept).contents(of: "f") == model)
            #expect(image.restarted(after: .dropped).contents(of: "f") == synced)
            #expect(image.restarted(after: .killOnly).restarted(after: .dropped).contents(of: "f") == synced)
        }
    }
}
