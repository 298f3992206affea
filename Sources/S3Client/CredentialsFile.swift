internal import Glibc
internal import S3Protocol
internal import Synchronization

/// Credentials out of a file of the form that AWS's tools use:
///
///     [default]
///     aws_access_key_id = AKIA…
///     aws_secret_access_key = …
///     aws_session_token = …
///
/// The file is read again when a server refused what it held.
package final class CredentialsFile: S3CredentialsProvider {
    private static let sizeMax = 256 << 10

    package let path: String
    package let profile: String
    private let known = Mutex<S3Credentials?>(nil)

    package init(path: String, profile: String = "default") {
        self.path = path
        self.profile = profile
    }

    package func credentials() async throws -> S3Credentials {
        if let known = known.withLock({ $0 }) { return known }
        return try read()
    }

    package func credentials(insteadOf refused: S3Credentials) async throws -> S3Credentials {
        // Another call may have read the file since.
        if let known = known.withLock({ $0 }), known != refused { return known }
        return try read()
    }

    private func read() throws(S3ClientError) -> S3Credentials {
        let credentials = try Self.parse(try text(), profile: profile, path: path)
        known.withLock { $0 = credentials }
        return credentials
    }

    /// Reads a file once.
    /// - Parameter profile: nil: the first section.
    package static func read(_ path: String, profile: String?) throws(S3ClientError) -> S3Credentials {
        let file = CredentialsFile(path: path)
        return try parse(try file.text(), profile: profile, path: path)
    }

    private func text() throws(S3ClientError) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw Self.problem(
                "The credentials file '\(path)' can't be read: \(String(cString: strerror(errno)))."
            )
        }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: Self.sizeMax)
        var count = 0
        while count < bytes.count {
            let length = bytes.withUnsafeMutableBytes { room in
                Glibc.read(descriptor, room.baseAddress.map { $0 + count }, room.count - count)
            }
            guard length >= 0 else {
                throw Self.problem(
                    "The credentials file '\(path)' can't be read: \(String(cString: strerror(errno)))."
                )
            }
            if length == 0 { break }
            count += length
        }
        guard count < bytes.count, let text = String(validating: bytes[..<count], as: UTF8.self) else {
            throw Self.problem("'\(path)' is no credentials file.")
        }
        return text
    }

    static func parse(_ text: String, profile: String?, path: String) throws(S3ClientError) -> S3Credentials {
        var values: [Substring: Substring] = [:]
        var isInside = profile == nil
        for line in text.split(whereSeparator: \.isNewline) {
            let line = ASCIIText.trimmedSlice(line)
            if line.isEmpty || line.hasPrefix("#") || line.hasPrefix(";") { continue }
            if line.hasPrefix("["), line.hasSuffix("]") {
                let name = ASCIIText.trimmedSlice(line.dropFirst().dropLast())
                isInside = profile.map { name == $0 } ?? values.isEmpty
            } else if isInside, let mark = line.firstIndex(of: "=") {
                let name = ASCIIText.trimmedSlice(line[..<mark])
                values[name] = ASCIIText.trimmedSlice(line[line.index(after: mark)...])
            }
        }
        guard let key = values["aws_access_key_id"], !key.isEmpty,
            let secret = values["aws_secret_access_key"],
            !secret.isEmpty
        else {
            throw problem(
                "The credentials file '\(path)' has no aws_access_key_id and aws_secret_access_key"
                    + (profile.map { " below [\($0)]." } ?? ".")
            )
        }
        return S3Credentials(
            accessKey: String(key),
            secret: String(secret),
            token: values["aws_session_token"].map { String($0) }
        )
    }

    private static func problem(_ message: String) -> S3ClientError {
        S3ClientError(.credentials, code: "NoCredentials", message)
    }
}
