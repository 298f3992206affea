internal import Glibc
internal import Synchronization

/// Lines on their way to a file descriptor: gathered, written together. A reader that is slow or gone loses lines; it
/// never holds up a request.
package final class LineSink: Sendable {
    private struct State {
        var buffer: [UInt8] = []
        var droppedCount: UInt64 = 0
    }

    private let descriptor: Int32
    private let flushSize: Int
    private let state = Mutex(State())
    private let writing = Mutex(())
    /// Lines that wait: beyond, new ones are dropped.
    private let sizeMax = 4 << 20

    /// - Parameter flushSize: lines are written when so many bytes have come; 0: each at once.
    package init(descriptor: Int32, flushSize: Int = 0) {
        self.descriptor = descriptor
        self.flushSize = flushSize
    }

    /// Opens a file to append to.
    /// - Returns: nil when it can't be opened; `errno` tells why.
    package convenience init?(appendingTo path: String, flushSize: Int) {
        let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else { return nil }
        self.init(descriptor: descriptor, flushSize: flushSize)
    }

    package var droppedCount: UInt64 { state.withLock { $0.droppedCount } }

    package func append(_ line: [UInt8]) {
        let isDue = state.withLock { state in
            guard state.buffer.count + line.count <= sizeMax else {
                state.droppedCount += 1
                return false
            }
            state.buffer += line
            return state.buffer.count >= flushSize
        }
        if isDue { flush() }
    }

    /// Writes what waits. Only one caller writes at a time; it also writes what others append meanwhile and is due.
    package func flush() {
        var isDue = true
        while isDue {
            let hasWritten: Bool? = writing.withLockIfAvailable { _ in write() }
            // Whoever writes now looks again when it is done.
            guard hasWritten == true else { return }
            isDue = state.withLock { !$0.buffer.isEmpty && $0.buffer.count >= flushSize }
        }
    }

    private func write() -> Bool {
        let bytes = state.withLock { state in
            defer { state.buffer = [] }
            return state.buffer
        }
        var offset = 0
        while offset < bytes.count {
            let count = bytes[offset...].withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            offset += count
        }
        return true
    }

    /// Flushes at intervals until the task is cancelled.
    package func flushRegularly(every interval: Duration = .milliseconds(250)) async {
        while !Task.isCancelled {
            try? await Task.sleep(for: interval)
            flush()
        }
        flush()
    }
}
