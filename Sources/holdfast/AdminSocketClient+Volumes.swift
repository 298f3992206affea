internal import AdminGateway
internal import S3Protocol

/// The volumes of a store that a server holds.
extension AdminSocketClient {
    func volumes() async throws -> VolumeListDocument { try await get("volumes") }

    func addVolume(path: String) async throws -> VolumeChangeDocument {
        try await call("POST", "volumes", ["path": path])
    }

    func drainVolume(_ name: String, cancels: Bool) async throws -> VolumeChangeDocument {
        try await call("POST", Self.path(name, "drain"), ["cancels": cancels])
    }

    func removeVolume(_ name: String, force: Bool) async throws -> VolumeChangeDocument {
        try await call("POST", Self.path(name, "remove"), ["force": force])
    }

    func replaceVolume(_ name: String, newPath: String?) async throws -> VolumeChangeDocument {
        try await call("POST", Self.path(name, "replace"), ["newPath": newPath])
    }

    func setVolumeReadOnly(_ name: String, _ isReadOnly: Bool) async throws -> VolumeChangeDocument {
        try await call("POST", Self.path(name, "readonly"), ["isReadOnly": isReadOnly])
    }

    func setLogVolumes(_ names: [String]) async throws -> VolumeChangeDocument {
        try await call("POST", "log-set", ["volumes": names.joined(separator: "\n")])
    }

    func checkVolume(_ name: String, deep: Bool) async throws -> VolumeCheckDocument {
        try await call("POST", Self.path(name, "check"), ["deep": deep])
    }

    private static func path(_ name: String, _ action: String) -> String {
        "volumes/" + PercentCoding.encode(name, keepsSlash: false) + "/" + action
    }
}
