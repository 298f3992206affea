internal import NIOSSL
internal import Synchronization

/// A certificate chain and its key from files, which can be read again while the server runs.
package final class TLSCertificate: Sendable {
    private let certificatePath: String
    private let keyPath: String
    private let context: Mutex<NIOSSLContext>

    /// - Throws: when a file can't be read, or the key is not the certificate's.
    package init(certificatePath: String, keyPath: String) throws {
        self.certificatePath = certificatePath
        self.keyPath = keyPath
        context = Mutex(try Self.load(certificatePath, keyPath))
    }

    /// Reads the files again; new connections use what is in them. On failure the old certificate stays.
    package func reload() throws {
        let loaded = try Self.load(certificatePath, keyPath)
        context.withLock { $0 = loaded }
    }

    var current: NIOSSLContext { context.withLock { $0 } }

    private static func load(_ certificatePath: String, _ keyPath: String) throws -> NIOSSLContext {
        let chain = try NIOSSLCertificate.fromPEMFile(certificatePath).map {
            NIOSSLCertificateSource.certificate($0)
        }
        let key = try NIOSSLPrivateKey(file: keyPath, format: .pem)
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain,
            privateKey: .privateKey(key)
        )
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        return try NIOSSLContext(configuration: configuration)
    }
}
