package import Catalog
package import StoreModel

/// A task that was given up, with the reason. It stands in the catalog until somebody has it tried again, or the mirror
/// is removed.
///
/// Body: the task, then 1 flag (1: later tasks of its key wait for it), attempts (4), when (8), reason (text).
package struct DeadLetter: Hashable, Sendable {
    package let task: MirrorTask
    /// Where a backend keeps versions nothing may overtake what it may yet take; what it never can is left out.
    package let holdsKey: Bool
    package let attemptCount: UInt32
    package let time: Timestamp
    package let reason: String

    package init(
        task: MirrorTask,
        holdsKey: Bool,
        attemptCount: UInt32,
        time: Timestamp,
        reason: String
    ) {
        self.task = task
        self.holdsKey = holdsKey
        self.attemptCount = attemptCount
        self.time = time
        self.reason = String(reason.prefix(1000))
    }

    var body: [UInt8] {
        var writer = ByteWriter(capacity: 256)
        writer.write(UInt8(holdsKey ? 1 : 0))
        writer.write(attemptCount)
        writer.write(time.milliseconds)
        writer.write(text: reason)
        return task.body + writer.bytes
    }

    package init(_ document: DocumentRow) throws(CatalogError) {
        guard let id = MirrorKey.id(of: document.key, under: MirrorKey.deadPrefix),
            let sequence = MirrorKey.sequence(of: document.key)
        else { throw CatalogError(.damaged, "The key of a task that was given up is wrong.") }
        var (flag, count, milliseconds, text) = (UInt8(0), UInt32(0), Int64(0), "")
        task = try MirrorTask(mirror: id, sequence: sequence, body: document.body) {
            reader throws(ByteReader.Failure) in
            flag = try reader.read(UInt8.self)
            count = try reader.read(UInt32.self)
            milliseconds = try reader.read(Int64.self)
            text = try reader.readText()
        }
        holdsKey = flag == 1
        attemptCount = count
        time = Timestamp(milliseconds: milliseconds)
        reason = text
    }
}
