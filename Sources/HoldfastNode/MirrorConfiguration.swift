package import Catalog
internal import Logging
package import Mirroring
internal import ObjectService
internal import Replication
internal import StoreModel

/// A mirror as the configuration declares it.
package struct DeclaredMirror: Sendable {
    package var name: MirrorName
    package var settings: MirrorSettings
    package var rules: [MirrorRule]
    package var credentials: MirrorCredentials
    /// File and line.
    package var place: String

    package init(
        name: MirrorName,
        settings: MirrorSettings,
        rules: [MirrorRule],
        credentials: MirrorCredentials,
        place: String
    ) {
        self.name = name
        self.settings = settings
        self.rules = rules
        self.credentials = credentials
        self.place = place
    }
}

/// How mirrors run in a server.
package struct MirrorConfiguration: Sendable {
    package var mirrors: [DeclaredMirror] = []
    /// nil: the standard.
    package var schedule: MirrorAuditSchedule?
    /// Requests a second of all audits together.
    package var auditRequestsPerSecond: Double?
    /// Of each mirror, while clients ask for something.
    package var requestsPerSecondBesideClients: Double?
    package var bytesPerSecondBesideClients: Double?

    package init() {}
}

extension LocalStore {
    /// Makes the mirrors be as they are declared; those that are not declared stay as they are.
    func declare(_ configuration: MirrorConfiguration, _ logger: Logger) async throws {
        if var schedule = configuration.schedule {
            schedule.terms.since = SystemClock().now()
            mirrorAudits.schedule = schedule
        }
        if let rate = configuration.auditRequestsPerSecond {
            var rates = mirrorAudits.budget.rates
            rates.operationsPerSecond = rate
            mirrorAudits.budget.set(rates)
        }
        var rates = mirrors.besideClients
        rates.operationsPerSecond = configuration.requestsPerSecondBesideClients ?? rates.operationsPerSecond
        rates.bytesPerSecond = configuration.bytesPerSecondBesideClients ?? rates.bytesPerSecond
        mirrors.besideClients = rates
        for mirror in configuration.mirrors {
            do {
                let declaration = try await mirrors.directory.declare(
                    mirror.name,
                    mirror.settings,
                    rules: mirror.rules,
                    mirror.credentials
                )
                guard declaration != .same else { continue }
                logger.notice(
                    "A mirror was put into force as the configuration declares it.",
                    metadata: ["mirror": "\(mirror.name)", "change": "\(declaration)"]
                )
            } catch let error as StoreError where error.code == .masterKeyUnavailable {
                // Everything else works without the key; so does the server.
                mirrors.note(
                    UnusableMirror(
                        name: mirror.name,
                        settings: mirror.settings,
                        rules: mirror.rules,
                        reason: error.message
                    )
                )
                logger.error(
                    "A declared mirror can't be used without the master key.",
                    metadata: ["mirror": "\(mirror.name)", "reason": "\(error.message)"]
                )
            } catch let error as StoreError {
                throw StoreError(error.code, "\(mirror.place): \(error.message)", advice: error.advice)
            }
        }
    }
}
