internal import BlobVolume
internal import Synchronization

/// Takes the first answer of a call and drops the others: the call's own, or that its time is over.
final class OnceAnswer<Value: Sendable>: Sendable {
    private let body: Mutex<ReplicaCompletion<Value>?>

    init(_ body: @escaping ReplicaCompletion<Value>) { self.body = Mutex(body) }

    var isWaiting: Bool { body.withLock { $0 != nil } }

    func give(_ result: Result<Value, VolumeError>) {
        let taken = body.withLock { current in
            defer { current = nil }
            return current
        }
        taken?(result)
    }
}
