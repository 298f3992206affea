import Catalog
import ContentHashing
import Encryption
import Foundation
import HoldfastNode
import ObjectService
import StoreModel
import StoreTestKit
import Testing

@Suite struct EncryptionAtRestTests {
    private let random = SeededRandom(seed: 42)

    /// Text that is found wherever it is stored in the open, and no two stretches of which are the same.
    private func text(_ count: Int, mark: String = "plaintext marker") -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count + 64)
        var line = 0
        while bytes.count < count {
            bytes += [UInt8]("\(mark) \(line) \n".utf8)
            line += 1
        }
        return [UInt8](bytes.prefix(count))
    }

    @Test func whatIsEncryptedIsNotOnDiskAndWhatIsNotIs() async throws {
        let disk = try await StoreOnDisk()
        let key = EncryptionKey(from: random)
        let plain = text(300_000, mark: "in the open")
        let hidden = text(3_000_000, mark: "kept by the store")
        let secret = text(3_000_000, mark: "kept by the client")
        let small = text(100, mark: "small one")
        try await disk.put("plain", plain, .none)
        try await disk.put("hidden", hidden, .storeKey)
        try await disk.put("secret", secret, .clientKey(key))
        try await disk.put("small", small, .storeKey)
        for isOpen in [false, true] {
            if isOpen { try await disk.reopen() }
            #expect(try await disk.get("plain") == plain)
            #expect(try await disk.get("hidden") == hidden)
            #expect(try await disk.get("secret", clientKey: key) == secret)
            #expect(try await disk.get("small") == small)
        }
        #expect(try disk.isOnDisk([UInt8]("in the open".utf8)))
        for mark in ["kept by the store", "kept by the client", "small one"] {
            #expect(try !disk.isOnDisk([UInt8](mark.utf8)))
        }
        // Neither the client's key nor a digest that tells what its content is.
        #expect(try !disk.isOnDisk(key.withUnsafeBytes { [UInt8]($0) }))
        #expect(try !disk.isOnDisk(SHA256Hasher.hash(secret).bytes))
        #expect(try !disk.isOnDisk(secret.withUnsafeBytes { MD5Hasher.hash($0) }.bytes))
        let ring = try #require(try MasterKeyFile(storeDirectory: disk.path).load())
        #expect(try !disk.isOnDisk(ring.newest.key.withUnsafeBytes { [UInt8]($0) }))
    }

    @Test func entityTagsAreThoseOfS3() async throws {
        let disk = try await StoreOnDisk()
        let bytes = text(200_000)
        let md5 = bytes.withUnsafeBytes { MD5Hasher.hash($0) }.hex
        #expect(try await disk.put("a", bytes, .none).etag == md5)
        #expect(try await disk.put("b", bytes, .storeKey).etag == md5)
        let first = try await disk.put("c", bytes, .clientKey(EncryptionKey(from: random)))
        let second = try await disk.put("d", bytes, .clientKey(EncryptionKey(from: random)))
        #expect(first.etag.count == 32 && first.etag != md5 && first.etag != second.etag)
        #expect(first.size == UInt64(bytes.count))
    }

    @Test(arguments: [0, 1, 65_520, 65_521, 1_048_320, 1_048_321, 2_500_000])
    func everyRangeOfAnEncryptedObjectIsTheRangeOfItsBytes(count: Int) async throws {
        let disk = try await StoreOnDisk()
        let key = EncryptionKey(from: random)
        let bytes = random.bytes(count: count)
        try await disk.put("x", bytes, .clientKey(key), pieceSize: 300_000)
        #expect(try await disk.get("x", clientKey: key) == bytes)
        let edges = [0, 1, 65_519, 65_520, 65_521, 1_048_319, 1_048_320, 1_048_321, 2_000_000, count - 1]
        for lower in edges where lower >= 0 && lower < count {
            for length in [1, 2, 65_520, 1_100_000, count] {
                let range = RequestedRange.from(UInt64(lower), length: UInt64(length))
                let expected = [UInt8](bytes[lower..<min(lower + length, count)])
                #expect(try await disk.get("x", range, clientKey: key) == expected)
            }
            let tail = try await disk.get("x", .last(UInt64(count - lower)), clientKey: key)
            #expect(tail == [UInt8](bytes[lower...]))
        }
    }

    @Test func anotherKeyNoKeyAndAKeyTooManyAreRefused() async throws {
        let disk = try await StoreOnDisk()
        let key = EncryptionKey(from: random)
        let other = EncryptionKey(from: random)
        try await disk.put("secret", text(100), .clientKey(key))
        try await disk.put("hidden", text(100), .storeKey)
        try await disk.put("plain", text(100), .none)
        await expectFailure(.accessDenied) { try await disk.get("secret", clientKey: other) }
        await expectFailure(.encryptionKeyMissing) { try await disk.get("secret") }
        await expectFailure(.encryptionKeyUnexpected) { try await disk.get("hidden", clientKey: key) }
        await expectFailure(.encryptionKeyUnexpected) { try await disk.get("plain", clientKey: key) }
        let row = try await disk.objects.head(try disk.address("secret"))
        await expectFailure(.accessDenied) { try disk.objects.checkKey(other, of: row) }
        await expectFailure(.encryptionKeyMissing) { try disk.objects.checkKey(nil, of: row) }
        try disk.objects.checkKey(key, of: row)
        #expect(try row.encryption?.sort == .clientKey)
    }

    @Test func theSameBytesAreSharedInTheOpenAndNeverUnderTwoKeys() async throws {
        let disk = try await StoreOnDisk()
        let bytes = random.bytes(count: 2_000_000)
        func used() async throws -> UInt64 { try await disk.objects.status().volumes[0].payloadBytes }
        try await disk.put("a", bytes, .none)
        let once = try await used()
        try await disk.put("b", bytes, .none)
        #expect(try await used() < once + 100_000)
        try await disk.put("c", bytes, .storeKey)
        try await disk.put("d", bytes, .storeKey)
        #expect(try await used() > once + 2 * 1_900_000)
        let before = try await used()
        let command = CopyCommand(
            source: try disk.address("c"),
            bucket: disk.bucket,
            key: try ObjectKey("copy of c")
        )
        _ = try await disk.objects.copy(command, encryption: .storeKey)
        #expect(try await used() < before + 100_000, "a copy under the same key shares the bytes")
        #expect(try await disk.get("copy of c") == bytes)
    }

    @Test func copiesAreEncryptedAsTheyShouldBe() async throws {
        let disk = try await StoreOnDisk()
        let (old, new) = (EncryptionKey(from: random), EncryptionKey(from: random))
        let bytes = text(1_500_000, mark: "copied content")
        try await disk.put("a", bytes, .clientKey(old))
        func copy(
            _ source: String,
            _ target: String,
            _ choice: EncryptionChoice,
            _ key: EncryptionKey?
        ) async throws {
            let command = CopyCommand(
                source: try disk.address(source),
                bucket: disk.bucket,
                key: try ObjectKey(target)
            )
            _ = try await disk.objects.copy(command, encryption: choice, sourceKey: key)
        }
        await expectFailure(.encryptionKeyMissing) { try await copy("a", "b", .storeKey, nil) }
        await expectFailure(.accessDenied) { try await copy("a", "b", .storeKey, new) }
        try await copy("a", "b", .clientKey(new), old)
        try await copy("b", "c", .storeKey, new)
        await expectFailure(.encryptionKeyUnexpected) { try await copy("c", "d", .storeKey, new) }
        #expect(try await disk.get("b", clientKey: new) == bytes)
        #expect(try await disk.get("c") == bytes)
        await expectFailure(.accessDenied) { try await disk.get("b", clientKey: old) }
        #expect(try !disk.isOnDisk([UInt8]("copied content".utf8)))
        try await copy("c", "d", .none, nil)
        #expect(try await disk.get("d") == bytes)
        #expect(try disk.isOnDisk([UInt8]("copied content".utf8)))
        let etag = try await disk.objects.head(try disk.address("d")).etag
        #expect(etag == bytes.withUnsafeBytes { MD5Hasher.hash($0) }.hex)
    }

    @Test func scrubbingNeedsNoKey() async throws {
        let disk = try await StoreOnDisk()
        try await disk.put("secret", text(3_000_000), .clientKey(EncryptionKey(from: random)))
        try await disk.put("hidden", text(3_000_000), .storeKey)
        try await disk.reopen { try FileManager.default.removeItem(atPath: disk.masterKeyPath) }
        let report = try await disk.objects.verify(repair: false)
        #expect(report.isHealthy && report.versionCount == 2)
        #expect(report.payloadBytes > 6_000_000)
        let statistics = try await disk.objects.stat(try disk.address("secret"), check: .strict)
        #expect(statistics.badReplicaCount == 0 && statistics.chunkCount == 3)
    }

    @Test func aLostMasterKeyTakesNothingButWhatItSealed() async throws {
        let disk = try await StoreOnDisk()
        let key = EncryptionKey(from: random)
        try await disk.put("plain", text(1000), .none)
        try await disk.put("secret", text(1000), .clientKey(key))
        try await disk.put("hidden", text(1000), .storeKey)
        let kept = disk.path + ".kept"
        defer { try? FileManager.default.removeItem(atPath: kept) }
        try await disk.reopen { try FileManager.default.moveItem(atPath: disk.masterKeyPath, toPath: kept) }
        #expect(try await disk.get("plain") == text(1000))
        #expect(try await disk.get("secret", clientKey: key) == text(1000))
        try await disk.put("new", text(10), .none)
        let error = await expectFailure(.masterKeyUnavailable) { try await disk.get("hidden") }
        #expect(error?.message.contains(disk.masterKeyPath) == true && error?.advice != nil)
        // No new key in place of one that is lost.
        await expectFailure(.masterKeyUnavailable) { try await disk.put("more", text(10), .storeKey) }
        #expect(!FileManager.default.fileExists(atPath: disk.masterKeyPath))
        try await disk.reopen { try FileManager.default.moveItem(atPath: kept, toPath: disk.masterKeyPath) }
        #expect(try await disk.get("hidden") == text(1000))
    }

    @Test func anotherStoresMasterKeyIsNotUsed() async throws {
        let disk = try await StoreOnDisk()
        try await disk.put("hidden", text(1000), .storeKey)
        let foreign = MasterKeyRing(from: random)
        try await disk.reopen {
            try FileManager.default.removeItem(atPath: disk.masterKeyPath)
            try MasterKeyFile(storeDirectory: disk.path).create(foreign)
        }
        await expectFailure(.masterKeyUnavailable) { try await disk.get("hidden") }
        await expectFailure(.masterKeyUnavailable) { try await disk.put("more", text(10), .storeKey) }
    }

    @Test func objectsOfOlderMasterKeysStayReadable() async throws {
        let disk = try await StoreOnDisk()
        try await disk.put("old", text(1000), .storeKey)
        _ = try await disk.store.accounts.rotateMasterKey()
        try await disk.put("new", text(2000), .storeKey)
        try await disk.reopen()
        #expect(try await disk.get("old") == text(1000))
        #expect(try await disk.get("new") == text(2000))
        #expect(try MasterKeyFile(storeDirectory: disk.path).load()?.generations.count == 2)
    }

    @Test(arguments: [false, true])
    func aMultipartUploadIsEncryptedPartByPart(isClientKey: Bool) async throws {
        let disk = try await StoreOnDisk()
        let key = isClientKey ? EncryptionKey(from: random) : nil
        let upload = try await disk.objects.createUpload(
            CreateUploadRequest(
                bucket: disk.bucket,
                key: try ObjectKey("big"),
                encryption: key.map { .clientKey($0) } ?? .storeKey
            )
        )
        let place = UploadAddress(bucket: disk.bucket, key: try ObjectKey("big"), id: upload.id)
        let parts: [(number: Int, bytes: [UInt8])] = [
            (2, text(5 << 20, mark: "second part")), (5, text((5 << 20) + 65_537, mark: "fifth part")),
            (9, text(1000, mark: "ninth part")),
        ]
        var listed: [ListedPart] = []
        for part in parts {
            // What is replaced must not share its key with what replaces it.
            for bytes in [text(2000, mark: "replaced part"), part.bytes] {
                let request = PutPartRequest(upload: place, number: part.number, clientKey: key)
                let made = try await disk.objects.putPart(request, body: Pieces(bytes))
                #expect(made.size == UInt64(bytes.count))
                #expect((made.etag == bytes.withUnsafeBytes { MD5Hasher.hash($0) }) == !isClientKey)
                if listed.last?.number == part.number { listed.removeLast() }
                listed.append(ListedPart(number: part.number, etag: made.etag.hex))
            }
        }
        if isClientKey {
            await expectFailure(.encryptionKeyMissing) {
                try await disk.objects.putPart(PutPartRequest(upload: place, number: 1), body: Pieces([1]))
            }
            await expectFailure(.accessDenied) {
                let request = PutPartRequest(
                    upload: place,
                    number: 1,
                    clientKey: EncryptionKey(from: random)
                )
                return try await disk.objects.putPart(request, body: Pieces([1]))
            }
        }
        try await disk.reopen()
        let row = try await disk.objects.complete(CompleteRequest(upload: place, parts: listed))
        let whole = parts.flatMap(\.bytes)
        #expect(row.size == UInt64(whole.count))
        #expect(try await disk.get("big", clientKey: key) == whole)
        let borders = [0, 5 << 20, (10 << 20) + 65_537, whole.count]
        for border in borders {
            for lower in [border - 100_000, border - 1, border, border + 70_000]
            where (0..<whole.count).contains(lower) {
                for length in [1, 200_000, 6 << 20] {
                    let read = try await disk.get(
                        "big",
                        .from(UInt64(lower), length: UInt64(length)),
                        clientKey: key
                    )
                    #expect(read == [UInt8](whole[lower..<min(lower + length, whole.count)]))
                }
            }
        }
        for mark in ["second part", "fifth part", "ninth part", "replaced part"] {
            #expect(try !disk.isOnDisk([UInt8](mark.utf8)))
        }
        #expect(try await disk.objects.verify(repair: false).isHealthy)
    }

    @Test func apartCopiedFromAnEncryptedObjectIsEncryptedAnew() async throws {
        let disk = try await StoreOnDisk()
        let (sourceKey, key) = (EncryptionKey(from: random), EncryptionKey(from: random))
        let bytes = text(6 << 20)
        try await disk.put("source", bytes, .clientKey(sourceKey))
        let target = try ObjectKey("target")
        let upload = try await disk.objects.createUpload(
            CreateUploadRequest(bucket: disk.bucket, key: target, encryption: .clientKey(key))
        )
        let place = UploadAddress(bucket: disk.bucket, key: target, id: upload.id)
        var request = CopyPartRequest(
            upload: place,
            number: 1,
            source: try disk.address("source"),
            range: 100...5_999_999,
            clientKey: key
        )
        await expectFailure(.encryptionKeyMissing) { try await disk.objects.copyPart(request) }
        request.sourceKey = sourceKey
        let part = try await disk.objects.copyPart(request).part
        let listed = [ListedPart(number: 1, etag: part.etag.hex)]
        _ = try await disk.objects.complete(CompleteRequest(upload: place, parts: listed))
        #expect(try await disk.get("target", clientKey: key) == [UInt8](bytes[100...5_999_999]))
    }

    @Test func aMasterKeyFileThatOthersMayReadOrThatIsDamagedIsRefusedByName() async throws {
        let disk = try await StoreOnDisk()
        try await disk.put("hidden", text(1000), .storeKey)
        try await disk.put("plain", text(1000), .none)
        try await disk.reopen {
            try FileManager.default.setAttributes(
                [.posixPermissions: 0o640],
                ofItemAtPath: disk.masterKeyPath
            )
        }
        let error = await expectFailure(.masterKeyUnavailable) { try await disk.get("hidden") }
        #expect(error?.advice?.contains("chmod 600 \(disk.masterKeyPath)") == true)
        #expect(try await disk.get("plain") == text(1000))
        let good = try #require(FileManager.default.contents(atPath: disk.masterKeyPath))
        for bytes in [Data(), Data(good.dropLast(30)), Data(repeating: 0xFF, count: 100_000)] {
            try await disk.reopen {
                try bytes.write(to: URL(fileURLWithPath: disk.masterKeyPath))
                try FileManager.default.setAttributes(
                    [.posixPermissions: 0o600],
                    ofItemAtPath: disk.masterKeyPath
                )
            }
            let error = await expectFailure(.masterKeyUnavailable) { try await disk.get("hidden") }
            #expect(error?.message.contains(disk.masterKeyPath) == true)
            await expectFailure(.masterKeyUnavailable) { try await disk.put("more", [1], .storeKey) }
            #expect(
                FileManager.default.contents(atPath: disk.masterKeyPath) == bytes,
                "it is never written over"
            )
        }
    }

    @Test func theMasterKeyIsItsOwnersAlone() async throws {
        let disk = try await StoreOnDisk()
        for _ in 0..<2 {
            let attributes = try FileManager.default.attributesOfItem(atPath: disk.masterKeyPath)
            #expect((attributes[.posixPermissions] as? Int) == 0o600)
            _ = try await disk.store.accounts.rotateMasterKey()
        }
        let names = try FileManager.default.contentsOfDirectory(atPath: disk.path)
        #expect(!names.contains { $0.hasPrefix("master.key.") })
    }
}
