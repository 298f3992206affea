package import Catalog
internal import StoreModel

extension MirrorDirectory {
    /// What declaring a mirror came to.
    package enum Declaration: Hashable, Sendable {
        case added, changed, same
    }

    /// Makes a mirror be as it is declared; doing it again changes nothing.
    ///
    /// Another place is another mirror, and other rules would leave out what is there already: both are refused. Everything
    /// else takes effect at once. Whether it is paused stays as it is.
    /// - Throws: `.conflict`, `.invalidArgument`.
    package func declare(
        _ name: MirrorName,
        _ settings: MirrorSettings,
        rules: [MirrorRule],
        _ credentials: MirrorCredentials
    ) async throws -> Declaration {
        let known = try await mirrors().first { $0.name == name }
        guard let known else {
            _ = try await add(name, settings, rules: rules, credentials)
            return .added
        }
        try settings.check()
        let place = known.settings
        guard
            (place.endpoint, place.bucket, place.prefix)
                == (settings.endpoint, settings.bucket, settings.prefix)
        else {
            throw StoreError(
                .conflict,
                "The mirror \(quoted(name.description)) is in \(place.endpoint)/\(place.bucket)/\(place.prefix) already.",
                advice: "Another place is another mirror: give it another name, or remove this one first."
            )
        }
        guard try await route(known.id)?.rules == rules else {
            throw StoreError(
                .conflict,
                "The mirror \(quoted(name.description)) has other rules.",
                advice:
                    "With other rules it is another mirror: give it another name, or remove this one first."
            )
        }
        var declaration = Declaration.same
        if place != settings {
            try await setSettings(name, settings)
            declaration = .changed
        }
        // Credentials that can't be opened any more are given anew.
        if (try? self.credentials(of: known)) != credentials {
            try await setCredentials(name, credentials)
            declaration = .changed
        }
        return declaration
    }
}
