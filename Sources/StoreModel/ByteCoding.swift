/// Appends the store's binary forms: little-endian integers, byte strings with their length in front.
///
/// Inlined, as the reader is: every row and batch goes through here, and an integer that is written through an
/// unspecialised generic of another module costs more than all the rest of it.
package struct ByteWriter: Sendable {
    @usableFromInline var written: [UInt8]

    @inlinable package var bytes: [UInt8] { written }

    @inlinable package init(capacity: Int = 0) {
        written = []
        written.reserveCapacity(capacity)
    }

    @inlinable @inline(__always)
    package mutating func write<Integer: FixedWidthInteger>(_ value: Integer) {
        withUnsafeBytes(of: value.littleEndian) { written.append(contentsOf: $0) }
    }

    package mutating func write(_ digest: Digest) {
        write(digest.words.0.byteSwapped)
        write(digest.words.1.byteSwapped)
        write(digest.words.2.byteSwapped)
        write(digest.words.3.byteSwapped)
    }

    package mutating func write(_ identifier: UniqueID) {
        write(identifier.high.byteSwapped)
        write(identifier.low.byteSwapped)
    }

    package mutating func write(_ position: LogPosition) {
        write(position.epoch)
        write(position.sequence)
        write(position.hash)
    }

    /// Bytes as they are, without a length.
    @inlinable @inline(__always)
    package mutating func write(raw: some Sequence<UInt8>) { written.append(contentsOf: raw) }

    /// A length in 32 bits, then the bytes.
    @inlinable @inline(__always)
    package mutating func write(counted: some Collection<UInt8>) {
        precondition(counted.count <= UInt32.max, "A counted byte string has at most 4 GiB.")
        write(UInt32(counted.count))
        written.append(contentsOf: counted)
    }

    package mutating func write(text: String) {
        var text = text
        text.withUTF8 { write(counted: $0) }
    }
}

/// Reads what `ByteWriter` wrote. Every read checks what is left: damaged or hostile bytes give an error, never a
/// trap and never an allocation larger than the input.
package struct ByteReader: Sendable {
    package struct Failure: Error, Sendable, CustomStringConvertible {
        package let description: String
        @inlinable package init(_ description: String) { self.description = description }
    }

    @usableFromInline let bytes: ArraySlice<UInt8>
    @usableFromInline var position: Int

    @inlinable package init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        position = bytes.startIndex
    }

    @inlinable package init(_ bytes: [UInt8]) { self.init(bytes[...]) }

    @inlinable package var remaining: Int { bytes.endIndex - position }

    @inlinable package mutating func read<Integer: FixedWidthInteger>(_ type: Integer.Type) throws(Failure)
        -> Integer
    {
        let slice = try read(count: MemoryLayout<Integer>.size)
        return slice.withUnsafeBytes { Integer(littleEndian: $0.loadUnaligned(as: Integer.self)) }
    }

    package mutating func readDigest() throws(Failure) -> Digest {
        let slice = try read(count: Digest.byteCount)
        guard let digest = slice.withUnsafeBytes({ Digest(bytes: $0) }) else { throw Failure("short digest") }
        return digest
    }

    package mutating func readUniqueID() throws(Failure) -> UniqueID {
        let high = try read(UInt64.self).byteSwapped
        return UniqueID(high: high, low: try read(UInt64.self).byteSwapped)
    }

    package mutating func readPosition() throws(Failure) -> LogPosition {
        let epoch = try read(UInt64.self)
        let sequence = try read(UInt64.self)
        return LogPosition(epoch: epoch, sequence: sequence, hash: try readDigest())
    }

    @inlinable package mutating func read(count: Int) throws(Failure) -> ArraySlice<UInt8> {
        guard count >= 0, count <= remaining else {
            throw Failure("\(count) bytes wanted, \(remaining) left")
        }
        defer { position += count }
        return bytes[position..<position + count]
    }

    package mutating func readCounted() throws(Failure) -> [UInt8] {
        let count = try read(UInt32.self)
        return [UInt8](try read(count: Int(count)))
    }

    package mutating func readText() throws(Failure) -> String {
        guard let text = String(validating: try readCounted(), as: UTF8.self) else {
            throw Failure("text is not UTF-8")
        }
        return text
    }

    /// - Throws: when bytes are left over.
    package func finish() throws(Failure) {
        guard remaining == 0 else { throw Failure("\(remaining) bytes left over") }
    }
}
