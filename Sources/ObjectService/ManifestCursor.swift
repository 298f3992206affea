package import Catalog
package import StoreModel

/// A stretch of one chunk: what a read of an object asks for at a time.
package struct ChunkSlice: Hashable, Sendable {
    package let chunk: ChunkReference
    package let range: Range<Int>
}

/// Walks the chunks of an object in order, from any byte on.
///
/// Holds one node for each level of the tree: a range is found by descent, and the next chunk by the next entry.
/// The tree is checked against the row and each node against its parent, so a wrong tree gives an error, never
/// other bytes.
package struct ManifestCursor<Storage: ReplicatedStorage> {
    private struct Position {
        let node: ManifestNode
        var index: Int
    }

    private let storage: Storage
    private let manifest: ManifestReference
    private let size: UInt64
    private let end: UInt64
    /// Where the next slice starts.
    private var offset: UInt64
    /// From the root down to the node that lists chunks; empty before the first read.
    private var path: [Position] = []
    /// Nodes that were asked for since `takeVisitedNodes`, when anyone wants to know.
    private var visited: [ManifestNode.Entry] = []
    private let notesVisits: Bool

    package init(
        _ manifest: ManifestReference,
        size: UInt64,
        range: ByteRange,
        storage: Storage,
        notesVisits: Bool = false
    ) {
        precondition(range.end <= size, "A range was resolved against the size of the object.")
        self.storage = storage
        self.manifest = manifest
        self.notesVisits = notesVisits
        self.size = size
        offset = range.offset
        end = range.end
    }

    package var isAtEnd: Bool { offset == end }

    /// The nodes that were asked for since the last call, those that could not be read included.
    package mutating func takeVisitedNodes() -> [ManifestNode.Entry] {
        defer { visited.removeAll(keepingCapacity: true) }
        return visited
    }

    /// - Returns: nil at the end of the range.
    package mutating func next() async throws -> ChunkSlice? {
        guard offset < end else { return nil }
        var skip = 0
        if path.isEmpty {
            skip = try await descend(to: offset)
        } else {
            try await advance()
        }
        guard let position = path.last else { throw damaged("it has no chunks") }
        let entry = position.node.entries[position.index]
        let length = min(UInt64(entry.payloadLength) - UInt64(skip), end - offset)
        offset += length
        return ChunkSlice(
            chunk: ChunkReference(digest: entry.digest, length: entry.payloadLength),
            range: skip..<skip + Int(length)
        )
    }

    /// The bytes of the whole range, for a short one.
    mutating func bytes() async throws -> [UInt8] {
        var bytes: [UInt8] = []
        while let slice = try await next() {
            bytes += try await storage.read(
                slice.chunk.digest,
                length: Int(slice.chunk.length),
                range: slice.range
            )
        }
        return bytes
    }

    /// Finds the chunk at an offset of the object.
    /// - Returns: the offset within the chunk.
    private mutating func descend(to offset: UInt64) async throws -> Int {
        var node = try await root()
        var rest = offset
        while true {
            var index = 0
            while index < node.entries.count, rest >= node.entries[index].contentLength {
                rest -= node.entries[index].contentLength
                index += 1
            }
            guard index < node.entries.count else { throw damaged("byte \(offset) is in none of its chunks") }
            path.append(Position(node: node, index: index))
            if node.height == 0 { return Int(rest) }
            node = try await load(node.entries[index], height: node.height - 1)
        }
    }

    /// Goes to the next chunk: up to the first node that has another entry, and down its first entries.
    private mutating func advance() async throws {
        while let last = path.last, last.index + 1 == last.node.entries.count { path.removeLast() }
        guard !path.isEmpty else { throw damaged("its chunks end at byte \(offset) of \(size)") }
        path[path.count - 1].index += 1
        while let last = path.last, last.node.height > 0 {
            let node = try await load(last.node.entries[last.index], height: last.node.height - 1)
            path.append(Position(node: node, index: 0))
        }
    }

    private mutating func root() async throws -> ManifestNode {
        switch manifest {
        case .inline(let chunks):
            guard !chunks.isEmpty, chunks.count <= ManifestNode.entryCountMax,
                chunks.allSatisfy({ $0.length > 0 })
            else { throw damaged("its row lists \(chunks.count) chunks") }
            let node = ManifestNode(height: 0, entries: chunks.map { ManifestNode.Entry($0) })
            guard node.contentLength == size else {
                throw damaged("its chunks have \(node.contentLength) bytes")
            }
            return node
        case .tree(let root, let depth, let nodeLength, _):
            guard depth <= ManifestNode.heightMax else {
                throw damaged("its row names a tree of depth \(depth)")
            }
            return try await load(
                ManifestNode.Entry(digest: root, payloadLength: nodeLength, contentLength: size),
                height: depth
            )
        }
    }

    private mutating func load(_ entry: ManifestNode.Entry, height: UInt8) async throws -> ManifestNode {
        if notesVisits { visited.append(entry) }
        let length = Int(entry.payloadLength)
        let bytes = try await storage.read(entry.digest, length: length, range: 0..<length)
        let node = try ManifestNode(decoding: bytes)
        guard node.height == height, node.contentLength == entry.contentLength else {
            throw damaged(
                "node \(entry.digest) has height \(node.height) and \(node.contentLength) bytes, "
                    + "not \(height) and \(entry.contentLength)"
            )
        }
        return node
    }

    private func damaged(_ what: String) -> StoreError {
        StoreError(.storeDamaged, "The manifest of an object of \(size) bytes is wrong: \(what).")
    }
}
