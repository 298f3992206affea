internal import BlobVolume
internal import Foundation
internal import Glibc
internal import StoreModel

/// The index of a store that is only read, copied to where SQLite may write: a directory of its own among the temporary
/// ones (`TMPDIR`), for this user alone, that goes when the store is closed.
struct CatalogCopy: Sendable {
    private let directory: String
    var path: String { directory + "/catalog.sqlite" }

    /// - Parameter source: the index; what is not there is not copied, and will be built from the log.
    /// - Throws: `.inputOutput`, `.fileAccessDenied`.
    init(of source: String) throws(StoreError) {
        let temporary = FileManager.default.temporaryDirectory.path
        var template = Array((temporary + "/holdfast-catalog-XXXXXX").utf8CString)
        guard mkdtemp(&template) != nil else {
            throw Self.failure(.system("mkdtemp", temporary), temporary)
        }
        directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // The seal tells whether the copy is as the index was closed. The shared memory is made anew.
        for suffix in ["", "-wal", "-sum"] where FileManager.default.fileExists(atPath: source + suffix) {
            do {
                try FileManager.default.copyItem(atPath: source + suffix, toPath: path + suffix)
                try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path + suffix)
            } catch {
                remove()
                let detail = DiskError(.inputOutput, call: "copy", path: source + suffix, detail: "\(error)")
                throw Self.failure(detail, temporary)
            }
        }
    }

    func remove() { try? FileManager.default.removeItem(atPath: directory) }

    private static func failure(_ error: DiskError, _ temporary: String) -> StoreError {
        StoreError(
            error.code == .permission || error.code == .readOnly ? .fileAccessDenied : .inputOutput,
            "The store is read where it can't be written, and its catalog can't be copied to \(quoted(temporary)): "
                + "\(error).",
            advice: "Name a directory with room for it: TMPDIR=DIR.",
            cause: error
        )
    }
}
