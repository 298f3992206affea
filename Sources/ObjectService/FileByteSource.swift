internal import Glibc
internal import StoreModel

/// A file, or an open descriptor such as standard input, read ahead by a thread of its own.
///
/// Reading a file blocks, and a pool with two threads must not block: the thread reads up to `readAheadCount` pieces
/// ahead and then waits until one is taken.
///
/// 1. The thread alone touches the descriptor, and closes it if it is owned.
/// 2. A regular file that changes while it is read (size or time of change) fails: half of one state and half of
///    another is no version that anyone meant to store.
/// 3. Releasing the source, or cancelling a task that waits in `next()`, stops the thread at its next step. A thread
///    that waits in the kernel for a terminal or a pipe ends when that read returns; nobody waits for it.
package final class FileByteSource: ByteSource, Sendable {
    /// Large enough that handing a piece over costs nothing beside reading it, small enough for many at a time.
    package static let pieceSizeStandard = 256 << 10
    package static let readAheadCountStandard = 3

    /// Bytes of a regular file when it was opened; nil for pipes and terminals.
    package let size: UInt64?
    private let queue: PieceQueue

    private init(size: UInt64?, queue: PieceQueue) {
        self.size = size
        self.queue = queue
    }

    deinit { queue.stop() }

    /// Opens a file for reading.
    /// - Throws: `StoreError` with `.invalidArgument` when there is none, it is a directory, or it may not be read.
    package static func open(
        path: String,
        pieceSize: Int = pieceSizeStandard,
        readAheadCount: Int = readAheadCountStandard
    ) async throws -> FileByteSource {
        try await start(
            .path(path),
            label: quoted(path),
            pieceSize: pieceSize,
            readAheadCount: readAheadCount
        )
    }

    /// Reads from an open descriptor, which stays open.
    /// - Parameter label: what a person calls it, for messages.
    package static func open(
        descriptor: Int32,
        label: String,
        pieceSize: Int = pieceSizeStandard,
        readAheadCount: Int = readAheadCountStandard
    ) async throws -> FileByteSource {
        try await start(
            .descriptor(descriptor),
            label: label,
            pieceSize: pieceSize,
            readAheadCount: readAheadCount
        )
    }

    private static func start(
        _ place: FileReading.Place,
        label: String,
        pieceSize: Int,
        readAheadCount: Int
    ) async throws -> FileByteSource {
        precondition(pieceSize > 0 && readAheadCount > 0, "A source reads at least one byte ahead.")
        let queue = PieceQueue(countMax: readAheadCount)
        let reading = FileReading(place: place, label: label, pieceSize: pieceSize, queue: queue)
        let size: UInt64? = try await withCheckedThrowingContinuation { continuation in
            reading.start(opened: continuation)
        }
        return FileByteSource(size: size, queue: queue)
    }

    package func next() async throws -> [UInt8]? {
        try await withTaskCancellationHandler {
            try await queue.next()
        } onCancel: {
            queue.stop()
        }
    }
}

/// Pieces between one reading thread and one task.
///
/// `@unchecked Sendable` holds because `state` is only touched while `mutex` is held, and the two pointers never change.
private final class PieceQueue: @unchecked Sendable {
    private struct State {
        var pieces: [[UInt8]] = []
        var end: Result<Void, any Error>?
        var isStopped = false
        var waiter: CheckedContinuation<[UInt8]?, any Error>?
    }

    private let countMax: Int
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var state = State()

    init(countMax: Int) {
        self.countMax = countMax
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    private func withLock<Value>(_ body: (inout State) throws -> Value) rethrows -> Value {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&state)
    }

    // MARK: The task's side

    func next() async throws -> [UInt8]? {
        if case .some(let ready) = try withLock({ try take(from: &$0) }) { return ready }
        return try await withCheckedThrowingContinuation { continuation in
            let answer: Result<[UInt8]?, any Error>? = withLock { state in
                switch Result(catching: { try take(from: &state) }) {
                case .success(.some(let ready)): return .success(ready)
                case .failure(let error): return .failure(error)
                case .success(.none):
                    precondition(state.waiter == nil, "A byte source is read by one task.")
                    state.waiter = continuation
                    return nil
                }
            }
            if let answer { continuation.resume(with: answer) }
        }
    }

    /// - Returns: nil when it is too early to tell, else the next piece or the end.
    private func take(from state: inout State) throws -> [UInt8]?? {
        if state.isStopped { throw CancellationError() }
        if !state.pieces.isEmpty {
            pthread_cond_signal(changed)
            return .some(state.pieces.removeFirst())
        }
        guard let end = state.end else { return nil }
        try end.get()
        return .some(nil)
    }

    func stop() {
        let waiter = withLock { state in
            state.isStopped = true
            state.pieces = []
            pthread_cond_signal(changed)
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(throwing: CancellationError())
    }

    // MARK: The thread's side

    /// Waits until there is room.
    /// - Returns: false when nobody reads any more.
    func waitForRoom() -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while !state.isStopped && state.pieces.count >= countMax { pthread_cond_wait(changed, mutex) }
        return !state.isStopped
    }

    func put(_ piece: [UInt8]) {
        let waiter = withLock { state in
            if state.waiter == nil && !state.isStopped { state.pieces.append(piece) }
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(returning: piece)
    }

    func finish(_ end: Result<Void, any Error>) {
        let waiter = withLock { state in
            state.end = end
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(with: end.map { nil })
    }
}

/// What the thread does: open, read until the end, close.
private final class FileReading: Sendable {
    enum Place {
        case path(String)
        case descriptor(Int32)
    }

    private struct Opened {
        let descriptor: Int32
        let isOwned: Bool
        /// Of a regular file.
        let status: stat?
    }

    private final class Launch {
        let reading: FileReading
        let opened: CheckedContinuation<UInt64?, any Error>

        init(_ reading: FileReading, _ opened: CheckedContinuation<UInt64?, any Error>) {
            self.reading = reading
            self.opened = opened
        }
    }

    private let place: Place
    private let label: String
    private let pieceSize: Int
    private let queue: PieceQueue

    init(place: Place, label: String, pieceSize: Int, queue: PieceQueue) {
        self.place = place
        self.label = label
        self.pieceSize = pieceSize
        self.queue = queue
    }

    func start(opened: CheckedContinuation<UInt64?, any Error>) {
        let launch = Unmanaged.passRetained(Launch(self, opened))
        var thread = pthread_t()
        let status = pthread_create(&thread, nil, Self.body, launch.toOpaque())
        guard status == 0 else {
            launch.release()
            opened.resume(
                throwing: StoreError(
                    .overloaded,
                    "No thread could be started to read \(label): \(text(of: status))."
                )
            )
            return
        }
        pthread_detach(thread)
    }

    private static let body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = {
        argument in
        guard let argument else { return nil }
        let launch = Unmanaged<Launch>.fromOpaque(argument).takeRetainedValue()
        launch.reading.run(launch.opened)
        return nil
    }

    private func run(_ answer: CheckedContinuation<UInt64?, any Error>) {
        let opened: Opened
        do {
            opened = try open()
            answer.resume(returning: opened.status.map { UInt64(clamping: $0.st_size) })
        } catch {
            answer.resume(throwing: error)
            return
        }
        defer { if opened.isOwned { close(opened.descriptor) } }
        do throws(StoreError) {
            try readAll(opened)
            queue.finish(.success(()))
        } catch {
            queue.finish(.failure(error))
        }
    }

    private func open() throws(StoreError) -> Opened {
        let descriptor: Int32
        let isOwned: Bool
        switch place {
        case .path(let path):
            descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
            isOwned = true
            guard descriptor >= 0 else { throw openFailure(errno) }
        case .descriptor(let open):
            descriptor = open
            isOwned = false
        }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            let code = errno
            if isOwned { close(descriptor) }
            throw openFailure(code)
        }
        if status.st_mode & S_IFMT == S_IFDIR {
            if isOwned { close(descriptor) }
            throw StoreError(.invalidArgument, "\(label) is a directory, not a file.")
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            return Opened(descriptor: descriptor, isOwned: isOwned, status: nil)
        }
        posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL)
        return Opened(descriptor: descriptor, isOwned: isOwned, status: status)
    }

    private func openFailure(_ code: Int32) -> StoreError {
        switch code {
        case ENOENT, ENOTDIR: StoreError(.invalidArgument, "There is no file \(label).")
        case EACCES, EPERM:
            StoreError(
                .invalidArgument,
                "The file \(label) may not be read by this user.",
                advice: "Change its permissions, or run as a user who may read it."
            )
        default: StoreError(.inputOutput, "The file \(label) can't be opened: \(text(of: code)).")
        }
    }

    private func readAll(_ opened: Opened) throws(StoreError) {
        var readCount: UInt64 = 0
        while queue.waitForRoom() {
            let wanted = pieceSizeNext(after: readCount, of: opened)
            let piece = try readPiece(from: opened.descriptor, count: wanted, offset: readCount)
            readCount += UInt64(piece.count)
            if !piece.isEmpty { queue.put(piece) }
            if piece.count < wanted { break }
        }
        if let status = opened.status { try checkUnchanged(status, opened.descriptor, readCount: readCount) }
    }

    /// A small file gets a small buffer, with room for one byte that should not be there.
    private func pieceSizeNext(after readCount: UInt64, of opened: Opened) -> Int {
        guard let status = opened.status, status.st_size > 0 else { return pieceSize }
        let rest = UInt64(clamping: status.st_size) &- min(readCount, UInt64(clamping: status.st_size))
        return Int(min(rest + 1, UInt64(pieceSize)))
    }

    /// Reads until the piece is full or the file ends.
    private func readPiece(from descriptor: Int32, count: Int, offset: UInt64) throws(StoreError) -> [UInt8] {
        var failure: Int32 = 0
        let piece = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while filled < count, let base = buffer.baseAddress {
                let result = read(descriptor, base + filled, count - filled)
                if result > 0 {
                    filled += result
                } else if result == 0 {
                    return
                } else if errno != EINTR {
                    failure = errno
                    return
                }
            }
        }
        guard failure == 0 else {
            let place = offset + UInt64(piece.count)
            throw StoreError(.inputOutput, "Reading \(label) failed at byte \(place): \(text(of: failure)).")
        }
        return piece
    }

    private func checkUnchanged(_ before: stat, _ descriptor: Int32, readCount: UInt64) throws(StoreError) {
        var after = stat()
        guard fstat(descriptor, &after) == 0 else { return }
        // Files that the kernel makes up (/proc) have no size and no times to compare.
        guard before.st_size > 0 || after.st_size > 0 else { return }
        let isSame =
            after.st_size == before.st_size && readCount == UInt64(clamping: before.st_size)
            && after.st_mtim.tv_sec == before.st_mtim.tv_sec
            && after.st_mtim.tv_nsec == before.st_mtim.tv_nsec
        guard isSame else {
            throw StoreError(
                .conflict,
                "The file \(label) changed while it was read: \(before.st_size) bytes at first, \(readCount) read.",
                advice: "Store it when nothing writes to it."
            )
        }
    }

    private func text(of code: Int32) -> String { String(cString: strerror(code)) }
}
