import Foundation
import HoldfastNode
import StoreModel
import Testing

@Suite struct StoreConfigurationTests {
    private func directory(holding json: String) throws -> String {
        let path =
            FileManager.default.temporaryDirectory.path + "/holdfast-configuration-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try Data(json.utf8).write(to: URL(fileURLWithPath: path + "/store.json"))
        return path
    }

    private func code(ofOpening json: String) async throws -> StoreError.Code? {
        let path = try directory(holding: json)
        defer { try? FileManager.default.removeItem(atPath: path) }
        do {
            _ = try await LocalStore.open(path)
            return nil
        } catch let error as StoreError {
            return error.code
        }
    }

    @Test func aDirectoryWithoutAStoreIsNone() async throws {
        do {
            _ = try await LocalStore.open("/nonexistent/holdfast")
            Issue.record("A store was opened where there is none.")
        } catch let error as StoreError {
            #expect(error.code == .storeNotFound)
        }
    }

    @Test func anotherMajorFormatIsRefused() async throws {
        let json = #"{"format": {"major": 2, "minor": 0}, "somethingNew": true}"#
        #expect(try await code(ofOpening: json) == .unsupportedFormat)
    }

    @Test(arguments: [
        "", "{", "[]", "null", #"{"format": 1}"#, #"{"format": {"major": 1, "minor": 0}}"#,
        #"{"format": {"major": 1, "minor": 0}, "storeID": "x", "replicas": 3, "writeQuorum": 2, "createdAt": 0, "volumes": []}"#,
    ])
    func whatIsNoConfigurationIsRefused(json: String) async throws {
        #expect(try await code(ofOpening: json) == .storeDamaged)
    }

    @Test(arguments: [(3, 1), (3, 4), (0, 0), (3, -1), (4, 2), (99, 50)])
    func quorumsThatLoseWritesAreRefused(replicas: Int, writeQuorum: Int) async throws {
        let id = "00000000-0000-4000-8000-000000000001"
        let volumes = (0..<max(0, min(replicas, 9))).map { index in
            #"{"id": "00000000-0000-4000-8000-00000000001\#(index)", "path": "v\#(index)", "weight": 1, "failureDomain": "\#(index)"}"#
        }
        let json = """
            {"format": {"major": 1, "minor": 0}, "storeID": "\(id)", "replicas": \(replicas),
             "writeQuorum": \(writeQuorum), "createdAt": 0, "volumes": [\(volumes.joined(separator: ", "))]}
            """
        #expect(try await code(ofOpening: json) == .invalidArgument)
    }
}
