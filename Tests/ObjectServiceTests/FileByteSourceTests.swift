import Catalog
import Glibc
import ObjectService
import StoreModel
import Testing

@Suite struct FileByteSourceTests {
    /// A directory that goes away with the test.
    private final class Directory {
        let path: String

        init() throws {
            var template = Array("/tmp/holdfast-source-XXXXXX".utf8CString)
            guard mkdtemp(&template) != nil else { throw StoreError(.inputOutput, "No temporary directory.") }
            path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }

        deinit {
            unlink(path + "/file")
            rmdir(path)
        }

        func write(_ bytes: [UInt8]) throws -> String {
            let name = path + "/file"
            guard let file = fopen(name, "w") else { throw StoreError(.inputOutput, "No temporary file.") }
            defer { fclose(file) }
            guard fwrite(bytes, 1, bytes.count, file) == bytes.count else {
                throw StoreError(.inputOutput, "The temporary file can't be written.")
            }
            return name
        }
    }

    private func readAll(_ source: FileByteSource) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        while let piece = try await source.next() { bytes += piece }
        #expect(try await source.next() == nil)
        return bytes
    }

    @Test(arguments: [0, 1, 999, 1000, 1001, 2000, 12_345])
    func aFileIsReadWhole(size: Int) async throws {
        let directory = try Directory()
        let bytes = noise(size)
        let path = try directory.write(bytes)
        for readAhead in 1...3 {
            let source = try await FileByteSource.open(path: path, pieceSize: 1000, readAheadCount: readAhead)
            #expect(source.size == UInt64(size))
            #expect(try await readAll(source) == bytes)
        }
    }

    @Test func whatCannotBeReadIsNamed() async throws {
        let directory = try Directory()
        await expectFailure(.invalidArgument) {
            try await FileByteSource.open(path: directory.path + "/none")
        }
        await expectFailure(.invalidArgument) { try await FileByteSource.open(path: directory.path) }
        let path = try directory.write([1])
        await expectFailure(.invalidArgument) { try await FileByteSource.open(path: path + "/below") }
        chmod(path, 0)
        // The superuser may read everything.
        if geteuid() != 0 {
            await expectFailure(.invalidArgument) { try await FileByteSource.open(path: path) }
        }
        await expectFailure(.inputOutput) {
            try await FileByteSource.open(descriptor: 9999, label: "a closed descriptor")
        }
    }

    @Test func aFileThatGrowsWhileItIsReadIsRefused() async throws {
        let directory = try Directory()
        let path = try directory.write(noise(10_000))
        let source = try await FileByteSource.open(path: path, pieceSize: 1000, readAheadCount: 1)
        _ = try await source.next()
        _ = try directory.write(noise(20_000))
        await expectFailure(.conflict) { while try await source.next() != nil {} }
    }

    @Test func aPipeIsReadToItsEndAndStaysOpen() async throws {
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        let bytes = noise(5000)
        #expect(write(ends[1], bytes, bytes.count) == bytes.count)
        close(ends[1])
        let source = try await FileByteSource.open(
            descriptor: ends[0],
            label: "standard input",
            pieceSize: 999
        )
        #expect(source.size == nil)
        #expect(try await readAll(source) == bytes)
        #expect(close(ends[0]) == 0)
    }

    @Test func aReaderOfASilentPipeCanBeCancelled() async throws {
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        let source = try await FileByteSource.open(descriptor: ends[0], label: "standard input")
        let task = Task { try await source.next() }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        // Lets the thread end.
        close(ends[1])
    }

    @Test func aFileGoesIntoTheStore() async throws {
        let directory = try Directory()
        let bytes = noise(3 << 20)
        let source = try await FileByteSource.open(path: try directory.write(bytes))
        let fixture = try await Fixture()
        let request = PutRequest(
            bucket: fixture.bucket,
            key: fixture.key,
            expectation: BodyExpectation(size: source.size)
        )
        _ = try await fixture.store.put(request, body: source)
        #expect(try await fixture.get() == bytes)
    }
}
