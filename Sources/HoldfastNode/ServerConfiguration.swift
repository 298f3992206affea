package import BlobVolume
package import Logging
package import ObjectService
package import S3Gateway

/// How a store is served.
package struct ServerConfiguration: Sendable {
    package struct TLSFiles: Sendable {
        package var certificatePath: String
        package var keyPath: String

        package init(certificatePath: String, keyPath: String) {
            self.certificatePath = certificatePath
            self.keyPath = keyPath
        }
    }

    /// Where the S3 API listens.
    package var addresses: [ListenAddress] = [.network(host: "127.0.0.1", port: 9000)]
    /// Where health and metrics are; nil: nowhere.
    package var operationsAddress: ListenAddress?
    package var service = S3Service.Configuration()
    package var lifecycle = LifecycleWorker.Configuration()
    package var scrub = ScrubConfiguration()
    package var mirrors = MirrorConfiguration()
    package var bucketLogs = BucketLogs.Configuration()
    package var garbage = GarbageSchedule()
    /// How the volumes are opened: their watermarks.
    package var volume = VolumeOptions()
    package var retention = RetentionSchedule()
    package var limits = ServerLimits.standard
    package var tls: TLSFiles?
    /// nil: the keys that are stored, and a random one when there is none.
    package var rootCredential: AccessCredential?
    /// A file, or `-` for standard output; nil: no access log.
    package var accessLogPath: String?
    package var logLevel = Logger.Level.info
    /// What the admin API says of the program.
    package var programVersion = ""

    package init() {}
}
