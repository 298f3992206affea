import ContentHashing
import Encryption
import Foundation
import HoldfastNode
import Mirroring
import ObjectService
import StoreModel
import Testing

/// Credentials of mirrors go along when the master key is renewed.
@Suite struct KeyRotationTests {
    /// Leaves the newest key in the file, and opens the store again.
    private static func forgetOlderKeys(_ fixture: MirrorFixture) async throws {
        let path = fixture.path + "/" + MasterKeyFile.fileName
        let text = String(decoding: try #require(FileManager.default.contents(atPath: path)), as: UTF8.self)
        let line = try #require(text.split(separator: "\n").last { $0.hasPrefix("key ") }) + "\n"
        let check = SHA256Hasher.hash([UInt8](line.utf8)).hex.prefix(16)
        try Data("holdfast-master-key 1\n\(line)check \(check)\n".utf8).write(to: URL(fileURLWithPath: path))
        try await fixture.reopen()
        #expect(try MasterKeyFile(storeDirectory: fixture.path).load()?.generations.count == 1)
    }

    private static func secret(_ fixture: MirrorFixture) async throws -> String {
        try fixture.directory.credentials(of: try await fixture.directory.mirror(fixture.mirror)).secret
    }

    @Test func afterARotationTheOlderKeyIsNotNeededAnyMore() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        try await fixture.put("a", [1])
        _ = try await fixture.store.accounts.rotateMasterKey()
        #expect(try await fixture.directory.sealAnew() == 1)
        #expect(try await fixture.directory.sealAnew() == 0, "nothing is left to do")
        try await Self.forgetOlderKeys(fixture)
        #expect(try await Self.secret(fixture) == "secret")
        let status = try await fixture.drain()
        #expect(status.isUpToDate && status.worker.failureCount == 0)
        try await fixture.close()
    }

    @Test func aRotationThatWasCutShortIsBroughtToItsEndByTheNextWorker() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        // The new key is on disk and in the catalog, and then the process dies.
        _ = try await fixture.objects.addMasterKey(acceptsLoss: false)
        try await fixture.reopen()
        #expect(try await Self.secret(fixture) == "secret", "the older key still opens it")
        try await fixture.drain()
        try await Self.forgetOlderKeys(fixture)
        #expect(try await Self.secret(fixture) == "secret")
        try await fixture.close()
    }

    @Test func whatALostKeyHasSealedIsLeftAsItIs() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        try FileManager.default.removeItem(atPath: fixture.path + "/" + MasterKeyFile.fileName)
        try await fixture.reopen()
        _ = try await fixture.objects.addMasterKey(acceptsLoss: true)
        #expect(try await fixture.directory.sealAnew() == 0)
        await #expect(throws: StoreError.self) { try await Self.secret(fixture) }
        try await fixture.directory.setCredentials(
            fixture.mirror,
            MirrorCredentials(accessKey: "key", secret: "other")
        )
        #expect(try await Self.secret(fixture) == "other")
        try await fixture.close()
    }
}
