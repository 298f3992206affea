internal import ObjectService
internal import S3Protocol
internal import StoreModel

// What browsers ask before they let a page of another origin use a bucket.
extension S3Service {
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/RESTOPTIONSobject.html
    func preflight(_ exchange: Exchange) async throws {
        guard let origin = exchange.headers.first("origin") else {
            throw S3Error(.badRequest, "Insufficient information. Origin request header needed.")
        }
        guard let method = exchange.headers.first("access-control-request-method") else {
            throw S3Error(.badRequest, "Invalid Access-Control-Request-Method: null")
        }
        guard let bucket = exchange.request.route.bucket, let access = try? await access(to: bucket),
            let rules = access.cors
        else {
            throw S3Error(.accessForbidden, "CORSResponse: CORS is not enabled for this bucket.")
        }
        let asked = CORSConfiguration.requestedHeaders(
            exchange.headers.first("access-control-request-headers")
        )
        guard let answer = rules.match(origin: origin, method: method, headers: asked) else {
            throw S3Error(
                .accessForbidden,
                "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, "
                    + "request method / Access-Control-Request-Method or Access-Control-Request-Headers are not "
                    + "whitelisted by the resource's CORS spec."
            )
        }
        exchange.send(200, answer.headers.map { HeaderField($0.name, $0.value) })
    }

    /// The headers of every other answer, also of one that refuses: a page may not even see an error without them.
    func originHeaders(_ route: S3Route, _ head: S3RequestHead) async -> [HeaderField] {
        guard route.operation != .preflight, let origin = head.headers.first("origin"),
            let bucket = route.bucket,
            let rules = try? await access(to: bucket).cors,
            let answer = rules.match(origin: origin, method: head.method)
        else { return [] }
        return answer.headers.map { HeaderField($0.name, $0.value) }
    }
}
