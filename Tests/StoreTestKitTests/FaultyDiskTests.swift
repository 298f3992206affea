import BlobVolume
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@Suite("FaultyDisk")
struct FaultyDiskTests {
    private func code(_ body: () throws -> Void) -> DiskError.Code? {
        do { try body() } catch { return (error as? DiskError)?.code }
        return nil
    }

    @Test("A rule hits the k-th call of its kind, once, and no other call")
    func kthCall() throws {
        let disk = FaultyDisk(CrashDisk())
        let file = try disk.open("f", .create)
        let rule = disk.add(FaultRule(.inputOutputError, on: [.write], skipCount: 2))
        let codes = (0..<5).map { index in code { try file.write("x", at: UInt64(index)) } }
        #expect(codes == [nil, nil, .inputOutput, nil, nil])
        #expect(disk.firedCount(ofRule: rule) == 1)
        #expect(disk.callCount(of: .write) == 5)
        #expect(code { try file.sync() } == nil)
        #expect(try disk.text("f") == "xx\0xx")
    }

    @Test("A sticky rule hits all later calls, until it is removed")
    func sticky() throws {
        let disk = FaultyDisk(CrashDisk())
        let file = try disk.open("f", .create)
        let rule = disk.add(FaultRule(.inputOutputError, on: [.sync], skipCount: 1, hitCount: nil))
        #expect(
            (0..<4).map { _ in code { try file.sync() } } == [nil, .inputOutput, .inputOutput, .inputOutput]
        )
        disk.remove(rule: rule)
        #expect(code { try file.sync() } == nil)
    }

    @Test("A rule can be for names that hold a text")
    func byName() throws {
        let disk = FaultyDisk(CrashDisk())
        let (log, bulk) = (try disk.open("a.log", .create), try disk.open("a.bulk", .create))
        disk.add(
            FaultRule(
                .fail(.readOnly, number: 30),
                on: [.write, .rename],
                nameContains: ".log",
                hitCount: nil
            )
        )
        #expect(code { try log.write("x", at: 0) } == .readOnly)
        #expect(code { try bulk.write("x", at: 0) } == nil)
        #expect(code { try disk.rename("a.bulk", to: "b.log") } == .readOnly)
    }

    @Test("Every call of the seam can be made to fail")
    func everyCall() throws {
        for operation in DiskOperation.allCases {
            let disk = FaultyDisk(CrashDisk())
            try disk.put("f", "text")
            let file = try disk.open("f", .update)
            disk.add(FaultRule(.inputOutputError, on: [operation], hitCount: nil))
            let codes = [
                code { _ = try disk.open("f", .read) }, code { _ = try disk.open("g", .create) },
                code { _ = try disk.exists("f") }, code { _ = try disk.list("") },
                code { try disk.makeDirectory("d") },
                code { try file.write("x", at: 0) }, code { try file.sync() },
                code { try file.truncate(to: 1) },
                code { try file.startWriteback(offset: 0, length: 1) },
                code { try file.punchHole(offset: 0, length: 1) }, code { _ = try file.allocatedSize() },
                code {
                    _ = try withUnsafeTemporaryAllocation(byteCount: 1, alignment: 1) {
                        try file.read(into: $0, at: 0)
                    }
                },
                code { _ = try disk.lock("l", content: []) }, code { _ = try disk.space() },
                code { try disk.rename("f", to: "h") },
                code { try disk.remove(operation == .rename ? "f" : "h") },
                code { try disk.syncDirectory("") },
            ]
            #expect(codes.filter { $0 == .inputOutput }.count == 1, "\(operation)")
            #expect(disk.firedCount == 1, "\(operation)")
        }
    }

    @Test("A write can fail half way, and a call can fail after it took effect")
    func partialEffects() throws {
        let disk = FaultyDisk(CrashDisk())
        let file = try disk.open("f", .create)
        disk.add(FaultRule(.failAfter(byteCount: 2, .inputOutput, number: 5), on: [.write]))
        #expect(code { try file.write("abcd", at: 0) } == .inputOutput)
        #expect(try disk.text("f") == "ab")
        disk.add(FaultRule(.failAfterwards(.inputOutput, number: 5), on: [.rename]))
        #expect(code { try disk.rename("f", to: "g") } == .inputOutput)
        #expect(try disk.list("") == ["g"])
    }

    @Test("A sync that is only pretended makes nothing durable")
    func lyingSync() throws {
        let base = CrashDisk()
        let disk = FaultyDisk(base)
        disk.add(FaultRule(.pretend, on: [.sync], hitCount: nil))
        try disk.put("f", "text", isSynced: true)
        try disk.syncDirectory("")
        #expect(try base.crash(.dropped).text("f").isEmpty)
    }

    @Test("A flipped read gives one wrong bit, once; the file is unharmed")
    func flippedRead() throws {
        let disk = FaultyDisk(CrashDisk())
        try disk.put("f", "text")
        disk.add(FaultRule(.flip(bit: 8), on: [.read]))
        #expect(try disk.text("f") == "tdxt")
        #expect(try disk.text("f") == "text")
    }

    @Test(
        "A full disk takes what fits, then says full; allocated bytes can be overwritten; removing gives room"
    )
    func budget() throws {
        let disk = FaultyDisk(CrashDisk())
        let file = try disk.open("f", .create)
        try file.write([UInt8](repeating: 0, count: 8192), at: 0)
        disk.setFreeBytes(8192)
        try file.write([UInt8](repeating: 1, count: 8192), at: 0)
        #expect(try disk.space().freeBytes == 8192)
        try file.write([UInt8](repeating: 2, count: 4096), at: 8192)
        #expect(disk.freeBytes == 4096)
        #expect(code { try file.write([UInt8](repeating: 3, count: 10_000), at: 12_288) } == .full)
        #expect(try file.size() == 12_288 + 4096)
        #expect(code { try disk.put("g", "x") } == .full)
        try file.write([UInt8](repeating: 4, count: 8192), at: 4096)
        try file.punchHole(offset: 0, length: 4096)
        #expect(disk.freeBytes == 4096)
        try file.truncate(to: 8192)
        #expect(disk.freeBytes == 12_288)
        try disk.remove("f")
        #expect(disk.freeBytes == 16_384)
        disk.setFreeBytes(nil)
        try disk.put("h", "x")
    }

    private final class Result: Sendable { let text = Mutex<String?>(nil) }

    @Test("A held call goes on when its gate opens")
    func gate() throws {
        let disk = FaultyDisk(CrashDisk())
        try disk.put("f", "text")
        let gate = FaultGate()
        disk.add(FaultRule(.hold(gate), on: [.read]))
        let result = Result()
        let thread = BlockingThread {
            let text = try? disk.text("f")
            result.text.withLock { $0 = text }
        }
        #expect(gate.waitUntilHolding(1))
        #expect(try disk.list("") == ["f"], "Other calls are not held")
        #expect(result.text.withLock { $0 } == nil)
        gate.open()
        thread.join()
        #expect(result.text.withLock { $0 } == "text")
        #expect(gate.heldCount == 0 && gate.arrivedCount == 1)
    }

    @Test("A gate that nobody opens lets the call fail at its deadline")
    func gateDeadline() throws {
        let disk = FaultyDisk(CrashDisk())
        try disk.put("f", "text")
        disk.add(FaultRule(.hold(FaultGate(deadline: .milliseconds(5))), on: [.open]))
        #expect(code { _ = try disk.open("f", .read) } == .inputOutput)
    }

    @Test("A call can be delayed and then does its work")
    func delay() throws {
        let disk = FaultyDisk(CrashDisk())
        disk.add(FaultRule(.delay(.milliseconds(1)), on: [.write], hitCount: nil))
        try disk.put("f", "text")
        #expect(try disk.text("f") == "text")
    }
}
