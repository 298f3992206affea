internal import AdminGateway
internal import Foundation
internal import S3Gateway
internal import S3Protocol
internal import StoreModel

/// Administration of a store that a server of this machine holds: the admin API over the socket in its directory.
struct AdminSocketClient: Administration {
    /// A socket that an owner of the store made; whoever can reach it may use it.
    private let directory: String

    /// How long a server may be silent. While it works on something long it gives signs of life, a few in this time.
    private static let silenceMax = Duration.seconds(120)
    private static let lifeSignInterval = 10_000
    private let silenceMax: Duration
    private static let answerSizeMax = 64 << 20

    /// - Returns: nil when no server listens there.
    init?(storePath: String, silenceMax: Duration = Self.silenceMax) {
        guard let descriptor = try? LocalSocket.connect(directory: storePath, name: ServerSocket.name) else {
            return nil
        }
        close(descriptor)
        directory = storePath
        self.silenceMax = silenceMax
    }

    // MARK: Calls

    func version() async throws -> VersionDocument { try await get("version") }

    func status() async throws -> StatusDocument { try await get("status") }

    func buckets() async throws -> [BucketDocument] {
        let list: BucketListDocument = try await get("buckets")
        return list.buckets
    }

    func accounts() async throws -> [AccountDocument] {
        let list: AccountListDocument = try await get("accounts")
        return list.accounts
    }

    func createAccount(name: String, email: String?) async throws -> AccountDocument {
        try await call("POST", "accounts", ["name": name, "email": email])
    }

    func removeAccount(_ name: String) async throws -> RemovedAccountDocument {
        try await call("DELETE", "accounts/" + Self.escaped(name))
    }

    func keys(account: String?) async throws -> [KeyDocument] {
        let list: KeyListDocument = try await get(
            "keys" + (account.map { "?account=" + Self.escaped($0) } ?? "")
        )
        return list.keys
    }

    func createKey(account: String?, label: String) async throws -> NewKeyDocument {
        try await call("POST", "keys", ["account": account, "label": label.isEmpty ? nil : label])
    }

    func removeKey(_ id: String) async throws {
        let _: RemovedKeyDocument = try await call("DELETE", "keys/" + Self.escaped(id))
    }

    func rotateKey(_ id: String, keepsOld: Bool) async throws -> NewKeyDocument {
        try await call("POST", "keys/\(Self.escaped(id))/rotate", ["keepsOld": keepsOld])
    }

    func masterKeys() async throws -> MasterKeyListDocument { try await get("master-key") }

    func reloadMasterKeys() async throws -> MasterKeyListDocument {
        try await call("POST", "master-key/reload")
    }

    func rotateMasterKey(acceptsLoss: Bool) async throws -> MasterKeyDocument {
        try await call("POST", "master-key/rotate", ["acceptsLoss": acceptsLoss])
    }

    static func escaped(_ text: String) -> String { PercentCoding.encode(text, keepsSlash: false) }

    // MARK: One exchange

    func get<Document: Decodable>(_ path: String) async throws -> Document {
        try await exchange("GET", path, [])
    }

    func call<Document: Decodable>(_ method: String, _ path: String) async throws -> Document {
        try await exchange(method, path, [])
    }

    func call<Document: Decodable>(
        _ method: String,
        _ path: String,
        _ members: [String: (some Encodable)?]
    ) async throws -> Document {
        try await exchange(method, path, try AdminJSON.encode(members.compactMapValues { $0 }))
    }

    func post<Document: Decodable>(
        _ path: String,
        _ body: some Encodable,
        method: String = "POST"
    ) async throws -> Document {
        try await exchange(method, path, try AdminJSON.encode(body))
    }

    private func exchange<Document: Decodable>(
        _ method: String,
        _ path: String,
        _ body: [UInt8]
    ) async throws -> Document {
        let connection = try Connection(directory, isChange: method != "GET", silenceMax: silenceMax)
        defer { connection.close() }
        let head = """
            \(method) /admin/v1/\(path) HTTP/1.1\r
            Host: localhost\r
            Connection: close\r
            Holdfast-Life-Signs: \(Self.lifeSignInterval)\r
            Content-Length: \(body.count)\r
            \r

            """
        try await connection.send([UInt8](head.utf8) + body)
        let answer = try HTTPAnswer(try await connection.receiveAll(countMax: Self.answerSizeMax))
        do {
            if (200..<300).contains(answer.status) {
                return try AdminJSON.decode(Document.self, from: answer.body)
            }
            let detail = try AdminJSON.decode(ErrorDocument.self, from: answer.body).error
            throw StoreError(
                StoreError.Code(detail.code) ?? (answer.status == 403 ? .accessDenied : .internalFault),
                detail.message,
                advice: detail.advice
            )
        } catch let error as DecodingError {
            throw StoreError(
                .internalFault,
                "The server's answer can't be read.",
                advice: "Is the server of the same version as this program?",
                cause: error
            )
        }
    }
}

/// A connection for one request. Waits in short steps, so that a signal ends the command.
private struct Connection {
    private let descriptor: CInt
    private let isChange: Bool
    private let silenceMax: Duration

    init(_ directory: String, isChange: Bool, silenceMax: Duration) throws {
        do {
            descriptor = try LocalSocket.connect(directory: directory, name: ServerSocket.name)
        } catch {
            throw StoreError(
                .storeInUse,
                "The server that holds the store \(quoted(directory)) can't be reached: \(error).",
                advice: "Is it just stopping? Try again."
            )
        }
        self.isChange = isChange
        self.silenceMax = silenceMax
    }

    func close() { Foundation.close(descriptor) }

    func send(_ bytes: [UInt8]) async throws {
        var rest = bytes[...]
        let end = ContinuousClock.now + silenceMax
        while !rest.isEmpty {
            // A server that went away is an error here, no signal.
            let count = rest.withUnsafeBytes {
                Foundation.send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
            }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN || errno == EINTR {
                try wait(for: POLLOUT, until: end)
            } else if errno == EPIPE || errno == ECONNRESET {
                // It has answered before it read everything, or has gone: reading tells.
                return
            } else {
                throw lost(errno)
            }
        }
    }

    func receiveAll(countMax: Int) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        var end = ContinuousClock.now + silenceMax
        while bytes.count <= countMax {
            let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
            if count > 0 {
                bytes += buffer[..<count]
                end = .now + silenceMax
            } else if count == 0 {
                return bytes
            } else if errno == EAGAIN || errno == EINTR {
                try wait(for: POLLIN, until: end)
            } else {
                throw lost(errno)
            }
        }
        throw StoreError(.internalFault, "The server's answer is too long.")
    }

    private func wait(for event: CInt, until end: ContinuousClock.Instant) throws {
        try Task.checkCancellation()
        guard ContinuousClock.now < end else {
            throw StoreError(
                isChange ? .outcomeUnknown : .deadlineExceeded,
                "The server that holds the store gave no sign of life for \(silenceMax).",
                advice: "Its log may tell why."
            )
        }
        var entry = pollfd(fd: descriptor, events: Int16(event), revents: 0)
        _ = poll(&entry, 1, 100)
    }

    private func lost(_ number: CInt) -> StoreError {
        StoreError(
            isChange ? .outcomeUnknown : .storeInUse,
            "The connection to the server that holds the store was lost: \(String(cString: strerror(number)))."
        )
    }
}

/// An answer as the admin API gives it: with its length, behind any number of signs of life.
struct HTTPAnswer {
    let status: Int
    let body: [UInt8]

    init(_ bytes: [UInt8]) throws(StoreError) {
        let fault = StoreError(.internalFault, "The server's answer is no HTTP, or was cut short.")
        let separator = [UInt8]("\r\n\r\n".utf8)
        var rest = bytes[...]
        while rest.starts(with: "HTTP/1.1 1".utf8), let sign = rest.firstRange(of: separator) {
            rest = rest[sign.upperBound...]
        }
        guard let split = rest.firstRange(of: separator) else { throw fault }
        let lines = String(decoding: rest[..<split.lowerBound], as: UTF8.self)
            .split(separator: "\r\n", omittingEmptySubsequences: false)
        let statusLine = lines[0].split(separator: " ")
        guard statusLine.count >= 2, statusLine[0].hasPrefix("HTTP/1."), let status = Int(statusLine[1])
        else { throw fault }
        var length: Int?
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":"), line[..<colon].lowercased() == "content-length"
            else { continue }
            length = Int(line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces))
        }
        let body = rest[split.upperBound...]
        guard let length, body.count == length else { throw fault }
        self.status = status
        self.body = [UInt8](body)
    }
}
