package import Catalog
internal import GRDB

extension SQLiteCatalog {
    /// One read transaction over the whole export: appliers go on, and the write-ahead log grows until it
    /// ends.
    package func exportSnapshot(to sink: (_ block: [UInt8]) throws -> Void) throws -> SnapshotSummary {
        try withoutActuallyEscaping(sink) { sink in
            try pool.read { database in
                let state = try StateRow.read(database)
                var writer = try SnapshotWriter(
                    state: state,
                    bucketCount: try UInt64.fetchOne(database, sql: "SELECT count(*) FROM buckets") ?? 0,
                    versionCount: try UInt64.fetchOne(database, sql: "SELECT count(*) FROM versions") ?? 0,
                    documentCount: try UInt64.fetchOne(database, sql: "SELECT count(*) FROM documents") ?? 0,
                    sink: sink
                )
                for sql in [
                    "SELECT bytes, checksum FROM buckets ORDER BY number",
                    "SELECT bytes, checksum FROM versions ORDER BY sequence",
                    "SELECT bytes, checksum FROM documents ORDER BY space, key",
                ] {
                    let query = try Query(database, sql)
                    defer { query.reset() }
                    while try query.step() { try writer.add(row: try RowTables.bytes(query)) }
                }
                return try writer.finish()
            }
        }
    }

    /// One transaction a block, so that the write-ahead log stays small; until the last one the state row
    /// says that an import is under way, and a file that is found so is built again.
    package func importSnapshot(from next: () throws -> [UInt8]?) throws -> SnapshotSummary {
        guard applied == .empty else {
            throw CatalogError(.misuse, "A snapshot is loaded into an empty index only.")
        }
        var reader = SnapshotReader()
        do {
            while let block = try next() {
                switch try reader.read(block) {
                case .head:
                    try write { database, state in
                        guard try UInt64.fetchOne(database, sql: "SELECT count(*) FROM versions") == 0 else {
                            throw CatalogError(.misuse, "A snapshot is loaded into an empty index only.")
                        }
                        try StateRow.write(state, isImporting: true, database)
                        return state
                    }
                case .rows(let rows):
                    try write { database, state in
                        var applier = BatchApplier(database, state: state)
                        for row in rows { try applier.load(row) }
                        try applier.finish(isImporting: true)
                        return applier.state
                    }
                case .end(let summary):
                    try write { database, state in
                        guard state.stateHash == summary.state.stateHash else {
                            throw CatalogError(
                                .stateMismatch,
                                "The loaded rows aren't those of the snapshot."
                            )
                        }
                        try StateRow.write(summary.state, isImporting: false, database)
                        return summary.state
                    }
                    generations.advance(DocumentSpace.allCases)
                    return summary
                }
            }
            throw CatalogError(.damaged, "The snapshot ends before its end.")
        } catch {
            // The half that was loaded is of no use. If even that fails, the mark in the state row stays.
            try? reset()
            throw error
        }
    }
}
