package import BlobVolume
internal import Synchronization

/// A disk in memory that knows what would survive a crash.
///
/// It stops for good at the planned call (`crash(atCall:_:)`) or when told so (`crash(_:)`): from then on
/// every call of it and of its files throws, as a dead process makes no calls. The store restarts on
/// another `CrashDisk`, made from the image that the crash left.
///
/// ```swift
/// for call in 1... {
///     let disk = CrashDisk(before)
///     disk.crash(atCall: call, .after)
///     try? operation(disk)
///     for mode in modes { try check(CrashDisk(disk.image.restarted(after: mode))) }
///     guard disk.hasCrashed else { break }
/// }
/// ```
package final class CrashDisk: Disk {
    /// Whether the call at which the process dies has taken effect.
    package enum Moment: Sendable, CaseIterable { case before, after }

    struct State {
        var image: DiskImage
        var changeCount = 0
        var crashPoint: (change: Int, moment: Moment)?
        var isDead = false
        var locks: [String: [UInt8]] = [:]
        var calls: [DiskCall] = []
    }

    package let label: String
    private let device: UInt64
    private let totalBytes: UInt64
    private let state: Mutex<State>

    package init(
        _ image: DiskImage = DiskImage(),
        label: String = "crash disk",
        device: UInt64 = 1,
        totalBytes: UInt64 = 1 << 40
    ) {
        self.label = label
        self.device = device
        self.totalBytes = totalBytes
        state = Mutex(State(image: image))
    }

    /// The state at this moment; after the planned crash, at that one.
    package var image: DiskImage { state.withLock { $0.image } }

    /// Calls so far that changed something or made it durable (`DiskOperation.changing`).
    package var changeCount: Int { state.withLock { $0.changeCount } }

    /// Those calls, in order: call number n stands at index n - 1.
    package var changes: [DiskCall] { state.withLock { $0.calls } }

    package var hasCrashed: Bool { state.withLock { $0.isDead } }

    /// Plans to stop at the changing call with this number, counted from now and from 1.
    package func crash(atCall number: Int, _ moment: Moment = .before) {
        precondition(number > 0, "Calls are counted from 1.")
        state.withLock { $0.crashPoint = ($0.changeCount + number, moment) }
    }

    /// Damages the medium under a running store: flips one bit, durably and visibly at once.
    package func flip(_ name: String, offset: Int, bit: Int = 0) {
        state.withLock { $0.image.flip(name, offset: offset, bit: bit) }
    }

    /// Stops this disk now, if it has not, and returns the one on which the store restarts.
    package func crash(_ mode: CrashMode) -> CrashDisk {
        let image = state.withLock { state in
            state.isDead = true
            state.locks = [:]
            return state.image
        }
        return CrashDisk(image.restarted(after: mode), label: label, device: device, totalBytes: totalBytes)
    }
}

// MARK: - The seam

extension CrashDisk {
    package func open(_ name: String, _ mode: DiskOpenMode) throws(DiskError) -> any DiskFile {
        let isCreating = if case .create = mode { true } else { false }
        let call = DiskCall(operation: isCreating ? .create : .open, name: name)
        let isWritable = if case .read = mode { false } else { true }
        let file = try perform(call) { (image: inout DiskImage) throws(DiskError) -> Int in
            guard !image.currentNames.directories.contains(name) else {
                throw call.error(.isDirectory, number: 21)
            }
            guard isCreating else { return try image.file(named: name, call) }
            guard image.currentNames.files[name] == nil else { throw call.error(.exists, number: 17) }
            return try image.create(name, call)
        }
        return CrashFile(disk: self, name: name, file: file, isWritable: isWritable)
    }

    package func exists(_ name: String) throws(DiskError) -> Bool {
        try perform(DiskCall(operation: .exists, name: name)) {
            (image: inout DiskImage) throws(DiskError) -> Bool in
            image.currentNames.files[name] != nil || image.currentNames.directories.contains(name)
        }
    }

    package func list(_ directory: String) throws(DiskError) -> [String] {
        let call = DiskCall(operation: .list, name: directory)
        return try perform(call) { (image: inout DiskImage) throws(DiskError) -> [String] in
            guard image.currentNames.directories.contains(directory) else {
                throw call.error(.notFound, number: 2)
            }
            let paths = image.currentNames.files.keys + image.currentNames.directories.filter { !$0.isEmpty }
            let prefixLength = directory.isEmpty ? 0 : directory.count + 1
            return paths.filter { DiskImage.directory(of: $0) == directory }.map {
                String($0.dropFirst(prefixLength))
            }
        }
    }

    package func makeDirectory(_ name: String) throws(DiskError) {
        let call = DiskCall(operation: .makeDirectory, name: name)
        try perform(call) { (image: inout DiskImage) throws(DiskError) in
            guard image.currentNames.files[name] == nil else { throw call.error(.exists, number: 17) }
            guard !image.currentNames.directories.contains(name) else { return }
            image.changeName(.makeDirectory(name))
        }
    }

    package func rename(_ source: String, to destination: String) throws(DiskError) {
        let call = DiskCall(operation: .rename, name: "\(source) to \(destination)")
        try perform(call) { (image: inout DiskImage) throws(DiskError) in
            let file = try image.file(named: source, call)
            guard !image.currentNames.directories.contains(destination) else {
                throw call.error(.isDirectory, number: 21)
            }
            try image.checkDirectory(of: destination, call)
            guard source != destination else { return }
            image.changeName(.rename(file: file, from: source, to: destination))
        }
    }

    package func remove(_ name: String) throws(DiskError) {
        let call = DiskCall(operation: .remove, name: name)
        try perform(call) { (image: inout DiskImage) throws(DiskError) in
            guard !image.currentNames.directories.contains(name) else {
                throw call.error(.isDirectory, number: 21)
            }
            image.changeName(.remove(name, file: try image.file(named: name, call)))
        }
    }

    package func syncDirectory(_ name: String) throws(DiskError) {
        let call = DiskCall(operation: .syncDirectory, name: name)
        try perform(call) { (image: inout DiskImage) throws(DiskError) in
            guard image.currentNames.directories.contains(name) else {
                throw call.error(.notFound, number: 2)
            }
            image.syncNames(in: name)
        }
    }

    package func lock(_ name: String, content: [UInt8]) throws(DiskError) -> any DiskLock {
        let call = DiskCall(operation: .lock, name: name)
        try performOnState(call) { (state: inout State) throws(DiskError) in
            if let holder = state.locks[name] {
                throw call.error(.locked, number: 11, detail: String(decoding: holder, as: UTF8.self))
            }
            let known = state.image.currentNames.files[name]
            let file = if let known { known } else { try state.image.create(name, call) }
            state.image.files[file]?.change(.truncate(size: 0))
            state.image.files[file]?.change(.write(offset: 0, bytes: content))
            state.locks[name] = content
        }
        return CrashLock { [self] in state.withLock { $0.locks[name] = nil } }
    }

    package func space() throws(DiskError) -> DiskSpace {
        let total = totalBytes
        return try perform(DiskCall(operation: .space, name: "")) {
            (image: inout DiskImage) throws(DiskError) -> DiskSpace in
            let used = image.files.values.reduce(0) { $0 + $1.current.allocatedSize }
            return DiskSpace(freeBytes: total - min(total, UInt64(used)), totalBytes: total)
        }
    }

    package func deviceID() throws(DiskError) -> UInt64 { device }

    func perform<Result: Sendable>(
        _ call: DiskCall,
        _ body: (inout DiskImage) throws(DiskError) -> Result
    ) throws(DiskError) -> Result {
        try performOnState(call) { (state: inout State) throws(DiskError) -> Result in try body(&state.image)
        }
    }

    /// Runs one call under the lock: counts it when it changes something, and dies at the planned one.
    private func performOnState<Result: Sendable>(
        _ call: DiskCall,
        _ body: (inout State) throws(DiskError) -> Result
    ) throws(DiskError) -> Result {
        try state.withLock { (state: inout State) throws(DiskError) -> Result in
            guard !state.isDead else { throw call.error(.inputOutput, detail: "the process has crashed") }
            guard DiskOperation.changing.contains(call.operation) else { return try body(&state) }
            state.changeCount += 1
            state.calls.append(call)
            guard let point = state.crashPoint, state.changeCount >= point.change else {
                return try body(&state)
            }
            if case .after = point.moment { _ = try? body(&state) }
            state.isDead = true
            state.locks = [:]
            throw call.error(.inputOutput, detail: "the process crashes here")
        }
    }
}

/// An open file of a `CrashDisk`.
final class CrashFile: DiskFile {
    private let disk: CrashDisk
    private let name: String
    private let file: Int
    private let isWritable: Bool
    private let isClosed = Atomic(false)

    init(disk: CrashDisk, name: String, file: Int, isWritable: Bool) {
        self.disk = disk
        self.name = name
        self.file = file
        self.isWritable = isWritable
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        let call = DiskCall(operation: .read, name: name, offset: offset, length: buffer.count)
        return try perform(call) { (file: inout DiskImage.File) throws(DiskError) -> Int in
            file.current.read(into: buffer, at: Int(clamping: offset))
        }
    }

    func write(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(pieces.reduce(0) { $0 + $1.count })
        for piece in pieces { bytes.append(contentsOf: piece) }
        try change(DiskCall(operation: .write, name: name, offset: offset, length: bytes.count)) {
            (file: inout DiskImage.File) in
            guard !bytes.isEmpty else { return }
            file.change(.write(offset: Int(clamping: offset), bytes: bytes))
        }
    }

    /// Not more durable than any other write; but the system takes whole blocks only.
    func writeDirect(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        let length = pieces.reduce(0) { $0 + $1.count }
        precondition(
            offset.isMultiple(of: 4096) && length.isMultiple(of: 4096),
            "A direct write of \(length) bytes at \(offset) of \(name)."
        )
        try write(pieces, at: offset)
    }

    func sync() throws(DiskError) {
        try perform(DiskCall(operation: .sync, name: name)) {
            (file: inout DiskImage.File) throws(DiskError) in
            file.sync()
        }
    }

    func startWriteback(offset: UInt64, length: UInt64) throws(DiskError) {
        try perform(
            DiskCall(operation: .startWriteback, name: name, offset: offset, length: Int(clamping: length))
        ) {
            (file: inout DiskImage.File) throws(DiskError) in
        }
    }

    func truncate(to size: UInt64) throws(DiskError) {
        try change(DiskCall(operation: .truncate, name: name, length: Int(clamping: size))) { file in
            file.change(.truncate(size: Int(clamping: size)))
        }
    }

    func punchHole(offset: UInt64, length: UInt64) throws(DiskError) {
        try change(DiskCall(operation: .punch, name: name, offset: offset, length: Int(clamping: length))) {
            file in
            let start = Int(clamping: offset)
            file.change(.punch(start..<start + Int(clamping: length)))
        }
    }

    func size() throws(DiskError) -> UInt64 {
        try perform(DiskCall(operation: .size, name: name)) {
            (file: inout DiskImage.File) throws(DiskError) -> UInt64 in
            UInt64(file.current.size)
        }
    }

    func allocatedSize() throws(DiskError) -> UInt64 {
        try perform(DiskCall(operation: .size, name: name)) {
            (file: inout DiskImage.File) throws(DiskError) -> UInt64 in
            UInt64(file.current.allocatedSize)
        }
    }

    func close() { isClosed.store(true, ordering: .sequentiallyConsistent) }

    private func change(_ call: DiskCall, _ body: (inout DiskImage.File) -> Void) throws(DiskError) {
        guard isWritable else { throw call.error(.permission, number: 9, detail: "opened for reading") }
        try perform(call) { (file: inout DiskImage.File) throws(DiskError) in body(&file) }
    }

    private func perform<Result: Sendable>(
        _ call: DiskCall,
        _ body: (inout DiskImage.File) throws(DiskError) -> Result
    ) throws(DiskError) -> Result {
        guard !isClosed.load(ordering: .sequentiallyConsistent) else {
            throw call.error(.inputOutput, number: 9, detail: "closed")
        }
        return try disk.perform(call) { (image: inout DiskImage) throws(DiskError) -> Result in
            guard let index = image.files.index(forKey: file) else {
                preconditionFailure("Open files are kept.")
            }
            return try body(&image.files.values[index])
        }
    }
}

extension CrashFile: SyncLosing {
    func failSync() throws(DiskError) {
        try perform(DiskCall(operation: .sync, name: name)) {
            (file: inout DiskImage.File) throws(DiskError) in
            file.failSync()
        }
    }
}

/// A file that can lose what a failed `sync` was to make durable, as Linux does: later syncs succeed
/// without it.
package protocol SyncLosing: DiskFile {
    func failSync() throws(DiskError)
}

private final class CrashLock: DiskLock {
    private let onRelease: @Sendable () -> Void
    private let isReleased = Atomic(false)

    init(onRelease: @escaping @Sendable () -> Void) { self.onRelease = onRelease }

    func release() {
        if !isReleased.exchange(true, ordering: .sequentiallyConsistent) { onRelease() }
    }

    deinit { release() }
}

extension DiskImage {
    fileprivate func file(named name: String, _ call: DiskCall) throws(DiskError) -> Int {
        guard !currentNames.directories.contains(name) else { throw call.error(.isDirectory, number: 21) }
        guard let file = currentNames.files[name] else { throw call.error(.notFound, number: 2) }
        return file
    }

    fileprivate func checkDirectory(of name: String, _ call: DiskCall) throws(DiskError) {
        precondition(
            name.count { $0 == "/" } <= 1 && !name.contains(".."),
            "\(name) is not a name of the seam."
        )
        guard currentNames.directories.contains(Self.directory(of: name)) else {
            throw call.error(.notFound, number: 2)
        }
    }

    fileprivate mutating func create(_ name: String, _ call: DiskCall) throws(DiskError) -> Int {
        try checkDirectory(of: name, call)
        let file = addFile()
        changeName(.create(name, file: file))
        return file
    }
}

extension DiskCall {
    func error(_ code: DiskError.Code, number: Int32 = 5, detail: String = "") -> DiskError {
        DiskError(code, call: operation.rawValue, path: name, number: number, detail: detail)
    }
}
