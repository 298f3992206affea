internal import Foundation
package import StoreModel

// `store.json` at the top of a store directory: which volumes a store has and how many copies it keeps. Every volume has
// a copy of it (StoreCopy.swift), from which `holdfast init --recover` makes a lost one again.
//
//   {"format": {"major": 1, "minor": 0}, "storeID": UUID, "replicas": N, "writeQuorum": W, "createdAt": ms since 1970,
//    "generation": one more at each change; absent, and ignored by programs that don't know it: 0,
//    "volumes": [{"id": UUID, "path": path, relative to the store directory or absolute, "weight": 1,
//                 "failureDomain": text, "placementID": UUID, the name that chunks are placed under; absent: id}],
//    "reserves": {"hardBytes": N, "softBytes": N}, the watermarks of the server's configuration; absent: the standard}

/// The parsed `store.json`.
package struct StoreConfiguration: Sendable {
    package struct Volume: Sendable {
        package var id: VolumeID
        /// Relative to the store directory, or absolute.
        package var path: String
        package var weight: Double
        package var failureDomain: String
        /// The name under which chunks are placed; nil: the id. A replacement inherits it.
        package var placementID: VolumeID?

        package init(
            id: VolumeID,
            path: String,
            weight: Double,
            failureDomain: String,
            placementID: VolumeID? = nil
        ) {
            self.id = id
            self.path = path
            self.weight = weight
            self.failureDomain = failureDomain
            self.placementID = placementID
        }
    }

    /// Free space of each volume that is left to deletes and garbage collection, and below which no upload begins: as a
    /// server was told, for everybody who opens the store.
    package struct Reserves: Hashable, Sendable {
        package let hardBytes: UInt64
        package let softBytes: UInt64

        package init(hardBytes: UInt64, softBytes: UInt64) {
            self.hardBytes = hardBytes
            self.softBytes = softBytes
        }
    }

    package static let fileName = "store.json"
    static let formatMajor = 1
    static let byteCountMax = 1 << 20

    package var storeID: StoreID
    package var quorum: QuorumConfiguration
    package var createdAt: Timestamp
    package var volumes: [Volume]
    /// nil: the standard.
    package var reserves: Reserves?
    /// One more at each change; 0: written by a program that did not count.
    package var generation: UInt64 = 0

    private struct File: Codable {
        struct Format: Codable {
            var major: Int
            var minor: Int
        }
        struct VolumeEntry: Codable {
            var id: String
            var path: String
            var weight: Double
            var failureDomain: String
            var placementID: String?
        }
        var format: Format
        var storeID: String
        var replicas: Int
        var writeQuorum: Int
        var createdAt: Int64
        struct Reserves: Codable {
            var hardBytes: UInt64
            var softBytes: UInt64
        }
        var generation: UInt64?
        var volumes: [VolumeEntry]
        var reserves: Reserves?
    }

    private struct FormatOnly: Decodable {
        var format: File.Format
    }

    package init(storeID: StoreID, quorum: QuorumConfiguration, createdAt: Timestamp, volumes: [Volume]) {
        self.storeID = storeID
        self.quorum = quorum
        self.createdAt = createdAt
        self.volumes = volumes
    }

    /// Parses the file's bytes.
    /// - Throws: `StoreError` with `.unsupportedFormat` for another major format, `.storeDamaged` for anything that is
    ///   not such a file.
    init(json: [UInt8], path: String) throws(StoreError) {
        guard json.count <= Self.byteCountMax else {
            throw StoreError(
                .storeDamaged,
                "\(path) has \(json.count) bytes; that is no store configuration."
            )
        }
        let file: File
        do {
            let format = try JSONDecoder().decode(FormatOnly.self, from: Data(json)).format
            guard format.major == Self.formatMajor else {
                throw StoreError(
                    .unsupportedFormat,
                    "\(path) has format \(format.major).\(format.minor); this program reads \(Self.formatMajor).x.",
                    advice: "Use the version of the program that wrote it, or a newer one."
                )
            }
            file = try JSONDecoder().decode(File.self, from: Data(json))
        } catch let error as StoreError {
            throw error
        } catch {
            throw StoreError(.storeDamaged, "\(path) can't be read as a store configuration.", cause: error)
        }
        guard let storeID = StoreID(file.storeID) else {
            throw StoreError(.storeDamaged, "\(path): storeID is not a UUID.")
        }
        var volumes: [Volume] = []
        for entry in file.volumes {
            guard let id = VolumeID(entry.id), !entry.path.isEmpty, entry.weight > 0, entry.weight.isFinite
            else {
                throw StoreError(
                    .storeDamaged,
                    "\(path): the entry of volume \(quoted(entry.path)) is not valid."
                )
            }
            let placementID = entry.placementID.flatMap { VolumeID($0) }
            guard (placementID == nil) == (entry.placementID == nil) else {
                throw StoreError(
                    .storeDamaged,
                    "\(path): the placementID of volume \(quoted(entry.path)) is not a UUID."
                )
            }
            volumes.append(
                Volume(
                    id: id,
                    path: entry.path,
                    weight: entry.weight,
                    failureDomain: entry.failureDomain,
                    placementID: placementID
                )
            )
        }
        self.init(
            storeID: storeID,
            quorum: try QuorumConfiguration(replicaCount: file.replicas, writeQuorum: file.writeQuorum),
            createdAt: Timestamp(milliseconds: file.createdAt),
            volumes: volumes
        )
        if let entry = file.reserves {
            guard entry.hardBytes <= entry.softBytes else {
                throw StoreError(.storeDamaged, "\(path): the soft reserve is smaller than the hard one.")
            }
            reserves = Reserves(hardBytes: entry.hardBytes, softBytes: entry.softBytes)
        }
        generation = file.generation ?? 0
        guard volumes.count >= quorum.replicaCount else {
            throw StoreError(
                .storeDamaged,
                "\(path) names \(volumes.count) volumes for \(file.replicas) replicas."
            )
        }
    }

    func json() throws(StoreError) -> [UInt8] {
        let file = File(
            format: File.Format(major: Self.formatMajor, minor: 0),
            storeID: storeID.description,
            replicas: quorum.replicaCount,
            writeQuorum: quorum.writeQuorum,
            createdAt: createdAt.milliseconds,
            generation: generation == 0 ? nil : generation,
            volumes: volumes.map {
                File.VolumeEntry(
                    id: $0.id.description,
                    path: $0.path,
                    weight: $0.weight,
                    failureDomain: $0.failureDomain,
                    placementID: $0.placementID?.description
                )
            },
            reserves: reserves.map { File.Reserves(hardBytes: $0.hardBytes, softBytes: $0.softBytes) }
        )
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        do {
            return [UInt8](try encoder.encode(file)) + [UInt8(ascii: "\n")]
        } catch {
            throw StoreError(.internalFault, "The store configuration could not be encoded.", cause: error)
        }
    }
}
