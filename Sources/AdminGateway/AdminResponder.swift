internal import ContentHashing
package import Logging
internal import Observability
package import S3Gateway
internal import S3Protocol
package import StoreModel

/// Answers the admin API.
///
/// 1. On the network every request but that for the description is signed (SigV4, service `holdfast-admin`) with a key
///    of the root account, its body included. A service name of its own keeps a signature made for the S3 API from being
///    one for this.
/// 2. On the socket in the store's directory the kernel says who asks; who may, the server has checked before.
/// 3. Every change, done or refused, is one line of the audit log. No secret is in it.
package struct AdminResponder: RequestResponder {
    /// What a client signs for.
    package static let serviceName = "holdfast-admin"

    /// How it is known who asks.
    package enum Access: Sendable {
        case signed(region: String, any CredentialSource)
        /// The peer of a local socket.
        case local
    }

    let administration: any Administration
    private let version: @Sendable () -> VersionDocument
    private let credentials: (any CredentialSource)?
    private let verifier: SignatureVerifier
    private let audit: Logger
    private let logger: Logger
    let clock: any StoreClock
    private let ids = RequestIDs()

    package init(
        _ administration: any Administration,
        access: Access,
        version: @escaping @Sendable () -> VersionDocument,
        audit: Logger,
        logger: Logger,
        clock: any StoreClock = SystemClock()
    ) {
        self.administration = administration
        self.version = version
        self.audit = audit
        self.logger = logger
        self.clock = clock
        switch access {
        case .local:
            credentials = nil
            verifier = SignatureVerifier(region: "", service: Self.serviceName)
        case .signed(let region, let source):
            credentials = source
            verifier = SignatureVerifier(region: region, service: Self.serviceName)
        }
    }

    struct Answer {
        var status = 200
        var body: [UInt8]
        /// What was changed, for the audit log.
        var subject: Logger.Metadata = [:]
    }

    package func respond(to request: GatewayRequest, body: RequestBody, writer: ResponseWriter) async {
        let id = ids.make()
        var trace: Logger.Metadata = ["requestID": "\(id)", "remote": "\(request.remoteAddress)"]
        var endpoint: AdminEndpoint?
        do {
            let (found, argument) = try AdminEndpoint.route(method: request.method, path: request.path)
            endpoint = found
            trace["action"] = "\(found)"
            if let argument { trace["target"] = "\(argument)" }
            let bytes = try await Self.read(body)
            trace["actor"] = "\(try await authenticate(request, bytes, isPublic: found.isPublic))"
            let answer = try await withLifeSigns(request, writer) {
                try await perform(found, argument, query: request.query, bytes)
            }
            if found.isChange {
                let subject = answer.subject.merging(["outcome": "done"]) { $1 }
                audit.notice("Administration", metadata: trace.merging(subject) { $1 })
            }
            Self.send(answer.status, answer.body, id, writer)
        } catch {
            refuse(error, id, trace, isChange: endpoint?.isChange ?? false, writer)
        }
    }

    package func answer(to problem: TransportProblem) -> (ResponseHead, [UInt8]) {
        let id = ids.make()
        let detail = AdminErrors.answer(to: problem, requestID: id)?.detail
        let body = detail.flatMap { try? AdminJSON.encode(ErrorDocument(error: $0)) } ?? []
        return (Self.head(problem.status, id, count: body.count), body)
    }

    // MARK: Who asks

    /// - Returns: who it is, for the audit log.
    private func authenticate(
        _ request: GatewayRequest,
        _ body: [UInt8],
        isPublic: Bool
    ) async throws -> String {
        guard let credentials else { return "local \(request.remoteAddress)" }
        if isPublic { return "anybody" }
        let head = S3RequestHead(
            method: request.method,
            path: request.path,
            query: request.query,
            headers: request.headers,
            isSecure: request.isSecure
        )
        let hash = SHA256Hasher.hash(body)
        let claimed = try RequestAuthentication(
            head,
            query: try QueryItems(decoding: head.query),
            unstatedPayload: hash.hex
        )
        guard case .header(let claim) = claimed else {
            throw S3Error(.accessDenied, "The request must be signed in its Authorization header.")
        }
        let credential = try await credentials.credential(for: claim.accessKey)
        let signature = try verifier.verify(claimed, head: head, secret: credential?.secret, now: clock.now())
        guard let credential, credential.account.isRoot else {
            throw S3Error(.accessDenied, "Only keys of the root account may do that.")
        }
        switch signature.payload {
        case .signed(let digest):
            guard digest == hash else { throw S3Error(.contentSHA256Mismatch) }
        case .unsigned, .streaming:
            guard body.isEmpty else { throw S3Error(.accessDenied, "The body must be signed.") }
        }
        return "key \(signature.accessKey)"
    }

    private static func read(_ body: RequestBody) async throws -> [UInt8] {
        let tooLarge = AdminRefusal(
            413,
            "entityTooLarge",
            "The body may have \(AdminRequestBody.byteCountMax) bytes."
        )
        if let length = body.contentLength {
            guard length <= UInt64(AdminRequestBody.byteCountMax) else { throw tooLarge }
        }
        var bytes: [UInt8] = []
        while let piece = try await body.next() {
            guard bytes.count + piece.count <= AdminRequestBody.byteCountMax else { throw tooLarge }
            bytes += piece
        }
        return bytes
    }

    // MARK: What is done

    private func perform(
        _ endpoint: AdminEndpoint,
        _ argument: String?,
        query: String?,
        _ bytes: [UInt8]
    ) async throws -> Answer {
        switch endpoint {
        case .document: Answer(body: AdminJSON.openAPI)
        case .version: Answer(body: try AdminJSON.encode(version()))
        case .status: Answer(body: try AdminJSON.encode(await administration.status()))
        case .buckets:
            Answer(body: try AdminJSON.encode(BucketListDocument(buckets: await administration.buckets())))
        case .accounts:
            Answer(body: try AdminJSON.encode(AccountListDocument(accounts: await administration.accounts())))
        case .keys:
            Answer(body: try AdminJSON.encode(KeyListDocument(keys: await keys(query))))
        case .createAccount: try await createAccount(bytes)
        case .removeAccount: try await removeAccount(argument ?? "")
        case .createKey: try await createKey(bytes)
        case .removeKey: try await removeKey(argument ?? "")
        case .rotateKey: try await rotateKey(argument ?? "", bytes)
        case .masterKeys: Answer(body: try AdminJSON.encode(await administration.masterKeys()))
        case .reloadMasterKeys:
            Answer(body: try AdminJSON.encode(await administration.reloadMasterKeys()))
        case .rotateMasterKey: try await rotateMasterKey(bytes)
        case .volumes: try await volumes()
        case .addVolume: try await addVolume(bytes)
        case .drainVolume: try await drainVolume(argument ?? "", bytes)
        case .removeVolume: try await removeVolume(argument ?? "", bytes)
        case .replaceVolume: try await replaceVolume(argument ?? "", bytes)
        case .setVolumeReadOnly: try await setVolumeReadOnly(argument ?? "", bytes)
        case .checkVolume: try await checkVolume(argument ?? "", bytes)
        case .setLogVolumes: try await setLogVolumes(bytes)
        case .mirrors, .addMirror, .removeMirror, .pauseMirror, .resumeMirror, .retryMirror,
            .setMirrorCredentials,
            .mirrorFailures, .verifyMirror:
            try await mirror(endpoint, argument ?? "", query: query, bytes)
        case .mirrorDifferences: Answer(body: try await mirrorDifferences(argument ?? "", query))
        case .mirrorAcknowledgement, .setMirrorAcknowledgement, .removeMirrorAcknowledgement:
            Answer(body: try await performMirrorAcknowledgement(endpoint, argument ?? "", bytes))
        case .mirrorAudits: Answer(body: try AdminJSON.encode(await administration.mirrorAudits()))
        case .mirrorAudit: Answer(body: try await performMirrorAudit(argument ?? "", bytes))
        case .scrubStatus: Answer(body: try AdminJSON.encode(await administration.scrubStatus()))
        case .scrub: Answer(body: try await performScrub(argument ?? "", bytes))
        case .findings: Answer(body: try await listFindings(query))
        case .garbage: Answer(body: try AdminJSON.encode(await administration.garbageStatus()))
        case .runGarbage:
            Answer(
                status: 202,
                body: try AdminJSON.encode(await startGarbageCollection(bytes, administration))
            )
        case .retention, .setRetention, .removeRetention, .applyRetention:
            Answer(body: try await performRetention(endpoint, argument ?? "", bytes, administration))
        case .volumeUsage: Answer(body: try AdminJSON.encode(await administration.volumeUsage()))
        case .space: Answer(body: try await space(query))
        }
    }

    private func mirror(
        _ endpoint: AdminEndpoint,
        _ name: String,
        query: String?,
        _ bytes: [UInt8]
    ) async throws -> Answer {
        let (status, body, name) = try await mirror(endpoint, name, query: query, bytes, administration)
        return Answer(status: status, body: body, subject: ["mirror": "\(name)"])
    }

    private func keys(_ query: String?) async throws -> [KeyDocument] {
        let items = try QueryItems(decoding: query)
        return try await administration.keys(account: try items.single("account"))
    }

    private func createAccount(_ bytes: [UInt8]) async throws -> Answer {
        let body = try AdminRequestBody(bytes, allowed: ["name", "email"])
        guard let name = try body.text("name") else {
            throw AdminRefusal(400, "invalidArgument", "The member \"name\" is missing.")
        }
        let account = try await administration.createAccount(name: name, email: try body.text("email"))
        return Answer(
            status: 201,
            body: try AdminJSON.encode(account),
            subject: ["account": "\(account.id)", "name": "\(account.name)"]
        )
    }

    private func removeAccount(_ name: String) async throws -> Answer {
        let removed = try await administration.removeAccount(name)
        return Answer(
            body: try AdminJSON.encode(removed),
            subject: [
                "account": "\(removed.removedAccount)", "name": "\(removed.name)",
                "removedKeys": "\(removed.removedKeys)",
            ]
        )
    }

    private func createKey(_ bytes: [UInt8]) async throws -> Answer {
        let body = try AdminRequestBody(bytes, allowed: ["account", "label"])
        let key = try await administration.createKey(
            account: try body.text("account"),
            label: try body.text("label") ?? ""
        )
        return try Self.answer(status: 201, key)
    }

    private func removeKey(_ id: String) async throws -> Answer {
        try await administration.removeKey(id)
        return Answer(
            body: try AdminJSON.encode(RemovedKeyDocument(removedAccessKeyID: id)),
            subject: ["accessKey": "\(id)"]
        )
    }

    private func rotateKey(_ id: String, _ bytes: [UInt8]) async throws -> Answer {
        let body = try AdminRequestBody(bytes, allowed: ["keepsOld"])
        return try Self.answer(
            status: 201,
            try await administration.rotateKey(id, keepsOld: try body.flag("keepsOld"))
        )
    }

    private func rotateMasterKey(_ bytes: [UInt8]) async throws -> Answer {
        let body = try AdminRequestBody(bytes, allowed: ["acceptsLoss"])
        let made = try await administration.rotateMasterKey(acceptsLoss: try body.flag("acceptsLoss"))
        return Answer(body: try AdminJSON.encode(made), subject: ["masterKey": "\(made.masterKeyID)"])
    }

    private static func answer(status: Int, _ key: NewKeyDocument) throws -> Answer {
        var subject: Logger.Metadata = ["accessKey": "\(key.accessKeyID)", "account": "\(key.account)"]
        if let replaced = key.replacedAccessKeyID { subject["replaced"] = "\(replaced)" }
        return Answer(status: status, body: try AdminJSON.encode(key), subject: subject)
    }

    // MARK: What is answered

    private func refuse(
        _ error: any Error,
        _ id: String,
        _ trace: Logger.Metadata,
        isChange: Bool,
        _ writer: ResponseWriter
    ) {
        let answer = AdminErrors.answer(to: error, requestID: id)
        let outcome = answer?.detail.code ?? StoreError.Code.cancelled.description
        if isChange || answer?.status == 403 {
            audit.notice("Administration", metadata: trace.merging(["outcome": "\(outcome)"]) { $1 })
        }
        guard let answer else { return writer.abort() }
        if answer.status == 500 {
            logger.error("An admin request failed.", metadata: trace.merging(["error": "\(error)"]) { $1 })
        }
        let body = (try? AdminJSON.encode(ErrorDocument(error: answer.detail))) ?? []
        Self.send(answer.status, body, id, writer, answer.headers)
    }

    private static func head(_ status: Int, _ id: String, count: Int) -> ResponseHead {
        ResponseHead(
            status: status,
            headers: [
                HeaderField("Content-Type", "application/json"),
                // Answers may hold a secret.
                HeaderField("Cache-Control", "no-store"),
                HeaderField("X-Request-Id", id),
            ],
            contentLength: UInt64(count)
        )
    }

    private static func send(
        _ status: Int,
        _ body: [UInt8],
        _ id: String,
        _ writer: ResponseWriter,
        _ headers: [HeaderField] = []
    ) {
        var head = head(status, id, count: body.count)
        head.headers += headers
        writer.send(head, body: body)
    }
}
