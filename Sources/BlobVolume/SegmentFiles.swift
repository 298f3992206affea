/// Open files for reading, at most so many: a volume may have more segments than a process may have descriptors.
struct SegmentFiles: Sendable {
    private static let countMax = 128

    private var files: [UInt32: any DiskFile] = [:]
    private var order: [UInt32] = []

    subscript(number: UInt32) -> (any DiskFile)? { files[number] }

    /// Keeps a file open. Readers that hold the one that makes room keep it open until they are done.
    mutating func insert(_ file: any DiskFile, _ number: UInt32) {
        if files.updateValue(file, forKey: number) == nil { order.append(number) }
        if order.count > Self.countMax { files[order.removeFirst()] = nil }
    }

    mutating func remove(_ number: UInt32) {
        guard files.removeValue(forKey: number) != nil else { return }
        order.removeAll { $0 == number }
    }

    mutating func removeAll() {
        files = [:]
        order = []
    }

    static func name(_ number: UInt32, _ kind: SegmentKind) -> String {
        let digits = String(number)
        return "segments/" + String(repeating: "0", count: max(0, 8 - digits.count)) + digits + "."
            + kind.fileExtension
    }

    /// No volume gets there: a number above it is somebody else's, or damage.
    static let numberMax: UInt32 = 1 << 31

    /// Parses the name of a file in `segments/`; nil for other files.
    static func parse(_ name: String) -> (number: UInt32, kind: SegmentKind)? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let number = UInt32(parts[0]), (1...numberMax).contains(number) else {
            return nil
        }
        for kind in [SegmentKind.log, .bulk] where parts[1] == kind.fileExtension {
            return self.name(number, kind) == "segments/" + name ? (number, kind) : nil
        }
        return nil
    }
}
