internal import Catalog
internal import StoreModel

/// Who works on a mirror: one worker at a time, wherever workers run.
///
/// 1. The holder's name stands in one document, the end of the lease in another: what the holder writes expects the
///    first to be its own, so one that lost its lease can change nothing any more, whatever its clock says.
/// 2. A lease that has run out may be taken; so may any by a worker that knows that it is alone (`isAlone`): the process
///    that holds the store's lock.
struct MirrorLease: Sendable {
    static let duration = Duration.seconds(30)
    private static let format: UInt8 = 1

    let id: MirrorID
    let holder: UniqueID
    let isAlone: Bool

    private var key: [UInt8] { MirrorKey.under(MirrorKey.leasePrefix, id) }
    private var timeKey: [UInt8] { MirrorKey.under(MirrorKey.leaseTimePrefix, id) }
    private var body: [UInt8] { [Self.format] + holder.bytes }

    /// To be written along with whatever the holder changes.
    var proof: DocumentWrite {
        DocumentWrite(
            space: .outbox,
            key: key,
            expectation: .equals(body),
            change: .keep,
            refusal: .cancelled
        )
    }

    /// Takes the lease, or makes it longer.
    /// - Returns: whether it is held now.
    func take(_ store: any MirrorStore, now: Timestamp) async throws -> Bool {
        let (key, timeKey) = (key, timeKey)
        let (old, time) = try await store.read { reader in
            (try reader.document(.outbox, key), try reader.document(.outbox, timeKey))
        }
        if let old, old.body != body, !isAlone {
            guard let time, Self.end(time) <= now.milliseconds else { return false }
        }
        var writer = ByteWriter(capacity: 9)
        writer.write(Self.format)
        writer.write(now.milliseconds + Self.duration.components.seconds * 1000)
        do {
            try await store.write([
                DocumentWrite(
                    space: .outbox,
                    key: key,
                    expectation: old.map { .equals($0.body) } ?? .absent,
                    body: body
                ),
                DocumentWrite(space: .outbox, key: timeKey, body: writer.bytes),
            ])
            return true
        } catch let error as StoreError where error.code == .conflict {
            return false
        }
    }

    private static func end(_ row: DocumentRow) -> Int64 {
        var reader = ByteReader(row.body)
        guard (try? reader.read(UInt8.self)) == format, let end = try? reader.read(Int64.self) else {
            return 0
        }
        return end
    }
}
