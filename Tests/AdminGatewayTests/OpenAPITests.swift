import Foundation
import Testing

@testable import AdminGateway

/// The description and the code say the same.
@Suite struct OpenAPITests {
    private func document() throws -> [String: Any] {
        let value = try JSONSerialization.jsonObject(with: Data(AdminJSON.openAPI))
        return try #require(value as? [String: Any])
    }

    @Test func everyEndpointIsDescribedAndNothingElse() throws {
        let paths = try #require(try document()["paths"] as? [String: [String: Any]])
        let described = paths.flatMap { path, methods in methods.keys.map { "\($0.uppercased()) \(path)" } }
        #expect(described.sorted() == AdminEndpoint.allCases.map(\.rawValue).sorted())
    }

    @Test func onlyPublicEndpointsNeedNoSignature() throws {
        let paths = try #require(try document()["paths"] as? [String: [String: [String: Any]]])
        for endpoint in AdminEndpoint.allCases {
            let operation = try #require(paths[endpoint.template]?[endpoint.method.lowercased()])
            #expect((operation["security"] != nil) == endpoint.isPublic)
        }
    }

    /// Members of an encoded document that its schema does not have, and required ones that it lacks.
    private func differences(_ schema: String, _ value: some Encodable) throws -> [String] {
        let components = try #require(try document()["components"] as? [String: Any])
        let schemas = try #require(components["schemas"] as? [String: [String: Any]])
        let properties = try #require(schemas[schema]?["properties"] as? [String: Any])
        let required = try #require(schemas[schema]?["required"] as? [String])
        let object = try JSONSerialization.jsonObject(with: Data(try AdminJSON.encode(value)))
        let members = try #require(object as? [String: Any])
        return members.keys.filter { properties[$0] == nil } + required.filter { members[$0] == nil }
    }

    @Test func findingsHaveTheMembersOfTheirSchemas() throws {
        let version = FindingVersionDocument(
            bucket: "b",
            key: "k",
            versionID: "1",
            isNewest: true,
            size: 1,
            state: "whole",
            mirrors: ["m"]
        )
        let copy = FindingCopyDocument(volume: "/v", isGood: false, verifiedAt: "t", problem: "missing")
        let finding = FindingDocument(
            id: "1",
            kind: "missing",
            foundBy: "audit",
            volume: "/v",
            mirror: "m",
            chunk: "c",
            foundAt: "t",
            lastSeenAt: "t",
            seen: 1,
            outcome: "unrepairable",
            repairedFrom: "/w",
            verifiedAt: "t",
            closedAt: "t",
            reason: "r",
            detail: "d",
            neededBy: [],
            heldBy: [],
            neededCount: 1,
            versions: [version],
            copies: [copy]
        )
        #expect(try differences("Finding", finding) == [])
        #expect(try differences("FindingVersion", version) == [])
        #expect(try differences("FindingCopy", copy) == [])
        #expect(try differences("FindingList", FindingListDocument(findings: [finding], next: "1")) == [])
    }

    @Test func documentsHaveTheMembersOfTheirSchemas() throws {
        let id = String(repeating: "0", count: 64)
        let volume = VolumeDocument(
            path: "/v",
            id: "1",
            state: "full",
            reason: "r",
            payloadBytes: 1,
            fileBytes: 1,
            freeBytes: 1,
            totalBytes: 1
        )
        let status = StatusDocument(
            store: "/s",
            storeID: "1",
            formatVersion: "1.0",
            replicas: 3,
            writeQuorum: 2,
            isWritable: true,
            isReadable: true,
            isFullyRedundant: true,
            copiesWaitingForRepair: 0,
            volumes: [volume],
            buckets: 0,
            objects: 0,
            versions: 0,
            logicalBytes: 0,
            uniqueBytes: 0,
            physicalBytes: 0,
            catalog: CatalogDocument(
                snapshotTakenAt: "2026-01-01T00:00:00Z",
                snapshotRows: 0,
                batchesSinceSnapshot: 0
            )
        )
        let key = NewKeyDocument(
            accessKeyID: "AKIA",
            secretAccessKey: "secret",
            account: id,
            accountName: "a",
            label: "l",
            replacedAccessKeyID: "AKIB"
        )
        let account = AccountDocument(
            id: id,
            name: "a",
            email: "a@b",
            isRoot: false,
            state: "active",
            createdAt: "",
            keys: 1
        )
        let error = ErrorDocument(error: .init(code: "c", message: "m", advice: "a", requestID: "r"))
        #expect(try differences("Volume", volume) == [])
        #expect(try differences("Status", status) == [])
        #expect(try differences("NewKey", key) == [])
        #expect(try differences("Account", account) == [])
        #expect(try differences("Error", error) == [])
        #expect(try differences("Catalog", status.catalog) == [])
        let keys = MasterKeyListDocument(used: ["1", "2"], held: ["2", "3"], problem: "p")
        #expect(try differences("MasterKeyList", keys) == [])
        #expect(keys.missing == ["1"])
        #expect(try differences("Version", VersionDocument(version: "1", processID: 1, addresses: [])) == [])
        #expect(try differences("RemovedKey", RemovedKeyDocument(removedAccessKeyID: "AKIA")) == [])
    }

    @Test func aNewKeyDoesNotPrintItsSecret() {
        let key = NewKeyDocument(
            accessKeyID: "AKIA",
            secretAccessKey: "hush",
            account: "a",
            accountName: "a",
            label: nil,
            replacedAccessKeyID: nil
        )
        var dumped = ""
        dump(key, to: &dumped)
        #expect(!"\(key) \(String(reflecting: key)) \(dumped)".contains("hush"))
    }
}
