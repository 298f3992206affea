internal import ContentHashing
internal import Foundation
internal import S3Protocol
internal import StoreModel

/// What a killed `put` leaves of its upload in parts: which one it was, so that the same command goes on with it.
///
/// One file for each target and access key below `$XDG_STATE_HOME/holdfast/uploads` (`~/.local/state/…`). No S3 call tells what an upload
/// was begun with (metadata, tags, type), nor by whom; so uploads of others, and of other commands, are never taken up.
///
/// Invariants:
/// 1. A note is written before the upload's first part is sent, and goes when the upload is completed or ended.
/// 2. One process works on a target's note: it is locked with flock(2). Who comes second begins an upload of its own.
/// 3. A note is only a hint. What was sent is asked of the server, and each part is compared with the bytes that are here now.
/// 4. An upload that could not be ended stays in the note until it is: every later put of the target tries again.
/// 5. Only the user may read notes: they tell names and metadata.
/// 6. Nothing here fails an upload: where no note can be kept, the upload can't be gone on with, that is all.
final class PendingUpload: Sendable {
    /// What the upload was begun with.
    struct Terms: Codable, Equatable, Sendable {
        var formatVersion = 2
        let endpoint: String
        /// Whose upload it is.
        let accessKey: String
        let bucket: String
        let key: String
        let size: UInt64
        let partSize: Int
        let contentType: String?
        /// Names and values by turns.
        let metadata: [String]
        let tags: [String]
    }

    struct Upload: Codable, Equatable, Sendable {
        let uploadID: String
        /// How the server said that it encrypts the object (`S3BegunUpload`).
        let encryption: String
    }

    /// What an earlier run has left.
    struct Earlier: Sendable {
        let upload: Upload?
        /// Whether it was begun with the same terms.
        let isSame: Bool
        /// The ids of uploads that are only to be ended.
        let leftovers: [String]

        /// The ids of all uploads.
        var uploadIDs: [String] { leftovers + (upload.map { [$0.uploadID] } ?? []) }
    }

    /// What is in the file. The first format had no `encryption` and no `leftovers`: its terms are never the same.
    private struct Note: Codable {
        let terms: Terms
        var uploadID: String?
        var encryption: String?
        var leftovers: [String]?
    }

    private static let sizeMax = 64 << 10
    /// Of uploads that can't be ended: the oldest make room.
    private static let leftoverCountMax = 16

    private let file: LocalFile
    private let directory: LocalDirectory
    private let name: String
    private let terms: Terms

    private init(file: LocalFile, directory: LocalDirectory, name: String, terms: Terms) {
        self.file = file
        self.directory = directory
        self.name = name
        self.terms = terms
    }

    /// Takes the note of a target; nil where none can be kept, or another process has it.
    /// - Parameter creates: else nil as well where there is none.
    static func open(_ terms: Terms, creates: Bool = true) async -> PendingUpload? {
        guard let place = place else { return nil }
        let target = [terms.endpoint, terms.accessKey, terms.bucket, terms.key].joined(separator: "\u{0}")
        let name = SHA256Hasher.hash([UInt8](target.utf8)).hex + ".json"
        return try? await Blocking.run {
            let directory =
                creates
                ? try LocalDirectory.openCreating(place, mode: 0o700) : try LocalDirectory.open(place)
            while true {
                let file = try directory.file(name, flags: O_RDWR | (creates ? O_CREAT : 0), mode: 0o600)
                guard flock(file.descriptor, LOCK_EX | LOCK_NB) == 0 else { return nil }
                // Whoever had it before may have taken the name away.
                guard try directory.isNamed(file, name) else { continue }
                return PendingUpload(file: file, directory: directory, name: name, terms: terms)
            }
        }
    }

    private static var place: String? {
        let environment = ProcessInfo.processInfo.environment
        if let state = environment["XDG_STATE_HOME"], state.hasPrefix("/") {
            return state + "/holdfast/uploads"
        }
        guard let home = environment["HOME"], home.hasPrefix("/") else { return nil }
        return home + "/.local/state/holdfast/uploads"
    }

    /// - Returns: nil where there is nothing that can be read.
    func earlier() async -> Earlier? {
        let (file, terms) = (file, terms)
        let bytes = try? await Blocking.run { try file.read(upTo: Self.sizeMax, at: 0) }
        guard let bytes, let note = try? JSONDecoder().decode(Note.self, from: Data(bytes)) else {
            return nil
        }
        return Earlier(
            upload: note.uploadID.map { Upload(uploadID: $0, encryption: note.encryption ?? "") },
            isSame: note.terms == terms,
            leftovers: note.leftovers ?? []
        )
    }

    /// Notes the upload whose parts are about to be sent, and those that could not be ended. A power cut may lose it: a hint
    /// needs no fsync. Nothing to note: the note goes.
    func keep(_ upload: Upload?, leftovers: [String]) async {
        guard upload != nil || !leftovers.isEmpty else { return await remove() }
        let note = Note(
            terms: terms,
            uploadID: upload?.uploadID,
            encryption: upload?.encryption,
            leftovers: leftovers.suffix(Self.leftoverCountMax)
        )
        let file = file
        _ = try? await Blocking.run {
            // Never cut before it is written: whoever ends in between leaves what was there, or blanks behind what is new.
            let bytes = [UInt8](try JSONOutput.document(note).utf8)
            let before = try file.read(upTo: Self.sizeMax, at: 0).count
            try file.rewind()
            try file.write((bytes + [UInt8](repeating: 0x20, count: max(0, before - bytes.count)))[...])
            try file.truncate(to: UInt64(bytes.count))
        }
    }

    private func remove() async {
        let (directory, name) = (directory, name)
        _ = try? await Blocking.run { directory.remove(name) }
    }
}
