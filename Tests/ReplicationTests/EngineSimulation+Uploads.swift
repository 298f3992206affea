import ObjectService
import StoreModel
import StoreTestKit

/// An upload in parts, as clients know it.
struct SimulatedUpload {
    enum Ending {
        case none
        /// It was completed or aborted, or nobody knows.
        case ended
    }

    let key: String
    let address: UploadAddress
    /// Acknowledged, in rising order of their numbers.
    var parts: [(part: UploadedPart, bytes: [UInt8])] = []
    var nextNumber = 1
    var ending = Ending.none
    /// A client is at it.
    var isTaken = true

    var bytes: [UInt8] { parts.flatMap(\.bytes) }
}

/// Objects that are put in parts, over the lives of many processes.
extension EngineSimulation {
    /// Parts may be small here: the disks are simulated.
    private func partObjects(_ engine: Engine) -> ObjectStore {
        var limits = PipelineLimits()
        limits.partSizeMin = 1
        return ObjectStore(
            storage: engine.replicator,
            random: fixture.random,
            clock: clock,
            limits: limits
        )
    }

    /// Begins an upload, or goes on with one that was left, perhaps by a process that died; ends it or leaves it.
    func upload(_ engine: Engine, _ key: String, _ life: Int, _ random: inout SeededGenerator) async {
        let objects = partObjects(engine)
        let left = uploads.indices.filter { !uploads[$0].isTaken && uploads[$0].ending == .none }
        let index: Int
        if !left.isEmpty, random.oneIn(2) {
            index = random.pick(left)
            uploads[index].isTaken = true
        } else {
            do {
                let made = try await objects.createUpload(
                    CreateUploadRequest(bucket: try engine.bucket, key: try ObjectKey(key))
                )
                guard self.life == life else { return }
                let address = UploadAddress(bucket: try engine.bucket, key: made.key, id: made.id)
                uploads.append(SimulatedUpload(key: key, address: address))
                index = uploads.count - 1
            } catch {
                return
            }
        }
        defer { uploads[index].isTaken = false }
        for _ in 0..<(1 + random.below(3)) where self.life == life {
            await putPart(index, objects, life, &random)
            if random.oneIn(3) { await pause(.milliseconds(random.below(60))) }
        }
        guard self.life == life, !uploads[index].parts.isEmpty else { return }
        switch random.below(5) {
        case 0..<3: await complete(index, objects, life)
        case 3: await abort(index, objects, life)
        default: break
        }
    }

    private func putPart(
        _ index: Int,
        _ objects: ObjectStore,
        _ life: Int,
        _ random: inout SeededGenerator
    ) async {
        let bytes = randomBytes(random.pick([1, 900, 5_000, 140_000]), seed: random.next())
        let number = uploads[index].nextNumber
        uploads[index].nextNumber += 1
        do {
            let part = try await objects.putPart(
                PutPartRequest(upload: uploads[index].address, number: number),
                body: BufferByteSource(bytes)
            )
            if self.life == life { uploads[index].parts.append((part, bytes)) }
        } catch {
            noteRefusal(error, index, life)
        }
    }

    /// The upload is there until it is ended: whoever says otherwise has lost it.
    private func noteRefusal(_ error: any Error, _ index: Int, _ life: Int) {
        world.note("refused: \(error)")
        guard isAlive(life), uploads[index].ending == .none, let error = error as? StoreError,
            [.noSuchUpload, .invalidPart, .invalidPartOrder].contains(error.code)
        else { return }
        fail(
            "The upload \(index) of \(uploads[index].key), with \(uploads[index].parts.count) parts: \(error)"
        )
    }

    private func complete(_ index: Int, _ objects: ObjectStore, _ life: Int) async {
        let upload = uploads[index]
        let bytes = upload.bytes
        let number = freshContent(bytes)
        time += 1
        let start = time
        let parts = upload.parts.map { ListedPart(number: $0.part.number, etag: $0.part.etag.hex) }
        do {
            let row = try await objects.complete(CompleteRequest(upload: upload.address, parts: parts))
            uploads[index].ending = .ended
            note(upload.key, start, isAnswered: self.life == life, .write(number))
            if self.life == life { acknowledge(row, upload.key, number, bytes) }
            count("uploads completed")
        } catch {
            if isUnknown(error, life) {
                uploads[index].ending = .ended
                note(upload.key, start, isAnswered: false, .write(number))
            } else {
                noteRefusal(error, index, life)
            }
        }
    }

    private func abort(_ index: Int, _ objects: ObjectStore, _ life: Int) async {
        do {
            try await objects.abort(uploads[index].address)
            uploads[index].ending = .ended
            count("uploads aborted")
        } catch {
            if isUnknown(error, life) {
                uploads[index].ending = .ended
            } else {
                noteRefusal(error, index, life)
            }
        }
    }

    /// With everything healed, what is left is completed: with every part that was acknowledged.
    func finishUploads(_ engine: Engine) async {
        let objects = partObjects(engine)
        for index in uploads.indices where uploads[index].ending == .none {
            if uploads[index].parts.isEmpty {
                await abort(index, objects, life)
            } else {
                await complete(index, objects, life)
                count("uploads completed at last")
            }
            if uploads[index].ending == .none {
                fail("The upload \(index) of \(uploads[index].key) can't be ended with everything healed.")
            }
        }
    }
}
