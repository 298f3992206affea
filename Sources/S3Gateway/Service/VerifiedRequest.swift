package import S3Protocol
package import StoreModel

/// A request of which is known who sent it. Handlers take nothing else.
///
/// It is made from a signature that only the verifiers can make, or for nobody in particular.
package struct VerifiedRequest: Sendable {
    package enum Principal: Hashable, Sendable {
        case anonymous
        case account(AccountIdentity, accessKey: String)
    }

    /// 16 hexadecimal digits.
    package let id: String
    package let head: S3RequestHead
    package let route: S3Route
    package let principal: Principal
    /// What the body is, as far as it was signed.
    package let payload: PayloadMode
    /// To check signed chunks with.
    package let chunkSigning: ChunkSigning?
    package let remoteAddress: String
    package let receivedAt: Timestamp

    /// - Parameter account: of the signature's access key.
    package init(
        _ arrival: RequestArrival,
        signature: VerifiedSignature,
        account: AccountIdentity
    ) {
        self.init(
            arrival,
            principal: .account(account, accessKey: signature.accessKey),
            payload: signature.payload,
            chunkSigning: signature.chunkSigning
        )
    }

    /// A request that nobody signed.
    package init(anonymous arrival: RequestArrival) throws(S3Error) {
        self.init(
            arrival,
            principal: .anonymous,
            payload: try PayloadMode(anonymous: arrival.head),
            chunkSigning: nil
        )
    }

    private init(
        _ arrival: RequestArrival,
        principal: Principal,
        payload: PayloadMode,
        chunkSigning: ChunkSigning?
    ) {
        id = arrival.id
        head = arrival.head
        route = arrival.route
        remoteAddress = arrival.remoteAddress
        receivedAt = arrival.receivedAt
        self.principal = principal
        self.payload = payload
        self.chunkSigning = chunkSigning
    }

    package var headers: HeaderList { head.headers }
    package var query: QueryItems { route.query }

    package var account: AccountIdentity? {
        guard case .account(let account, _) = principal else { return nil }
        return account
    }

    /// The bucket of the route.
    /// - Throws: for an operation that has none, which is a fault of the dispatch.
    package func bucket() throws(S3Error) -> BucketName {
        guard let bucket = route.bucket else { throw S3Error(.internalError) }
        return bucket
    }

    package func key() throws(S3Error) -> ObjectKey {
        guard let key = route.key else { throw S3Error(.internalError) }
        return key
    }
}

/// A request before it is known who sent it.
package struct RequestArrival: Sendable {
    package let id: String
    package let head: S3RequestHead
    package let route: S3Route
    package let remoteAddress: String
    package let receivedAt: Timestamp
}
