package import Catalog
package import StoreModel

/// A version, its chunks and their copies.
package struct ObjectStatistics: Sendable {
    package struct Chunk: Sendable {
        package let digest: Digest
        package let length: UInt32
        package let replicas: [ReplicaState]
    }

    package let version: VersionRow
    /// All of them; `chunks` holds the first ones.
    package let chunkCount: UInt64
    /// Different chunks and their bytes: less than the version's where it repeats itself. nil when there are too
    /// many to be counted in memory.
    package let uniqueBytes: UInt64?
    package let chunks: [Chunk]
    /// Copies that are not present, over all chunks.
    package let badReplicaCount: UInt64
}

extension ObjectStore {
    /// Looks at a version's chunks and their copies.
    /// - Parameters:
    ///   - chunkLimit: how many chunks are listed one by one.
    ///   - check: how closely the copies are looked at; `.presence` asks the index of each volume and reads no disk.
    package func stat(
        _ address: VersionAddress,
        chunkLimit: Int = 1000,
        check: ReplicaCheck = .presence
    ) async throws -> ObjectStatistics {
        let version = try await readableVersion(address)
        return try await stat(version, in: address.bucket, chunkLimit, check, storage)
    }

    private func stat<Storage: ReplicatedStorage>(
        _ version: VersionRow,
        in bucket: BucketName,
        _ chunkLimit: Int,
        _ check: ReplicaCheck,
        _ storage: Storage
    ) async throws -> ObjectStatistics {
        var listed: [ObjectStatistics.Chunk] = []
        var (count, badCount, uniqueBytes): (UInt64, UInt64, UInt64) = (0, 0, 0)
        let history = try await verificationHistory()
        var seen = SeenDigests(countMax: SeenDigests.countMaxStandard)
        var batch: [ChunkReference] = []
        // A list of its parts that stands outside the row belongs to the version like its bytes.
        for payload in version.payloads {
            var cursor = ManifestCursor(
                payload.manifest,
                size: payload.size,
                range: ByteRange(wholeOf: payload.size),
                storage: storage
            )
            while true {
                let slice = try await cursor.next()
                if let slice { batch.append(slice.chunk) }
                guard batch.count == 256 || slice == nil else { continue }
                let states = try await storage.replicaStates(of: batch.map(\.digest), check: check)
                for (chunk, replicas) in zip(batch, states) {
                    count += 1
                    badCount += UInt64(replicas.count { $0.condition != .present })
                    if seen.insert(chunk.digest) { uniqueBytes += UInt64(chunk.length) }
                    guard listed.count < chunkLimit else { continue }
                    let refined = replicas.map { history.refined($0, of: chunk.digest, version, in: bucket) }
                    listed.append(.init(digest: chunk.digest, length: chunk.length, replicas: refined))
                }
                batch.removeAll(keepingCapacity: true)
                if slice == nil { break }
            }
        }
        return ObjectStatistics(
            version: version,
            chunkCount: count,
            uniqueBytes: seen.wasEmptied ? nil : uniqueBytes,
            chunks: listed,
            badReplicaCount: badCount
        )
    }
}
