/// A range of bytes of an object, resolved against its size: offset + length never exceeds it.
package struct ByteRange: Hashable, Sendable, BitwiseCopyable {
    package let offset: UInt64
    package let length: UInt64

    /// The whole of an object.
    package init(wholeOf size: UInt64) {
        offset = 0
        length = size
    }

    /// - Parameter length: nil means to the end; more than there is means to the end.
    /// - Throws: `StoreError` with `.invalidRange` when the offset is not inside an object of `size` bytes.
    package init(offset: UInt64, length: UInt64?, of size: UInt64) throws(StoreError) {
        guard offset < size || (offset == 0 && size == 0) else {
            throw StoreError(.invalidRange, "Offset \(offset) is not inside the object's \(size) bytes.")
        }
        self.offset = offset
        self.length = min(length ?? UInt64.max, size - offset)
    }

    package var end: UInt64 { offset + length }
}
