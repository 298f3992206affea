internal import BlobVolume
internal import StoreModel

/// Small files that appear whole or not at all.
enum DurableFile {
    /// Replaces a file: temporary name, fsync, rename, fsync of the directory.
    static func replace(_ name: String, on disk: any Disk, with bytes: [UInt8]) throws(DiskError) {
        let temporary = name + ".new"
        if try disk.exists(temporary) { try disk.remove(temporary) }
        let file = try disk.open(temporary, .create)
        defer { file.close() }
        let written: Result<Void, DiskError> = bytes.withUnsafeBytes { buffer in
            do throws(DiskError) {
                try file.write([buffer], at: 0)
                return .success(())
            } catch {
                return .failure(error)
            }
        }
        try written.get()
        try file.sync()
        try disk.rename(temporary, to: name)
        try disk.syncDirectory("")
    }

    /// Reads a file of at most `byteCountMax` bytes; of a longer one, one byte more than that.
    static func read(_ name: String, on disk: any Disk, byteCountMax: Int = 1 << 20) throws(DiskError)
        -> [UInt8]
    {
        let file = try disk.open(name, .read)
        defer { file.close() }
        let size = min(Int(clamping: try file.size()), byteCountMax + 1)
        var bytes = [UInt8](repeating: 0, count: size)
        let result: Result<Int, DiskError> = bytes.withUnsafeMutableBytes { buffer in
            do throws(DiskError) {
                return .success(try file.read(into: buffer, at: 0))
            } catch {
                return .failure(error)
            }
        }
        bytes.removeSubrange(try result.get()...)
        return bytes
    }
}
