import Catalog
import ContentHashing
import StoreModel
import Testing

@Suite struct CodecTests {
    /// Decodes every prefix and every single flipped bit of `bytes`.
    /// - Parameter decode: gives the value encoded again, or nil when it refuses.
    private func damage(_ bytes: [UInt8], _ decode: ([UInt8]) -> [UInt8]?) {
        for count in 0..<bytes.count {
            #expect(decode([UInt8](bytes[..<count])) == nil, "the first \(count) bytes pass for a whole")
        }
        #expect(decode(bytes + [0]) == nil)
        for index in bytes.indices {
            for bit in 0..<8 {
                var damaged = bytes
                damaged[index] ^= 1 << UInt8(bit)
                // A flip may give another value, but then that value's one encoding are these bytes.
                if let again = decode(damaged) { #expect(again == damaged, "byte \(index) bit \(bit)") }
            }
        }
    }

    @Test func versionRowsComeBackAndDamageNeverTraps() throws {
        for row in [
            try Samples.fullVersion(), try Samples.marker(), try Samples.treeVersion(),
            try Samples.attributedVersion(),
        ] {
            let bytes = RowCodec.encode(row)
            #expect(try RowCodec.decodeVersion(bytes) == row)
            damage(bytes) { try? RowCodec.encode(RowCodec.decodeVersion($0)) }
        }
    }

    @Test func documentRowsComeBackAndDamageNeverTraps() throws {
        for row in [Samples.document(), Samples.document(payload: false)] {
            let bytes = RowCodec.encode(row)
            #expect(try RowCodec.decodeDocument(bytes) == row)
            damage(bytes) { try? RowCodec.encode(RowCodec.decodeDocument($0)) }
        }
    }

    @Test func aRowWithoutAttributesKeepsTheFirstFormat() throws {
        #expect(RowCodec.encode(try Samples.fullVersion())[1] == 1)
        #expect(RowCodec.encode(try Samples.attributedVersion())[1] == 2)
        var row = try Samples.attributedVersion()
        for attribute in row.attributes.list { row.attributes[.init(rawValue: attribute.tag)] = nil }
        #expect(row == (try Samples.fullVersion()))
        #expect(RowCodec.encode(row) == RowCodec.encode(try Samples.fullVersion()))
    }

    @Test func attributesReadBackAsWhatTheyAre() throws {
        let attributes = try Samples.attributedVersion().attributes
        #expect(attributes.list.map(\.tag) == [1, 2, 3, 4, 5, 6, 7, 8])
        #expect(attributes.owner == "someone else")
        #expect(
            attributes.retention
                == ObjectRetention(mode: .compliance, until: Timestamp(milliseconds: 99))
        )
        #expect(attributes.legalHold == true)
        #expect(attributes.checksumType == .composite)
        #expect(attributes.ofContent.list.map(\.tag) == [5, 6, 7])
        #expect(try Samples.attributedVersion().payloads.count == 2)
        #expect(try Samples.marker().payloads.isEmpty)
        var damaged = VersionAttributes.none
        damaged[.retention] = [9, 9]
        damaged[.partList] = [7]
        #expect(damaged.retention == nil && damaged.partList == nil)
    }

    @Test func partListsComeBackAndDamageNeverTraps() throws {
        let digest = try #require([UInt8](repeating: 3, count: 16).withUnsafeBytes { MD5Digest(bytes: $0) })
        let parts = (1...40).map {
            ObjectPart(
                number: UInt16($0 * 7),
                size: UInt64($0) << 33,
                etag: digest,
                checksum: $0 % 2 == 0 ? "yZRlqg==" : nil
            )
        }
        let bytes = PartListCodec.encode(parts)
        #expect(try PartListCodec.decode(bytes) == parts)
        damage(bytes) { try? PartListCodec.encode(PartListCodec.decode($0)) }
    }

    @Test func bucketRowsComeBackAndDamageNeverTraps() throws {
        for owner in [nil, "", "someone"] {
            let row = try Samples.bucket(owner: owner)
            let bytes = RowCodec.encode(row)
            #expect(try RowCodec.decodeBucket(bytes) == row)
            damage(bytes) { try? RowCodec.encode(RowCodec.decodeBucket($0)) }
        }
    }

    @Test func entriesComeBackAndDamageNeverTraps() throws {
        let entries = try Samples.entries()
        let bytes = CatalogEntryCodec.encode(entries)
        #expect(try CatalogEntryCodec.decode(bytes) == entries)
        #expect(try CatalogEntryCodec.decode(CatalogEntryCodec.encode([])) == [])
        #expect(bytes.count == 5 + entries.reduce(0) { $0 + CatalogEntryCodec.encodedSize(of: $1) })
        damage(bytes) { try? CatalogEntryCodec.encode(CatalogEntryCodec.decode($0)) }
    }

    @Test func appliedStatesComeBackAndDamageNeverTraps() throws {
        for state in [Samples.state(), .empty] {
            let bytes = AppliedStateCodec.encode(state)
            #expect(try AppliedStateCodec.decode(bytes) == state)
            damage(bytes) { try? AppliedStateCodec.encode(AppliedStateCodec.decode($0)) }
        }
    }

    @Test func newerFormatsAreRefusedAsSuch() throws {
        var bytes = CatalogEntryCodec.encode(try Samples.entries())
        bytes[0] = 2
        #expect(throws: CatalogError.self) { try CatalogEntryCodec.decode(bytes) }
        do {
            _ = try CatalogEntryCodec.decode(bytes)
        } catch {
            #expect(error.code == .unsupportedFormat)
            #expect(!error.needsRebuild)
        }
    }

    @Test func announcedCountsAllocateNothing() {
        var writer = ByteWriter()
        writer.write(UInt8(1))
        writer.write(UInt32.max)
        #expect(throws: CatalogError.self) { try CatalogEntryCodec.decode(writer.bytes) }
    }

    /// The bytes are on disks and in hashes: another encoding of the same row is another format.
    @Test func theEncodingOfARowIsFrozen() throws {
        #expect(StateHash(of: try Samples.fullVersion()).description == Frozen.fullVersion)
        #expect(StateHash(of: try Samples.marker()).description == Frozen.marker)
        #expect(StateHash(of: try Samples.bucket()).description == Frozen.bucket)
        let attributed = StateHash(of: try Samples.attributedVersion()).description
        #expect(attributed == Frozen.attributedVersion)
        #expect(StateHash(of: Samples.document()).description == Frozen.document)
    }

    private enum Frozen {
        static let fullVersion = "c7466a6fad5070bcd17d5362e79a2a02"
        static let marker = "eb925f617f072030fc9e6b4a0e244625"
        static let bucket = "5e0b46bf9d2c4e3fa3f8ee7c61951de8"
        static let attributedVersion = "6400103d1955df73d51c7d1067ea9cce"
        static let document = "3ca9d68123b07289c1f74acc1119e23e"
    }

    @Test func theStateHashForgetsWhatIsRemoved() throws {
        let first = StateHash(of: try Samples.fullVersion())
        let second = StateHash(of: try Samples.marker())
        #expect(first + second == second + first)
        #expect(first + second - first == second)
        #expect(first - first == .zero)
        #expect(first != second)
    }
}
