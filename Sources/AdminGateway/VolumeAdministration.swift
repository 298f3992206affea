/// What an administrator can ask and tell of the volumes of a store. A volume is named by its path or its id.
///
/// Changes return as soon as they are durable; what follows from them (chunks that move) goes on in the background, over
/// restarts, and shows in `volumes()`.
package protocol VolumeAdministration: Sendable {
    func volumes() async throws -> VolumeListDocument
    func addVolume(path: String) async throws -> VolumeChangeDocument
    /// - Parameter cancels: take back a drain that is under way.
    func drainVolume(_ name: String, cancels: Bool) async throws -> VolumeChangeDocument
    /// - Parameter force: the volume is dead, and what counts on it has fewer copies until it is copied from others.
    func removeVolume(_ name: String, force: Bool) async throws -> VolumeChangeDocument
    /// - Parameter newPath: nil: the place of the old one.
    func replaceVolume(_ name: String, newPath: String?) async throws -> VolumeChangeDocument
    func setVolumeReadOnly(_ name: String, _ isReadOnly: Bool) async throws -> VolumeChangeDocument
    /// - Parameter names: all volumes that are to carry the log.
    func setLogVolumes(_ names: [String]) async throws -> VolumeChangeDocument
    /// - Parameter deep: compute every SHA-256 again.
    func checkVolume(_ name: String, deep: Bool) async throws -> VolumeCheckDocument
}

/// How far the filling of a volume has come.
package struct VolumeProgressDocument: Codable, Hashable, Sendable {
    /// "copying", "auditing", "done" or "stopped".
    package var phase: String
    package var expected: UInt64
    package var held: UInt64
    package var copied: UInt64
    package var copiedBytes: UInt64
    package var missing: UInt64
    package var versions: UInt64

    package init(
        phase: String,
        expected: UInt64,
        held: UInt64,
        copied: UInt64,
        copiedBytes: UInt64,
        missing: UInt64,
        versions: UInt64
    ) {
        self.phase = phase
        self.expected = expected
        self.held = held
        self.copied = copied
        self.copiedBytes = copiedBytes
        self.missing = missing
        self.versions = versions
    }
}

/// One volume, as `volume ls` shows it.
package struct VolumeStateDocument: Codable, Hashable, Sendable {
    package var path: String
    package var id: String
    /// "active", "readonly", "draining", "joining", "suspect", "failed" or "absent".
    package var state: String
    /// What is wanted of it: "active", "readonly" or "draining".
    package var role: String
    /// "healthy", "suspect" or "failed".
    package var health: String
    package var reason: String?
    package var carriesLog: Bool
    /// Whether everything that belongs on it is known to be on it.
    package var isWhole: Bool
    /// Whether it can be removed: it is drained, and the others are whole without it.
    package var isDrained: Bool
    package var records: UInt64
    package var payloadBytes: UInt64
    package var fileBytes: UInt64
    package var freeBytes: UInt64
    package var totalBytes: UInt64
    package var errors: UInt64
    package var readMedianMicroseconds: UInt64?
    package var readTailMicroseconds: UInt64?
    package var syncMedianMicroseconds: UInt64?
    package var syncTailMicroseconds: UInt64?
    package var progress: VolumeProgressDocument?

    package init(path: String, id: String) {
        self.path = path
        self.id = id
        (state, role, health) = ("active", "active", "healthy")
        (carriesLog, isWhole, isDrained) = (false, false, false)
        (records, payloadBytes, fileBytes, freeBytes, totalBytes, errors) = (0, 0, 0, 0, 0, 0)
    }
}

package struct VolumeListDocument: Codable, Hashable, Sendable {
    package var volumes: [VolumeStateDocument]
    package var replicas: Int
    package var writeQuorum: Int
    /// Goes up with every change of what is wanted.
    package var layoutVersion: UInt64
    /// Whether members of the log set are on their way in or out.
    package var isLogChanging: Bool

    package init(
        volumes: [VolumeStateDocument],
        replicas: Int,
        writeQuorum: Int,
        layoutVersion: UInt64,
        isLogChanging: Bool
    ) {
        self.volumes = volumes
        self.replicas = replicas
        self.writeQuorum = writeQuorum
        self.layoutVersion = layoutVersion
        self.isLogChanging = isLogChanging
    }
}

/// What a change of the volumes did.
package struct VolumeChangeDocument: Codable, Hashable, Sendable {
    package var path: String
    package var id: String
    package var message: String
    /// What to know about it.
    package var remarks: [String]
    /// Whether something goes on in the background.
    package var isUnderWay: Bool

    package init(path: String, id: String, message: String, remarks: [String] = [], isUnderWay: Bool) {
        self.path = path
        self.id = id
        self.message = message
        self.remarks = remarks
        self.isUnderWay = isUnderWay
    }
}

/// What looking at every copy of a volume found.
package struct VolumeCheckDocument: Codable, Hashable, Sendable {
    package var path: String
    package var id: String
    package var isClean: Bool
    package var expected: UInt64
    package var missing: UInt64
    package var damaged: UInt64
    package var problems: [String]

    package init(
        path: String,
        id: String,
        isClean: Bool,
        expected: UInt64,
        missing: UInt64,
        damaged: UInt64,
        problems: [String]
    ) {
        self.path = path
        self.id = id
        self.isClean = isClean
        self.expected = expected
        self.missing = missing
        self.damaged = damaged
        self.problems = problems
    }
}

extension StoreAdministration {
    package func volumes() async throws -> VolumeListDocument {
        await settle()
        return try await volumeCare.volumes()
    }

    package func addVolume(path: String) async throws -> VolumeChangeDocument {
        try await volumeCare.addVolume(path: path)
    }

    package func drainVolume(_ name: String, cancels: Bool) async throws -> VolumeChangeDocument {
        try await volumeCare.drainVolume(name, cancels: cancels)
    }

    package func removeVolume(_ name: String, force: Bool) async throws -> VolumeChangeDocument {
        try await volumeCare.removeVolume(name, force: force)
    }

    package func replaceVolume(_ name: String, newPath: String?) async throws -> VolumeChangeDocument {
        try await volumeCare.replaceVolume(name, newPath: newPath)
    }

    package func setVolumeReadOnly(_ name: String, _ isReadOnly: Bool) async throws -> VolumeChangeDocument {
        try await volumeCare.setVolumeReadOnly(name, isReadOnly)
    }

    package func setLogVolumes(_ names: [String]) async throws -> VolumeChangeDocument {
        try await volumeCare.setLogVolumes(names)
    }

    package func checkVolume(_ name: String, deep: Bool) async throws -> VolumeCheckDocument {
        try await volumeCare.checkVolume(name, deep: deep)
    }
}
