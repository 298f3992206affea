import Foundation
import S3Protocol
import StoreModel
import Testing

/// A request of fixtures/sigv4/vectors.json, with the signature that an independent signer gave it.
struct SignatureVector: Decodable, Sendable, CustomTestStringConvertible {
    let name: String
    let kind: String
    let service: String
    let region: String
    let accessKey: String
    let secret: String
    let time: String
    let method: String
    let target: String
    let headers: [[String]]
    let payload: String
    let signature: String
    let published: Bool
    let canonicalRequest: String
    let expires: Int?

    var testDescription: String { name }

    var head: S3RequestHead {
        var list = HeaderList()
        for header in headers where header.count == 2 { list.append(header[0], header[1]) }
        return S3RequestHead(method: method, target: target, headers: list)
    }

    var signedHeaders: [String] {
        let lines = canonicalRequest.split(separator: "\n", omittingEmptySubsequences: false)
        return lines[lines.count - 2].split(separator: ";").map(String.init)
    }

    var timestamp: Timestamp { ISO8601.parseBasic(time) ?? Timestamp(milliseconds: 0) }

    var scope: CredentialScope { CredentialScope(timestamp, region: region, service: service) }

    static let all: [SignatureVector] = {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("fixtures/sigv4/vectors.json")
        guard let data = try? Data(contentsOf: file) else { return [] }
        return (try? JSONDecoder().decode([SignatureVector].self, from: data)) ?? []
    }()

    static func named(_ name: String) throws -> SignatureVector {
        struct Missing: Error { let name: String }
        guard let vector = all.first(where: { $0.name == name }) else { throw Missing(name: name) }
        return vector
    }
}

/// SplitMix64: the same numbers on every run.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var bits = state
        bits = (bits ^ bits >> 30) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ bits >> 27) &* 0x94D0_49BB_1331_11EB
        return bits ^ bits >> 31
    }
}

/// The error that `body` throws; nil when it throws none.
func refusal(_ body: () throws -> Void) -> S3Error? {
    do {
        try body()
        return nil
    } catch {
        return error as? S3Error
    }
}
