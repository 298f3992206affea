internal import Synchronization

/// The connections that are open: their number is bounded, and a server that stops tells each of them.
final class ConnectionRegistry: Sendable {
    private struct State {
        var connections: [ObjectIdentifier: Connection] = [:]
        var isDraining = false
    }

    enum Admission {
        case admitted
        /// Answer 503.
        case overloaded
        /// Close at once.
        case refused
    }

    private let countMax: Int
    private let state = Mutex(State())

    init(countMax: Int) { self.countMax = countMax }

    var count: Int { state.withLock { $0.connections.count } }

    /// Whether one more may be opened.
    func admission() -> Admission {
        let (count, isDraining) = state.withLock { ($0.connections.count, $0.isDraining) }
        if count >= countMax + max(1, countMax / 10) { return .refused }
        return count >= countMax || isDraining ? .overloaded : .admitted
    }

    func insert(_ connection: Connection) {
        state.withLock { $0.connections[ObjectIdentifier(connection)] = connection }
    }

    func remove(_ connection: Connection) {
        _ = state.withLock { $0.connections.removeValue(forKey: ObjectIdentifier(connection)) }
    }

    /// Lets running requests end and no other begin.
    func drain() {
        let connections = state.withLock { state in
            state.isDraining = true
            return [Connection](state.connections.values)
        }
        // All know it before the first of them is closed: an answer that is given from then on says that it is the last.
        for connection in connections { connection.noteDraining() }
        for connection in connections { connection.closeIfIdle() }
    }

    func closeAll() {
        for connection in state.withLock({ [Connection]($0.connections.values) }) { connection.close() }
    }
}
