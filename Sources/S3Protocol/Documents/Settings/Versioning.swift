/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketVersioning.html
package struct VersioningConfiguration: XMLSetting, Hashable {
    package enum Status: String, Sendable {
        case enabled = "Enabled"
        case suspended = "Suspended"
    }

    /// Nil for a bucket that was never versioned.
    package var status: Status?

    package init(status: Status?) { self.status = status }

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("VersioningConfiguration")
        try xml.requireOnly(["Status", "MfaDelete"])
        switch try xml.word(of: "MfaDelete") {
        case nil, "Disabled"?: break
        case "Enabled"?: throw S3Error(.notImplemented, "MFA Delete is not implemented.")
        default: throw .malformedXML("MfaDelete is neither Enabled nor Disabled.")
        }
        guard let word = try xml.word(of: "Status") else {
            throw S3Error(.illegalVersioningConfiguration, "The Versioning element must be specified")
        }
        guard let status = Status(rawValue: word) else {
            throw .malformedXML("Status is neither Enabled nor Suspended.")
        }
        self.status = status
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("VersioningConfiguration") { $0.optional("Status", status?.rawValue) }
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketRequestPayment.html
package struct RequestPaymentConfiguration: XMLSetting, Hashable {
    package enum Payer: String, Sendable {
        case requester = "Requester"
        case bucketOwner = "BucketOwner"
    }

    package var payer: Payer

    package init(payer: Payer) { self.payer = payer }

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("RequestPaymentConfiguration")
        try xml.requireOnly(["Payer"])
        guard let payer = Payer(rawValue: try xml.requiredWord(of: "Payer")) else {
            throw .malformedXML("Payer is neither Requester nor BucketOwner.")
        }
        self.payer = payer
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("RequestPaymentConfiguration") { $0.element("Payer", payer.rawValue) }
    }
}
