import ContentHashing
import Foundation
import StoreModel
import StoreTestKit
import Testing

@testable import HoldfastNode

@Suite struct StoreCopyTests {
    private static func copy(generation: UInt64 = 7) throws -> StoreCopy {
        let random = SeededRandom(seed: 1)
        let volumes = (1...3).map { number in
            StoreConfiguration.Volume(
                id: VolumeID.random(from: random),
                path: number == 2 ? "/a path with\na line \"break\"" : "volumes/\(number)",
                weight: Double(number) / 3,
                failureDomain: "rack \(number)",
                placementID: number == 3 ? VolumeID.random(from: random) : nil
            )
        }
        var configuration = StoreConfiguration(
            storeID: StoreID.random(from: random),
            quorum: .standard,
            createdAt: Timestamp(milliseconds: 1),
            volumes: volumes
        )
        configuration.generation = generation
        return StoreCopy(storeDirectory: "/srv/a store\nü", configuration: configuration)
    }

    @Test func whatIsWrittenIsRead() throws {
        let bytes = try Self.copy().encoded()
        let read = try StoreCopy(decoding: bytes, path: "copy")
        #expect(read.storeDirectory == "/srv/a store\nü")
        #expect(read.configuration.generation == 7)
        #expect(
            read.configuration.volumes.map(\.placementID)
                == (try Self.copy().configuration.volumes.map(\.placementID))
        )
        #expect(try read.encoded() == bytes)
    }

    @Test func everyFlippedBitAndEveryCutIsNoticed() throws {
        let bytes = try Self.copy().encoded()
        for index in bytes.indices {
            var flipped = bytes
            flipped[index] ^= 1 << UInt8(index % 8)
            #expect { _ = try StoreCopy(decoding: flipped, path: "copy") } throws: {
                ($0 as? StoreError)?.code == .storeDamaged
            }
            #expect { _ = try StoreCopy(decoding: Array(bytes[..<index]), path: "copy") } throws: {
                ($0 as? StoreError)?.code == .storeDamaged
            }
        }
    }

    @Test func aConfigurationThatWasNeverCountedHasGenerationZero() throws {
        let bytes = try Self.copy(generation: 0).encoded()
        #expect(try StoreCopy(decoding: bytes, path: "copy").configuration.generation == 0)
        #expect(!String(decoding: bytes, as: UTF8.self).contains("generation"))
    }
}
