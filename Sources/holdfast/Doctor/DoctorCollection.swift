internal import AdminGateway
internal import CPosix
internal import Foundation
internal import HoldfastNode
internal import S3Protocol
internal import StoreModel

/// Looks at a machine and a store's directory, without changing anything. Every look at a disk has a deadline.
enum DoctorCollection {
    private static let deadline = Duration.seconds(10)
    /// Files of one directory that are listed.
    private static let entryCountMax = 10_000

    // MARK: The machine

    static func host() -> HostFacts {
        var name = utsname()
        let system =
            uname(&name) == 0
            ? "\(text(of: name.sysname)) \(text(of: name.release)) \(text(of: name.machine))" : "unknown"
        var limit = rlimit()
        let hasLimit = getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0
        let memory = pairs("/proc/meminfo", separator: ":")
        return HostFacts(
            system: system,
            distribution: pairs("/etc/os-release", separator: "=")["PRETTY_NAME"]?
                .trimmingCharacters(in: CharacterSet(charactersIn: "\"")) ?? "unknown",
            processors: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))),
            memoryBytes: kibibytes(memory["MemTotal"]),
            availableMemoryBytes: kibibytes(memory["MemAvailable"]),
            openFilesMax: hasLimit ? UInt64(limit.rlim_max) : 0,
            isClockSynchronised: clockState()
        )
    }

    private static func clockState() -> Bool? {
        let answer = holdfast_clock_is_synchronised()
        return answer < 0 ? nil : answer == 1
    }

    private static func text<Tuple>(of tuple: Tuple) -> String {
        withUnsafeBytes(of: tuple) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    private static func pairs(_ path: String, separator: Character) -> [String: String] {
        guard let data = FileManager.default.contents(atPath: path) else { return [:] }
        var result: [String: String] = [:]
        for line in String(decoding: data.prefix(64 << 10), as: UTF8.self).split(separator: "\n") {
            guard let index = line.firstIndex(of: separator) else { continue }
            let value = line[line.index(after: index)...].trimmingCharacters(in: .whitespaces)
            result[String(line[..<index])] = value
        }
        return result
    }

    private static func kibibytes(_ text: String?) -> UInt64 {
        let number = text.flatMap { UInt64($0.split(separator: " ").first ?? "") } ?? 0
        return number.multipliedReportingOverflow(by: 1024).partialValue
    }

    // MARK: Directories

    static func directory(_ path: String) -> DoctorFacts.Directory? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        return DoctorFacts.Directory(mode: UInt32(status.st_mode) & 0o7777, owner: status.st_uid)
    }

    static func masterKey(_ storePath: String) -> DoctorFacts.MasterKey {
        var status = stat()
        guard stat("\(storePath)/\(MasterKeyFile.fileName)", &status) == 0 else {
            return DoctorFacts.MasterKey(isThere: false)
        }
        return DoctorFacts.MasterKey(isThere: true, mode: UInt32(status.st_mode) & 0o7777)
    }

    static func volume(_ path: String) async -> VolumeFacts {
        let found = await StoreDirectory.bounded(deadline, "hf-doctor") { lookAt(path) }
        return found ?? VolumeFacts(path: path, problem: "no answer within \(deadline)")
    }

    private static func lookAt(_ path: String) -> VolumeFacts {
        var facts = VolumeFacts(path: path)
        var status = stat()
        var space = statvfs()
        guard stat(path, &status) == 0, statvfs(path, &space) == 0 else {
            facts.problem = String(cString: strerror(errno))
            return facts
        }
        facts.owner = status.st_uid
        facts.device = UInt64(status.st_dev)
        facts.isReadOnly = Int32(truncatingIfNeeded: space.f_flag) & Int32(ST_RDONLY) != 0
        facts.freeBytes =
            UInt64(space.f_bavail).multipliedReportingOverflow(by: UInt64(space.f_frsize)).partialValue
        facts.totalBytes =
            UInt64(space.f_blocks).multipliedReportingOverflow(by: UInt64(space.f_frsize)).partialValue
        facts.freeFiles = UInt64(space.f_favail)
        facts.totalFiles = UInt64(space.f_files)
        (facts.mountPoint, facts.fileSystem) = mount(of: path)
        facts.hasIdentity = FileManager.default.fileExists(atPath: "\(path)/volume.json")
        facts.segments = entries("\(path)/segments")
        facts.quarantined = entries("\(path)/quarantine")
        return facts
    }

    private static func entries(_ path: String) -> [VolumeFacts.FileEntry] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        return names.sorted().prefix(entryCountMax).map { name in
            var status = stat()
            let size = lstat("\(path)/\(name)", &status) == 0 ? UInt64(clamping: status.st_size) : 0
            return VolumeFacts.FileEntry(name: HumanFormat.visible(name), byteCount: size)
        }
    }

    /// The mount that a path is on: the longest mount point that it begins with.
    /// https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    private static func mount(of path: String) -> (point: String, type: String) {
        guard let real = realpath(path, nil) else { return ("", "") }
        defer { free(real) }
        guard let data = FileManager.default.contents(atPath: "/proc/self/mountinfo") else { return ("", "") }
        return MountTable.find(String(cString: real), in: String(decoding: data, as: UTF8.self))
    }
}

/// `/proc/self/mountinfo`.
enum MountTable {
    static func find(_ path: String, in table: String) -> (point: String, type: String) {
        var best = (point: "", type: "")
        for line in table.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count > 5, let separator = fields.firstIndex(of: "-"),
                separator + 1 < fields.endIndex
            else { continue }
            let point = unescaped(fields[4])
            let isAbove = point == "/" || path == point || path.hasPrefix(point + "/")
            // A later mount on the same point hides the earlier one.
            guard isAbove, point.utf8.count >= best.point.utf8.count else { continue }
            best = (point, String(fields[separator + 1]))
        }
        return best
    }

    /// The kernel writes blanks and the like as `\040`.
    private static func unescaped(_ field: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = field.utf8[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3,
                let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                bytes.append(value)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
