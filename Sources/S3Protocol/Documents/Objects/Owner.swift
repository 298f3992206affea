/// An account as documents show it.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Owner.html
package struct Owner: Hashable, Sendable {
    /// The canonical user id.
    package let id: String
    package let displayName: String?

    package init(id: String, displayName: String? = nil) {
        self.id = id
        self.displayName = displayName
    }

    package func render(into writer: inout XMLWriter, name: String = "Owner") {
        writer.element(name) { writer in
            writer.element("ID", id)
            writer.optional("DisplayName", displayName)
        }
    }
}
