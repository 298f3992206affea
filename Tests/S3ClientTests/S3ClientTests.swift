import ContentHashing
import CurlTransport
import Foundation
import S3Client
import S3Protocol
import StoreModel
import StoreTestKit
import Synchronization
import Testing

/// The client against a server that answers as a test says, whatever it was asked.
@Suite struct S3ClientTests {
    static let key = (try? ObjectKey("a b/ü+&=?#%")) ?? fallback
    private static var fallback: ObjectKey { preconditionFailure("The key is one.") }

    final class Heads: Sendable {
        let list = Mutex<[String]>([])
        var all: [String] { list.withLock { $0 } }
    }

    struct Harness {
        let server: RawServer
        let client: S3Client
        let heads: Heads
    }

    struct SteppedClock: StoreClock {
        let now0: Timestamp
        func monotonicNanoseconds() -> UInt64 { SystemClock().monotonicNanoseconds() }
        func now() -> Timestamp { now0 }
        func sleep(for duration: Duration) async throws {}
    }

    /// Answers the n-th request with `answers[n]`, the last one again and again.
    static func harness(
        _ answers: [String],
        credentials: any S3CredentialsProvider = FixedCredentials(
            S3Credentials(accessKey: "AK", secret: "S")
        ),
        clock: any StoreClock = SystemClock(),
        signing: S3PayloadSigning = .automatic
    ) throws -> Harness {
        let heads = Heads()
        let server = try RawServer { connection in
            while let head = connection.readHead() {
                let index = heads.list.withLock { list in
                    list.append(head)
                    return list.count - 1
                }
                if header("expect", in: head) != nil { connection.write("HTTP/1.1 100 Continue\r\n\r\n") }
                _ = connection.read(Int(header("content-length", in: head) ?? "") ?? 0)
                connection.write(answers[min(index, answers.count - 1)])
            }
        }
        var configuration = S3ClientConfiguration(
            endpoint: try S3Endpoint(url: "http://127.0.0.1:\(server.port)")
        )
        configuration.signing = signing
        let client = S3Client(
            configuration,
            credentials: credentials,
            transport: try CurlTransport(),
            clock: clock
        )
        return Harness(server: server, client: client, heads: heads)
    }

    static func answer(_ status: String, _ body: String = "", headers: [String] = []) -> String {
        (["HTTP/1.1 \(status)", "Content-Length: \(body.utf8.count)"] + headers).joined(separator: "\r\n")
            + "\r\n\r\n" + body
    }

    static func errorAnswer(_ status: String, _ code: String, _ more: String = "", headers: [String] = [])
        -> String
    {
        answer(
            status,
            "<Error><Code>\(code)</Code><Message>m</Message>\(more)<RequestId>R1</RequestId></Error>",
            headers: headers
        )
    }

    private func failure(_ body: () async throws -> Void) async -> S3ClientError? {
        do {
            try await body()
            Issue.record("there was no error")
            return nil
        } catch let error as S3ClientError {
            return error
        } catch {
            Issue.record("another error: \(error)")
            return nil
        }
    }

    @Test func requestsAreSignedAsTheServersVerifierWantsThem() async throws {
        let harness = try Self.harness([
            Self.answer("200 OK", headers: ["ETag: \"abc\"", "x-amz-version-id: v1"])
        ])
        defer { harness.server.stop() }
        var options = S3ObjectOptions()
        options.metadata = [("Name", "a  value")]
        options.tags = [TagSet.Tag(key: "k", value: "v &")]
        let result = try await harness.client.putObject(
            "bucket",
            Self.key,
            .bytes([1, 2, 3]),
            options: options
        )
        #expect(result.entityTag == "abc" && result.versionID == "v1")
        let lines = try #require(harness.heads.all.first).components(separatedBy: "\r\n")
        let start = lines[0].split(separator: " ")
        #expect(start[1] == "/bucket/a%20b/%C3%BC%2B%26%3D%3F%23%25")
        let headers = HeaderList(
            lines.dropFirst().map { line in
                let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
                return (name: String(parts[0]), value: String(parts[1]))
            }
        )
        let head = S3RequestHead(method: "PUT", target: String(start[1]), headers: headers)
        let claim = try RequestAuthentication(head)
        let verified = try SignatureVerifier(region: "us-east-1").verify(
            claim,
            head: head,
            secret: "S",
            now: SystemClock().now()
        )
        #expect(verified.payload == .signed(SHA256Hasher.hash([1, 2, 3])))
        #expect(headers.first("x-amz-tagging") == "k=v%20%26")
    }

    @Test func anErrorSaysWhatTheServerSaid() async throws {
        let harness = try Self.harness([
            Self.errorAnswer("503 Slow Down", "SlowDown", headers: ["Retry-After: 7"]),
            Self.errorAnswer("404 Not Found", "NoSuchKey"), Self.answer("500 Oops", "<html>no xml"),
            Self.answer("404 Not Found"),
        ])
        defer { harness.server.stop() }
        let slow = await failure { try await harness.client.getObject("bucket", Self.key) { _ in } }
        #expect(slow?.code == "SlowDown" && slow?.isRetryable == true && slow?.retryAfter == .seconds(7))
        #expect(slow?.requestID == "R1" && slow?.status == 503)
        let missing = await failure { try await harness.client.getObject("bucket", Self.key) { _ in } }
        #expect(missing?.code == "NoSuchKey" && missing?.isRetryable == false && missing?.isNotFound == true)
        let broken = await failure { try await harness.client.getObject("bucket", Self.key) { _ in } }
        #expect(broken?.code == "InternalError" && broken?.isRetryable == true)
        #expect(broken?.mayHaveTakenEffect == true)
        let head = await failure { _ = try await harness.client.headObject("bucket", Self.key) }
        #expect(head?.code == "NotFound")
    }

    @Test func anErrorBehindA200IsAnError() async throws {
        let harness = try Self.harness([
            Self.answer("200 OK", "\n\n  <?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>"),
            Self.errorAnswer("200 OK", "InvalidPart"), Self.answer("200 OK", ""),
            Self.answer("200 OK", "<Other/>"),
        ])
        defer { harness.server.stop() }
        let parts = [S3UploadedPart(number: 1, entityTag: "e", size: 1)]
        func complete() async throws {
            _ = try await harness.client.completeUpload("bucket", Self.key, uploadID: "u", parts: parts)
        }
        let first = await failure { try await complete() }
        #expect(
            first?.code == "InternalError" && first?.isRetryable == true && first?.mayHaveTakenEffect == true
        )
        let second = await failure { try await complete() }
        #expect(second?.code == "InvalidPart" && second?.isRetryable == false)
        for _ in 0..<2 {
            let other = await failure { try await complete() }
            #expect(other?.kind == .answer && other?.mayHaveTakenEffect == true)
        }
    }

    @Test func aClockThatIsOffIsSetByTheServers() async throws {
        let now = SystemClock().now()
        let late = SteppedClock(now0: Timestamp(milliseconds: now.milliseconds - 3_600_000))
        let date = "Date: \(HTTPDate.format(now))"
        let harness = try Self.harness(
            [
                Self.errorAnswer("403 Forbidden", "RequestTimeTooSkewed", headers: [date]),
                Self.answer("200 OK", headers: ["ETag: \"e\""]),
            ],
            clock: late
        )
        defer { harness.server.stop() }
        for _ in 0..<2 { _ = try await harness.client.putObject("bucket", Self.key, .bytes([1])) }
        let dates = harness.heads.all.compactMap { header("x-amz-date", in: $0) }
        // Refused, repeated, and right from the start.
        #expect(dates.count == 3 && dates[0] != dates[1] && dates[1] == dates[2])
        #expect(dates[1] == ISO8601.formatBasic(Timestamp(milliseconds: now.milliseconds / 1000 * 1000)))
    }

    @Test func aServerWhoseClockIsTheSameIsNotAskedAgain() async throws {
        let date = "Date: \(HTTPDate.format(SystemClock().now()))"
        let harness = try Self.harness([
            Self.errorAnswer("403 Forbidden", "RequestTimeTooSkewed", headers: [date])
        ])
        defer { harness.server.stop() }
        let error = await failure { _ = try await harness.client.putObject("bucket", Self.key, .bytes([1])) }
        #expect(error?.code == "RequestTimeTooSkewed")
        #expect(harness.heads.all.count == 1)
    }

    @Test func anotherRegionIsSignedForAndRemembered() async throws {
        let harness = try Self.harness([
            Self.errorAnswer(
                "400 Bad Request",
                "AuthorizationHeaderMalformed",
                "<Region>eu-central-1</Region>"
            ),
            Self.answer("200 OK", headers: ["ETag: \"e\""]),
        ])
        defer { harness.server.stop() }
        for _ in 0..<2 { _ = try await harness.client.putObject("bucket", Self.key, .bytes([1])) }
        let scopes = harness.heads.all.compactMap { header("authorization", in: $0) }
        #expect(scopes.map { $0.contains("/eu-central-1/s3/") } == [false, true, true])
    }

    @Test(arguments: [
        ("https://s3.us-east-1.amazonaws.com", "https://b.s3.eu-west-1.amazonaws.com", true),
        ("https://s3.us-east-1.amazonaws.com", "http://b.s3.eu-west-1.amazonaws.com", false),
        ("https://s3.example.org", "https://eu.example.org", true),
        ("https://s3.example.org", "https://example.org.evil.net", false),
        ("https://s3.example.org", "https://evil.org", false), ("http://10.0.0.1", "http://10.0.0.2", false),
        ("http://10.0.0.1:80", "http://10.0.0.1:9000", true),
        ("https://localhost", "https://evil.net", false),
    ])
    func redirectsLeadToTheSameHouseOnly(from: String, to: String, isTrusted: Bool) throws {
        let (origin, other) = (try HTTPOrigin.parse(from).origin, try HTTPOrigin.parse(to).origin)
        #expect(S3Client.isTrusted(other, from: origin) == isTrusted)
    }

    private final class RotatedCredentials: S3CredentialsProvider {
        let current = Mutex(S3Credentials(accessKey: "OLD", secret: "old"))
        func credentials() async throws -> S3Credentials { current.withLock { $0 } }
        func credentials(insteadOf refused: S3Credentials) async throws -> S3Credentials {
            current.withLock { current in
                current = S3Credentials(accessKey: "NEW", secret: "new")
                return current
            }
        }
    }

    @Test func credentialsThatWereChangedAreReadAgain() async throws {
        let harness = try Self.harness(
            [
                Self.errorAnswer("403 Forbidden", "InvalidAccessKeyId"),
                Self.answer("200 OK", headers: ["ETag: \"e\""]),
            ],
            credentials: RotatedCredentials()
        )
        defer { harness.server.stop() }
        _ = try await harness.client.putObject("bucket", Self.key, .bytes([1]))
        let keys = harness.heads.all.compactMap { header("authorization", in: $0) }
        #expect(keys.map { $0.contains("Credential=NEW/") } == [false, true])
    }

    @Test func bodiesThatCannotBeReadTwiceAreNotSentTwice() async throws {
        let date = "Date: \(HTTPDate.format(Timestamp(milliseconds: 0)))"
        let harness = try Self.harness([
            Self.errorAnswer("403 Forbidden", "RequestTimeTooSkewed", headers: [date])
        ])
        defer { harness.server.stop() }
        var rest: [UInt8]? = [1, 2, 3]
        let body = S3Body.stream(length: 3, isReplayable: false) {
            {
                defer { rest = nil }
                return rest
            }
        }
        let error = await failure { _ = try await harness.client.putObject("bucket", Self.key, body) }
        #expect(error?.code == "RequestTimeTooSkewed")
        #expect(harness.heads.all.count == 1)
        // Plain HTTP, and a hash that is not known: in signed chunks.
        let head = try #require(harness.heads.all.first)
        #expect(header("x-amz-content-sha256", in: head) == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
        #expect(header("x-amz-decoded-content-length", in: head) == "3")
    }

    @Test func listingsAreReadInTheirOrderAndDecoded() async throws {
        let time = "<LastModified>2026-01-02T03:04:05.000Z</LastModified>"
        let page = """
            <?xml version="1.0"?><ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">\
            <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextKeyMarker>a%2Bb+c</NextKeyMarker>\
            <NextVersionIdMarker>v9</NextVersionIdMarker>\
            <DeleteMarker><Key>a%20b</Key><VersionId>d1</VersionId><IsLatest>true</IsLatest>\(time)</DeleteMarker>\
            <Version><Key>a%20b</Key><VersionId>v1</VersionId><IsLatest>false</IsLatest>\(time)<Size>12</Size>\
            <ETag>&quot;t&quot;</ETag><Future>x</Future></Version></ListVersionsResult>
            """
        let harness = try Self.harness([
            Self.answer("200 OK", page),
            Self.answer("200 OK", page.replacingOccurrences(of: "<Size>12", with: "<Size>-1")),
            Self.answer("200 OK", page.replacingOccurrences(of: "<Key>a%20b", with: "<Key>%FF")),
            Self.answer("200 OK", "<!DOCTYPE x [<!ENTITY y 'z'>]><ListVersionsResult/>"),
        ])
        defer { harness.server.stop() }
        let listing = try await harness.client.listVersions("bucket")
        #expect(listing.versions.map(\.versionID) == ["d1", "v1"])
        #expect(listing.versions.map(\.isDeleteMarker) == [true, false])
        #expect(listing.versions[1].size == 12 && listing.versions[1].entityTag == "t")
        #expect(listing.versions[1].key.description == "a b")
        #expect(listing.next == S3VersionMarker(key: "a+b c", versionID: "v9"))
        for _ in 0..<3 {
            let error = await failure { _ = try await harness.client.listVersions("bucket") }
            #expect(error?.kind == .answer)
        }
    }

    @Test func anotherRangeThanTheOneAskedForIsRefused() async throws {
        let harness = try Self.harness([
            Self.answer(
                "206 Partial Content",
                "cd",
                headers: ["ETag: \"e\"", "Content-Range: bytes 2-3/10"]
            ),
            Self.answer(
                "206 Partial Content",
                "cd",
                headers: ["ETag: \"e\"", "Content-Range: bytes 3-4/10"]
            ),
            Self.answer("200 OK", "abcdefghij", headers: ["ETag: \"e\""]),
            Self.answer(
                "206 Partial Content",
                "cd",
                headers: ["ETag: \"e\"", "Content-Range: bytes 2-9/10"]
            ),
        ])
        defer { harness.server.stop() }
        let range = ByteRangeHeader.from(first: 2, last: 3)
        let bytes = try await harness.client.getObject("bucket", Self.key, range: range) {
            try await $0.next()
        }
        #expect(bytes == [UInt8]("cd".utf8))
        for _ in 0..<3 {
            let error = await failure {
                try await harness.client.getObject("bucket", Self.key, range: range) { _ in }
            }
            #expect(error?.kind == .answer)
        }
    }

    @Test func retriesWaitAtRandomAndWithinTheirBudget() async throws {
        struct Half: RandomSource { func next() -> UInt64 { 1 << 63 } }
        let retry = S3Retry(attemptCountMax: 4, delayBase: .seconds(1), delayMax: .seconds(3))
        #expect(retry.delay(attempt: 0, retryAfter: nil, random: Half()) == .milliseconds(500))
        #expect(retry.delay(attempt: 9, retryAfter: nil, random: Half()) == .milliseconds(1500))
        #expect(retry.delay(attempt: 0, retryAfter: .seconds(9), random: Half()) == .seconds(9))
        let clock = SteppedClock(now0: Timestamp(milliseconds: 0))
        let budget = S3RetryBudget(countMax: 5, earnedBySuccess: 1)
        var count = 0
        func run(failing failureCount: Int, _ error: S3ClientError) async throws {
            count = 0
            try await retry.run(budget: budget, clock: clock) {
                count += 1
                if count <= failureCount { throw error }
            }
        }
        let transient = S3ClientError(.service, code: "SlowDown", "", isRetryable: true)
        try await run(failing: 2, transient)
        #expect(count == 3)
        // Four left: three for one call, one for the next.
        for expected in [4, 2, 1] {
            _ = await failure { try await run(failing: 100, transient) }
            #expect(count == expected)
        }
        budget.noteSuccess()
        _ = await failure { try await run(failing: 100, S3ClientError(.service, code: "AccessDenied", "")) }
        #expect(count == 1)
    }

    @Test func credentialsFilesAreReadByProfileAndAgainWhenRefused() async throws {
        let path =
            FileManager.default.temporaryDirectory.path
            + "/holdfast-credentials-\(UInt64.random(in: 0 ... .max))"
        defer { try? FileManager.default.removeItem(atPath: path) }
        func write(_ text: String) throws { try text.write(toFile: path, atomically: true, encoding: .utf8) }
        try write(
            "# c\n[other]\naws_access_key_id=X\n[default]\n aws_access_key_id = A \naws_secret_access_key=s=1\n"
        )
        let file = CredentialsFile(path: path)
        let first = try await file.credentials()
        #expect(first == S3Credentials(accessKey: "A", secret: "s=1"))
        try write("[default]\naws_access_key_id=B\naws_secret_access_key=t\naws_session_token=u\n")
        let kept = try await file.credentials()
        #expect(kept == first)
        let second = try await file.credentials(insteadOf: first)
        #expect(second == S3Credentials(accessKey: "B", secret: "t", token: "u"))
        #expect(!"\(second)".contains("t\"") && "\(second)" == "credentials of B")
        let missing = await failure { _ = try await CredentialsFile(path: path, profile: "no").credentials() }
        #expect(missing?.kind == .credentials)
        let absent = await failure { _ = try await CredentialsFile(path: path + "x").credentials() }
        #expect(absent?.kind == .credentials)
    }
}
