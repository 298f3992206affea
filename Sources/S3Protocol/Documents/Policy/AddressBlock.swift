internal import Glibc

/// An IP address, or a block of them in CIDR form. IPv4 addresses inside IPv6 are taken for what they are.
package struct AddressBlock: Hashable, Sendable {
    /// 4 or 16 bytes.
    package let bytes: [UInt8]
    package let prefixLength: Int

    package var isIPv4: Bool { bytes.count == 4 }

    /// Nil when the text is neither an address nor a block.
    package init?(_ text: String) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let first = parts.first, let address = Self.parse(String(first)) else { return nil }
        let isMapped = address.count == 16 && address.prefix(12) == Self.mappedPrefix
        bytes = isMapped ? [UInt8](address.suffix(4)) : address
        let width = bytes.count * 8
        guard parts.count == 2 else {
            prefixLength = width
            return
        }
        guard let digits = parts.last, let length = ASCIIText.decimal(digits), length <= address.count * 8
        else {
            return nil
        }
        prefixLength = isMapped ? max(0, Int(length) - 96) : Int(length)
    }

    private static let mappedPrefix: ArraySlice<UInt8> = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]

    private static func parse(_ text: String) -> [UInt8]? {
        guard !text.utf8.contains(0), text.utf8.count <= 64 else { return nil }
        var room = [UInt8](repeating: 0, count: 16)
        if inet_pton(AF_INET, text, &room) == 1 { return [UInt8](room.prefix(4)) }
        if inet_pton(AF_INET6, text, &room) == 1 { return room }
        return nil
    }

    /// Whether every address of the other block is in this one.
    package func contains(_ other: AddressBlock) -> Bool {
        guard bytes.count == other.bytes.count, other.prefixLength >= prefixLength else { return false }
        for index in bytes.indices {
            let bits = min(8, max(0, prefixLength - index * 8))
            let mask = UInt8(truncatingIfNeeded: 0xFF00 >> bits)
            if bytes[index] & mask != other.bytes[index] & mask { return false }
        }
        return true
    }
}
