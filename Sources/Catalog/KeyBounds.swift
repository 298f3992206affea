/// Arithmetic on keys as bytes.
package enum KeyBounds {
    /// The first byte string after everything that begins with `prefix`; nil when there is none.
    package static func successor(ofPrefix prefix: [UInt8]) -> [UInt8]? {
        var bound = prefix
        while let last = bound.last {
            if last < 0xFF {
                bound[bound.count - 1] = last + 1
                return bound
            }
            bound.removeLast()
        }
        return nil
    }

    /// The first byte string after `key` itself.
    package static func successor(of key: [UInt8]) -> [UInt8] { key + [0] }

    /// The part of `key` up to and with the first `delimiter` after `prefix`, which `key` begins with; nil
    /// when there is no delimiter in the rest.
    package static func commonPrefix(of key: [UInt8], prefix: [UInt8], delimiter: [UInt8]) -> [UInt8]? {
        guard let first = delimiter.first else { return nil }
        let lastStart = key.count - delimiter.count
        var start = prefix.count
        while start <= lastStart {
            if key[start] == first, key[start..<start + delimiter.count].elementsEqual(delimiter) {
                return [UInt8](key[..<(start + delimiter.count)])
            }
            start += 1
        }
        return nil
    }

    /// Whether `left` comes before `right` in byte order.
    package static func precedes(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        left.lexicographicallyPrecedes(right)
    }
}
