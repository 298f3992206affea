internal import AdminGateway

extension AdminSocketClient {
    func startGarbageCollection(_ request: GarbageRequest) async throws -> GarbageDocument {
        struct Body: Encodable {
            let dryRun: Bool
            let graceSeconds: String?
        }
        return try await post(
            "gc/run",
            Body(dryRun: request.isDryRun, graceSeconds: request.graceSeconds.map(String.init))
        )
    }

    func garbageStatus() async throws -> GarbageDocument { try await get("gc") }

    func volumeUsage() async throws -> VolumeUsageListDocument { try await get("volume-usage") }
}
