internal import Glibc
internal import StoreModel
internal import Synchronization

/// A directory that is only read: whatever is written to it stays in this process's memory and is gone with it. So a volume
/// on a read-only file system opens as any other, and what its opening writes (an epoch, a cut tail) reaches no disk.
///
/// Invariants:
/// 1. No call changes a byte, a name or a time on the disk below; its lock is a shared one.
/// 2. Reads see what was written here, over what stands below.
/// 3. What is written here and is not zero is bounded by `byteCountMax`: beyond it the disk is full.
///
/// `sync` promises nothing here: who uses it must not tell anybody that something is durable.
package final class OverlayDisk: Disk {
    private struct State {
        /// Files with changes; they shadow those below.
        var changed: [String: OverlayContent] = [:]
        /// Files below that are open, so that all who have one open see the same.
        var opened: [String: WeakContent] = [:]
        /// Names below that are gone here.
        var removed: Set<String> = []
        var directories: Set<String> = []
    }

    private let base: PosixDisk
    private let room: Room
    private let state = Mutex(State())

    package var label: String { base.label }

    package init(_ base: PosixDisk, byteCountMax: UInt64 = Limits.overlayByteCountMax) {
        self.base = base
        room = Room(byteCountMax)
    }

    package func open(_ name: String, _ mode: DiskOpenMode) throws(DiskError) -> any DiskFile {
        let content = try state.withLock { state throws(DiskError) -> OverlayContent in
            if mode == .create {
                guard try !exists(name, state) else { throw error(.exists, "openat", name, EEXIST) }
                let content = OverlayContent(below: nil, byteCount: 0, room)
                state.changed[name] = content
                return content
            }
            let content = try self.content(name, &state)
            if mode == .update { state.changed[name] = content }
            return content
        }
        return OverlayFile(content, path: path(of: name))
    }

    package func exists(_ name: String) throws(DiskError) -> Bool {
        try state.withLock { state throws(DiskError) -> Bool in try exists(name, state) }
    }

    package func list(_ directory: String) throws(DiskError) -> [String] {
        try state.withLock { state throws(DiskError) -> [String] in
            let below = state.directories.contains(directory) ? [] : try base.list(directory)
            let prefix = directory.isEmpty ? "" : directory + "/"
            var names = Set(below.filter { !state.removed.contains(prefix + $0) })
            for name in Array(state.changed.keys) + Array(state.directories) where name.hasPrefix(prefix) {
                let rest = name.dropFirst(prefix.count)
                if !rest.contains("/") { names.insert(String(rest)) }
            }
            return Array(names)
        }
    }

    package func makeDirectory(_ name: String) throws(DiskError) {
        try state.withLock { state throws(DiskError) -> Void in
            if try !exists(name, state) { state.directories.insert(name) }
        }
    }

    package func rename(_ source: String, to destination: String) throws(DiskError) {
        try state.withLock { state throws(DiskError) -> Void in
            let content = try self.content(source, &state)
            forget(source, &state)
            forget(destination, &state)
            state.removed.insert(source)
            state.changed[destination] = content
        }
    }

    package func remove(_ name: String) throws(DiskError) {
        try state.withLock { state throws(DiskError) -> Void in
            guard try exists(name, state) else { throw error(.notFound, "unlinkat", name, ENOENT) }
            forget(name, &state)
            state.removed.insert(name)
        }
    }

    package func syncDirectory(_ name: String) throws(DiskError) {}

    /// Shared with others who only read; whoever writes is kept out, and keeps this one out.
    package func lock(_ name: String, content: [UInt8]) throws(DiskError) -> any DiskLock {
        try base.lockForReading(name)
    }

    package func space() throws(DiskError) -> DiskSpace { try base.space() }
    package func deviceID() throws(DiskError) -> UInt64 { try base.deviceID() }
    package func modificationTime(of name: String) -> Int64? { base.modificationTime(of: name) }

    // MARK: Names

    private func exists(_ name: String, _ state: State) throws(DiskError) -> Bool {
        if state.changed[name] != nil || state.directories.contains(name) { return true }
        if state.removed.contains(name) { return false }
        return try base.exists(name)
    }

    private func content(_ name: String, _ state: inout State) throws(DiskError) -> OverlayContent {
        if let content = state.changed[name] ?? state.opened[name]?.content { return content }
        guard !state.removed.contains(name) else { throw error(.notFound, "openat", name, ENOENT) }
        let below = try base.open(name, .read)
        let content = OverlayContent(below: below, byteCount: try below.size(), room)
        state.opened = state.opened.filter { $0.value.content != nil }
        state.opened[name] = WeakContent(content: content)
        return content
    }

    private func forget(_ name: String, _ state: inout State) {
        state.changed[name] = nil
        state.opened[name] = nil
    }

    private func path(of name: String) -> String { label + "/" + name }

    private func error(_ code: DiskError.Code, _ call: String, _ name: String, _ number: Int32) -> DiskError {
        DiskError(
            code,
            call: call,
            path: path(of: name),
            number: number,
            detail: String(cString: strerror(number))
        )
    }
}

/// What is left of the memory that changes may take.
private final class Room: Sendable {
    private let left: Mutex<UInt64>

    init(_ byteCount: UInt64) { left = Mutex(byteCount) }

    func take(_ byteCount: UInt64) -> Bool {
        left.withLock { left in
            guard left >= byteCount else { return false }
            left -= byteCount
            return true
        }
    }
}

private struct WeakContent {
    weak var content: OverlayContent?
}

/// The contents of a file: pages that were written here over those below.
private final class OverlayContent: Sendable {
    static let pageSize: UInt64 = 64 << 10
    private static let zeroPage = [UInt8](repeating: 0, count: Int(pageSize))

    private struct State {
        var byteCount: UInt64
        /// What stands below counts up to here.
        var belowByteCount: UInt64
        var pages: [UInt64: [UInt8]] = [:]
    }

    private let below: (any DiskFile)?
    private let room: Room
    private let state: Mutex<State>

    init(below: (any DiskFile)?, byteCount: UInt64, _ room: Room) {
        self.below = below
        self.room = room
        state = Mutex(State(byteCount: byteCount, belowByteCount: byteCount))
    }

    deinit { below?.close() }

    var byteCount: UInt64 { state.withLock(\.byteCount) }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        try state.withLock { state throws(DiskError) in
            guard offset < state.byteCount else { return 0 }
            let count = Int(min(UInt64(buffer.count), state.byteCount - offset))
            let whole = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
            guard !state.pages.isEmpty else {
                try readBelow(into: whole, at: offset, state)
                return count
            }
            for piece in Self.pieces(offset, count) {
                let target = UnsafeMutableRawBufferPointer(rebasing: whole[piece.range])
                guard let page = state.pages[piece.page] else {
                    try readBelow(into: target, at: offset + UInt64(piece.range.lowerBound), state)
                    continue
                }
                page.withUnsafeBytes {
                    target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[piece.inPage]))
                }
            }
            return count
        }
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskError) {
        try state.withLock { state throws(DiskError) in
            for piece in Self.pieces(offset, bytes.count) {
                try change(piece.page, &state) { page in
                    page.withUnsafeMutableBytes {
                        UnsafeMutableRawBufferPointer(rebasing: $0[piece.inPage])
                            .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[piece.range]))
                    }
                }
            }
            state.byteCount = max(state.byteCount, offset + UInt64(bytes.count))
        }
    }

    func zero(_ range: Range<UInt64>) throws(DiskError) {
        try state.withLock { state throws(DiskError) in
            let end = min(range.upperBound, state.byteCount)
            if range.lowerBound < end { try zero(range.lowerBound..<end, &state) }
        }
    }

    func truncate(to byteCount: UInt64) throws(DiskError) {
        try state.withLock { state throws(DiskError) in
            if byteCount < state.byteCount {
                state.belowByteCount = min(state.belowByteCount, byteCount)
                let lastPage = byteCount / Self.pageSize
                state.pages = state.pages.filter { $0.key <= lastPage }
                if let page = state.pages[lastPage] {
                    let kept = Int(byteCount % Self.pageSize)
                    state.pages[lastPage] = Array(page[..<kept]) + Self.zeroPage[kept...]
                }
            }
            state.byteCount = byteCount
        }
    }

    private func zero(_ range: Range<UInt64>, _ state: inout State) throws(DiskError) {
        var offset = range.lowerBound
        while offset < range.upperBound {
            let page = offset / Self.pageSize
            let end = min(range.upperBound, (page + 1) * Self.pageSize)
            let inPage = Int(offset % Self.pageSize)..<Int(end - page * Self.pageSize)
            let isBlank = state.pages[page] == nil && page * Self.pageSize >= state.belowByteCount
            if inPage.count == Int(Self.pageSize) {
                // One shared page: it takes no room.
                state.pages[page] = isBlank ? nil : Self.zeroPage
            } else if !isBlank {
                try change(page, &state) { bytes in
                    for index in inPage { bytes[index] = 0 }
                }
            }
            offset = end
        }
    }

    private func change(
        _ number: UInt64,
        _ state: inout State,
        _ body: (inout [UInt8]) -> Void
    ) throws(DiskError) {
        var page: [UInt8]
        if let known = state.pages[number] {
            page = known
            state.pages[number] = nil
            body(&page)
        } else {
            page = Self.zeroPage
            try page.withUnsafeMutableBufferPointer { buffer throws(DiskError) in
                try readBelow(
                    into: UnsafeMutableRawBufferPointer(buffer),
                    at: number * Self.pageSize,
                    state
                )
            }
            body(&page)
            let isBlank = number * Self.pageSize >= state.belowByteCount && page == Self.zeroPage
            // Room that is prepared for later is zeros: it takes none here.
            if isBlank { return }
            guard room.take(Self.pageSize) else {
                throw DiskError(
                    .full,
                    call: "write",
                    path: "memory",
                    number: ENOSPC,
                    detail: "more was changed than is kept in memory of a directory that is only read"
                )
            }
        }
        state.pages[number] = page
    }

    /// Fills the buffer with what stands below, and zeros behind it.
    private func readBelow(
        into buffer: UnsafeMutableRawBufferPointer,
        at offset: UInt64,
        _ state: State
    ) throws(DiskError) {
        let left = state.belowByteCount - min(offset, state.belowByteCount)
        let wanted = min(UInt64(buffer.count), left)
        var done = 0
        if wanted > 0, let below {
            done = try below.read(
                into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(wanted)]),
                at: offset
            )
        }
        let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
        rest.initializeMemory(as: UInt8.self, repeating: 0)
    }

    private struct Piece {
        let page: UInt64
        let inPage: Range<Int>
        /// Of the caller's bytes.
        let range: Range<Int>
    }

    private static func pieces(_ offset: UInt64, _ count: Int) -> [Piece] {
        var pieces: [Piece] = []
        var done = 0
        while done < count {
            let position = offset + UInt64(done)
            let start = Int(position % pageSize)
            let length = min(count - done, Int(pageSize) - start)
            pieces.append(
                Piece(page: position / pageSize, inPage: start..<start + length, range: done..<done + length)
            )
            done += length
        }
        return pieces
    }
}

private final class OverlayFile: DiskFile {
    private let content: OverlayContent
    private let path: String

    init(_ content: OverlayContent, path: String) {
        self.content = content
        self.path = path
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        try content.read(into: buffer, at: offset)
    }

    func write(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        var position = offset
        for piece in pieces {
            try content.write(piece, at: position)
            position += UInt64(piece.count)
        }
    }

    func writeDirect(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        try write(pieces, at: offset)
    }

    func sync() throws(DiskError) {}
    func startWriteback(offset: UInt64, length: UInt64) throws(DiskError) {}
    func truncate(to size: UInt64) throws(DiskError) { try content.truncate(to: size) }

    func punchHole(offset: UInt64, length: UInt64) throws(DiskError) {
        let (end, isTooFar) = offset.addingReportingOverflow(length)
        try content.zero(offset..<(isTooFar ? .max : end))
    }

    func size() throws(DiskError) -> UInt64 { content.byteCount }
    func allocatedSize() throws(DiskError) -> UInt64 { content.byteCount }
    func close() {}
}
