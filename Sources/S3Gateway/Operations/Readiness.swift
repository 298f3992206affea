internal import Synchronization

/// Whether the process listens, and whether it is stopping: what the readiness checks ask first.
package final class DrainFlag: Sendable {
    private let flag = Atomic(false)
    private let listening = Atomic(false)

    package init() {}

    package var isDraining: Bool { flag.load(ordering: .acquiring) }

    /// False until the S3 API listens: the operations face may be there before it.
    package var isListening: Bool { listening.load(ordering: .acquiring) }

    /// From now on the S3 API listens.
    package func listen() { listening.store(true, ordering: .releasing) }

    /// From now on the process is not ready.
    package func raise() { flag.store(true, ordering: .releasing) }
}

/// One thing that was looked at to tell whether the process is ready.
package struct HealthCheck: Hashable, Sendable {
    package let name: String
    package let isPassing: Bool
    package let detail: String

    package init(_ name: String, _ isPassing: Bool, _ detail: String) {
        self.name = name
        self.isPassing = isPassing
        self.detail = detail
    }
}
