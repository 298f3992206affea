internal import Foundation
internal import StoreModel

/// What there is to upload below a directory. Links to files are read, links to directories are not followed,
/// devices, sockets and pipes are skipped.
struct UploadTree: Sendable {
    struct Entry: Sendable {
        /// Relative to the directory, components separated by slashes.
        let name: String
        let path: String
        let size: UInt64
    }

    private(set) var entries: [Entry] = []
    private(set) var skipped: [TransferReport.Item] = []
    private(set) var failed: [TransferReport.Item] = []

    /// Walks a directory, in the order of names.
    init(_ directory: String) throws {
        try scan(directory, prefix: "")
    }

    var byteCount: UInt64 { entries.reduce(0) { $0 + $1.size } }

    private mutating func scan(_ directory: String, prefix: String) throws {
        let names: [[UInt8]]
        do {
            names = try Self.names(in: directory)
        } catch let error as CommandError where !prefix.isEmpty {
            failed.append(
                .init(name: String(prefix.dropLast()), code: error.code.rawValue, reason: error.message)
            )
            return
        }
        for bytes in names {
            guard let component = String(validating: bytes, as: UTF8.self) else {
                failed.append(
                    .init(
                        name: prefix + String(decoding: bytes, as: UTF8.self),
                        code: "invalidKey",
                        reason: "its name \(quoted(bytes)) is not valid UTF-8, as keys must be"
                    )
                )
                continue
            }
            try classify(prefix + component, path: "\(directory)/\(component)")
        }
    }

    private mutating func classify(_ name: String, path: String) throws {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            let error = systemError(.fileUnreadable, path, errno)
            failed.append(.init(name: name, code: error.code.rawValue, reason: error.message))
            return
        }
        let isLink = status.st_mode & S_IFMT == S_IFLNK
        if isLink, stat(path, &status) != 0 {
            failed.append(.init(name: name, code: "fileNotFound", reason: "it is a link to nothing"))
            return
        }
        let facts = LocalFile.Facts(status)
        switch facts.kind {
        case .regular:
            if PartialDownload.isReserved(name.split(separator: "/").last.map(String.init) ?? name) {
                skipped.append(
                    .init(name: name, code: "unfinishedDownload", reason: "it is an unfinished download")
                )
            } else {
                entries.append(Entry(name: name, path: path, size: facts.size))
            }
        case .directory where isLink:
            skipped.append(
                .init(
                    name: name,
                    code: "linkToDirectory",
                    reason: "it is a link to a directory, and those are not followed"
                )
            )
        case .directory:
            try scan(path, prefix: name + "/")
        case .pipe, .other:
            skipped.append(
                .init(
                    name: name,
                    code: "specialFile",
                    reason: "it is a pipe, a socket or a device, not a file"
                )
            )
        }
    }

    private static func names(in directory: String) throws -> [[UInt8]] {
        guard let stream = opendir(directory) else { throw systemError(.fileUnreadable, directory, errno) }
        defer { closedir(stream) }
        var names: [[UInt8]] = []
        errno = 0
        while let entry = readdir(stream) {
            let bytes = withUnsafeBytes(of: &entry.pointee.d_name) { [UInt8]($0.prefix { $0 != 0 }) }
            if bytes != [UInt8(ascii: ".")] && bytes != [UInt8](repeating: UInt8(ascii: "."), count: 2) {
                names.append(bytes)
            }
            errno = 0
        }
        if errno != 0 { throw systemError(.fileUnreadable, directory, errno) }
        return names.sorted { $0.lexicographicallyPrecedes($1) }
    }
}

/// Runs `body` over all elements, at most `limit` at a time, and hands the results back in the order they
/// come.
func forEachConcurrently<Element: Sendable, Outcome: Sendable>(
    _ elements: [Element],
    limit: Int,
    _ body: @escaping @Sendable (Element) async throws -> Outcome,
    receive: (Outcome) throws -> Void
) async throws {
    try await withThrowingTaskGroup(of: Outcome.self) { group in
        var rest = elements.makeIterator()
        for _ in 0..<limit {
            guard let element = rest.next() else { break }
            group.addTask { try await body(element) }
        }
        while let outcome = try await group.next() {
            try receive(outcome)
            if let element = rest.next() { group.addTask { try await body(element) } }
        }
    }
}
