internal import FoundationEssentials

/// The documents of the admin API as bytes.
package enum AdminJSON {
    /// With sorted members, so that equal documents are equal bytes.
    package static func encode(_ document: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return [UInt8](try encoder.encode(document)) + [UInt8(ascii: "\n")]
    }

    package static func decode<Document: Decodable>(_ type: Document.Type, from bytes: [UInt8]) throws
        -> Document
    {
        try JSONDecoder().decode(type, from: Data(bytes))
    }

    /// The OpenAPI document of version 1.
    package static let openAPI = PackageResources.openapi_json
}
