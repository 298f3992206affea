/// A small file that keeps room for the identity, and for the footer of a segment: a disk that others have filled to the last
/// block must still let a writer promise, and so open the store, delete and collect garbage.
///
/// `reserve`, 512 KiB of zeros: more than the footer of the largest bulk segment. It is let go of when the identity or such a
/// footer finds no room, and made again behind it.
enum IdentityReserve {
    static let name = "reserve"
    private static let byteCount = 512 << 10

    /// Makes it where it is not. Best effort: what comes of it is used when it is there.
    static func ensure(on disk: any Disk) {
        if let file = try? disk.open(name, .read) {
            defer { file.close() }
            if let size = try? file.size(), size >= UInt64(byteCount) { return }
        }
        if (try? disk.exists(name)) == true { try? disk.remove(name) }
        guard let file = try? disk.open(name, .create) else { return }
        defer { file.close() }
        guard (try? file.write([UInt8](repeating: 0, count: byteCount), at: 0)) != nil else { return }
        try? file.sync()
    }

    /// - Returns: whether there was something to let go of.
    static func release(on disk: any Disk) -> Bool { (try? disk.remove(name)) != nil }
}
