internal import ArgumentParser
internal import Foundation
internal import StoreModel

struct Get: NetworkCommand {
    static let configuration = CommandConfiguration(
        abstract: "Get an object, or everything under a prefix.",
        discussion: """
            Every byte is verified on its way, over the network with the checksum that the server knows; a damaged or missing copy is served from another volume and \
            repaired. The file appears under its name only when it is whole, verified and fsynced. An \
            interrupted get goes on where it stopped when the same command runs again.

            Without a file the key's last part names it, in the current directory. With - the bytes go to \
            standard output. An address that ends with a slash stands for all keys under it, and the target \
            is a directory: keys that would lead out of it (with '..', a leading slash and the like) are \
            skipped and reported, with exit code 12.

              holdfast get models/tiny.safetensors
              holdfast get models/tiny.safetensors old.safetensors --version ID
              holdfast get backups/run-7.tar - | tar x
              holdfast get models/llama/v2/ ./checkpoint
            """
    )

    @Argument(help: "BUCKET/KEY, or BUCKET/PREFIX/ for many.")
    var address: String

    @Argument(help: "The file, - for standard output, or the directory for a prefix.", completion: .file())
    var target: String?

    @OptionGroup var version: VersionOption

    @Flag(name: .long, help: "The address is one key, even when it ends with a slash.")
    var exact = false

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    var onlyReads: Bool { true }

    func execute(_ output: Output) async throws {
        let source = try ObjectAddress(address)
        let isTree = source.isPrefix && !exact && target != "-"
        if isTree {
            try await getTree(source, output: output)
        } else if target == "-" {
            try await getToStandardOutput(source, output: output)
        } else {
            try await getFile(source, output: output)
        }
    }

    private func getFile(_ source: ObjectAddress, output: Output) async throws {
        let key = try source.key()
        let (parent, name) = try place(for: key)
        let directory = try LocalDirectory.open(parent)
        let (report, progress) = try await withSession { session in
            let version = try await session.head(bucket: source.bucket, key: key, try self.version.choice())
            let progress = Progress(name, total: version.size, output: output)
            defer { progress.finish() }
            let resumed = try await Downloader(session: session)
                .fetch(version, into: directory, name: name, progress: progress)
            let path =
                parent.isEmpty || parent == "."
                ? name : parent.hasSuffix("/") ? parent + name : "\(parent)/\(name)"
            return (
                GetReport(
                    version: version,
                    file: path,
                    resumedBytes: resumed ?? 0,
                    isUnchanged: resumed == nil,
                    isVerified: resumed == nil || session.verifiesBytes || version.isVerifiable
                ),
                progress
            )
        }
        progress.finish()
        try output.result(report) {
            let what = "\(report.version.address), \(HumanFormat.size(report.version.size))"
            let file = HumanFormat.visible(report.file)
            if report.isUnchanged { return ["\(file) is \(what) already, bit for bit"] }
            let resumed =
                report.resumedBytes > 0
                ? ", resumed after \(HumanFormat.size(report.resumedBytes))" : ""
            let verified = report.isVerified ? "verified" : Self.notVerified
            return ["Got \(what), version \(report.version.versionName), \(verified): \(file)\(resumed)"]
        }
    }

    private func getToStandardOutput(_ source: ObjectAddress, output: Output) async throws {
        guard !output.isJSON else {
            throw CommandError(.usage, "--json and the object can't both go to standard output.")
        }
        let key = try source.key()
        try await withSession { session in
            let version = try await session.head(bucket: source.bucket, key: key, try self.version.choice())
            let progress = Progress(key.description, total: version.size, output: output)
            defer { progress.finish() }
            try await Downloader(session: session).stream(version, progress: progress)
            if !session.verifiesBytes, !version.isVerifiable {
                output.remark("Got \(version.address), \(Self.notVerified).")
            }
        }
    }

    private static let notVerified = "not verified (the server knows no checksum)"

    private func getTree(_ source: ObjectAddress, output: Output) async throws {
        guard version.text == nil else {
            throw CommandError(.usage, "--version is for one object, and \(quoted(address)) stands for many.")
        }
        guard let target else {
            throw CommandError(
                .usage,
                "\(quoted(address)) stands for many keys, and there is no directory to put them in.",
                advice: "Write: holdfast get \(address) DIR"
            )
        }
        let progress = Progress(source.description, total: nil, output: output)
        defer { progress.finish() }
        let report = try await withSession { session in
            // The bucket is looked up before the directory is made.
            let first = try await session.list(
                bucket: source.bucket,
                prefix: source.rest,
                isRecursive: true,
                continuation: nil
            )
            let directory = try LocalDirectory.openCreating(target)
            return try await TreeDownload(
                session: session,
                bucket: source.bucket,
                prefix: source.rest,
                directory: directory,
                progress: progress
            ).run(from: first)
        }
        progress.finish()
        try Transfer.show(report, verb: "Got", output: output)
    }

    /// The directory and the name that the file gets.
    private func place(for key: ObjectKey) throws -> (directory: String, name: String) {
        guard let target else {
            let name = String(decoding: key.lastComponent, as: UTF8.self)
            do {
                _ = try RelativePath(name)
            } catch {
                throw CommandError(
                    .usage,
                    "The key \(quoted(key.bytes)) does not end with a name that a file can have.",
                    advice: "Name the file: holdfast get BUCKET/KEY FILE"
                )
            }
            return (".", name)
        }
        guard !target.isEmpty, !target.hasSuffix("/"),
            target.split(separator: "/").last.map({ $0 != "." && $0 != ".." })
                ?? false
        else {
            throw CommandError(
                .isDirectory,
                "\(quoted(target)) is a directory, and a file is meant here.",
                advice: "Name the file in it."
            )
        }
        guard let slash = target.lastIndex(of: "/") else { return (".", target) }
        return (String(target[...slash]), String(target[target.index(after: slash)...]))
    }
}
