import Foundation
import HoldfastNode
import Logging
import ObjectService
import S3Gateway
import S3Protocol
import StoreModel
import Testing

/// A store in a temporary directory, served.
struct ServiceFixture: Sendable {
    static let accessKey = "AKIATESTTESTTESTTEST"
    static let secret = "the secret of the tests"

    let port: Int
    let operationsPort: Int
    let assembly: ServerAssembly
    let store: LocalStore
    let signer = RequestSigner(
        accessKey: accessKey,
        secret: secret.replacing(" ", with: "-"),
        region: "us-east-1"
    )

    static func run(
        _ adjust: @Sendable (inout ServerConfiguration) -> Void = { _ in },
        _ body: @Sendable (ServiceFixture) async throws -> Void
    ) async throws {
        let path = FileManager.default.temporaryDirectory.path + "/holdfast-gateway-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        _ = try await LocalStore.create(path)
        let store = try await LocalStore.open(path)
        do {
            try await serve(store, adjust, body)
        } catch {
            _ = try? await store.close()
            throw error
        }
        try await store.close()
    }

    private static func serve(
        _ store: LocalStore,
        _ adjust: @Sendable (inout ServerConfiguration) -> Void,
        _ body: @Sendable (ServiceFixture) async throws -> Void
    ) async throws {
        var configuration = ServerConfiguration()
        configuration.addresses = [.network(host: "127.0.0.1", port: 0)]
        configuration.operationsAddress = .network(host: "127.0.0.1", port: 0)
        configuration.limits.drainLead = .zero
        guard let id = AccessKeyID(accessKey), let secret = AccessSecret(secret.replacing(" ", with: "-"))
        else {
            throw NeverHappened()
        }
        configuration.rootCredential = AccessCredential(id: id, secret: secret)
        adjust(&configuration)
        let (readies, continuation) = AsyncStream.makeStream(of: ServerAssembly.Ready.self)
        let assembly = try await ServerAssembly.make(
            store,
            configuration,
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
        ) { continuation.yield($0) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await assembly.run() }
            for await ready in readies {
                guard case .network(_, let port)? = ready.addresses.first,
                    case .network(_, let operations)? = ready.operationsAddress
                else { throw NeverHappened() }
                let fixture = ServiceFixture(
                    port: port,
                    operationsPort: operations,
                    assembly: assembly,
                    store: store
                )
                do {
                    try await body(fixture)
                } catch {
                    await assembly.stop()
                    throw error
                }
                break
            }
            await assembly.stop()
            try await group.waitForAll()
        }
    }

    /// The head of a signed request as it goes over the wire, up to the empty line.
    func head(
        _ method: String,
        _ target: String,
        _ headers: [(String, String)] = [],
        payload: PayloadMode = .unsigned,
        signer: RequestSigner? = nil
    ) -> String {
        var head = S3RequestHead(
            method: method,
            target: target,
            headers: HeaderList([(name: "host", value: "127.0.0.1:\(port)")])
        )
        for (name, value) in headers { head.headers.append(name, value) }
        (signer ?? self.signer).sign(&head, payload: payload, now: SystemClock().now())
        let lines = head.headers.fields.map { "\($0.name): \($0.value)\r\n" }.joined()
        return "\(method) \(target) HTTP/1.1\r\n\(lines)\r\n"
    }

    /// A signed request and its answer.
    func send(
        _ method: String,
        _ target: String,
        _ headers: [(String, String)] = [],
        body: [UInt8] = [],
        payload: PayloadMode = .unsigned
    ) async throws -> RawResponse? {
        let all = headers + [("content-length", "\(body.count)"), ("connection", "close")]
        return try await exchange(
            [UInt8](head(method, target, all, payload: payload).utf8) + body,
            port: port
        )
    }

    /// Checks the status of the answer to a signed request without a body.
    func expect(_ status: Int, _ method: String, _ target: String) async throws {
        let answer = try await send(method, target)
        #expect(answer?.status == status, "\(method) \(target)")
    }

    func exchange(_ bytes: [UInt8], port: Int) async throws -> RawResponse? {
        try await RawClient.run(port: port) { client in
            try client.send(bytes)
            return RawResponse(try client.receiveAll())
        }
    }
}
