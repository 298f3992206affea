/// A tar archive of small text files in memory, in the ustar form.
/// https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06
struct TarArchive {
    private static let blockSize = 512
    private(set) var bytes: [UInt8] = []
    /// Seconds since 1970, of every file.
    private let modified: Int64

    init(modified: Int64) { self.modified = max(0, modified) }

    /// - Parameter name: up to 100 bytes of ASCII, without a leading slash.
    mutating func add(_ name: String, _ content: [UInt8]) {
        precondition(name.utf8.count <= 100 && !name.hasPrefix("/"), "The doctor names its files itself.")
        var header = [UInt8](repeating: 0, count: Self.blockSize)
        func put(_ text: String, at offset: Int) {
            header.replaceSubrange(offset..<offset + text.utf8.count, with: text.utf8)
        }
        put(name, at: 0)
        put(Self.octal(0o600, digits: 7), at: 100)
        put(Self.octal(0, digits: 7), at: 108)
        put(Self.octal(0, digits: 7), at: 116)
        put(Self.octal(Int64(content.count), digits: 11), at: 124)
        put(Self.octal(modified, digits: 11), at: 136)
        put("0", at: 156)
        put("ustar", at: 257)
        put("00", at: 263)
        // The sum is taken with blanks in its own place.
        put("        ", at: 148)
        put(Self.octal(header.reduce(0) { $0 + Int64($1) }, digits: 6) + "\0", at: 148)
        bytes += header
        bytes += content
        let rest = content.count % Self.blockSize
        if rest > 0 { bytes += [UInt8](repeating: 0, count: Self.blockSize - rest) }
    }

    /// The archive with its end.
    func finished() -> [UInt8] { bytes + [UInt8](repeating: 0, count: 2 * Self.blockSize) }

    private static func octal(_ value: Int64, digits: Int) -> String {
        let text = String(value, radix: 8)
        return String(repeating: "0", count: max(0, digits - text.count)) + text
    }
}
