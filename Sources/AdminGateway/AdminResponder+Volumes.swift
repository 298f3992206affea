internal import Logging

/// The endpoints of the volumes.
extension AdminResponder {
    func volumes() async throws -> Answer {
        Answer(body: try AdminJSON.encode(await administration.volumes()))
    }

    func addVolume(_ bytes: [UInt8]) async throws -> Answer {
        let body = try AdminRequestBody(bytes, allowed: ["path"])
        guard let path = try body.text("path"), path.hasPrefix("/") else {
            throw AdminRefusal(400, "invalidArgument", "The member \"path\" must be an absolute path.")
        }
        return try Self.answer(status: 201, try await administration.addVolume(path: path))
    }

    func drainVolume(_ name: String, _ bytes: [UInt8]) async throws -> Answer {
        let body = try AdminRequestBody(bytes, allowed: ["cancels"])
        return try Self.answer(try await administration.drainVolume(name, cancels: try body.flag("cancels")))
    }

    func removeVolume(_ name: String, _ bytes: [UInt8]) async throws -> Answer {
        let body = try AdminRequestBody(bytes, allowed: ["force"])
        return try Self.answer(try await administration.removeVolume(name, force: try body.flag("force")))
    }

    func replaceVolume(_ name: String, _ bytes: [UInt8]) async throws -> Answer {
        let body = try AdminRequestBody(bytes, allowed: ["newPath"])
        return try Self.answer(
            try await administration.replaceVolume(name, newPath: try body.text("newPath"))
        )
    }

    func setVolumeReadOnly(_ name: String, _ bytes: [UInt8]) async throws -> Answer {
        let body = try AdminRequestBody(bytes, allowed: ["isReadOnly"])
        return try Self.answer(
            try await administration.setVolumeReadOnly(name, try body.flag("isReadOnly"))
        )
    }

    func setLogVolumes(_ bytes: [UInt8]) async throws -> Answer {
        let body = try AdminRequestBody(bytes, allowed: ["volumes"])
        // Ids and paths, one on each line.
        let names = try body.text("volumes")?.split(separator: "\n").map(String.init) ?? []
        return try Self.answer(try await administration.setLogVolumes(names))
    }

    func checkVolume(_ name: String, _ bytes: [UInt8]) async throws -> Answer {
        let body = try AdminRequestBody(bytes, allowed: ["deep"])
        let checked = try await administration.checkVolume(name, deep: try body.flag("deep"))
        return Answer(
            body: try AdminJSON.encode(checked),
            subject: ["volume": "\(checked.path)", "isClean": "\(checked.isClean)"]
        )
    }

    private static func answer(status: Int = 200, _ change: VolumeChangeDocument) throws -> Answer {
        Answer(
            status: status,
            body: try AdminJSON.encode(change),
            subject: ["volume": "\(change.path)", "volumeID": "\(change.id)", "change": "\(change.message)"]
        )
    }
}
