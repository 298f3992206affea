internal import ObjectService
internal import S3Gateway
internal import Synchronization

/// Gathers where the servers listen, and tells once all of them do.
final class ReadyAddresses: Sendable {
    private struct State {
        var service: [ListenAddress]?
        var operations: ListenAddress?
    }

    private let newRoot: AccessCredential?
    private let hasOperations: Bool
    private let onReady: @Sendable (ServerAssembly.Ready) -> Void
    private let state = Mutex(State())

    init(
        _ newRoot: AccessCredential?,
        hasOperations: Bool,
        _ onReady: @escaping @Sendable (ServerAssembly.Ready) -> Void
    ) {
        self.newRoot = newRoot
        self.hasOperations = hasOperations
        self.onReady = onReady
    }

    /// Where the S3 API is; nothing before it listens.
    var service: [ListenAddress] { state.withLock { $0.service ?? [] } }

    func serve(_ addresses: [ListenAddress]) { note { $0.service = addresses } }

    func operate(_ addresses: [ListenAddress]) { note { $0.operations = addresses.first } }

    private func note(_ change: (inout State) -> Void) {
        let ready: ServerAssembly.Ready? = state.withLock { state in
            change(&state)
            guard let service = state.service, !hasOperations || state.operations != nil else { return nil }
            return ServerAssembly.Ready(
                addresses: service,
                operationsAddress: state.operations,
                newRootCredential: newRoot
            )
        }
        if let ready { onReady(ready) }
    }
}
