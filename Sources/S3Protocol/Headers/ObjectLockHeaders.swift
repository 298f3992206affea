package import StoreModel

/// What the headers of an upload say about locking the new version.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
package struct ObjectLockHeaders: Hashable, Sendable {
    package let retention: Retention?
    package let legalHold: LegalHold?

    package var isEmpty: Bool { retention == nil && legalHold == nil }

    /// - Throws: `InvalidArgument` for half a retention, one that is over, or values that are none.
    package init(_ headers: HeaderList, now: Timestamp) throws(S3Error) {
        let modeName = "x-amz-object-lock-mode"
        let untilName = "x-amz-object-lock-retain-until-date"
        let holdName = "x-amz-object-lock-legal-hold"
        switch (try headers.single(modeName), try headers.single(untilName)) {
        case (nil, nil):
            retention = nil
        case (let modeText?, let untilText?):
            guard let mode = RetentionMode(rawValue: modeText) else {
                throw .invalidArgument("Unknown wormMode directive.", name: modeName, value: modeText)
            }
            guard let until = ISO8601.parse(untilText) else {
                throw .invalidArgument(
                    "The retain until date must be provided in ISO 8601 format",
                    name: untilName,
                    value: untilText
                )
            }
            guard until > now else {
                throw .invalidArgument(
                    "The retain until date must be in the future!",
                    name: untilName,
                    value: untilText
                )
            }
            retention = Retention(mode: mode, until: until)
        default:
            throw .invalidArgument(
                "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
                name: headers.contains(modeName) ? untilName : modeName,
                value: ""
            )
        }
        switch try headers.single(holdName) {
        case nil: legalHold = nil
        case "ON"?: legalHold = LegalHold(isOn: true)
        case "OFF"?: legalHold = LegalHold(isOn: false)
        case let other?:
            throw .invalidArgument("Legal Hold must be either of 'ON' or 'OFF'", name: holdName, value: other)
        }
    }

    /// Whether whoever may is to set aside a governance retention.
    package static func bypassesGovernance(_ headers: HeaderList) throws(S3Error) -> Bool {
        let name = "x-amz-bypass-governance-retention"
        guard let text = try headers.single(name) else { return false }
        switch ASCIIText.lowercased(text) {
        case "true": return true
        case "false": return false
        default: throw .invalidArgument("The value is neither true nor false.", name: name, value: text)
        }
    }
}
