package import CurlTransport
internal import S3Protocol
internal import StoreModel

/// Where an S3 server is, and how it wants to be asked.
package struct S3Endpoint: Hashable, Sendable, CustomStringConvertible {
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
    package enum Style: String, Sendable {
        /// `https://host/bucket/key`
        case path
        /// `https://bucket.host/key`
        case virtualHost
    }

    package let origin: HTTPOrigin
    /// What stands before the bucket: empty, or a slash and more, without one at the end.
    package let basePath: String
    package let region: String
    package let style: Style

    /// - Parameter url: `https://host:port`, perhaps with a path.
    /// - Throws: `S3ClientError` with what is wrong with it.
    package init(
        url: String,
        region: String = "us-east-1",
        style: Style = .path
    ) throws(S3ClientError) {
        do throws(TransportError) {
            let (origin, rest) = try HTTPOrigin.parse(url)
            self.origin = origin
            var path = rest[...]
            while path.utf8.last == UInt8(ascii: "/") { path = path.dropLast() }
            basePath = String(path)
        } catch {
            throw .request("The endpoint is not usable: \(error.message)")
        }
        guard basePath.utf8.allSatisfy({ (0x21...0x7E).contains($0) }),
            !basePath.utf8.contains(where: { $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "#") })
        else { throw .request("The endpoint's URL may have a path, but no query.") }
        guard (1...64).contains(region.utf8.count), region.utf8.allSatisfy(Self.isRegionByte) else {
            throw .request("'\(region.prefix(64))' is not the name of a region.")
        }
        guard style == .path || (basePath.isEmpty && !origin.host.hasPrefix("[")) else {
            throw .request("The virtual-host style needs an endpoint with a name and without a path.")
        }
        self.region = region
        self.style = style
    }

    package static func isRegion(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count) && text.utf8.allSatisfy(isRegionByte)
    }

    private static func isRegionByte(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
            || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
    }

    package var description: String { origin.description + basePath }

    /// Where a request for this bucket and key goes.
    func location(bucket: String?, key: ObjectKey?) throws(S3ClientError) -> (
        origin: HTTPOrigin, path: String
    ) {
        guard let bucket else { return (origin, basePath + "/") }
        guard Self.isBucket(bucket) else {
            throw .request("'\(bucket.prefix(255))' can't be the name of a bucket.")
        }
        let keyPath = key.map { "/" + PercentCoding.encode($0.bytes, keepsSlash: true) }
        switch style {
        case .path: return (origin, "\(basePath)/\(bucket)\(keyPath ?? "")")
        case .virtualHost:
            do throws(TransportError) {
                let host = try HTTPOrigin(origin.scheme, host: "\(bucket).\(origin.host)", port: origin.port)
                return (host, keyPath ?? "/")
            } catch {
                throw .request(error.message)
            }
        }
    }

    /// Other servers take names that Amazon no longer gives out.
    private static func isBucket(_ text: String) -> Bool {
        (1...255).contains(text.utf8.count) && text != "." && text != ".."
            && text.utf8.allSatisfy { isRegionByte($0) || $0 == UInt8(ascii: ".") }
    }
}

/// What requests are signed with.
package struct S3Credentials: Hashable, Sendable, CustomStringConvertible {
    package let accessKey: String
    package let secret: String
    package let token: String?

    package init(accessKey: String, secret: String, token: String? = nil) {
        self.accessKey = accessKey
        self.secret = secret
        self.token = token
    }

    /// A secret must not get into a log by accident.
    package var description: String { "credentials of \(accessKey)" }
}

/// Where credentials come from. They may change while the program runs.
package protocol S3CredentialsProvider: Sendable {
    /// Called for every request; answers from memory where it can.
    func credentials() async throws -> S3Credentials
    /// Called when a server refused these: looks again. The request is repeated when others come back.
    func credentials(insteadOf refused: S3Credentials) async throws -> S3Credentials
}

package struct FixedCredentials: S3CredentialsProvider {
    private let value: S3Credentials

    package init(_ value: S3Credentials) { self.value = value }

    package func credentials() async throws -> S3Credentials { value }

    package func credentials(insteadOf refused: S3Credentials) async throws -> S3Credentials { value }
}
