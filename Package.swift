// swift-tools-version: 6.2
import PackageDescription

// The house, bottom to top: a target imports only what stands above it in this list. Sources/README.md is the tour.

let grdb: Target.Dependency = .product(name: "GRDB", package: "GRDB.swift")
let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
    name: "holdfast",
    products: [
        .executable(name: "holdfast", targets: ["holdfast"])
    ],
    dependencies: [
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        // C: system libraries.
        .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
        .target(name: "CPosix"),

        // Values.
        .target(name: "StoreModel"),

        // Mechanisms.
        .target(name: "ContentHashing", dependencies: ["COpenSSL", "CXXHash", "StoreModel"]),
        .target(name: "BlobVolume", dependencies: ["ContentHashing", "CPosix", "StoreModel"]),
        .target(name: "Catalog", dependencies: ["ContentHashing", "StoreModel"]),
        .target(name: "CatalogSQLite", dependencies: ["Catalog", "ContentHashing", "StoreModel", grdb]),

        // Policies.
        .target(
            name: "Replication",
            dependencies: ["BlobVolume", "Catalog", "ContentHashing", "CPosix", "StoreModel", logging]
        ),

        // Use cases.
        .target(
            name: "ObjectService",
            dependencies: ["BlobVolume", "Catalog", "ContentHashing", "Replication", "StoreModel"]
        ),

        // Roof.
        .target(
            name: "HoldfastNode",
            dependencies: [
                "BlobVolume", "Catalog", "CatalogSQLite", "ContentHashing", "ObjectService", "Replication",
                "StoreModel", logging,
            ]
        ),
        .executableTarget(
            name: "holdfast",
            dependencies: [
                "BlobVolume", "CPosix", "Catalog", "ContentHashing", "HoldfastNode", "ObjectService",
                "Replication", "StoreModel", argumentParser, logging,
            ]
        ),

        // Test kit: faults, virtual time, seeded chance.
        .target(
            name: "StoreTestKit",
            dependencies: ["BlobVolume", "Catalog", "ContentHashing", "Replication", "StoreModel"]
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
                "BlobVolume", "Catalog", "CatalogSQLite", "ContentHashing", "ObjectService", "Replication",
                "StoreModel",
                "StoreTestKit", logging,
            ]
        ),
        .testTarget(
            name: "ObjectServiceTests",
            dependencies: ["Catalog", "ContentHashing", "ObjectService", "StoreModel", "StoreTestKit"]
        ),
        .testTarget(
            name: "HoldfastNodeTests",
            dependencies: [
                "BlobVolume", "Catalog", "ContentHashing", "HoldfastNode", "ObjectService", "Replication",
                "StoreModel", "StoreTestKit",
            ]
        ),
        .testTarget(name: "HoldfastCommandTests", dependencies: ["StoreModel", "holdfast"]),
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
