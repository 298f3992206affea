import Foundation
import StoreModel
import Synchronization
import Testing

@testable import AdminGateway
@testable import holdfast

/// A command that waits for a server: as long as it gives signs of life, and not for ever without.
@Suite struct LifeSignTests {
    /// Listens on `admin.sock` in a directory of its own and treats each connection as told.
    private final class Stub {
        let directory: String
        private let descriptor: CInt

        init(_ serve: @escaping @Sendable (_ send: (String) -> Void) -> Void) throws {
            directory = "/tmp/hf-\(UUID().uuidString.prefix(13))"
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            let path = Array("\(directory)/\(ServerSocket.name)".utf8)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
            let isBound = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
                }
            }
            #expect(isBound && listen(descriptor, 8) == 0)
            let listener = descriptor
            Thread.detachNewThread {
                while true {
                    let client = accept(listener, nil, nil)
                    guard client >= 0 else { return }
                    var request = [UInt8](repeating: 0, count: 8192)
                    // The first connection only looks whether anybody listens.
                    if read(client, &request, request.count) > 0 {
                        serve { text in
                            let bytes = Array(text.utf8)
                            _ = bytes.withUnsafeBytes {
                                send(client, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
                            }
                        }
                    }
                    close(client)
                }
            }
        }

        deinit {
            shutdown(descriptor, CInt(SHUT_RDWR))
            close(descriptor)
            try? FileManager.default.removeItem(atPath: directory)
        }
    }

    private static let sign = "HTTP/1.1 102 Processing\r\n\r\n"

    private static func answer() -> String {
        let body = #"{"version":"1","apiVersions":["v1"],"processID":7,"addresses":[]}"# + "\n"
        return "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    @Test func anAnswerIsFoundBehindAnyNumberOfSigns() throws {
        for count in [0, 1, 5] {
            let text = String(repeating: Self.sign, count: count) + Self.answer()
            let answer = try HTTPAnswer(Array(text.utf8))
            #expect(answer.status == 200)
            #expect(try AdminJSON.decode(VersionDocument.self, from: answer.body).processID == 7)
        }
        #expect(throws: StoreError.self) { try HTTPAnswer(Array(Self.sign.utf8)) }
    }

    @Test func aJobMayTakeLongerThanTheSilenceThatIsBorne() async throws {
        let stub = try Stub { send in
            for _ in 0..<5 {
                Thread.sleep(forTimeInterval: 1)
                send(Self.sign)
            }
            send(Self.answer())
        }
        let client = try #require(AdminSocketClient(storePath: stub.directory, silenceMax: .seconds(4)))
        #expect(try await client.version().processID == 7)
    }

    @Test func silenceEndsTheWaiting() async throws {
        let isOver = DispatchSemaphore(value: 0)
        let stub = try Stub { send in
            send(Self.sign)
            isOver.wait()
        }
        defer { for _ in 0..<4 { isOver.signal() } }
        let client = try #require(
            AdminSocketClient(storePath: stub.directory, silenceMax: .milliseconds(300))
        )
        await #expect { _ = try await client.version() } throws: { error in
            (error as? StoreError)?.code == .deadlineExceeded
        }
        isOver.signal()
        // Nobody knows what became of a change.
        await #expect { _ = try await client.removeVolume("v", force: false) } throws: { error in
            (error as? StoreError)?.code == .outcomeUnknown
        }
    }
}
