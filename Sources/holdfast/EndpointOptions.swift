internal import ArgumentParser
internal import CurlTransport
internal import Foundation
internal import S3Client
internal import StoreModel

/// The options of commands that may ask a server in place of a store's directory. Secrets come from the environment or
/// from files, never from the command line, which every process can see.
struct EndpointOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Ask this S3 server in place of a directory (default: $HOLDFAST_ENDPOINT). Keys: "
                + "$HOLDFAST_ACCESS_KEY and $HOLDFAST_SECRET_KEY, AWS's variables, or files.",
            valueName: "url"
        )
    )
    var endpoint: String?

    @Option(
        name: .long,
        help: ArgumentHelp("A file of AWS's form with the keys.", valueName: "file"),
        completion: .file()
    )
    var credentialsFile: String?

    @Option(name: .long, help: ArgumentHelp("The server's region (default: us-east-1).", valueName: "name"))
    var region: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A PEM file that is trusted in place of the system's authorities.",
            valueName: "file"
        ),
        completion: .file()
    )
    var caFile: String?

    @Option(
        name: .long,
        help: ArgumentHelp("How the server wants buckets named: path or virtual-host.", valueName: "style")
    )
    var addressingStyle: AddressingStyle = .path

    enum AddressingStyle: String, ExpressibleByArgument, CaseIterable, Sendable {
        case path
        case virtualHost = "virtual-host"
    }

    private static func environment(_ names: String...) -> String? {
        let values = ProcessInfo.processInfo.environment
        return names.lazy.compactMap { values[$0] }.first { !$0.isEmpty }
    }

    /// A store that is named on the command line counts more than a server in the environment.
    func endpointText(unlessStore store: String?) -> String? {
        endpoint ?? Self.environmentEndpoint(unlessStore: store)
    }

    static func environmentEndpoint(unlessStore store: String?) -> String? {
        store == nil ? environment("HOLDFAST_ENDPOINT") : nil
    }

    func target(unlessStore store: String?) throws -> RemoteTarget? {
        guard store == nil || endpoint == nil else {
            throw CommandError(.usage, "--store and --endpoint: one store at a time.")
        }
        guard let url = endpointText(unlessStore: store) else { return nil }
        do {
            let endpoint = try S3Endpoint(
                url: url,
                region: region ?? Self.environment("AWS_REGION", "AWS_DEFAULT_REGION") ?? "us-east-1",
                style: addressingStyle == .path ? .path : .virtualHost
            )
            let authorities = caFile ?? Self.environment("AWS_CA_BUNDLE")
            if let authorities { try LocalFile.checkReadable(authorities) }
            return RemoteTarget(
                endpoint: endpoint,
                credentials: try credentials(),
                authorityFile: authorities
            )
        } catch let error as S3ClientError {
            throw CommandError(.usage, error.message)
        }
    }

    private func credentials() throws -> any S3CredentialsProvider {
        let profile = Self.environment("AWS_PROFILE") ?? "default"
        if let credentialsFile { return CredentialsFile(path: credentialsFile, profile: profile) }
        if let key = Self.environment("HOLDFAST_ACCESS_KEY"),
            let secret = Self.environment("HOLDFAST_SECRET_KEY")
        {
            return FixedCredentials(S3Credentials(accessKey: key, secret: secret))
        }
        if let key = Self.environment("AWS_ACCESS_KEY_ID"),
            let secret = Self.environment("AWS_SECRET_ACCESS_KEY")
        {
            let token = Self.environment("AWS_SESSION_TOKEN")
            return FixedCredentials(S3Credentials(accessKey: key, secret: secret, token: token))
        }
        let home = Self.environment("HOME").map { $0 + "/.aws/credentials" }
        if let path = Self.environment("AWS_SHARED_CREDENTIALS_FILE") ?? home,
            FileManager.default.fileExists(atPath: path)
        {
            return CredentialsFile(path: path, profile: profile)
        }
        throw CommandError(
            .usage,
            "There are no keys to sign requests with.",
            advice: "Set HOLDFAST_ACCESS_KEY and HOLDFAST_SECRET_KEY, or give --credentials-file FILE."
        )
    }
}

/// A server, and what to ask it with.
struct RemoteTarget: Sendable {
    let endpoint: S3Endpoint
    let credentials: any S3CredentialsProvider
    let authorityFile: String?

    /// - Parameter transferCount: transfers to the server at the same time; nil: the transport's own bound.
    func transport(transferCount: Int? = nil) throws -> CurlTransport {
        var configuration = TransportConfiguration()
        if let transferCount {
            configuration.transferCountPerHostMax = transferCount
            configuration.transferCountMax = transferCount
        }
        configuration.authorityFile = authorityFile
        configuration.userAgent = "holdfast/\(Version.number)"
        do {
            return try CurlTransport(configuration)
        } catch {
            throw StoreError(.internalFault, error.message, cause: error)
        }
    }
}
