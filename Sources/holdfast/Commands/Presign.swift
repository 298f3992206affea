internal import ArgumentParser
internal import S3Client
internal import StoreModel

struct Presign: NetworkCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a URL by which anybody can get or put one object for a while.",
        discussion: """
            The URL carries a signature made with your keys; the keys are not in it. The server is not asked. \
            Whoever has the URL can use it until it expires.

              holdfast presign models/tiny.safetensors --endpoint https://store.example.org
              holdfast presign models/new.bin --method PUT --expires 10m
              curl -T new.bin "$(holdfast presign models/new.bin --method PUT)"
            """
    )

    enum Method: String, ExpressibleByArgument, CaseIterable, Sendable {
        case get = "GET"
        case put = "PUT"
    }

    @Argument(help: "BUCKET/KEY")
    var address: String

    @Option(name: .long, help: ArgumentHelp("How long it is valid: 90s, 30m, 12h, 7d.", valueName: "time"))
    var expires = "1h"

    @Option(name: .long, help: "What the URL allows.")
    var method: Method = .get

    @Option(
        name: [.customLong("version"), .customLong("version-id")],
        help: ArgumentHelp("One version, to be got.", valueName: "id")
    )
    var versionID: String?

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    private struct Report: Encodable {
        let url: String
        let method: String
        let expiresInSeconds: Int
    }

    func validate() throws {
        if method == .put && versionID != nil { throw ValidationError("--version is for --method GET.") }
        _ = try Self.seconds(expires)
    }

    func execute(_ output: Output) async throws {
        let place = try ObjectAddress(address)
        let key = try place.key()
        guard let target = try remote.target(unlessStore: options.store) else {
            throw CommandError(
                .usage,
                "A URL needs a server.",
                advice: "Name it with --endpoint URL or HOLDFAST_ENDPOINT."
            )
        }
        let session = try RemoteSession(target)
        defer { session.close() }
        let seconds = try Self.seconds(expires)
        let url = try await RemoteErrors.translate {
            try await session.client.presignedURL(
                method.rawValue,
                place.bucket.description,
                key,
                versionID: versionID,
                seconds: seconds
            )
        }
        try output.result(Report(url: url, method: method.rawValue, expiresInSeconds: seconds)) { [url] }
    }

    /// `90`, `90s`, `30m`, `12h`, `7d`.
    static func seconds(_ text: String) throws -> Int {
        let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
        let unit = text.last.flatMap { units[$0] }
        let digits = unit == nil ? text[...] : text.dropLast()
        guard !digits.isEmpty, digits.utf8.count <= 9, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = Int(digits)
        else { throw ValidationError("--expires \(text): write 90s, 30m, 12h or 7d.") }
        let seconds = number * (unit ?? 1)
        guard (1...S3Client.presignedSecondsMax).contains(seconds) else {
            throw ValidationError("--expires \(text): a URL can be valid for 1 second to 7 days.")
        }
        return seconds
    }
}
