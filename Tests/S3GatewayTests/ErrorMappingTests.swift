import S3Gateway
import S3Protocol
import StoreModel
import Testing

@Suite struct ErrorMappingTests {
    private func answer(_ code: StoreError.Code) -> S3Error? {
        ErrorMapping.s3Error(for: StoreError(code, "What happened."))
    }

    @Test func aLostQuorumAsksToComeBack() throws {
        let error = try #require(answer(.notEnoughReplicas))
        #expect(error.status == 503)
        #expect(error.code == .serviceUnavailable)
        #expect(error.headers.contains { $0.name == "Retry-After" })
    }

    @Test func aFullStoreHasItsOwnCode() throws {
        let error = try #require(answer(.storeFull))
        #expect(error.status == 507)
        #expect(error.code == .insufficientStorage)
    }

    @Test func anUnknownOutcomeIsNeitherSuccessNorRefusal() throws {
        #expect(try #require(answer(.outcomeUnknown)).status >= 500)
    }

    @Test func faultsOfTheStoreTellNothingOfItsInside() throws {
        let error = try #require(answer(.internalFault))
        #expect(error.status == 500)
        #expect(error.message == S3ErrorCode.internalError.message)
    }

    @Test func aClientThatIsGoneNeedsNoAnswer() {
        #expect(ErrorMapping.s3Error(for: CancellationError()) == nil)
        #expect(answer(.cancelled) == nil)
        #expect(ErrorMapping.s3Error(for: TransportProblem(.connectionLost, "")) == nil)
    }

    @Test func whatAClientDidWrongIsNoFaultOfTheServer() throws {
        let codes: [StoreError.Code] = [
            .noSuchBucket, .noSuchKey, .noSuchVersion, .bucketAlreadyExists, .bucketNotEmpty,
            .invalidBucketName,
            .invalidKey, .keyTooLong, .invalidArgument, .invalidRange, .metadataTooLarge, .preconditionFailed,
            .conflict, .methodNotAllowed, .badDigest, .payloadHashMismatch, .entityTooLarge, .entityTooSmall,
            .noSuchUpload, .invalidPart, .invalidPartOrder, .objectLocked, .invalidBucketState,
        ]
        for code in codes {
            let status = try #require(answer(code)).status
            #expect((400..<500).contains(status), "\(code)")
        }
    }
}
