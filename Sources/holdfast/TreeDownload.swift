internal import Foundation
internal import StoreModel

/// Downloads every key under a prefix into a directory, several at a time, page by page. Keys that are no
/// safe relative path are skipped and reported.
struct TreeDownload: Sendable {
    static let concurrencyMax = 4

    private enum Outcome: Sendable {
        case fetched(UInt64, isVerified: Bool)
        case unchanged
        case skipped(TransferReport.Item)
        case failed(TransferReport.Item)
    }

    let session: any ObjectSession
    let bucket: BucketName
    let prefix: String
    let directory: LocalDirectory
    let progress: Progress

    func run(from first: ListingPage) async throws -> TransferReport {
        var report = TransferReport()
        var page = first
        while true {
            let versions = page.entries.compactMap { entry in
                if case .object(let version) = entry { version } else { nil }
            }
            progress.extend(by: versions.reduce(0) { $0 + $1.size })
            try await forEachConcurrently(versions, limit: Self.concurrencyMax) { version in
                try await fetch(version)
            } receive: { outcome in
                switch outcome {
                case .fetched(let size, let isVerified):
                    report.transferred += 1
                    report.bytes += size
                    report.notVerified += isVerified ? 0 : 1
                case .unchanged: report.unchanged += 1
                case .skipped(let item): report.skipped.append(item)
                case .failed(let item): report.failed.append(item)
                }
            }
            guard let continuation = page.continuation else { break }
            page = try await session.list(
                bucket: bucket,
                prefix: prefix,
                isRecursive: true,
                continuation: continuation
            )
        }
        report.skipped.sort { $0.name < $1.name }
        report.failed.sort { $0.name < $1.name }
        return report
    }

    private func fetch(_ version: VersionReport) async throws -> Outcome {
        let key = version.key.description
        do {
            try Task.checkCancellation()
            let path: RelativePath
            do {
                path = try RelativePath(
                    String(decoding: version.key.bytes.dropFirst(prefix.utf8.count), as: UTF8.self)
                )
            } catch {
                progress.skip(version.size)
                return .skipped(.init(name: key, code: "unsafeName", reason: error.reason))
            }
            var place = directory
            for component in path.directories { place = try place.directory(component, creating: true) }
            // Listings carry no details of a version; the id makes it the one that was listed.
            let whole = try await session.head(
                bucket: bucket,
                key: version.key,
                version.id == .unknown ? .newest : .id(version.id)
            )
            let resumed = try await Downloader(session: session)
                .fetch(whole, into: place, name: path.name, progress: progress)
            return resumed == nil
                ? .unchanged : .fetched(whole.size, isVerified: session.verifiesBytes || whole.isVerifiable)
        } catch let error as CommandError where error.code != .brokenPipe {
            return .failed(.init(name: key, code: error.code.rawValue, reason: error.message))
        } catch let error as StoreError where Transfer.isAboutOneKey(error) {
            return .failed(.init(name: key, code: error.code.description, reason: error.message))
        }
    }
}
