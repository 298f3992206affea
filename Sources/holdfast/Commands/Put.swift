internal import ArgumentParser
internal import Foundation
internal import ObjectService
internal import StoreModel

struct Put: NetworkCommand {
    static let configuration = CommandConfiguration(
        abstract: "Store a file, standard input, or a whole directory.",
        discussion: """
            The command returns when the bytes and their record are fsynced on enough volumes; before that \
            nothing is visible. Bytes that the store already has are not stored a second time.

            A file to BUCKET/KEY is one object. To BUCKET, or to an address that ends with a slash, the \
            file's name completes the key.

            A large file that is sent to a server goes in parts. When the command is killed and runs again, it \
            goes on with the parts that the server has (--no-resume: it begins anew).

            A directory to BUCKET/PREFIX/ stores every file below it under its path, eight at a time, and \
            skips files that are the newest version already (same size and SHA-256). Links to files are \
            read; links to directories and special files are skipped and reported (exit code 12).

              holdfast put tiny.safetensors models/tiny/
              tar c run-7 | holdfast put - backups/run-7.tar
              holdfast put ./checkpoint models/llama/v2/
              holdfast put config.json models/config.json --if-none-match
            """
    )

    @Argument(help: "A file, a directory, or - for standard input.", completion: .file())
    var source: String

    @Argument(help: "BUCKET/KEY, or BUCKET/PREFIX/ for a directory.")
    var address: String

    @Flag(name: .long, help: "Make the bucket when it is missing.")
    var createBucket = false

    @Option(name: .long, help: ArgumentHelp("The media type to store.", valueName: "type"))
    var contentType: String?

    @Option(
        name: .customLong("meta"),
        help: ArgumentHelp("User metadata; may be repeated.", valueName: "name=value")
    )
    var metadata: [String] = []

    @Option(name: .customLong("tag"), help: ArgumentHelp("A tag; may be repeated.", valueName: "name=value"))
    var tags: [String] = []

    @Flag(name: .long, help: "Only when the key has no object yet.")
    var ifNoneMatch = false

    @Option(name: .long, help: ArgumentHelp("Only when the newest version has this ETag.", valueName: "etag"))
    var ifMatch: String?

    @Option(
        name: .customLong("sha256"),
        help: ArgumentHelp("What the bytes must hash to; otherwise nothing is stored.", valueName: "hex")
    )
    var expectedSHA256: String?

    @Flag(name: .long, help: "The address is the whole key, even when it ends with a slash.")
    var exact = false

    @Flag(
        name: .long,
        inversion: .prefixedNo,
        help: "Go on with an upload to a server that a killed run of the same command has left."
    )
    var resume = true

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let target = try ObjectAddress(address)
        let template = try request(for: target.bucket)
        if source != "-" && isDirectory(source) {
            try await putTree(to: target, template: template, output: output)
        } else {
            try await putFile(to: target, template: template, output: output)
        }
    }

    private func putFile(to target: ObjectAddress, template: UploadRequest, output: Output) async throws {
        var request = template
        request.key = try key(of: target)
        let progress = Progress(request.key.description, total: nil, output: output)
        defer { progress.finish() }
        let bytes: any ByteSource
        if source == "-" {
            let input = try StandardInputSource(progress: progress)
            request.expectedSize = input.size
            bytes = input
        } else {
            let file = try await FileSource.open(source, progress: progress)
            request.expectedSize = file.size
            bytes = file
        }
        if let size = request.expectedSize { progress.extend(by: size) }
        let prepared = request
        let version = try await withSession { session in
            try await makeBucketIfAsked(prepared.bucket, in: session)
            return try await session.put(prepared, from: bytes)
        }
        progress.finish()
        let report = PutReport(version: version, isStored: true, resumedBytes: version.resumedBytes)
        try output.result(report) {
            let resumed =
                version.resumedBytes > 0 ? ", resumed after \(HumanFormat.size(version.resumedBytes))" : ""
            let size = HumanFormat.size(version.size)
            return ["Stored \(version.address), \(size), version \(version.versionName)\(resumed)"]
        }
    }

    private func putTree(to target: ObjectAddress, template: UploadRequest, output: Output) async throws {
        guard target.isPrefix else {
            throw CommandError(
                .isDirectory,
                "\(quoted(source)) is a directory, and \(quoted(target.description)) names one object.",
                advice: "For a prefix, end it with a slash: \(target)/"
            )
        }
        guard !ifNoneMatch, ifMatch == nil, expectedSHA256 == nil else {
            throw CommandError(
                .usage,
                "--if-match, --if-none-match and --sha256 are for one object, not a directory."
            )
        }
        let directory = source
        let tree = try await Blocking.run { try UploadTree(directory) }
        let progress = Progress(
            HumanFormat.count(tree.entries.count, "file"),
            total: tree.byteCount,
            output: output
        )
        defer { progress.finish() }
        let report = try await withSession { session in
            try await makeBucketIfAsked(target.bucket, in: session)
            return try await TreeUpload(
                session: session,
                template: template,
                prefix: target.rest,
                progress: progress
            )
            .run(tree)
        }
        progress.finish()
        try Transfer.show(report, verb: "Stored", output: output)
    }

    private func request(for bucket: BucketName) throws -> UploadRequest {
        // The key stands here only until the real one is known.
        var request = UploadRequest(bucket: bucket, key: try ObjectKey("-"))
        request.contentType = contentType
        request.userMetadata = try metadata.map { text in
            let pair = try Self.pair(text, option: "--meta")
            try Self.checkHeader(pair, text)
            return pair
        }
        request.tags = try tags.map { try Self.pair($0, option: "--tag") }
        request.ifMatch = ifMatch
        request.onlyIfAbsent = ifNoneMatch
        request.resumes = resume
        if let text = expectedSHA256 {
            guard let digest = Digest(hex: text) else {
                throw CommandError(.usage, "--sha256 \(quoted(text)): give 64 hexadecimal digits.")
            }
            request.expectedSHA256 = digest
        }
        return request
    }

    private static func pair(_ text: String, option: String) throws -> (name: String, value: String) {
        guard let separator = text.firstIndex(of: "="), separator > text.startIndex else {
            throw CommandError(.usage, "\(option) \(quoted(text)): write name=value.")
        }
        return (String(text[..<separator]), String(text[text.index(after: separator)...]))
    }

    /// Metadata travels in headers of HTTP: what none can hold is not stored either.
    private static func checkHeader(_ pair: (name: String, value: String), _ text: String) throws {
        let isToken = pair.name.utf8.allSatisfy { byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
            default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
            }
        }
        guard isToken else {
            throw CommandError(
                .usage,
                "--meta \(quoted(text)): the name \(quoted(pair.name)) can't stand in a header of HTTP.",
                advice:
                    "Names have letters, digits and !#$%&'*+-.^_`|~ of ASCII; values may have any letters."
            )
        }
        guard pair.value.utf8.allSatisfy({ ($0 >= 0x20 && $0 != 0x7F) || $0 == 0x09 }) else {
            throw CommandError(
                .usage,
                "--meta \(quoted(text)): the value of \(quoted(pair.name)) has control characters."
            )
        }
    }

    private func key(of target: ObjectAddress) throws -> ObjectKey {
        guard target.isPrefix, !exact || target.rest.isEmpty else { return try target.key() }
        guard source != "-", let name = source.split(separator: "/").last, name != "..", name != "." else {
            throw CommandError(
                .usage,
                "\(quoted(address)) is not a whole key, and \(quoted(source)) has no name to complete it.",
                advice: "Write BUCKET/KEY; for a key that ends with a slash add --exact."
            )
        }
        return try ObjectKey(target.rest + name)
    }

    private func makeBucketIfAsked(_ bucket: BucketName, in session: any ObjectSession) async throws {
        do {
            try await session.requireBucket(bucket)
        } catch let error as StoreError where error.code == .noSuchBucket {
            guard createBucket else {
                throw StoreError(
                    .noSuchBucket,
                    error.message,
                    advice: "Make it with 'holdfast bucket create \(bucket)', or put with --create-bucket."
                )
            }
            _ = try await session.createBucket(bucket, versioning: .enabled)
        }
    }

    private func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }
}
