extension S3RequestHead {
    /// The head with the headers that stand in the query of a presigned URL: some signers move every `x-amz-` header
    /// there, and S3 reads them from there. To be called after the signature was verified, which covers them either
    /// way, and before routing.
    /// - Throws: `InvalidArgument` when header and query say different things.
    package func withHeadersOfPresignedQuery(_ query: QueryItems) throws(S3Error) -> S3RequestHead {
        var head = self
        for item in query.items {
            let name = ASCIIText.lowercased(item.name)
            guard name.hasPrefix("x-amz-"), !Self.signatureParameters.contains(name) else { continue }
            if let value = headers.first(name), !value.utf8.elementsEqual(item.value.utf8) {
                throw .invalidArgument(
                    "The header and the parameter of the query differ.",
                    name: name,
                    value: item.value
                )
            }
            try HeaderValue.check(item.value, of: name)
            head.headers.set(name, item.value)
        }
        return head
    }

    private static let signatureParameters: Set<String> = [
        "x-amz-algorithm", "x-amz-content-sha256", "x-amz-credential", "x-amz-date", "x-amz-expires",
        "x-amz-security-token", "x-amz-signature", "x-amz-signedheaders",
    ]
}
