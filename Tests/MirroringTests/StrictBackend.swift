import ContentHashing
import Mirroring
import StoreModel
import StoreTestKit
import Synchronization

/// A bucket in memory that checks what it is sent, and goes wrong when it is told to: seeded, so that a run can be
/// repeated.
final class StrictBackend: MirrorBackend {
    struct Object: Sendable {
        let versionID: String
        let isMarker: Bool
        let bytes: [UInt8]
        let etag: String
        var properties: MirrorProperties
    }

    /// What goes wrong, of a hundred calls each.
    struct Chaos: Sendable {
        var faults = 0
        var busy = 0
        /// It is done, and nobody hears of it.
        var lostAnswers = 0
        var wrongETags = 0
        var truncated = 0
        static let none = Chaos()
        static let all = Chaos(faults: 6, busy: 4, lostAnswers: 8, wrongETags: 3, truncated: 3)
    }

    private struct Upload {
        let key: String
        let properties: MirrorProperties
        var parts: [Int: [UInt8]] = [:]
    }

    private struct State {
        var keepsVersions: Bool
        var objects: [String: [Object]] = [:]
        var uploads: [String: Upload] = [:]
        var nextID = 1
        var chaos = Chaos.none
        var failure: MirrorFailure?
        var poisoned: Set<String> = []
        var callCount = 0
        var putCount = 0
        var partCount = 0
        var running: [String: Int] = [:]
        var overlapped = false
    }

    private let state: Mutex<State>
    private let random: SeededRandom

    init(keepsVersions: Bool = true, seed: UInt64 = 1) {
        state = Mutex(State(keepsVersions: keepsVersions))
        random = SeededRandom(seed: seed)
    }

    // MARK: For tests

    func set(_ chaos: Chaos) { state.withLock { $0.chaos = chaos } }
    func fail(_ failure: MirrorFailure?) { state.withLock { $0.failure = failure } }
    func poison(_ key: String, _ isOn: Bool = true) {
        state.withLock { state in
            if isOn { state.poisoned.insert(key) } else { state.poisoned.remove(key) }
        }
    }
    func place(_ key: String, _ bytes: [UInt8]) {
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
    func lose(_ key: String) { state.withLock { $0.objects[key] = nil } }
    /// Oldest first.
    func history(_ key: String) -> [Object] { state.withLock { $0.objects[key] ?? [] } }
    var keys: [String] { state.withLock { $0.objects.filter { !$0.value.isEmpty }.keys.sorted() } }
    var callCount: Int { state.withLock { $0.callCount } }
    var putCount: Int { state.withLock { $0.putCount } }
    var partCount: Int { state.withLock { $0.partCount } }
    var uploadCount: Int { state.withLock { $0.uploads.count } }
    /// Whether two writes of one key were ever under way at the same time.
    var hasOverlapped: Bool { state.withLock { $0.overlapped } }

    private static func md5(_ bytes: [UInt8]) -> MD5Digest { bytes.withUnsafeBytes { MD5Hasher.hash($0) } }

    private func draw() -> Int { Int(random.next() % 100) }

    /// Goes wrong before anything was done.
    private func begin(_ key: String = "") async throws {
        for _ in 0..<(random.next() % 3) { await Task.yield() }
        try Task.checkCancellation()
        let number = draw()
        try state.withLock { state in
            state.callCount += 1
            if let failure = state.failure { throw failure }
            if state.poisoned.contains(key) { throw MirrorFailure(.fault, "This key never works.") }
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

    private func receive(_ bytes: [UInt8], _ md5: MD5Digest, _ sha256: Digest) throws {
        guard Self.md5(bytes) == md5, SHA256Hasher.hash(bytes) == sha256 else {
            throw MirrorFailure(.mismatch, "BadDigest")
        }
        let number = draw()
        if state.withLock({ number < $0.chaos.truncated }) {
            throw MirrorFailure(.mismatch, "IncompleteBody")
        }
    }

    private static func store(_ key: String, _ object: Object, _ state: inout State) {
        if state.keepsVersions {
            state.objects[key, default: []].append(object)
        } else {
            state.objects[key] = object.isMarker ? [] : [object]
        }
    }

    // MARK: Calls

    func keepsVersions() async throws -> Bool {
        try await begin()
        return state.withLock { $0.keepsVersions }
    }

    func put(
        _ key: String,
        _ bytes: [UInt8],
        md5: MD5Digest,
        sha256: Digest,
        _ properties: MirrorProperties
    ) async throws -> MirrorReceipt {
        state.withLock { state in
            if state.running[key, default: 0] > 0 { state.overlapped = true }
            state.running[key, default: 0] += 1
        }
        defer { state.withLock { $0.running[key, default: 1] -= 1 } }
        try await begin(key)
        try receive(bytes, md5, sha256)
        let object = state.withLock { state in
            let object = Object(
                versionID: "v\(state.nextID)",
                isMarker: false,
                bytes: bytes,
                etag: md5.hex,
                properties: properties
            )
            state.nextID += 1
            state.putCount += 1
            Self.store(key, object, &state)
            return object
        }
        try end()
        let isWrong = draw() < state.withLock { $0.chaos.wrongETags }
        return MirrorReceipt(
            etag: isWrong ? String(repeating: "0", count: 32) : object.etag,
            versionID: state.withLock { $0.keepsVersions } ? object.versionID : nil
        )
    }

    func startUpload(_ key: String, _ properties: MirrorProperties) async throws -> String {
        try await begin(key)
        return state.withLock { state in
            let id = "u\(state.nextID)"
            state.nextID += 1
            state.uploads[id] = Upload(key: key, properties: properties)
            return id
        }
    }

    func putPart(
        _ key: String,
        upload: String,
        number: Int,
        _ bytes: [UInt8],
        md5: MD5Digest,
        sha256: Digest
    ) async throws -> MirrorPart {
        try await begin(key)
        try receive(bytes, md5, sha256)
        try state.withLock { state in
            guard state.uploads[upload]?.key == key else { throw MirrorFailure(.noUpload, "NoSuchUpload") }
            state.uploads[upload]?.parts[number] = bytes
            state.partCount += 1
        }
        try end()
        return MirrorPart(number: number, size: UInt64(bytes.count), etag: md5.hex)
    }

    func parts(_ key: String, upload: String) async throws -> [MirrorPart] {
        try await begin(key)
        return try state.withLock { state in
            guard let found = state.uploads[upload] else { throw MirrorFailure(.noUpload, "NoSuchUpload") }
            return found.parts.map {
                MirrorPart(number: $0.key, size: UInt64($0.value.count), etag: Self.md5($0.value).hex)
            }
        }
    }

    func complete(_ key: String, upload: String, _ parts: [MirrorPart]) async throws -> MirrorReceipt {
        try await begin(key)
        let object = try state.withLock { state in
            guard let found = state.uploads[upload] else { throw MirrorFailure(.noUpload, "NoSuchUpload") }
            var bytes: [UInt8] = []
            for part in parts {
                guard let stored = found.parts[part.number], Self.md5(stored).hex == part.etag else {
                    throw MirrorFailure(.rejected, "InvalidPart")
                }
                bytes += stored
            }
            let object = Object(
                versionID: "v\(state.nextID)",
                isMarker: false,
                bytes: bytes,
                etag: "\(Self.md5(bytes).hex)-\(parts.count)",
                properties: found.properties
            )
            state.nextID += 1
            state.uploads[upload] = nil
            Self.store(key, object, &state)
            return object
        }
        // As a 200 with an error behind it looks: nobody knows.
        try end()
        return MirrorReceipt(
            etag: object.etag,
            versionID: state.withLock { $0.keepsVersions } ? object.versionID : nil
        )
    }

    func abort(_ key: String, upload: String) async throws {
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

    func head(_ key: String, version: String?) async throws -> MirrorHead? {
        try await begin(key)
        let keeps = state.withLock { $0.keepsVersions }
        return find(key, version).map {
            MirrorHead(
                size: UInt64($0.bytes.count),
                etag: $0.etag,
                versionID: keeps ? $0.versionID : nil,
                properties: $0.properties
            )
        }
    }

    func get(_ key: String, version: String?, _ range: ByteRange) async throws -> [UInt8] {
        try await begin(key)
        guard let object = find(key, version) else { throw MirrorFailure(.rejected, "NoSuchKey") }
        return Array(object.bytes[Int(range.offset)..<Int(range.end)])
    }

    func delete(_ key: String, version: String?) async throws -> String? {
        try await begin(key)
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

    func setTags(_ key: String, version: String?, _ tags: [(String, String)]) async throws {
        try await begin(key)
        try state.withLock { state in
            guard
                let index = state.objects[key]?.lastIndex(where: { version == nil || $0.versionID == version }
                )
            else { throw MirrorFailure(.rejected, "NoSuchKey") }
            state.objects[key]?[index].properties.tags = tags
        }
        try end()
    }

    func tags(_ key: String, version: String?) async throws -> [(String, String)] {
        find(key, version)?.properties.tags ?? []
    }

    func list(prefix: String, after: MirrorListPage.Marker?, limit: Int) async throws -> MirrorListPage {
        let page = try await listVersions(prefix: prefix, after: after, limit: limit)
        let current = page.entries.filter { $0.isLatest && !$0.isDeleteMarker }
        return MirrorListPage(entries: current, next: page.next)
    }

    func listVersions(
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

/// Time that passes as soon as somebody waits for it.
final class HurriedClock: StoreClock {
    private let nanoseconds = Mutex<UInt64>(0)

    func monotonicNanoseconds() -> UInt64 { nanoseconds.withLock { $0 } }
    func now() -> Timestamp {
        Timestamp(milliseconds: 1_700_000_000_000 + Int64(monotonicNanoseconds() / 1_000_000))
    }
    func sleep(for duration: Duration) async throws {
        for _ in 0..<4 { await Task.yield() }
        try Task.checkCancellation()
        nanoseconds.withLock { $0 += duration.nanoseconds }
    }
}
