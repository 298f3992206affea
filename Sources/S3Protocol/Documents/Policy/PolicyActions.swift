/// The actions that a bucket policy can speak of, and what they apply to.
/// https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
enum PolicyActions {
    static let onBuckets: Set<String> = [
        "s3:createbucket", "s3:deletebucket", "s3:deletebucketpolicy", "s3:deletebucketwebsite",
        "s3:getaccelerateconfiguration", "s3:getanalyticsconfiguration", "s3:getbucketabac",
        "s3:getbucketacl",
        "s3:getbucketcors", "s3:getbucketlocation", "s3:getbucketlogging",
        "s3:getbucketmetadatatableconfiguration",
        "s3:getbucketnotification", "s3:getbucketobjectlockconfiguration", "s3:getbucketownershipcontrols",
        "s3:getbucketpolicy", "s3:getbucketpolicystatus", "s3:getbucketpublicaccessblock",
        "s3:getbucketrequestpayment", "s3:getbuckettagging", "s3:getbucketversioning", "s3:getbucketwebsite",
        "s3:getencryptionconfiguration", "s3:getintelligenttieringconfiguration",
        "s3:getinventoryconfiguration",
        "s3:getlifecycleconfiguration", "s3:getmetricsconfiguration", "s3:getreplicationconfiguration",
        "s3:listbucket", "s3:listbucketmultipartuploads", "s3:listbucketversions",
        "s3:putaccelerateconfiguration", "s3:putanalyticsconfiguration", "s3:putbucketabac",
        "s3:putbucketacl",
        "s3:putbucketcors", "s3:putbucketlogging", "s3:putbucketnotification",
        "s3:putbucketobjectlockconfiguration", "s3:putbucketownershipcontrols", "s3:putbucketpolicy",
        "s3:putbucketpublicaccessblock", "s3:putbucketrequestpayment", "s3:putbuckettagging",
        "s3:putbucketversioning", "s3:putbucketwebsite", "s3:putencryptionconfiguration",
        "s3:putintelligenttieringconfiguration", "s3:putinventoryconfiguration",
        "s3:putlifecycleconfiguration",
        "s3:putmetricsconfiguration", "s3:putreplicationconfiguration", "s3:tagresource", "s3:untagresource",
        "s3:listtagsforresource",
    ]

    static let onObjects: Set<String> = [
        "s3:abortmultipartupload", "s3:bypassgovernanceretention", "s3:deleteobject",
        "s3:deleteobjecttagging",
        "s3:deleteobjectversion", "s3:deleteobjectversiontagging", "s3:getobject", "s3:getobjectacl",
        "s3:getobjectattributes", "s3:getobjectlegalhold", "s3:getobjectretention", "s3:getobjecttagging",
        "s3:getobjecttorrent", "s3:getobjectversion", "s3:getobjectversionacl",
        "s3:getobjectversionattributes",
        "s3:getobjectversionforreplication", "s3:getobjectversiontagging", "s3:getobjectversiontorrent",
        "s3:initiatereplication", "s3:listmultipartuploadparts", "s3:objectowneroverridetobucketowner",
        "s3:putobject", "s3:putobjectacl", "s3:putobjectlegalhold", "s3:putobjectretention",
        "s3:putobjecttagging", "s3:putobjectversionacl", "s3:putobjectversiontagging", "s3:replicatedelete",
        "s3:replicateobject", "s3:replicatetags", "s3:restoreobject", "s3:updateobjectencryption",
    ]
}

/// The actions of a statement. Their names have no case.
/// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_action.html
struct ActionPattern: Hashable, Sendable {
    let patterns: [Wildcard]

    init(parsing value: JSONValue) throws(S3Error) {
        let texts = try PolicyText.strings(value) { PolicyText.malformed("Policy has invalid action") }
        guard !texts.isEmpty else { throw PolicyText.malformed("Policy has invalid action") }
        var patterns: [Wildcard] = []
        for text in texts {
            let pattern = Wildcard(ASCIIText.lowercased(text))
            let isKnown =
                PolicyActions.onBuckets.contains(where: { pattern.matches($0) })
                || PolicyActions.onObjects.contains(where: { pattern.matches($0) })
            guard isKnown else { throw PolicyText.malformed("Policy has invalid action") }
            patterns.append(pattern)
        }
        self.patterns = patterns
    }

    func matches(_ action: String) -> Bool {
        let name = ASCIIText.lowercased(action)
        return patterns.contains { $0.matches(name) }
    }

    /// Each action has a resource that it can apply to.
    func applies(toBuckets hasBucket: Bool, toObjects hasObject: Bool) -> Bool {
        patterns.allSatisfy { pattern in
            (hasBucket && PolicyActions.onBuckets.contains { pattern.matches($0) })
                || (hasObject && PolicyActions.onObjects.contains { pattern.matches($0) })
        }
    }
}
