import Catalog
import StoreModel

/// S3's versioning as a dictionary of arrays: what the decider and the index together must come to.
struct ReferenceModel {
    struct Version: Equatable {
        let id: VersionID
        let isNull: Bool
        let isMarker: Bool
        let etag: String
        let size: UInt64
        var tags: [NamedValue]
        var isHeld = false
    }

    struct Bucket {
        var versioning: VersioningState
        /// Oldest first; no empty lists.
        var keys: [ObjectKey: [Version]] = [:]
        var settings: [String: [UInt8]] = [:]
    }

    struct Effect: Equatable {
        var made: VersionID?
        var removed: VersionID?
    }

    var buckets: [BucketName: Bucket] = [:]
    var documents: [DocumentName: [UInt8]] = [:]

    /// - Parameter id: what a new version gets.
    mutating func perform(_ command: CatalogCommand, id: VersionID) -> Result<Effect, Failure> {
        switch command {
        case .createBucket(let name, let versioning, _, _, _):
            guard buckets[name] == nil else { return .failure(.init(.bucketAlreadyExists)) }
            buckets[name] = Bucket(versioning: versioning)
            return .success(Effect())
        case .deleteBucket(let name):
            guard let bucket = buckets[name] else { return .failure(.init(.noSuchBucket)) }
            guard bucket.keys.isEmpty else { return .failure(.init(.bucketNotEmpty)) }
            buckets[name] = nil
            return .success(Effect())
        case .setVersioning(let name, let state):
            guard let bucket = buckets[name] else { return .failure(.init(.noSuchBucket)) }
            if state == .off && bucket.versioning != .off { return .failure(.init(.invalidArgument)) }
            buckets[name]?.versioning = state
            return .success(Effect())
        case .putObject(let put):
            guard buckets[put.bucket] != nil else { return .failure(.init(.noSuchBucket)) }
            if let failure = check(put.conditions, put.bucket, put.key) { return .failure(failure) }
            if isNullVersionHeld(put.bucket, put.key) { return .failure(.init(.objectLocked)) }
            return .success(add(put.bucket, put.key, id, put.content, put.tags))
        case .deleteObject(let name, let key, let conditions):
            guard buckets[name] != nil else { return .failure(.init(.noSuchBucket)) }
            if let failure = check(conditions, name, key) { return .failure(failure) }
            if isNullVersionHeld(name, key) { return .failure(.init(.objectLocked)) }
            return .success(delete(name, key, id))
        case .deleteVersion(let address, _, _):
            guard buckets[address.bucket] != nil else { return .failure(.init(.noSuchBucket)) }
            guard let version = find(address) else { return .success(Effect()) }
            guard !version.isHeld else { return .failure(.init(.objectLocked)) }
            remove(version.id, address.bucket, address.key)
            return .success(Effect(made: nil, removed: version.id))
        case .restore(let name, let key, let source):
            return existing(VersionAddress(bucket: name, key: key, selector: .id(source))).flatMap {
                if isNullVersionHeld(name, key) { return .failure(.init(.objectLocked)) }
                return .success(add(name, key, id, $0.etag, $0.size, $0.tags))
            }
        case .copy(let copy):
            return existing(copy.source).flatMap { source in
                guard buckets[copy.bucket] != nil else { return .failure(.init(.noSuchBucket)) }
                if let failure = check(copy.conditions, copy.bucket, copy.key) { return .failure(failure) }
                if isNullVersionHeld(copy.bucket, copy.key) { return .failure(.init(.objectLocked)) }
                return .success(
                    add(copy.bucket, copy.key, id, source.etag, source.size, copy.tags ?? source.tags)
                )
            }
        case .setTags(let address, let tags):
            return existing(address).map { version in
                let index = buckets[address.bucket]?.keys[address.key]?.firstIndex { $0.id == version.id }
                if let index { buckets[address.bucket]?.keys[address.key]?[index].tags = tags }
                return Effect(made: version.id, removed: nil)
            }
        case .setAttributes(let address, let changes, _, _):
            return existing(address).map { version in
                let index = buckets[address.bucket]?.keys[address.key]?.firstIndex { $0.id == version.id }
                for change in changes where change.tag == .legalHold {
                    if let index {
                        buckets[address.bucket]?.keys[address.key]?[index].isHeld = change.bytes == [1]
                    }
                }
                return Effect(made: version.id, removed: nil)
            }
        case .documents(let writes): return perform(writes)
        case .setBucketSettings(let name, let settings):
            guard buckets[name] != nil else { return .failure(.init(.noSuchBucket)) }
            for setting in settings { buckets[name]?.settings[setting.name] = setting.body }
            return .success(Effect())
        }
    }

    private mutating func perform(_ writes: [DocumentWrite]) -> Result<Effect, Failure> {
        for write in writes {
            let old = documents[write.name]
            let holds =
                switch write.expectation {
                case .any: true
                case .absent: old == nil
                case .present: old != nil
                case .equals(let body): old == body
                }
            guard holds else { return .failure(.init(write.refusal)) }
        }
        for write in writes {
            switch write.change {
            case .put(let body, _): documents[write.name] = body
            case .remove: documents[write.name] = nil
            case .keep: break
            }
        }
        return .success(Effect())
    }

    private func isNullVersionHeld(_ name: BucketName, _ key: ObjectKey) -> Bool {
        guard buckets[name]?.versioning != .enabled else { return false }
        return find(VersionAddress(bucket: name, key: key, selector: .null))?.isHeld ?? false
    }

    struct Failure: Error, Equatable {
        let code: StoreError.Code
        init(_ code: StoreError.Code) { self.code = code }
    }

    func find(_ address: VersionAddress) -> Version? {
        let versions = buckets[address.bucket]?.keys[address.key] ?? []
        switch address.selector {
        case .newest: return versions.last
        case .null: return versions.first(where: \.isNull)
        case .id(let id): return versions.first { $0.id == id }
        }
    }

    private func existing(_ address: VersionAddress) -> Result<Version, Failure> {
        guard buckets[address.bucket] != nil else { return .failure(.init(.noSuchBucket)) }
        guard let version = find(address) else {
            return .failure(.init(address.selector == .newest ? .noSuchKey : .noSuchVersion))
        }
        guard !version.isMarker else {
            return .failure(.init(address.selector == .newest ? .noSuchKey : .methodNotAllowed))
        }
        return .success(version)
    }

    private func check(_ conditions: Conditions, _ bucket: BucketName, _ key: ObjectKey) -> Failure? {
        let newest = buckets[bucket]?.keys[key]?.last
        let current = newest?.isMarker == true ? nil : newest
        if let match = conditions.ifMatch {
            guard let current else { return .init(.noSuchKey) }
            if case .oneOf(let list) = match, !list.contains(current.etag) {
                return .init(.preconditionFailed)
            }
        }
        if let match = conditions.ifNoneMatch, let current {
            switch match {
            case .any: return .init(.preconditionFailed)
            case .oneOf(let list): if list.contains(current.etag) { return .init(.preconditionFailed) }
            }
        }
        return nil
    }

    private mutating func add(
        _ bucket: BucketName,
        _ key: ObjectKey,
        _ id: VersionID,
        _ content: ObjectContent,
        _ tags: [NamedValue]
    ) -> Effect {
        add(bucket, key, id, content.etag, content.size, tags)
    }

    private mutating func add(
        _ name: BucketName,
        _ key: ObjectKey,
        _ id: VersionID,
        _ etag: String,
        _ size: UInt64,
        _ tags: [NamedValue]
    ) -> Effect {
        let isNull = buckets[name]?.versioning != .enabled
        let removed = isNull ? removeNull(name, key) : nil
        let version = Version(id: id, isNull: isNull, isMarker: false, etag: etag, size: size, tags: tags)
        buckets[name]?.keys[key, default: []].append(version)
        return Effect(made: id, removed: removed)
    }

    private mutating func delete(_ name: BucketName, _ key: ObjectKey, _ id: VersionID) -> Effect {
        switch buckets[name]?.versioning {
        case .enabled:
            buckets[name]?.keys[key, default: []].append(
                Version(id: id, isNull: false, isMarker: true, etag: "", size: 0, tags: [])
            )
            return Effect(made: id, removed: nil)
        case .suspended:
            let removed = removeNull(name, key)
            buckets[name]?.keys[key, default: []].append(
                Version(id: id, isNull: true, isMarker: true, etag: "", size: 0, tags: [])
            )
            return Effect(made: id, removed: removed)
        case .off, nil:
            return Effect(made: nil, removed: removeNull(name, key))
        }
    }

    private mutating func removeNull(_ name: BucketName, _ key: ObjectKey) -> VersionID? {
        guard let old = find(VersionAddress(bucket: name, key: key, selector: .null)) else { return nil }
        remove(old.id, name, key)
        return old.id
    }

    private mutating func remove(_ id: VersionID, _ name: BucketName, _ key: ObjectKey) {
        buckets[name]?.keys[key]?.removeAll { $0.id == id }
        if buckets[name]?.keys[key]?.isEmpty == true { buckets[name]?.keys[key] = nil }
    }
}
