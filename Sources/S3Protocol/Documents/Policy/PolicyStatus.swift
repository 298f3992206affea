/// Whether a bucket is public.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketPolicyStatus.html
package struct PolicyStatus: XMLResponse, Hashable {
    package var isPublic: Bool

    package init(isPublic: Bool) { self.isPublic = isPublic }

    package func render(into writer: inout XMLWriter) {
        writer.root("PolicyStatus") { $0.element("IsPublic", isPublic) }
    }
}

extension BucketPolicy {
    /// A policy is taken for public unless each statement that allows something names its principals, or is held
    /// down by a condition to fixed values.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html#access-control-block-public-access-policy-status
    package var isPublic: Bool {
        statements.contains { statement in
            guard statement.effect == .allow else { return false }
            guard statement.principal.pattern.isEveryone || statement.principal.isNegated else {
                return false
            }
            return !statement.conditions.contains { $0.fixesWho }
        }
    }
}

extension PolicyCondition {
    /// The keys that can hold a statement down to someone.
    private static let fixingKeys: Set<String> = [
        "aws:principalaccount", "aws:principalarn", "aws:principalorgid", "aws:principalorgpaths",
        "aws:sourceaccount", "aws:sourcearn", "aws:sourceorgid", "aws:sourceowner", "aws:sourcevpc",
        "aws:sourcevpce", "aws:userid", "aws:username", "aws:vpcsourceip", "s3:dataaccesspointaccount",
        "s3:dataaccesspointarn", "s3:x-amz-server-side-encryption-aws-kms-key-id",
    ]

    /// A positive comparison with values in which nothing is left open.
    fileprivate var fixesWho: Bool {
        guard !ifExists, quantifier != .allValues else { return false }
        switch comparison {
        case .ipAddress:
            // Blocks larger than these are the internet.
            return ["aws:sourceip", "aws:vpcsourceip"].contains(key)
                && values.allSatisfy { value in
                    guard let block = AddressBlock(value.source) else { return false }
                    return block.prefixLength >= (block.isIPv4 ? 8 : 32)
                }
        case .stringEquals, .stringEqualsIgnoreCase, .stringLike, .arnEquals, .arnLike:
            return Self.fixingKeys.contains(key)
                && values.allSatisfy { value in
                    !value.source.contains("${") && !Wildcard(value.source).hasSigns
                }
        default: return false
        }
    }
}
