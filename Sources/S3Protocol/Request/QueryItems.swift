/// The query of a request, decoded, in the order in which it came.
package struct QueryItems: Sendable {
    package struct Item: Hashable, Sendable {
        package let name: String
        /// Empty when there was none: `?acl` and `?acl=` mean the same.
        package let value: String
    }

    /// More than any S3 API has: what is beyond would only cost time.
    package static let countMax = 128

    package let items: [Item]

    package init(_ items: [Item] = []) { self.items = items }

    /// - Throws: `InvalidURI` for a broken escape, bytes that are not UTF-8, or too many items.
    package init(decoding query: String?) throws(S3Error) {
        guard let query, !query.isEmpty else {
            items = []
            return
        }
        var items: [Item] = []
        for pair in ASCIIText.split(query[...], at: "&", omittingEmpty: true) {
            guard items.count < Self.countMax else {
                throw S3Error(.invalidURI, "The query has too many parameters.")
            }
            let split = pair.utf8.firstIndex(of: UInt8(ascii: "="))
            let rawName = pair[..<(split ?? pair.endIndex)]
            let rawValue = split.map { pair[pair.utf8.index(after: $0)...] } ?? ""
            guard let name = PercentCoding.decodeText(rawName, plusIsSpace: true),
                let value = PercentCoding.decodeText(rawValue, plusIsSpace: true)
            else { throw S3Error(.invalidURI) }
            items.append(Item(name: name, value: value))
        }
        self.items = items
    }

    package var isEmpty: Bool { items.isEmpty }

    /// The first value of that name; names are case-sensitive.
    package func first(_ name: String) -> String? {
        for item in items where item.name == name { return item.value }
        return nil
    }

    package func contains(_ name: String) -> Bool { items.contains { $0.name == name } }

    /// The value of a parameter that may stand there once.
    /// - Throws: `InvalidArgument` when it was given with different values.
    package func single(_ name: String) throws(S3Error) -> String? {
        var found: String?
        for item in items where item.name == name {
            if let found, found != item.value {
                throw .invalidArgument(
                    "The parameter was given more than once.",
                    name: name,
                    value: item.value
                )
            }
            found = item.value
        }
        return found
    }
}
