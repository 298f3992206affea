/// What a bucket refuses and ignores of public access.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html
package struct PublicAccessBlock: XMLSetting, Hashable {
    /// Requests that would make an ACL public are refused.
    package var blocksPublicACLs: Bool
    /// Public grants in ACLs have no effect.
    package var ignoresPublicACLs: Bool
    /// A policy that is public is refused.
    package var blocksPublicPolicy: Bool
    /// A policy that is public has effect only for the bucket owner's account.
    package var restrictsPublicBuckets: Bool

    package init(
        blocksPublicACLs: Bool,
        ignoresPublicACLs: Bool,
        blocksPublicPolicy: Bool,
        restrictsPublicBuckets: Bool
    ) {
        self.blocksPublicACLs = blocksPublicACLs
        self.ignoresPublicACLs = ignoresPublicACLs
        self.blocksPublicPolicy = blocksPublicPolicy
        self.restrictsPublicBuckets = restrictsPublicBuckets
    }

    /// The default of new buckets.
    package static let everything = PublicAccessBlock(
        blocksPublicACLs: true,
        ignoresPublicACLs: true,
        blocksPublicPolicy: true,
        restrictsPublicBuckets: true
    )

    /// A bucket without this configuration.
    package static let nothing = PublicAccessBlock(
        blocksPublicACLs: false,
        ignoresPublicACLs: false,
        blocksPublicPolicy: false,
        restrictsPublicBuckets: false
    )

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("PublicAccessBlockConfiguration")
        try xml.requireOnly([
            "BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets",
        ])
        guard !xml.children.isEmpty else {
            throw S3Error(
                .invalidRequest,
                "Must specify at least one configuration."
            )
        }
        blocksPublicACLs = try xml.boolean(of: "BlockPublicAcls") ?? false
        ignoresPublicACLs = try xml.boolean(of: "IgnorePublicAcls") ?? false
        blocksPublicPolicy = try xml.boolean(of: "BlockPublicPolicy") ?? false
        restrictsPublicBuckets = try xml.boolean(of: "RestrictPublicBuckets") ?? false
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("PublicAccessBlockConfiguration") { writer in
            writer.element("BlockPublicAcls", blocksPublicACLs)
            writer.element("IgnorePublicAcls", ignoresPublicACLs)
            writer.element("BlockPublicPolicy", blocksPublicPolicy)
            writer.element("RestrictPublicBuckets", restrictsPublicBuckets)
        }
    }
}

/// Who owns the objects that others put into a bucket, and whether ACLs count.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html
package enum ObjectOwnership: String, CaseIterable, Sendable {
    /// The bucket's owner owns everything; ACLs have no effect and can't be set.
    case bucketOwnerEnforced = "BucketOwnerEnforced"
    /// The bucket's owner owns what is put with bucket-owner-full-control.
    case bucketOwnerPreferred = "BucketOwnerPreferred"
    /// Whoever puts an object owns it.
    case objectWriter = "ObjectWriter"
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketOwnershipControls.html
package struct OwnershipControls: XMLSetting, Hashable {
    package var ownership: ObjectOwnership

    package init(ownership: ObjectOwnership) { self.ownership = ownership }

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("OwnershipControls")
        try xml.requireOnly(["Rule"])
        let rule = try xml.requiredChild("Rule")
        try rule.requireOnly(["ObjectOwnership"])
        guard let ownership = ObjectOwnership(rawValue: try rule.requiredWord(of: "ObjectOwnership")) else {
            throw .malformedXML("ObjectOwnership is none of the known values.")
        }
        self.ownership = ownership
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("OwnershipControls") { writer in
            writer.element("Rule") { $0.element("ObjectOwnership", ownership.rawValue) }
        }
    }
}
