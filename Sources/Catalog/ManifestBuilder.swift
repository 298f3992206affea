internal import ContentHashing
package import StoreModel

/// Makes the manifest of an object while its chunks come in, in order.
///
/// Keeps one unfinished node for each level, so its memory doesn't grow with the object. A finished node is handed
/// out to be stored, and an entry for it goes to the level above. The same chunks always give the same tree.
package struct ManifestBuilder: Sendable {
    package struct Limits: Hashable, Sendable {
        package let inlineEntryCountMax: Int
        package let nodeEntryCountMax: Int

        package static let standard = Limits(
            inlineEntryCountMax: StoreModel.Limits.inlineManifestEntryCountMax,
            nodeEntryCountMax: StoreModel.Limits.manifestNodeEntryCountMax
        )

        package init(inlineEntryCountMax: Int, nodeEntryCountMax: Int) {
            precondition(nodeEntryCountMax >= 2, "A tree whose nodes have one entry never ends.")
            precondition(inlineEntryCountMax <= nodeEntryCountMax, "An inline manifest fits one node.")
            precondition(nodeEntryCountMax <= ManifestNode.entryCountMax, "A node's count fits its format.")
            self.inlineEntryCountMax = inlineEntryCountMax
            self.nodeEntryCountMax = nodeEntryCountMax
        }
    }

    /// A node to be stored.
    package struct Finished: Sendable {
        package let digest: Digest
        package let bytes: [UInt8]
    }

    private let limits: Limits
    /// Entries of the unfinished node of each level, from the chunks up.
    private var levels: [[ManifestNode.Entry]] = [[]]
    private var chunkCount: UInt64 = 0
    /// Bytes of all chunks so far.
    package private(set) var contentLength: UInt64 = 0

    package init(_ limits: Limits = .standard) { self.limits = limits }

    /// Takes in the next chunk.
    /// - Returns: the nodes that are finished by it, from the bottom up; mostly none.
    package mutating func append(_ chunk: ChunkReference) -> [Finished] {
        chunkCount += 1
        contentLength += UInt64(chunk.length)
        var finished: [Finished] = []
        append(ManifestNode.Entry(chunk), at: 0, &finished)
        return finished
    }

    /// Ends the manifest.
    /// - Returns: what stands in the version's row, and the last nodes to be stored.
    package mutating func finish() -> (reference: ManifestReference, nodes: [Finished]) {
        guard chunkCount > UInt64(limits.inlineEntryCountMax) else {
            let chunks = levels[0].map { ChunkReference(digest: $0.digest, length: $0.payloadLength) }
            return (.inline(chunks), [])
        }
        var finished: [Finished] = []
        var level = 0
        while true {
            let isTop = level == levels.count - 1
            if isTop, level > 0, levels[level].count == 1 {
                let root = levels[level][0]
                let reference = ManifestReference.tree(
                    root: root.digest,
                    depth: UInt8(level - 1),
                    nodeLength: root.payloadLength,
                    chunkCount: chunkCount
                )
                return (reference, finished)
            }
            if !levels[level].isEmpty { finishNode(at: level, &finished) }
            level += 1
        }
    }

    private mutating func append(_ entry: ManifestNode.Entry, at level: Int, _ finished: inout [Finished]) {
        // A full node is finished only when another entry follows: a tree never gets a level for nothing.
        if levels[level].count == limits.nodeEntryCountMax { finishNode(at: level, &finished) }
        levels[level].append(entry)
    }

    private mutating func finishNode(at level: Int, _ finished: inout [Finished]) {
        let node = ManifestNode(height: UInt8(level), entries: levels[level])
        levels[level].removeAll(keepingCapacity: true)
        let bytes = node.encoded()
        let digest = SHA256Hasher.hash(bytes)
        finished.append(Finished(digest: digest, bytes: bytes))
        if level + 1 == levels.count { levels.append([]) }
        let entry = ManifestNode.Entry(
            digest: digest,
            payloadLength: UInt32(bytes.count),
            contentLength: node.contentLength
        )
        append(entry, at: level + 1, &finished)
    }
}
