internal import Foundation
internal import S3Client
internal import StoreModel

/// Uploads what `UploadTree` found, several files at a time. A file that fails does not stop the others, but
/// for failures that every other file would meet as well.
struct TreeUpload: Sendable {
    /// Enough to share the store's group commits; each holds a few chunks in memory.
    static let concurrencyMax = 8

    private enum Outcome: Sendable {
        case stored(UInt64)
        case unchanged
        case failed(TransferReport.Item)
    }

    let session: any ObjectSession
    let template: UploadRequest
    /// Empty, or ends with a slash.
    let prefix: String
    let progress: Progress

    func run(_ tree: UploadTree) async throws -> TransferReport {
        var report = TransferReport()
        report.skipped = tree.skipped
        report.failed = tree.failed
        try await forEachConcurrently(tree.entries, limit: Self.concurrencyMax) { entry in
            try await upload(entry)
        } receive: { outcome in
            switch outcome {
            case .stored(let size):
                report.transferred += 1
                report.bytes += size
            case .unchanged: report.unchanged += 1
            case .failed(let item): report.failed.append(item)
            }
        }
        report.failed.sort { $0.name < $1.name }
        return report
    }

    private func upload(_ entry: UploadTree.Entry) async throws -> Outcome {
        do {
            try Task.checkCancellation()
            var request = template
            request.key = try ObjectKey(prefix + entry.name)
            if let version = try await unchanged(entry, request: request) {
                progress.skip(entry.size)
                // It was put before; whether its bucket has acknowledged it is another question.
                try await session.waitForMirrors(version)
                return .unchanged
            }
            let source = try await FileSource.open(entry.path, progress: progress)
            request.expectedSize = source.size
            return .stored(try await session.put(request, from: source).size)
        } catch let error as CommandError {
            return .failed(.init(name: entry.name, code: error.code.rawValue, reason: error.message))
        } catch let error as StoreError where Transfer.isAboutOneKey(error) {
            return .failed(.init(name: entry.name, code: error.code.description, reason: error.message))
        }
    }

    /// The sizes are compared first: only a file of the same size is worth hashing.
    /// - Returns: the newest version, when it has the file's bytes.
    private func unchanged(_ entry: UploadTree.Entry, request: UploadRequest) async throws
        -> VersionReport?
    {
        do {
            let newest = try await session.head(bucket: request.bucket, key: request.key, .newest)
            guard newest.size == entry.size else { return nil }
            let file = try await Blocking.run { try LocalFile.openForReading(entry.path) }
            return try await LocalCopy.isEqual(file, newest, session) ? newest : nil
        } catch let error as StoreError where error.code == .noSuchKey || error.code == .methodNotAllowed {
            return nil
        }
    }
}

/// What the transfers of many files have in common.
enum Transfer {
    /// Whether the other keys may still do well.
    static func isAboutOneKey(_ error: StoreError) -> Bool {
        switch error.code {
        case .invalidKey, .keyTooLong, .noSuchKey, .noSuchVersion, .methodNotAllowed, .preconditionFailed,
            .conflict, .badDigest, .entityTooLarge, .metadataTooLarge, .dataUnavailable, .outcomeUnknown,
            .invalidArgument, .encryptionKeyMissing, .encryptionKeyUnexpected, .objectLocked,
            .notMirrored:
            true
        // A policy may be about one key; a key to sign with that is not known or wrong is about all.
        case .accessDenied: (error.cause as? S3ClientError).map { $0.code == "AccessDenied" } ?? true
        default: false
        }
    }

    /// Prints the result and reports by the exit code what was left out.
    static func show(_ report: TransferReport, verb: String, output: Output) throws {
        try output.result(report) {
            var parts = [
                "\(verb) \(HumanFormat.count(report.transferred, "file")) (\(HumanFormat.size(report.bytes)))"
            ]
            if report.notVerified > 0 {
                parts.append("\(report.notVerified) not verified: the server knows no checksum")
            }
            if report.unchanged > 0 { parts.append("\(report.unchanged) unchanged") }
            if !report.skipped.isEmpty { parts.append("\(report.skipped.count) skipped") }
            if !report.failed.isEmpty { parts.append("\(report.failed.count) failed") }
            return [parts.joined(separator: ", ")]
        }
        for item in report.skipped { output.warning("skipped \(quoted(item.name)): \(item.reason)") }
        for item in report.failed { output.warning("failed \(quoted(item.name)): \(item.reason)") }
        let late = report.failed.count { $0.code == StoreError.Code.notMirrored.description }
        if late > 0, late == report.failed.count, report.skipped.isEmpty {
            throw StoreError(
                .notMirrored,
                "\(HumanFormat.count(late, "file")) stored, but a mirror that the bucket waits for does not have all of it yet.",
                advice: "Repeating the command waits for the same versions."
            )
        }
        guard report.skipped.isEmpty && report.failed.isEmpty else {
            throw CommandError(
                .partlyDone,
                "\(HumanFormat.count(report.skipped.count, "name")) skipped, \(report.failed.count) failed; "
                    + "all others are done."
            )
        }
    }
}
