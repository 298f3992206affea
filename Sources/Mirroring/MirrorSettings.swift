package import Catalog
package import Encryption
package import StoreModel

// What a mirror's backend is, as a document of the catalog.
//
//   Space setting, key "mirror/backend/" and the mirror's name; body:
//     offset  size  field
//          0     1  format version, 1
//          1     8  number of the mirror
//          9     8  created at, milliseconds since 1970
//         17     1  flags: 1 paused, 2 host in the name (virtual-host style), 4 addresses of the link are allowed,
//                   8 bodies are not signed, 16 private addresses are allowed
//         18     4  part size in KiB, 2 concurrency, 8 bytes a second, 4 requests a second (0: no limit)
//         36     …  endpoint, region, bucket, prefix, storage class, encryption, its key's name (text each)
//          …     …  credentials (counted): SealedSecret.swift, context "mirror NUMBER": access key, secret, token
//
// Integers are little-endian; text and counted bytes have a length of 4 bytes in front.

/// Name of a mirror: 1 to 64 letters, digits, hyphens, underscores or dots.
package struct MirrorName: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let description: String

    package init(_ text: String) throws(StoreError) {
        let isAllowed = text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"),
                UInt8(ascii: "."):
                true
            default: false
            }
        }
        guard isAllowed, (1...64).contains(text.utf8.count) else {
            throw StoreError(
                .invalidArgument,
                "\(quoted(text)) is no name for a mirror: 1 to 64 letters, digits, hyphens, underscores or dots."
            )
        }
        description = text
    }

    package static func < (left: MirrorName, right: MirrorName) -> Bool {
        left.description < right.description
    }
}

/// What a backend is asked with. Not shown by printing it.
package struct MirrorCredentials: Hashable, Sendable, CustomStringConvertible, CustomReflectable {
    package let accessKey: String
    package let secret: String
    package let sessionToken: String?

    package init(accessKey: String, secret: String, sessionToken: String? = nil) {
        self.accessKey = accessKey
        self.secret = secret
        self.sessionToken = sessionToken
    }

    package var description: String { "MirrorCredentials(\(accessKey))" }
    package var customMirror: Mirror { Mirror(self, children: []) }

    var bytes: [UInt8] {
        var writer = ByteWriter()
        writer.write(text: accessKey)
        writer.write(text: secret)
        writer.write(text: sessionToken ?? "")
        return writer.bytes
    }

    init(bytes: [UInt8]) throws(ByteReader.Failure) {
        var reader = ByteReader(bytes)
        accessKey = try reader.readText()
        secret = try reader.readText()
        let token = try reader.readText()
        sessionToken = token.isEmpty ? nil : token
        try reader.finish()
    }

    static func context(_ id: MirrorID) -> String { "mirror \(id.rawValue)" }
}

/// How a backend is reached and used.
package struct MirrorSettings: Hashable, Sendable {
    package static let partSizes = 5 << 20...64 << 20
    package static let partSizeStandard = 8 << 20
    package static let concurrencies = 1...64
    private static let format: UInt8 = 1

    package var endpoint: MirrorEndpoint
    package var region = "us-east-1"
    package var bucket: String
    /// In front of every key; as given, so with its slash.
    package var prefix = ""
    package var isVirtualHost = false
    package var allowsLinkLocal = false
    package var allowsPrivate = false
    package var signsBodies = true
    /// Objects up to this size are put whole. What is larger goes in the parts that it came in where this allows them
    /// (`sourcePartSizes`; the standard counts as not set), else in parts of this size, or larger ones where there would be too
    /// many.
    package var partSize = Self.partSizeStandard
    package var concurrency = 16
    /// 0: no limit.
    package var bytesPerSecond: UInt64 = 0
    package var requestsPerSecond: UInt32 = 0
    /// Empty: the backend's default.
    package var storageClass = ""
    /// x-amz-server-side-encryption; empty: the backend's default.
    package var encryption = ""
    package var encryptionKey = ""

    package init(endpoint: MirrorEndpoint, bucket: String) {
        self.endpoint = endpoint
        self.bucket = bucket
    }

    /// Where a key stands in the backend: under its bucket's name.
    package func key(_ bucket: BucketName, _ key: ObjectKey) -> String {
        "\(prefix)\(bucket)/\(key)"
    }

    /// Parts that an object came in and that it goes on in: smaller ones many backends refuse, larger ones are too much to
    /// hold, or more than somebody has said that the backend is to get.
    var sourcePartSizes: ClosedRange<UInt64> {
        let most = partSize == Self.partSizeStandard ? 16 << 20 : max(partSize, Self.partSizes.lowerBound)
        return UInt64(Self.partSizes.lowerBound)...UInt64(most)
    }

    /// The parts of an object of this size, but for one that goes in those that it came in (`MirrorCut`).
    package func partSize(for size: UInt64) -> UInt64 {
        let least = (size + UInt64(Limits.partCountMax) - 1) / UInt64(Limits.partCountMax)
        // In steps, so that it is the same again after a restart with another setting of the same order.
        let step: UInt64 = 1 << 20
        return max(UInt64(partSize), (least + step - 1) / step * step)
    }

    /// Whether the ETag of an object that was put whole is the MD5 of its bytes.
    package var etagIsMD5: Bool { encryption.isEmpty || encryption == "AES256" }
}

/// A mirror: its settings, and whether it works.
package struct MirrorRow: Hashable, Sendable {
    private static let format: UInt8 = 1

    package let name: MirrorName
    package let id: MirrorID
    package let createdAt: Timestamp
    package var settings: MirrorSettings
    package var isPaused: Bool
    package var credentials: SealedSecret

    package init(
        name: MirrorName,
        id: MirrorID,
        createdAt: Timestamp,
        settings: MirrorSettings,
        isPaused: Bool = false,
        credentials: SealedSecret
    ) {
        self.name = name
        self.id = id
        self.createdAt = createdAt
        self.settings = settings
        self.isPaused = isPaused
        self.credentials = credentials
    }

    package static func key(_ name: MirrorName) -> [UInt8] {
        MirrorKey.backendPrefix + Array(name.description.utf8)
    }

    package var key: [UInt8] { Self.key(name) }

    package var body: [UInt8] {
        var writer = ByteWriter(capacity: 512)
        writer.write(Self.format)
        writer.write(id.rawValue)
        writer.write(createdAt.milliseconds)
        var flags: UInt8 = isPaused ? 1 : 0
        if settings.isVirtualHost { flags |= 2 }
        if settings.allowsLinkLocal { flags |= 4 }
        if !settings.signsBodies { flags |= 8 }
        if settings.allowsPrivate { flags |= 16 }
        writer.write(flags)
        writer.write(UInt32(clamping: settings.partSize >> 10))
        writer.write(UInt16(clamping: settings.concurrency))
        writer.write(settings.bytesPerSecond)
        writer.write(settings.requestsPerSecond)
        for text in [
            settings.endpoint.description, settings.region, settings.bucket, settings.prefix,
            settings.storageClass, settings.encryption, settings.encryptionKey,
        ] { writer.write(text: text) }
        writer.write(counted: credentials.bytes)
        return writer.bytes
    }

    package init(_ document: DocumentRow) throws(StoreError) {
        do throws(ByteReader.Failure) {
            let text = String(
                validating: document.key.dropFirst(MirrorKey.backendPrefix.count),
                as: UTF8.self
            )
            var reader = ByteReader(document.body)
            let format = try reader.read(UInt8.self)
            guard let text, format == Self.format else {
                throw ByteReader.Failure("it has format \(format); this program reads \(Self.format)")
            }
            id = MirrorID(rawValue: try reader.read(UInt64.self))
            createdAt = Timestamp(milliseconds: try reader.read(Int64.self))
            let flags = try reader.read(UInt8.self)
            guard flags < 32 else { throw ByteReader.Failure("unknown flags \(flags)") }
            let partSize = Int(try reader.read(UInt32.self)) << 10
            let concurrency = Int(try reader.read(UInt16.self))
            let bytesPerSecond = try reader.read(UInt64.self)
            let requestsPerSecond = try reader.read(UInt32.self)
            var texts: [String] = []
            for _ in 0..<7 { texts.append(try reader.readText()) }
            let sealed = try reader.readCounted()
            try reader.finish()
            do {
                name = try MirrorName(text)
                settings = MirrorSettings(endpoint: try MirrorEndpoint(texts[0]), bucket: texts[2])
                credentials = try SealedSecret(decoding: sealed)
            } catch {
                throw ByteReader.Failure("\(error)")
            }
            isPaused = flags & 1 != 0
            settings.isVirtualHost = flags & 2 != 0
            settings.allowsLinkLocal = flags & 4 != 0
            settings.signsBodies = flags & 8 == 0
            settings.allowsPrivate = flags & 16 != 0
            settings.partSize = partSize
            settings.concurrency = concurrency
            settings.bytesPerSecond = bytesPerSecond
            settings.requestsPerSecond = requestsPerSecond
            (settings.region, settings.prefix) = (texts[1], texts[3])
            (settings.storageClass, settings.encryption, settings.encryptionKey) = (
                texts[4], texts[5], texts[6]
            )
        } catch {
            throw StoreError(.unsupportedFormat, "A mirror in the catalog can't be read: \(error).")
        }
    }
}

extension MirrorSettings {
    /// - Throws: `.invalidArgument` with what is wrong.
    package func check() throws(StoreError) {
        func refuse(_ what: String) -> StoreError { StoreError(.invalidArgument, what) }
        guard (1...255).contains(bucket.utf8.count), bucket.utf8.allSatisfy({ (0x21...0x7E).contains($0) }),
            !bucket.contains("/")
        else { throw refuse("\(quoted(bucket)) is no name of a bucket.") }
        guard prefix.utf8.count <= 512,
            prefix.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F })
        else { throw refuse("The prefix has at most 512 bytes and no control character.") }
        guard Self.partSizes.contains(partSize), partSize % 1024 == 0 else {
            throw refuse("The part size is 5 to 64 MiB.")
        }
        guard Self.concurrencies.contains(concurrency) else { throw refuse("The concurrency is 1 to 64.") }
        for text in [region, storageClass, encryption, encryptionKey] {
            guard text.utf8.count <= 2048, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
                throw refuse("\(quoted(text)) holds a character that can't be in a header.")
            }
        }
        guard encryptionKey.isEmpty || encryption.hasPrefix("aws:kms") else {
            throw refuse("The name of a key goes with --encryption aws:kms.")
        }
        try endpoint.check(allowsLinkLocal: allowsLinkLocal)
    }
}
