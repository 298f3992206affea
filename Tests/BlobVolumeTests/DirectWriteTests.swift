import BlobVolume
import Foundation
import Glibc
import StoreModel
import StoreTestKit
import Testing

@Suite struct DirectWriteTests {
    /// Where files live in memory: older kernels refuse direct writes there, newer ones take them.
    private static let places: [String] = [NSTemporaryDirectory(), "/dev/shm"].filter {
        access($0, W_OK) == 0
    }

    private func withDisk(in place: String, _ body: (PosixDisk) throws -> Void) throws {
        let path = "\(place)/holdfast-direct-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(try PosixDisk(path: path))
    }

    /// Memory at a block's border, and memory beside one.
    private func withPieces(_ bytes: [UInt8], cut: Int, _ body: ([UnsafeRawBufferPointer]) throws -> Void)
        rethrows
    {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 4096)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        try bytes.withUnsafeBytes { own in
            try body([
                UnsafeRawBufferPointer(rebasing: own[..<cut]),
                UnsafeRawBufferPointer(rebasing: memory[cut...]),
            ])
        }
    }

    @Test(
        "Whatever the pieces are and whether the file system takes them, the bytes arrive",
        arguments: places
    )
    func arrives(_ place: String) throws {
        try withDisk(in: place) { disk in
            var random = SeededGenerator(seed: 71)
            let file = try disk.open("a", .create)
            var expected: [UInt8] = []
            for (blockCount, cut) in [(1, 4096), (2, 4096), (3, 5000), (700, 8192), (300, 1), (513, 4096)] {
                let bytes = (0..<blockCount * 4096).map { _ in UInt8.random(in: 0...255, using: &random) }
                try withPieces(bytes, cut: cut) { try file.writeDirect($0, at: UInt64(expected.count)) }
                expected += bytes
                // Both ways see the same: what was read before, and what is written as usual behind it.
                #expect(try file.read(count: expected.count + 1, at: 0) == expected)
                let tail = [UInt8](repeating: UInt8(blockCount % 251), count: 4096)
                try file.write(tail, at: UInt64(expected.count))
                expected += tail
            }
            try file.sync()
            file.close()
            let again = try disk.open("a", .update)
            #expect(try again.read(count: expected.count + 1, at: 0) == expected)
            try withPieces([UInt8](repeating: 9, count: 8192), cut: 4096) {
                try again.writeDirect($0, at: 4096)
            }
            expected.replaceSubrange(4096..<12288, with: [UInt8](repeating: 9, count: 8192))
            #expect(try again.read(count: expected.count + 1, at: 0) == expected)
        }
    }

    @Test("A closed file refuses direct writes too")
    func closed() throws {
        try withDisk(in: NSTemporaryDirectory()) { disk in
            let file = try disk.open("a", .create)
            file.close()
            #expect(throws: DiskError.self) {
                try withPieces([UInt8](repeating: 1, count: 4096), cut: 4096) {
                    try file.writeDirect($0, at: 0)
                }
            }
        }
    }
}
