import ContentHashing
import S3Protocol
import StoreModel
import Testing

/// A response without its declaration and S3's namespace.
private func body(_ response: some XMLResponse) -> String {
    let text = String(decoding: response.xmlBytes, as: UTF8.self)
    #expect(text.hasPrefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"))
    return String(text.dropFirst(39)).replacing(
        " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"",
        with: ""
    )
}

@Suite struct ResponseTests {
    private static let time = Timestamp(milliseconds: 1_356_998_399_999)
    private static let timeText = "2012-12-31T23:59:59.000Z"

    private func frame(_ encoding: ListingEncoding = .plain, delimiter: String? = nil) -> ListingFrame {
        ListingFrame(
            bucket: "b",
            prefix: "p+",
            delimiter: delimiter,
            encoding: encoding,
            maxCount: 1000,
            isTruncated: false,
            commonPrefixes: delimiter == nil ? [] : ["p+/"]
        )
    }

    private func object(_ key: String, owner: Owner? = nil) -> ListedObject {
        ListedObject(
            key: key,
            lastModified: Self.time,
            entityTag: "e-1",
            size: 5,
            owner: owner,
            checksumAlgorithm: .crc32,
            checksumType: .composite
        )
    }

    @Test func bucketsAreListed() {
        let result = ListAllMyBucketsResult(
            owner: Owner(id: "id", displayName: "name"),
            buckets: [.init(name: "b", createdAt: Self.time)]
        )
        #expect(
            body(result)
                == "<ListAllMyBucketsResult><Owner><ID>id</ID><DisplayName>name</DisplayName></Owner><Buckets>"
                + "<Bucket><Name>b</Name><CreationDate>\(Self.timeText)</CreationDate></Bucket></Buckets>"
                + "</ListAllMyBucketsResult>"
        )
    }

    @Test func theOldestRegionHasNoName() {
        #expect(body(LocationConstraint(region: "us-east-1")) == "<LocationConstraint></LocationConstraint>")
        #expect(body(LocationConstraint(region: "eu-1")) == "<LocationConstraint>eu-1</LocationConstraint>")
    }

    @Test func objectsAreListedInTheFirstForm() {
        let result = ListBucketResult(frame: frame(), marker: "", nextMarker: nil, objects: [object("k&")])
        #expect(
            body(result)
                == "<ListBucketResult><Name>b</Name><Prefix>p+</Prefix><Marker></Marker><MaxKeys>1000</MaxKeys>"
                + "<IsTruncated>false</IsTruncated><Contents><Key>k&amp;</Key>"
                + "<LastModified>\(Self.timeText)</LastModified><ETag>&quot;e-1&quot;</ETag>"
                + "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType>"
                + "<Size>5</Size><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"
        )
    }

    @Test func namesAreEncodedWhereTheClientAsksForIt() {
        let result = ListBucketResultV2(
            frame: frame(.url, delimiter: "+"),
            startAfter: "s ",
            continuationToken: "t+/=",
            nextContinuationToken: "n+/=",
            objects: [object("k +/\u{1}", owner: Owner(id: "id"))]
        )
        #expect(
            body(result)
                == "<ListBucketResult><Name>b</Name><Prefix>p%2B</Prefix><StartAfter>s%20</StartAfter>"
                + "<ContinuationToken>t+/=</ContinuationToken><NextContinuationToken>n+/=</NextContinuationToken>"
                + "<KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><Delimiter>%2B</Delimiter>"
                + "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
                + "<Contents><Key>k%20%2B/%01</Key><LastModified>\(Self.timeText)</LastModified>"
                + "<ETag>&quot;e-1&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"
                + "<ChecksumType>COMPOSITE</ChecksumType><Size>5</Size><Owner><ID>id</ID></Owner>"
                + "<StorageClass>STANDARD</StorageClass></Contents>"
                + "<CommonPrefixes><Prefix>p%2B/</Prefix></CommonPrefixes></ListBucketResult>"
        )
    }

    @Test func versionsAndMarkersStandInOneOrder() {
        func entry(_ key: String, isDeleteMarker: Bool) -> ListVersionsResult.Entry {
            .init(object: object(key), versionID: "v", isLatest: true, isDeleteMarker: isDeleteMarker)
        }
        let result = ListVersionsResult(
            frame: frame(),
            keyMarker: "k",
            versionIDMarker: "",
            nextKeyMarker: "n",
            nextVersionIDMarker: "m",
            entries: [entry("a", isDeleteMarker: true), entry("b", isDeleteMarker: false)]
        )
        #expect(
            body(result)
                == "<ListVersionsResult><Name>b</Name><Prefix>p+</Prefix><KeyMarker>k</KeyMarker>"
                + "<VersionIdMarker></VersionIdMarker><NextKeyMarker>n</NextKeyMarker>"
                + "<NextVersionIdMarker>m</NextVersionIdMarker><MaxKeys>1000</MaxKeys>"
                + "<IsTruncated>false</IsTruncated><DeleteMarker><Key>a</Key><VersionId>v</VersionId>"
                + "<IsLatest>true</IsLatest><LastModified>\(Self.timeText)</LastModified></DeleteMarker>"
                + "<Version><Key>b</Key><VersionId>v</VersionId><IsLatest>true</IsLatest>"
                + "<LastModified>\(Self.timeText)</LastModified><ETag>&quot;e-1&quot;</ETag>"
                + "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType>"
                + "<Size>5</Size><StorageClass>STANDARD</StorageClass></Version></ListVersionsResult>"
        )
    }

    @Test func uploadsTellTheirChecksums() throws {
        let checksum = try #require(ObjectChecksum(.crc32, text: "AAAAAA==-2"))
        let complete = CompleteMultipartUploadResult(
            location: "http://h/b/k",
            bucket: "b",
            key: "k",
            entityTag: "e-2",
            checksum: checksum
        )
        #expect(
            body(complete)
                == "<CompleteMultipartUploadResult><Location>http://h/b/k</Location><Bucket>b</Bucket><Key>k</Key>"
                + "<ETag>&quot;e-2&quot;</ETag><ChecksumCRC32>AAAAAA==-2</ChecksumCRC32>"
                + "<ChecksumType>COMPOSITE</ChecksumType></CompleteMultipartUploadResult>"
        )
        let copy = CopyResult(.part, entityTag: "e", lastModified: Self.time, checksum: checksum)
        #expect(
            body(copy)
                == "<CopyPartResult><LastModified>\(Self.timeText)</LastModified><ETag>&quot;e&quot;</ETag>"
                + "<ChecksumCRC32>AAAAAA==</ChecksumCRC32></CopyPartResult>"
        )
        var parts = ListPartsResult(
            bucket: "b",
            key: "k",
            uploadID: "u",
            parts: [.init(number: 1, lastModified: Self.time, entityTag: "e", size: 5)]
        )
        parts.owner = Owner(id: "id")
        parts.nextPartNumberMarker = 1
        #expect(
            body(parts)
                == "<ListPartsResult><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId><Owner><ID>id</ID></Owner>"
                + "<StorageClass>STANDARD</StorageClass><PartNumberMarker>0</PartNumberMarker>"
                + "<NextPartNumberMarker>1</NextPartNumberMarker><MaxParts>1000</MaxParts>"
                + "<IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber>"
                + "<LastModified>\(Self.timeText)</LastModified><ETag>&quot;e&quot;</ETag><Size>5</Size></Part>"
                + "</ListPartsResult>"
        )
        let uploads = ListMultipartUploadsResult(
            frame: frame(),
            keyMarker: "",
            uploadIDMarker: "",
            nextKeyMarker: nil,
            nextUploadIDMarker: nil,
            uploads: [.init(key: "k", uploadID: "u", initiatedAt: Self.time)]
        )
        #expect(
            body(uploads)
                == "<ListMultipartUploadsResult><Bucket>b</Bucket><KeyMarker></KeyMarker>"
                + "<UploadIdMarker></UploadIdMarker><Prefix>p+</Prefix><MaxUploads>1000</MaxUploads>"
                + "<IsTruncated>false</IsTruncated><Upload><Key>k</Key><UploadId>u</UploadId>"
                + "<StorageClass>STANDARD</StorageClass><Initiated>\(Self.timeText)</Initiated></Upload>"
                + "</ListMultipartUploadsResult>"
        )
    }

    @Test func deletionsAreReportedUnlessTheClientWantsQuiet() {
        let entries: [DeleteResult.Entry] = [
            .deleted(key: "a", versionID: nil, marker: "m"), .deleted(key: "b", versionID: "v", marker: nil),
            .failed(key: "c", versionID: nil, code: "AccessDenied", message: "Access Denied"),
        ]
        let failure =
            "<Error><Key>c</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error></DeleteResult>"
        #expect(
            body(DeleteResult(entries: entries, isQuiet: false))
                == "<DeleteResult><Deleted><Key>a</Key><DeleteMarker>true</DeleteMarker>"
                + "<DeleteMarkerVersionId>m</DeleteMarkerVersionId></Deleted>"
                + "<Deleted><Key>b</Key><VersionId>v</VersionId></Deleted>" + failure
        )
        #expect(body(DeleteResult(entries: entries, isQuiet: true)) == "<DeleteResult>" + failure)
    }

    @Test func attributesShowTheTagWithoutQuotes() throws {
        let checksum = try #require(Checksum(.sha1, bytes: [UInt8](repeating: 0, count: 20)))
        let zero = "AAAAAAAAAAAAAAAAAAAAAAAAAAA="
        let attributes = ObjectAttributes(
            entityTag: "e",
            checksum: ObjectChecksum(compositeOf: [checksum]),
            parts: .init(
                totalCount: 1,
                marker: 0,
                nextMarker: 1,
                maxParts: 1000,
                isTruncated: false,
                parts: [.init(number: 1, size: 5, checksum: checksum)]
            ),
            storageClass: "STANDARD",
            size: 5
        )
        let text = body(attributes)
        #expect(text.hasPrefix("<GetObjectAttributesResponse><ETag>e</ETag><Checksum><ChecksumSHA1>"))
        #expect(
            text.hasSuffix(
                "<ObjectParts><PartsCount>1</PartsCount><PartNumberMarker>0</PartNumberMarker>"
                    + "<NextPartNumberMarker>1</NextPartNumberMarker><MaxParts>1000</MaxParts>"
                    + "<IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber><Size>5</Size>"
                    + "<ChecksumSHA1>\(zero)</ChecksumSHA1></Part></ObjectParts>"
                    + "<StorageClass>STANDARD</StorageClass><ObjectSize>5</ObjectSize></GetObjectAttributesResponse>"
            )
        )
        #expect(
            try ObjectAttributes.names(of: ["ETag, ObjectSize", "Checksum"]) == [
                .entityTag, .objectSize, .checksum,
            ]
        )
        #expect(failureCode { _ = try ObjectAttributes.names(of: ["etag"]) } == .invalidArgument)
        #expect(failureCode { _ = try ObjectAttributes.names(of: []) } == .invalidRequest)
    }

    @Test func errorsHaveNoNamespace() {
        let error = S3Error(.noSuchKey, nil, details: [("Key", "a<b")])
        let document = ErrorDocument(error: error, resource: "/b/a<b", requestID: "r", hostID: "h")
        let text = String(decoding: document.xmlBytes, as: UTF8.self)
        #expect(
            text.hasSuffix(
                "\n<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message>"
                    + "<Key>a&lt;b</Key><Resource>/b/a&lt;b</Resource><RequestId>r</RequestId><HostId>h</HostId></Error>"
            )
        )
        let post = PostResponse(location: "l", bucket: "b", key: "k", entityTag: "e")
        #expect(body(post).hasPrefix("<PostResponse><Location>l</Location><Bucket>b</Bucket><Key>k</Key>"))
        let upload = InitiateMultipartUploadResult(bucket: "b", key: "k", uploadID: "u")
        #expect(
            body(upload)
                == "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId>"
                + "</InitiateMultipartUploadResult>"
        )
    }
}
