internal import ContentHashing
internal import Replication
internal import StoreModel
internal import Synchronization

/// A digest or checksum that a lane works on.
protocol LaneDigest: ~Copyable, Sendable {
    associatedtype Value: Sendable

    mutating func update(_ bytes: UnsafeRawBufferPointer)
    /// The digest of the bytes so far, of which more may follow; nil where it isn't told before the end.
    func soFar() -> Value?
    consuming func finish() -> Value
}

extension SHA256Hasher: LaneDigest {
    func soFar() -> Digest? { current() }
}

extension MD5Hasher: LaneDigest {
    func soFar() -> MD5Digest? { current() }
}

/// A running digest over chunks in their order, worked on by whichever task finds work and no worker.
///
/// A digest of a whole object is serial, so it gets one worker at a time; different digests of the same object run
/// side by side.
final class DigestLane<Hasher: LaneDigest & ~Copyable>: Sendable {
    private struct Queue {
        var waiting: [InFlightChunk] = []
        var hasWorker = false
    }

    /// The digest as it is after the first chunk, and who waits for it.
    private struct First {
        var value: Hasher.Value?
        var waiter: CheckedContinuation<Hasher.Value, Never>?
    }

    private let queue = Mutex(Queue())
    private let first = Mutex(First())
    private let tellsFirst: Bool
    /// Locked by the worker only, so it is never waited for.
    private let hasher: Mutex<Hasher?>

    /// - Parameter tellsFirst: whether `digestOfFirst` will be asked for.
    init(_ hasher: consuming sending Hasher, tellsFirst: Bool) {
        self.hasher = Mutex(hasher)
        self.tellsFirst = tellsFirst
    }

    /// - Returns: whether the caller must have `work()` called.
    func add(_ chunk: InFlightChunk) -> Bool {
        queue.withLock { queue in
            queue.waiting.append(chunk)
            defer { queue.hasWorker = true }
            return !queue.hasWorker
        }
    }

    /// Works until nothing waits.
    func work() async {
        while let chunk = next() {
            update(chunk)
            // A chunk takes milliseconds; others wait for this thread as well.
            // In a simulation there is one thread, and the runtime would take this task to another one.
            if ThreadSimulation.current == nil { await Task.yield() }
        }
    }

    private func update(_ chunk: InFlightChunk) {
        let current = hasher.withLock { hasher -> Hasher.Value? in
            chunk.bytes.withUnsafeBytes { hasher?.update($0) }
            return tellsFirst && chunk.index == 0 ? hasher?.soFar() ?? nil : nil
        }
        guard let current else { return }
        let waiter = first.withLock { first in
            first.value = current
            defer { first.waiter = nil }
            return first.waiter
        }
        waiter?.resume(returning: current)
    }

    private func next() -> InFlightChunk? {
        queue.withLock { queue in
            guard !queue.waiting.isEmpty else {
                queue.hasWorker = false
                return nil
            }
            return queue.waiting.removeFirst()
        }
    }

    /// The digest after the first chunk, which is the digest of that chunk: one pass gives it and the whole's.
    func digestOfFirst() async -> Hasher.Value {
        await withCheckedContinuation { continuation in
            let value = first.withLock { first in
                if first.value == nil { first.waiter = continuation }
                return first.value
            }
            if let value { continuation.resume(returning: value) }
        }
    }

    /// The digest of everything. Called once, after the last worker.
    func finish() -> Hasher.Value {
        guard let hasher = hasher.withLock({ $0.take() }) else { fatalError("A digest is finished once.") }
        return hasher.finish()
    }
}
