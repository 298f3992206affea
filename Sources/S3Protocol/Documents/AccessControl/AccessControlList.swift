internal import StoreModel

/// The grants of a bucket or of an object, with accounts named by their canonical ids.
///
/// Group grants stand in front of user grants, each kind in the order in which it was given.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html
package struct AccessControlList: Hashable, Sendable {
    package static let grantCountMax = 100

    package enum Subject: Hashable, Sendable {
        case user(String)
        case group(GranteeGroup)
    }

    package struct Entry: Hashable, Sendable {
        package let subject: Subject
        package let permission: Permission

        package init(_ subject: Subject, _ permission: Permission) {
            self.subject = subject
            self.permission = permission
        }
    }

    package let owner: String
    package let entries: [Entry]

    package init(owner: String, entries: [Entry]) {
        self.owner = owner
        var groups: [Entry] = []
        var users: [Entry] = []
        for entry in entries {
            if case .group = entry.subject { groups.append(entry) } else { users.append(entry) }
        }
        self.entries = groups + users
    }

    /// What a new bucket or object has when nothing else is asked for.
    package static func ownerOnly(_ owner: String) -> AccessControlList {
        AccessControlList(owner: owner, entries: [Entry(.user(owner), .fullControl)])
    }

    /// Grants to everyone, or to everyone with an account.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html
    package var isPublic: Bool {
        entries.contains { entry in
            if case .group(let group) = entry.subject { group.isPublic } else { false }
        }
    }

    /// Whether a grant gives the permission. Full control gives every one.
    /// - Parameters:
    ///   - account: nil for an anonymous request.
    ///   - ignoresPublic: grants to public groups do not count.
    package func grants(_ permission: Permission, to account: String?, ignoresPublic: Bool) -> Bool {
        entries.contains { entry in
            guard entry.permission == permission || entry.permission == .fullControl else { return false }
            switch entry.subject {
            case .user(let id): return id == account
            case .group(.everyone): return !ignoresPublic
            case .group(.authenticated): return !ignoresPublic && account != nil
            case .group(.logDelivery): return false
            }
        }
    }

    /// The document, with names where there are some.
    package func document(displayName: (String) -> String?) -> AccessControlPolicy {
        AccessControlPolicy(
            owner: Owner(id: owner, displayName: displayName(owner)),
            grants: entries.map { entry in
                switch entry.subject {
                case .user(let id):
                    Grant(grantee: .user(id: id, displayName: displayName(id)), permission: entry.permission)
                case .group(let group): Grant(grantee: .group(group), permission: entry.permission)
                }
            }
        )
    }
}

/// The stored form: version 1, owner, then each grant as permission, kind, and for users the id.
extension AccessControlList {
    private static let formatVersion: UInt8 = 1

    package var storedBytes: [UInt8] {
        var writer = ByteWriter(capacity: 16 + 72 * entries.count)
        writer.write(Self.formatVersion)
        writer.write(text: owner)
        writer.write(UInt16(clamping: entries.count))
        for entry in entries {
            writer.write(entry.permission.storedCode)
            switch entry.subject {
            case .group(.everyone): writer.write(UInt8(1))
            case .group(.authenticated): writer.write(UInt8(2))
            case .group(.logDelivery): writer.write(UInt8(3))
            // The owner's own grant, which almost every list has.
            case .user(owner): writer.write(UInt8(4))
            case .user(let id):
                writer.write(UInt8(5))
                writer.write(text: id)
            }
        }
        return writer.bytes
    }

    /// Nil for bytes that `storedBytes` did not make.
    package init?(storedBytes bytes: [UInt8]) {
        guard let list = try? Self.read(bytes) else { return nil }
        self = list
    }

    private static func read(_ bytes: [UInt8]) throws(ByteReader.Failure) -> AccessControlList {
        var reader = ByteReader(bytes)
        guard try reader.read(UInt8.self) == formatVersion else {
            throw ByteReader.Failure("unknown version")
        }
        let owner = try reader.readText()
        let count = try reader.read(UInt16.self)
        var entries: [Entry] = []
        for _ in 0..<count {
            let code = try reader.read(UInt8.self)
            guard let permission = Permission.allCases.first(where: { $0.storedCode == code }) else {
                throw ByteReader.Failure("unknown permission")
            }
            let subject: Subject
            switch try reader.read(UInt8.self) {
            case 1: subject = .group(.everyone)
            case 2: subject = .group(.authenticated)
            case 3: subject = .group(.logDelivery)
            case 4: subject = .user(owner)
            case 5: subject = .user(try reader.readText())
            default: throw ByteReader.Failure("unknown grantee")
            }
            entries.append(Entry(subject, permission))
        }
        try reader.finish()
        return AccessControlList(owner: owner, entries: entries)
    }
}

extension Permission {
    fileprivate var storedCode: UInt8 {
        switch self {
        case .fullControl: 1
        case .write: 2
        case .writeACP: 3
        case .read: 4
        case .readACP: 5
        }
    }
}

/// The ACL as a document.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketAcl.html
package struct AccessControlPolicy: XMLSetting, Hashable {
    package var owner: Owner?
    package var grants: [Grant]

    package init(owner: Owner?, grants: [Grant]) {
        self.owner = owner
        self.grants = grants
    }

    /// Any breach of the schema is a MalformedACLError.
    package init(xml: XMLElement) throws(S3Error) {
        do throws(S3Error) {
            self = try Self.read(xml)
        } catch {
            throw error.code == .malformedXML ? S3Error(.malformedACL, nil, details: error.details) : error
        }
    }

    private static func read(_ xml: XMLElement) throws(S3Error) -> AccessControlPolicy {
        try xml.requireName("AccessControlPolicy")
        try xml.requireOnly(["Owner", "AccessControlList"])
        // Older clients leave the owner out.
        let owner = try xml.child("Owner").map { element throws(S3Error) in
            try element.requireOnly(["ID", "DisplayName"])
            return Owner(
                id: try element.requiredWord(of: "ID"),
                displayName: try element.text(of: "DisplayName")
            )
        }
        let list = try xml.requiredChild("AccessControlList")
        guard list.children.count <= AccessControlList.grantCountMax else {
            throw Grant.malformed("There are more than \(AccessControlList.grantCountMax) grants.")
        }
        var grants: [Grant] = []
        for element in list.children { grants.append(try Grant(xml: element)) }
        return AccessControlPolicy(owner: owner, grants: grants)
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("AccessControlPolicy") { writer in
            owner?.render(into: &writer)
            writer.element("AccessControlList") { writer in
                for grant in grants { grant.render(into: &writer) }
            }
        }
    }

    /// The list with the accounts that the grants mean.
    /// - Throws: AccessDenied when the document names another owner; what `AccountLookup` gives for grantees.
    package func list(owner current: String, _ accounts: some AccountLookup) throws(S3Error)
        -> AccessControlList
    {
        if let owner, owner.id != current { throw S3Error(.accessDenied) }
        return AccessControlList(owner: current, entries: try accounts.entries(for: grants))
    }
}

/// What turning grantees into accounts needs to know.
package protocol AccountLookup {
    func exists(canonicalID: String) -> Bool
    /// All accounts with that address.
    func canonicalIDs(email: String) -> [String]
}

extension AccountLookup {
    package func entries(for grants: [Grant]) throws(S3Error) -> [AccessControlList.Entry] {
        var entries: [AccessControlList.Entry] = []
        for grant in grants {
            switch grant.grantee {
            case .group(let group): entries.append(.init(.group(group), grant.permission))
            case .user(let id, _):
                guard exists(canonicalID: id) else {
                    throw .invalidArgument("Invalid id", name: "CanonicalUser/ID", value: id)
                }
                entries.append(.init(.user(id), grant.permission))
            case .email(let address):
                let ids = canonicalIDs(email: address)
                guard let id = ids.first else {
                    throw S3Error(.unresolvableGrantByEmailAddress, nil, details: [("EmailAddress", address)])
                }
                guard ids.count == 1 else {
                    throw S3Error(.ambiguousGrantByEmailAddress, nil, details: [("EmailAddress", address)])
                }
                entries.append(.init(.user(id), grant.permission))
            }
        }
        return entries
    }
}
