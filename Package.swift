// swift-tools-version: 6.2
import PackageDescription

// The house, bottom to top: a target imports only what stands above it in this list. Sources/README.md is the tour.

let grdb: Target.Dependency = .product(name: "GRDB", package: "GRDB.swift")
let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioSSL: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let yams: Target.Dependency = .product(name: "Yams", package: "Yams")

let package = Package(
    name: "holdfast",
    products: [
        .executable(name: "holdfast", targets: ["holdfast"])
    ],
    dependencies: [
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // C: system libraries.
        .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CXML2", pkgConfig: "libxml-2.0", providers: [.apt(["libxml2-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
        .target(name: "CPosix"),
        .target(name: "CChecksum"),
        // Time and scheduling of simulated threads: linked into tests only.
        .target(name: "CSimulation"),

        // Values.
        .target(name: "StoreModel"),

        // Mechanisms.
        .target(name: "ContentHashing", dependencies: ["CChecksum", "COpenSSL", "CXXHash", "StoreModel"]),
        .target(name: "Encryption", dependencies: ["COpenSSL", "ContentHashing", "StoreModel"]),
        .target(name: "BlobVolume", dependencies: ["ContentHashing", "CPosix", "StoreModel"]),
        .target(name: "Catalog", dependencies: ["ContentHashing", "StoreModel"]),
        .target(name: "CatalogSQLite", dependencies: ["Catalog", "ContentHashing", "StoreModel", grdb]),

        .target(name: "S3Protocol", dependencies: ["CXML2", "ContentHashing", "StoreModel"]),
        .target(name: "CurlTransport", dependencies: ["CCurl", "CPosix"]),
        .target(
            name: "S3Client",
            dependencies: ["ContentHashing", "CurlTransport", "S3Protocol", "StoreModel"]
        ),

        // Policies.
        .target(
            name: "Replication",
            dependencies: ["BlobVolume", "Catalog", "ContentHashing", "CPosix", "StoreModel", logging]
        ),

        .target(
            name: "Mirroring",
            dependencies: [
                "Catalog", "ContentHashing", "CurlTransport", "Encryption", "Replication", "S3Client",
                "S3Protocol", "StoreModel", logging,
            ]
        ),

        // Use cases.
        .target(
            name: "ObjectService",
            dependencies: [
                "BlobVolume", "Catalog", "ContentHashing", "Encryption", "Replication", "StoreModel",
            ]
        ),

        // Faces.
        .target(name: "Observability", dependencies: [logging]),
        .target(
            name: "S3Gateway",
            dependencies: [
                "Catalog", "ContentHashing", "Encryption", "ObjectService", "Observability", "S3Protocol",
                "StoreModel", lifecycle, logging, nioCore, nioPosix, nioSSL,
            ]
        ),
        .target(
            name: "AdminGateway",
            dependencies: [
                "BlobVolume", "Catalog", "ContentHashing", "Encryption", "Mirroring", "ObjectService",
                "Observability", "Replication",
                "S3Gateway", "S3Protocol", "StoreModel", logging,
            ],
            resources: [.embedInCode("openapi.json")]
        ),

        // Roof.
        .target(
            name: "HoldfastNode",
            dependencies: [
                "AdminGateway", "BlobVolume", "CPosix", "Catalog", "CatalogSQLite", "ContentHashing",
                "CurlTransport", "Encryption", "Mirroring",
                "ObjectService", "Observability", "Replication", "S3Gateway", "S3Protocol", "StoreModel",
                lifecycle, logging,
            ]
        ),
        .executableTarget(
            name: "holdfast",
            dependencies: [
                "AdminGateway", "BlobVolume", "CPosix", "Catalog", "ContentHashing", "CurlTransport",
                "Encryption",
                "HoldfastNode", "Mirroring", "ObjectService", "Observability", "Replication", "S3Client",
                "S3Gateway",
                "S3Protocol", "StoreModel", argumentParser, logging, yams,
            ]
        ),

        // Test kit: faults, virtual time, seeded chance.
        .target(
            name: "StoreTestKit",
            dependencies: [
                "BlobVolume", "CSimulation", "Catalog", "ContentHashing", "Mirroring", "Replication",
                "StoreModel",
            ]
        ),

        // Tests. CommandLineTests holds Python scripts that drive the built program.
        .testTarget(name: "StoreModelTests", dependencies: ["StoreModel", "StoreTestKit"]),
        .testTarget(
            name: "ContentHashingTests",
            dependencies: ["ContentHashing", "StoreModel", "StoreTestKit"]
        ),
        .testTarget(
            name: "BlobVolumeTests",
            dependencies: ["BlobVolume", "ContentHashing", "StoreModel", "StoreTestKit"]
        ),
        .testTarget(
            name: "CrashTests",
            dependencies: ["BlobVolume", "ContentHashing", "StoreModel", "StoreTestKit"]
        ),
        .testTarget(
            name: "CatalogTests",
            dependencies: ["Catalog", "ContentHashing", "StoreModel", "StoreTestKit"]
        ),
        .testTarget(
            name: "CatalogSQLiteTests",
            dependencies: ["Catalog", "CatalogSQLite", "ContentHashing", "StoreModel", "StoreTestKit", grdb]
        ),
        .testTarget(
            name: "ReplicationTests",
            dependencies: [
                "BlobVolume", "Catalog", "CatalogSQLite", "ContentHashing", "Encryption", "HoldfastNode",
                "Mirroring", "ObjectService", "Replication", "StoreModel", "StoreTestKit", logging,
            ]
        ),
        .testTarget(
            name: "EncryptionTests",
            dependencies: ["ContentHashing", "Encryption", "StoreModel", "StoreTestKit"]
        ),
        .testTarget(
            name: "S3ProtocolTests",
            dependencies: ["ContentHashing", "S3Protocol", "StoreModel", "StoreTestKit"]
        ),
        .testTarget(
            name: "CurlTransportTests",
            dependencies: ["CurlTransport", "StoreTestKit", nioCore, nioPosix, nioSSL]
        ),
        .testTarget(
            name: "S3ClientTests",
            dependencies: [
                "ContentHashing", "CurlTransport", "S3Client", "S3Protocol", "StoreModel",
                "StoreTestKit", nioCore, nioPosix,
            ]
        ),
        .testTarget(name: "ObservabilityTests", dependencies: ["Observability", logging]),
        .testTarget(
            name: "S3GatewayTests",
            dependencies: [
                "Catalog", "ContentHashing", "HoldfastNode", "ObjectService", "Observability", "S3Gateway",
                "S3Protocol", "StoreModel", "StoreTestKit", logging, nioPosix,
            ]
        ),
        .testTarget(
            name: "AdminGatewayTests",
            dependencies: ["AdminGateway", "Observability", "S3Gateway", "S3Protocol", "StoreModel", logging]
        ),
        .testTarget(
            name: "ObjectServiceTests",
            dependencies: [
                "Catalog", "ContentHashing", "Encryption", "ObjectService", "StoreModel", "StoreTestKit",
            ]
        ),
        .testTarget(
            name: "HoldfastNodeTests",
            dependencies: [
                "AdminGateway", "BlobVolume", "Catalog", "CatalogSQLite", "ContentHashing", "Encryption",
                "HoldfastNode",
                "Mirroring", "ObjectService", "Replication", "StoreModel", "StoreTestKit",
            ]
        ),
        .testTarget(name: "HoldfastCommandTests", dependencies: ["AdminGateway", "StoreModel", "holdfast"]),
        .testTarget(
            name: "FuzzTests",
            dependencies: [
                "BlobVolume", "Catalog", "ContentHashing", "Encryption", "S3Gateway", "S3Protocol",
                "StoreModel",
                "StoreTestKit", "holdfast", nioCore,
            ]
        ),
        .testTarget(
            name: "MirroringTests",
            dependencies: [
                "BlobVolume", "Catalog", "ContentHashing", "CurlTransport", "Encryption", "HoldfastNode",
                "Mirroring",
                "ObjectService", "Replication", "StoreModel", "StoreTestKit", logging,
            ]
        ),
        .testTarget(name: "TidyTests"),
        .testTarget(name: "StoreTestKitTests", dependencies: ["BlobVolume", "StoreModel", "StoreTestKit"]),
    ],
    swiftLanguageModes: [.v6]
)

for target in package.targets where target.type != .system {
    target.swiftSettings = [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
        .treatAllWarnings(as: .error),
    ]
}
