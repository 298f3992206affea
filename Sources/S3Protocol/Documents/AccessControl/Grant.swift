/// What a grant allows.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html
package enum Permission: String, CaseIterable, Sendable {
    case fullControl = "FULL_CONTROL"
    case write = "WRITE"
    case writeACP = "WRITE_ACP"
    case read = "READ"
    case readACP = "READ_ACP"

    /// The header that gives it.
    package var headerName: String {
        switch self {
        case .fullControl: "x-amz-grant-full-control"
        case .write: "x-amz-grant-write"
        case .writeACP: "x-amz-grant-write-acp"
        case .read: "x-amz-grant-read"
        case .readACP: "x-amz-grant-read-acp"
        }
    }
}

/// The groups that S3 predefines.
package enum GranteeGroup: String, CaseIterable, Sendable {
    case everyone = "http://acs.amazonaws.com/groups/global/AllUsers"
    case authenticated = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
    case logDelivery = "http://acs.amazonaws.com/groups/s3/LogDelivery"

    /// Anyone at all, or anyone with an account anywhere.
    package var isPublic: Bool { self != .logDelivery }
}

/// Who a grant is for, as clients name it.
package enum Grantee: Hashable, Sendable {
    /// A canonical user id.
    case user(id: String, displayName: String?)
    case email(String)
    case group(GranteeGroup)
}

/// One grant of a document.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Grant.html
package struct Grant: Hashable, Sendable {
    package let grantee: Grantee
    package let permission: Permission

    package init(grantee: Grantee, permission: Permission) {
        self.grantee = grantee
        self.permission = permission
    }

    package init(xml: XMLElement) throws(S3Error) {
        guard xml.name == "Grant" else { throw Self.malformed("An element is not a Grant.") }
        try xml.requireOnly(["Grantee", "Permission"])
        guard let permission = Permission(rawValue: try xml.requiredWord(of: "Permission")) else {
            throw Self.malformed("Permission is none of the known values.")
        }
        self.permission = permission
        grantee = try Grantee(xml: xml.requiredChild("Grantee"))
    }

    package func render(into writer: inout XMLWriter) {
        writer.element("Grant") { writer in
            grantee.render(into: &writer)
            writer.element("Permission", permission.rawValue)
        }
    }

    /// Parses the header of a permission: `id="…", uri="…", emailAddress="…"`.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectAcl.html
    package static func grants(header value: String, _ permission: Permission) throws(S3Error) -> [Grant] {
        var grants: [Grant] = []
        for item in value.split(separator: ",") {
            let pair = item.split(separator: "=", maxSplits: 1)
            guard pair.count == 2 else { throw unrecognized(permission, value) }
            let name = ASCIIText.trimmed(String(pair[0])).lowercased()
            var text = ASCIIText.trimmed(String(pair[1]))
            if text.utf8.count >= 2, text.hasPrefix("\""), text.hasSuffix("\"") {
                text = String(text.dropFirst().dropLast())
            }
            switch name {
            case "id" where !text.isEmpty:
                grants.append(Grant(grantee: .user(id: text, displayName: nil), permission: permission))
            case "emailaddress" where !text.isEmpty:
                grants.append(Grant(grantee: .email(text), permission: permission))
            case "uri":
                guard let group = GranteeGroup(rawValue: text) else { throw Grantee.invalidGroup(text) }
                grants.append(Grant(grantee: .group(group), permission: permission))
            default: throw unrecognized(permission, value)
            }
        }
        guard !grants.isEmpty else { throw unrecognized(permission, value) }
        return grants
    }

    private static func unrecognized(_ permission: Permission, _ value: String) -> S3Error {
        .invalidArgument("Argument format not recognized", name: permission.headerName, value: value)
    }

    static func malformed(_ reason: String) -> S3Error {
        S3Error(.malformedACL, nil, details: [("Reason", reason)])
    }
}

extension Grantee {
    /// The type follows from the element; `xsi:type`, where there is one, has to agree.
    init(xml: XMLElement) throws(S3Error) {
        try xml.requireOnly(["ID", "DisplayName", "EmailAddress", "URI"])
        let type = xml.attribute("type")
        switch (try xml.word(of: "ID"), try xml.word(of: "EmailAddress"), try xml.word(of: "URI")) {
        case (let id?, nil, nil):
            guard [nil, "CanonicalUser"].contains(type) else { throw Grant.malformed("A grantee's type.") }
            self = .user(id: id, displayName: try xml.text(of: "DisplayName"))
        case (nil, let email?, nil):
            guard [nil, "AmazonCustomerByEmail"].contains(type) else {
                throw Grant.malformed("A grantee's type.")
            }
            self = .email(email)
        case (nil, nil, let uri?):
            guard [nil, "Group"].contains(type) else { throw Grant.malformed("A grantee's type.") }
            guard let group = GranteeGroup(rawValue: uri) else { throw Self.invalidGroup(uri) }
            self = .group(group)
        default: throw Grant.malformed("A grantee has one of ID, EmailAddress and URI.")
        }
    }

    static func invalidGroup(_ uri: String) -> S3Error {
        .invalidArgument("Invalid group uri", name: "uri", value: uri)
    }

    func render(into writer: inout XMLWriter) {
        let type =
            switch self {
            case .user: "CanonicalUser"
            case .email: "AmazonCustomerByEmail"
            case .group: "Group"
            }
        let attributes = [("xmlns:xsi", XMLWriter.schemaInstance), ("xsi:type", type)]
        writer.element("Grantee", attributes: attributes) { writer in
            switch self {
            case .user(let id, let displayName):
                writer.element("ID", id)
                writer.optional("DisplayName", displayName)
            case .email(let address): writer.element("EmailAddress", address)
            case .group(let group): writer.element("URI", group.rawValue)
            }
        }
    }
}
