internal import CXXHash

/// XXH3: the cheap checksum of blocks and headers (about ten times as fast as SHA-256). It finds damage, not malice.
package enum BlockChecksum {
    package static func xxh3(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        holdfast_xxh3_64(bytes.baseAddress, bytes.count)
    }

    package static func xxh3(_ bytes: [UInt8]) -> UInt64 { bytes.withUnsafeBytes { xxh3($0) } }

    package static func xxh3(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.withUnsafeBytes { xxh3($0) } }

    /// 128 bits as two words, high word first.
    package static func xxh3Wide(_ bytes: UnsafeRawBufferPointer) -> (high: UInt64, low: UInt64) {
        let hash = holdfast_xxh3_128(bytes.baseAddress, bytes.count)
        return (hash.high64, hash.low64)
    }
}
