/// What an administrator can ask about garbage collection and space.
package protocol GarbageAdministration: Sendable {
    /// Begins a run and answers at once.
    /// - Throws: `StoreError` with `.conflict` when one is under way or garbage collection is on hold.
    func startGarbageCollection(_ request: GarbageRequest) async throws -> GarbageDocument
    func garbageStatus() async throws -> GarbageDocument
    func volumeUsage() async throws -> VolumeUsageListDocument
}

package struct GarbageRequest: Hashable, Sendable {
    package var isDryRun: Bool
    /// How young a record may be and stay; nil: as configured.
    package var graceSeconds: Int?

    package init(isDryRun: Bool, graceSeconds: Int? = nil) {
        self.isDryRun = isDryRun
        self.graceSeconds = graceSeconds
    }
}

/// Garbage collection as it stands.
package struct GarbageDocument: Codable, Hashable, Sendable {
    package struct Volume: Codable, Hashable, Sendable {
        package var path: String
        /// Nothing refers to these records.
        package var unreferencedRecords: Int
        package var unreferencedBytes: UInt64
        /// Nor to these, which are too young to go.
        package var youngRecords: Int
        package var youngBytes: UInt64
        /// Of the unreferenced, what an upload has asked for since the run began: it stays.
        package var pinnedRecords: Int
        package var condemnedRecords: Int
        package var condemnedBytes: UInt64
        /// Copies of what is in use, taken away because they belong on other volumes, each of which has a good one.
        package var surplusRecords: Int
        package var surplusBytes: UInt64
        /// Such copies that stay for now.
        package var strayRecords: Int
        package var strayBytes: UInt64
        package var punchedBytes: UInt64
        package var removedSegments: Int
        package var removedBytes: UInt64
        package var movedBytes: UInt64
        package var skippedSegments: Int
        package var quarantineDropped: Int
        package var problem: String?

        package init(
            path: String,
            unreferencedRecords: Int,
            unreferencedBytes: UInt64,
            youngRecords: Int,
            youngBytes: UInt64,
            pinnedRecords: Int,
            condemnedRecords: Int,
            condemnedBytes: UInt64,
            surplusRecords: Int,
            surplusBytes: UInt64,
            strayRecords: Int,
            strayBytes: UInt64,
            punchedBytes: UInt64,
            removedSegments: Int,
            removedBytes: UInt64,
            movedBytes: UInt64,
            skippedSegments: Int,
            quarantineDropped: Int,
            problem: String?
        ) {
            self.path = path
            self.unreferencedRecords = unreferencedRecords
            self.unreferencedBytes = unreferencedBytes
            self.youngRecords = youngRecords
            self.youngBytes = youngBytes
            self.pinnedRecords = pinnedRecords
            self.condemnedRecords = condemnedRecords
            self.condemnedBytes = condemnedBytes
            self.surplusRecords = surplusRecords
            self.surplusBytes = surplusBytes
            self.strayRecords = strayRecords
            self.strayBytes = strayBytes
            self.punchedBytes = punchedBytes
            self.removedSegments = removedSegments
            self.removedBytes = removedBytes
            self.movedBytes = movedBytes
            self.skippedSegments = skippedSegments
            self.quarantineDropped = quarantineDropped
            self.problem = problem
        }
    }

    package struct Run: Codable, Hashable, Sendable {
        /// "running", "done", "failed" or "interrupted".
        package var outcome: String
        package var dryRun: Bool
        package var phase: String?
        package var startedAt: String
        package var endedAt: String?
        package var problem: String?
        package var versions: UInt64
        package var documents: UInt64
        package var livePayloads: UInt64
        package var passes: Int
        package var freedBytes: UInt64
        package var volumes: [Volume]

        package init(
            outcome: String,
            dryRun: Bool,
            phase: String?,
            startedAt: String,
            endedAt: String?,
            problem: String?,
            versions: UInt64,
            documents: UInt64,
            livePayloads: UInt64,
            passes: Int,
            freedBytes: UInt64,
            volumes: [Volume]
        ) {
            self.outcome = outcome
            self.dryRun = dryRun
            self.phase = phase
            self.startedAt = startedAt
            self.endedAt = endedAt
            self.problem = problem
            self.versions = versions
            self.documents = documents
            self.livePayloads = livePayloads
            self.passes = passes
            self.freedBytes = freedBytes
            self.volumes = volumes
        }
    }

    package var isRunning: Bool
    /// Why nothing may be collected now.
    package var hold: String?
    /// The run that is under way, or the last one.
    package var run: Run?

    package init(isRunning: Bool, hold: String?, run: Run?) {
        self.isRunning = isRunning
        self.hold = hold
        self.run = run
    }
}

/// What the files of the volumes take.
package struct VolumeUsageDocument: Codable, Hashable, Sendable {
    package var path: String
    package var liveBytes: UInt64
    package var reclaimableBytes: UInt64
    package var quarantineBytes: UInt64
    package var logBytes: UInt64
    package var freeBytes: UInt64
    package var totalBytes: UInt64
    package var liveRecords: Int
    package var segments: Int
    package var problem: String?

    package init(
        path: String,
        liveBytes: UInt64,
        reclaimableBytes: UInt64,
        quarantineBytes: UInt64,
        logBytes: UInt64,
        freeBytes: UInt64,
        totalBytes: UInt64,
        liveRecords: Int,
        segments: Int,
        problem: String?
    ) {
        self.path = path
        self.liveBytes = liveBytes
        self.reclaimableBytes = reclaimableBytes
        self.quarantineBytes = quarantineBytes
        self.logBytes = logBytes
        self.freeBytes = freeBytes
        self.totalBytes = totalBytes
        self.liveRecords = liveRecords
        self.segments = segments
        self.problem = problem
    }
}

package struct VolumeUsageListDocument: Codable, Hashable, Sendable {
    package var volumes: [VolumeUsageDocument]

    package init(volumes: [VolumeUsageDocument]) { self.volumes = volumes }
}

/// The store's own administration leaves these questions to whoever runs garbage collection in this process.
extension StoreAdministration {
    private func collector() throws -> any GarbageAdministration {
        guard let garbage else {
            throw AdminRefusal(501, "notImplemented", "This process does not collect garbage.")
        }
        return garbage
    }

    package func startGarbageCollection(_ request: GarbageRequest) async throws -> GarbageDocument {
        try await collector().startGarbageCollection(request)
    }

    package func garbageStatus() async throws -> GarbageDocument { try await collector().garbageStatus() }

    package func volumeUsage() async throws -> VolumeUsageListDocument { try await collector().volumeUsage() }
}

extension AdminResponder {
    func startGarbageCollection(
        _ bytes: [UInt8],
        _ administration: any GarbageAdministration
    ) async throws -> GarbageDocument {
        let body = try AdminRequestBody(bytes, allowed: ["dryRun", "graceSeconds"])
        var request = GarbageRequest(isDryRun: try body.flag("dryRun"))
        if let text = try body.text("graceSeconds") {
            guard let seconds = Int(text), (0...31_536_000).contains(seconds) else {
                throw AdminRefusal(
                    400,
                    "invalidArgument",
                    "\"graceSeconds\" is a number from 0 to 31536000, as text."
                )
            }
            request.graceSeconds = seconds
        }
        return try await administration.startGarbageCollection(request)
    }
}
