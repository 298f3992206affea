/// How objects are encrypted that ask for nothing themselves.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketEncryption.html
package struct ServerSideEncryptionConfiguration: XMLSetting, Hashable {
    /// AES256 is all there is: keys of a key service are not implemented.
    package static let algorithm = "AES256"

    package var isBucketKeyEnabled: Bool

    package init(isBucketKeyEnabled: Bool = false) { self.isBucketKeyEnabled = isBucketKeyEnabled }

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("ServerSideEncryptionConfiguration")
        try xml.requireOnly(["Rule"])
        let rule = try xml.requiredChild("Rule")
        try rule.requireOnly([
            "ApplyServerSideEncryptionByDefault", "BucketKeyEnabled", "BlockedEncryptionTypes",
        ])
        if let blocked = try rule.child("BlockedEncryptionTypes") {
            try blocked.requireOnly(["EncryptionType"])
            guard try blocked.texts(of: "EncryptionType").allSatisfy({ $0 == "NONE" }) else {
                throw S3Error(.notImplemented, "Blocking encryption types is not implemented.")
            }
        }
        let byDefault = try rule.requiredChild("ApplyServerSideEncryptionByDefault")
        try byDefault.requireOnly(["SSEAlgorithm", "KMSMasterKeyID"])
        switch try byDefault.requiredWord(of: "SSEAlgorithm") {
        case Self.algorithm: break
        case "aws:kms", "aws:kms:dsse", "aws:fsx":
            throw S3Error(.notImplemented, "Server side encryption with a key service is not implemented.")
        default: throw .malformedXML("SSEAlgorithm is none of the known values.")
        }
        if let key = try byDefault.text(of: "KMSMasterKeyID") {
            throw .invalidArgument(
                "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
                name: "KMSMasterKeyID",
                value: key
            )
        }
        isBucketKeyEnabled = try rule.boolean(of: "BucketKeyEnabled") ?? false
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("ServerSideEncryptionConfiguration") { writer in
            writer.element("Rule") { writer in
                writer.element("ApplyServerSideEncryptionByDefault") { writer in
                    writer.element("SSEAlgorithm", Self.algorithm)
                }
                writer.element("BucketKeyEnabled", isBucketKeyEnabled)
            }
        }
    }
}
