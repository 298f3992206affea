/// The header fields of a request, in the order in which they came; names in lower case.
///
/// Values are the bytes of the wire read as UTF-8; a value that is not UTF-8 is read as Latin-1 by whoever makes the
/// list. Leading and trailing blanks are not part of a value.
package struct HeaderList: Sendable {
    package struct Field: Sendable {
        package let name: String
        package let value: String
    }

    package private(set) var fields: [Field]

    package init() { fields = [] }

    package init(_ fields: some Sequence<(name: String, value: String)>) {
        self.fields = []
        self.fields.reserveCapacity(fields.underestimatedCount)
        for field in fields { append(field.name, field.value) }
    }

    package init(_ fields: [(String, String)]) {
        self.init(fields.lazy.map { (name: $0.0, value: $0.1) })
    }

    package mutating func reserveCapacity(_ count: Int) { fields.reserveCapacity(count) }

    package mutating func append(_ name: String, _ value: String) {
        fields.append(Field(name: ASCIIText.lowercased(name), value: ASCIIText.trimmed(value)))
    }

    /// Replaces all values; `name` must be in lower case.
    package mutating func set(_ name: String, _ value: String) {
        remove(name)
        append(name, value)
    }

    /// `name` must be in lower case.
    package mutating func remove(_ name: String) { fields.removeAll { $0.name == name } }

    /// The first value; `name` must be in lower case.
    package func first(_ name: String) -> String? {
        for field in fields where field.name == name { return field.value }
        return nil
    }

    /// All values in order; `name` must be in lower case.
    package func all(_ name: String) -> [String] {
        fields.lazy.filter { $0.name == name }.map(\.value)
    }

    package func contains(_ name: String) -> Bool { fields.contains { $0.name == name } }

    /// The value of a header that may stand there once.
    /// - Throws: `InvalidRequest` when there are several different ones: whoever looks at the first and whoever
    ///   looks at the last would see different requests.
    package func single(_ name: String) throws(S3Error) -> String? {
        var found: String?
        for field in fields where field.name == name {
            if let found, found != field.value {
                throw S3Error(.invalidRequest, "The header \(name) was given more than once.")
            }
            found = field.value
        }
        return found
    }
}
