internal import ContentHashing
package import Mirroring
package import StoreModel
internal import Synchronization

/// A bucket in memory that checks what it is sent, and goes wrong when it is told to: seeded, so that a run can be
/// repeated.
package final class StrictS3Backend: MirrorBackend {
    package struct Object: Sendable {
        package let versionID: String
        package let isMarker: Bool
        package let bytes: [UInt8]
        package let etag: String
        package var properties: MirrorProperties
    }

    /// What goes wrong, of a hundred calls each.
    package struct Chaos: Sendable {
        package var faults = 0
        package var busy = 0
        /// It is done, and nobody hears of it.
        package var lostAnswers = 0
        package var wrongETags = 0
        package var truncated = 0
        package static let none = Chaos()
        package static let all = Chaos(faults: 6, busy: 4, lostAnswers: 8, wrongETags: 3, truncated: 3)

        package init(
            faults: Int = 0,
            busy: Int = 0,
            lostAnswers: Int = 0,
            wrongETags: Int = 0,
            truncated: Int = 0
        ) {
            self.faults = faults
            self.busy = busy
            self.lostAnswers = lostAnswers
            self.wrongETags = wrongETags
            self.truncated = truncated
        }
    }

    /// Of all parts but the last.
    private static let partSizeMin = 5 << 20

    private struct Upload {
        let key: String
        let properties: MirrorProperties
        var parts: [Int: [UInt8]] = [:]
    }

    private struct State {
        var keepsVersions: Bool
        var dropsMetadata = false
        var objects: [String: [Object]] = [:]
        var uploads: [String: Upload] = [:]
        var nextID = 1
        var chaos = Chaos.none
        var failure: MirrorFailure?
        var sparesProbes = false
        var writeFailure: MirrorFailure?
        var poisoned: [String: MirrorFailure] = [:]
        var gate: (@Sendable () async throws -> Void)?
        var isHolding = false
        var held: [(key: String, continuation: CheckedContinuation<Void, Never>)] = []
        var callCount = 0
        var putCount = 0
        var partCount = 0
        var headCount = 0
        var running: [String: Int] = [:]
        var overlapped = false
    }

    private let state: Mutex<State>
    private let random: SeededRandom

    package init(keepsVersions: Bool = true, seed: UInt64 = 1) {
        state = Mutex(State(keepsVersions: keepsVersions))
        random = SeededRandom(seed: seed)
    }

    // MARK: For tests

    package func set(_ chaos: Chaos) { state.withLock { $0.chaos = chaos } }
    /// All calls fail, or all but those of probes.
    package func fail(_ failure: MirrorFailure?, sparesProbes: Bool = false) {
        state.withLock { ($0.failure, $0.sparesProbes) = (failure, sparesProbes) }
    }
    /// Writes fail; reads, and with them probes, don't.
    package func failWrites(_ failure: MirrorFailure?) { state.withLock { $0.writeFailure = failure } }
    package func poison(_ key: String, _ isOn: Bool = true) {
        poison(key, isOn ? MirrorFailure(.fault, "This key never works.") : nil)
    }
    package func poison(_ key: String, _ failure: MirrorFailure?) {
        state.withLock { $0.poisoned[key] = failure }
    }

    /// Objects that are put from now on lose what is said of them.
    package func dropMetadata(_ isOn: Bool = true) { state.withLock { $0.dropsMetadata = isOn } }

    /// Every call passes here first: it may take its time, and fail.
    package func set(gate: (@Sendable () async throws -> Void)?) { state.withLock { $0.gate = gate } }

    /// Objects wait before they are taken, until `letOneGo`, or for good when the caller ends.
    package func hold(_ isOn: Bool) {
        let held = state.withLock { state in
            state.isHolding = isOn
            guard !isOn else { return [CheckedContinuation<Void, Never>]() }
            defer { state.held = [] }
            return state.held.map(\.continuation)
        }
        for continuation in held { continuation.resume() }
    }

    /// The keys of what waits, in the order in which it came.
    package var heldKeys: [String] { state.withLock { $0.held.map(\.key) } }

    /// Takes the object that has waited the longest.
    package func letOneGo() {
        let first = state.withLock { $0.held.isEmpty ? nil : $0.held.removeFirst() }
        first?.continuation.resume()
    }

    private func waitWhileHeld(_ key: String) async throws {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let mayGo = state.withLock { state in
                    guard state.isHolding, !Task.isCancelled else { return true }
                    state.held.append((key, continuation))
                    return false
                }
                if mayGo { continuation.resume() }
            }
        } onCancel: {
            let held = state.withLock { state in
                defer { state.held.removeAll { $0.key == key } }
                return state.held.filter { $0.key == key }
            }
            for entry in held { entry.continuation.resume() }
        }
        try Task.checkCancellation()
    }

    package func place(_ key: String, _ bytes: [UInt8]) {
        state.withLock { state in
            let object = Object(
                versionID: "foreign",
                isMarker: false,
                bytes: bytes,
                etag: Self.md5(bytes).hex,
                properties: MirrorProperties()
            )
            state.objects[key, default: []].append(object)
        }
    }
    package func lose(_ key: String) { state.withLock { $0.objects[key] = nil } }
    /// Oldest first.
    package func history(_ key: String) -> [Object] { state.withLock { $0.objects[key] ?? [] } }
    package var keys: [String] { state.withLock { $0.objects.filter { !$0.value.isEmpty }.keys.sorted() } }
    package var callCount: Int { state.withLock { $0.callCount } }
    package var putCount: Int { state.withLock { $0.putCount } }
    package var partCount: Int { state.withLock { $0.partCount } }
    package var headCount: Int { state.withLock { $0.headCount } }
    package var uploadCount: Int { state.withLock { $0.uploads.count } }
    /// Whether two writes of one key were ever under way at the same time.
    package var hasOverlapped: Bool { state.withLock { $0.overlapped } }

    private static func md5(_ bytes: [UInt8]) -> MD5Digest { bytes.withUnsafeBytes { MD5Hasher.hash($0) } }

    private func draw() -> Int { Int(random.next() % 100) }

    /// Goes wrong before anything was done.
    private func begin(_ key: String = "", isWrite: Bool = false, isProbe: Bool = false) async throws {
        let turns = random.next() % 3
        if let gate = state.withLock({ $0.gate }) {
            // In a simulated world nothing may yield: that leads out of it.
            try await gate()
        } else {
            for _ in 0..<turns { await Task.yield() }
        }
        try Task.checkCancellation()
        let number = draw()
        try state.withLock { state in
            state.callCount += 1
            if let failure = state.failure, !isProbe || !state.sparesProbes { throw failure }
            if isWrite, let failure = state.writeFailure { throw failure }
            if let failure = state.poisoned[key] { throw failure }
            if number < state.chaos.faults { throw MirrorFailure(.fault, "500") }
            if number < state.chaos.faults + state.chaos.busy {
                throw MirrorFailure(.busy, "SlowDown", retryAfter: .milliseconds(50))
            }
        }
    }

    /// Goes wrong after it was done.
    private func end() throws {
        let number = draw()
        if state.withLock({ number < $0.chaos.lostAnswers }) {
            throw MirrorFailure(.unreachable, "The connection was reset.")
        }
    }

    private func receive(_ body: MirrorBody) throws {
        guard Self.md5(body.bytes) == body.md5, SHA256Hasher.hash(body.bytes) == body.sha256 else {
            throw MirrorFailure(.mismatch, "BadDigest")
        }
        let number = draw()
        if state.withLock({ number < $0.chaos.truncated }) {
            throw MirrorFailure(.mismatch, "IncompleteBody")
        }
    }

    private static func store(_ key: String, _ object: Object, _ state: inout State) {
        var object = object
        if state.dropsMetadata { object.properties = MirrorProperties() }
        if state.keepsVersions {
            state.objects[key, default: []].append(object)
        } else {
            state.objects[key] = object.isMarker ? [] : [object]
        }
    }

    // MARK: Calls

    package func keepsVersions() async throws -> Bool {
        try await begin(isProbe: true)
        return state.withLock { $0.keepsVersions }
    }

    package func put(_ key: String, _ body: MirrorBody, _ properties: MirrorProperties) async throws
        -> MirrorReceipt
    {
        state.withLock { state in
            if state.running[key, default: 0] > 0 { state.overlapped = true }
            state.running[key, default: 0] += 1
        }
        defer { state.withLock { $0.running[key, default: 1] -= 1 } }
        try await begin(key, isWrite: true)
        try await waitWhileHeld(key)
        try receive(body)
        let object = state.withLock { state in
            let object = Object(
                versionID: "v\(state.nextID)",
                isMarker: false,
                bytes: body.bytes,
                etag: body.md5.hex,
                properties: properties
            )
            state.nextID += 1
            state.putCount += 1
            Self.store(key, object, &state)
            return object
        }
        try end()
        return receipt(object)
    }

    private func receipt(_ object: Object) -> MirrorReceipt {
        let isWrong = draw() < state.withLock { $0.chaos.wrongETags }
        return MirrorReceipt(
            etag: isWrong ? String(repeating: "0", count: 32) : object.etag,
            versionID: state.withLock { $0.keepsVersions } ? object.versionID : nil
        )
    }

    package func startUpload(_ key: String, _ properties: MirrorProperties) async throws -> String {
        try await begin(key, isWrite: true)
        return state.withLock { state in
            let id = "u\(state.nextID)"
            state.nextID += 1
            state.uploads[id] = Upload(key: key, properties: properties)
            return id
        }
    }

    package func putPart(_ key: String, upload: String, number: Int, _ body: MirrorBody) async throws
        -> MirrorPart
    {
        try await begin(key, isWrite: true)
        try receive(body)
        try state.withLock { state in
            guard state.uploads[upload]?.key == key else { throw MirrorFailure(.noUpload, "NoSuchUpload") }
            state.uploads[upload]?.parts[number] = body.bytes
            state.partCount += 1
        }
        try end()
        return MirrorPart(number: number, size: UInt64(body.bytes.count), etag: body.md5.hex)
    }

    package func parts(_ key: String, upload: String) async throws -> [MirrorPart] {
        try await begin(key)
        return try state.withLock { state in
            guard let found = state.uploads[upload] else { throw MirrorFailure(.noUpload, "NoSuchUpload") }
            return found.parts.map {
                MirrorPart(number: $0.key, size: UInt64($0.value.count), etag: Self.md5($0.value).hex)
            }
        }
    }

    package func complete(_ key: String, upload: String, _ parts: [MirrorPart]) async throws -> MirrorReceipt
    {
        try await begin(key, isWrite: true)
        let object = try state.withLock { state in
            guard let found = state.uploads[upload] else { throw MirrorFailure(.noUpload, "NoSuchUpload") }
            var (bytes, md5s) = ([UInt8](), [MD5Digest]())
            for (index, part) in parts.enumerated() {
                guard let stored = found.parts[part.number], Self.md5(stored).hex == part.etag else {
                    throw MirrorFailure(.rejected, "InvalidPart")
                }
                guard stored.count >= Self.partSizeMin || index == parts.count - 1 else {
                    throw MirrorFailure(.rejected, "EntityTooSmall")
                }
                bytes += stored
                md5s.append(Self.md5(stored))
            }
            let object = Object(
                versionID: "v\(state.nextID)",
                isMarker: false,
                bytes: bytes,
                etag: MD5Digest.etag(ofParts: md5s),
                properties: found.properties
            )
            state.nextID += 1
            state.uploads[upload] = nil
            Self.store(key, object, &state)
            return object
        }
        // As a 200 with an error behind it looks: nobody knows.
        try end()
        return receipt(object)
    }

    package func abort(_ key: String, upload: String) async throws {
        try await begin(key)
        state.withLock { $0.uploads[upload] = nil }
    }

    private func find(_ key: String, _ version: String?) -> Object? {
        state.withLock { state in
            let history = state.objects[key] ?? []
            guard let version else { return history.last.flatMap { $0.isMarker ? nil : $0 } }
            return history.first { $0.versionID == version && !$0.isMarker }
        }
    }

    package func head(_ key: String, version: String?) async throws -> MirrorHead? {
        try await begin(key)
        let keeps = state.withLock { state in
            state.headCount += 1
            return state.keepsVersions
        }
        return find(key, version).map {
            MirrorHead(
                size: UInt64($0.bytes.count),
                etag: $0.etag,
                versionID: keeps ? $0.versionID : nil,
                properties: $0.properties
            )
        }
    }

    package func get(_ key: String, version: String?, _ range: ByteRange) async throws -> [UInt8] {
        try await begin(key)
        guard let object = find(key, version) else { throw MirrorFailure(.rejected, "NoSuchKey") }
        return Array(object.bytes[Int(range.offset)..<Int(range.end)])
    }

    package func delete(_ key: String, version: String?) async throws -> String? {
        try await begin(key, isWrite: true)
        let id = state.withLock { state -> String? in
            if let version {
                state.objects[key]?.removeAll { $0.versionID == version }
                return nil
            }
            guard state.keepsVersions else {
                state.objects[key] = nil
                return nil
            }
            let marker = Object(
                versionID: "v\(state.nextID)",
                isMarker: true,
                bytes: [],
                etag: "",
                properties: MirrorProperties()
            )
            state.nextID += 1
            Self.store(key, marker, &state)
            return marker.versionID
        }
        try end()
        return id
    }

    package func setTags(_ key: String, version: String?, _ tags: [(String, String)]) async throws {
        try await begin(key, isWrite: true)
        try state.withLock { state in
            guard
                let index = state.objects[key]?.lastIndex(where: { version == nil || $0.versionID == version }
                )
            else { throw MirrorFailure(.rejected, "NoSuchKey") }
            state.objects[key]?[index].properties.tags = tags
        }
        try end()
    }

    package func tags(_ key: String, version: String?) async throws -> [(String, String)] {
        find(key, version)?.properties.tags ?? []
    }

    package func list(prefix: String, after: MirrorListPage.Marker?, limit: Int) async throws
        -> MirrorListPage
    {
        let page = try await listVersions(prefix: prefix, after: after, limit: limit)
        let current = page.entries.filter { $0.isLatest && !$0.isDeleteMarker }
        return MirrorListPage(entries: current, next: page.next)
    }

    package func listVersions(
        prefix: String,
        after: MirrorListPage.Marker?,
        limit: Int
    ) async throws -> MirrorListPage {
        try await begin()
        return state.withLock { state in
            var entries: [MirrorListed] = []
            let keys = state.objects.keys.filter { $0.hasPrefix(prefix) && $0 > after?.key ?? "" }.sorted()
            for key in keys {
                for (index, object) in (state.objects[key] ?? []).reversed().enumerated() {
                    entries.append(
                        MirrorListed(
                            key: key,
                            versionID: state.keepsVersions ? object.versionID : nil,
                            isDeleteMarker: object.isMarker,
                            isLatest: index == 0,
                            size: UInt64(object.bytes.count),
                            etag: object.etag
                        )
                    )
                }
                if entries.count >= limit, key != keys.last {
                    return MirrorListPage(entries: entries, next: .init(key: key, versionID: nil))
                }
            }
            return MirrorListPage(entries: entries, next: nil)
        }
    }
}
