internal import CChecksum
internal import StoreModel

/// A checksum that is fed piece by piece.
package struct Checksummer: ~Copyable, Sendable {
    private enum State: ~Copyable, Sendable {
        case cyclic(CyclicCheck)
        case sha1(SHA1Hasher)
        case sha256(SHA256Hasher)
    }

    package let algorithm: ChecksumAlgorithm
    private var state: State

    package init(_ algorithm: ChecksumAlgorithm) {
        self.algorithm = algorithm
        switch algorithm {
        case .crc32, .crc32c, .crc64nvme: state = .cyclic(CyclicCheck(algorithm))
        case .sha1: state = .sha1(SHA1Hasher())
        case .sha256: state = .sha256(SHA256Hasher())
        }
    }

    private init(_ algorithm: ChecksumAlgorithm, _ state: consuming State) {
        self.algorithm = algorithm
        self.state = state
    }

    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        let algorithm = self.algorithm
        switch consume state {
        case .cyclic(var check):
            check.update(bytes)
            self = Checksummer(algorithm, .cyclic(check))
        case .sha1(var hasher):
            hasher.update(bytes)
            self = Checksummer(algorithm, .sha1(hasher))
        case .sha256(var hasher):
            hasher.update(bytes)
            self = Checksummer(algorithm, .sha256(hasher))
        }
    }

    package consuming func finish() -> Checksum {
        let bytes: [UInt8]
        switch consume state {
        case .cyclic(let check): return Checksum(algorithm, register: check.value)
        case .sha1(let hasher): bytes = hasher.finish()
        case .sha256(let hasher): bytes = hasher.finish().bytes
        }
        guard let checksum = Checksum(algorithm, bytes: bytes) else {
            fatalError("A digest has the length of its algorithm.")
        }
        return checksum
    }

    /// The checksum of one block.
    package static func checksum(_ algorithm: ChecksumAlgorithm, of bytes: UnsafeRawBufferPointer) -> Checksum
    {
        var checksummer = Checksummer(algorithm)
        checksummer.update(bytes)
        return checksummer.finish()
    }

    /// The checksum of one block.
    package static func checksum(_ algorithm: ChecksumAlgorithm, of bytes: [UInt8]) -> Checksum {
        bytes.withUnsafeBytes { checksum(algorithm, of: $0) }
    }
}

/// The register of one running CRC.
private struct CyclicCheck: Sendable {
    private let algorithm: ChecksumAlgorithm
    private var register: UInt64

    init(_ algorithm: ChecksumAlgorithm) {
        self.algorithm = algorithm
        register = CyclicPolynomial(algorithm).mask
    }

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        let kernel =
            switch algorithm {
            case .crc32c: holdfast_crc32c()
            case .crc64nvme: holdfast_crc64nvme()
            default: holdfast_crc32()
            }
        register = holdfast_crc_update(kernel, register, bytes.baseAddress, bytes.count)
    }

    var value: UInt64 { register ^ CyclicPolynomial(algorithm).mask }
}
