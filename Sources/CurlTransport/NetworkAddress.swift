/// An address that a connection goes to, and what kind of place it is.
///
/// An IPv4 address counts as what it is in any form in which an IPv6 address holds one: mapped, compatible, translated,
/// NAT64, 6to4, Teredo, ISATAP. A machine with such a route ends up at the IPv4 address.
package struct NetworkAddress: Hashable, Sendable, CustomStringConvertible {
    package enum Place: Hashable, Sendable {
        case everywhere
        /// 10/8, 172.16/12, 192.168/16, 100.64/10, 198.18/15, 192.0.0/24, fc00::/7, fec0::/10.
        case privateNetwork
        /// 127/8, ::1.
        case loopback
        /// Of the local link, of clouds' services that give out credentials, or no address of a single host.
        case special
    }

    private enum Form: Hashable, Sendable {
        case v4(UInt32)
        case v6(high: UInt64, low: UInt64)
    }

    private let form: Form

    package init(v4 number: UInt32) { form = .v4(number) }

    /// - Parameter bytes: 4 or 16, as they stand in packets.
    package init?(bytes: some Collection<UInt8>) {
        func number(_ bytes: some Sequence<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
        switch bytes.count {
        case 4: form = .v4(UInt32(truncatingIfNeeded: number(bytes)))
        case 16: form = .v6(high: number(bytes.prefix(8)), low: number(bytes.dropFirst(8)))
        default: return nil
        }
    }

    /// In any way in which programs read an address: `127.1`, `0x7F000001`, `::1`, `[::1]`, `fe80::1%eth0`.
    /// - Returns: nil for a name.
    package init?(_ text: String) {
        var text = text[...]
        if text.hasPrefix("["), text.hasSuffix("]") { text = text.dropFirst().dropLast() }
        if text.utf8.contains(UInt8(ascii: ":")) {
            guard let form = Self.parseV6(text.prefix { $0 != "%" }) else { return nil }
            self.form = form
        } else {
            if text.hasSuffix(".") { text = text.dropLast() }
            guard let number = Self.parseV4(text) else { return nil }
            form = .v4(number)
        }
    }

    // MARK: What it is

    package var place: Place {
        switch form {
        case .v4(let number): Self.place(ofV4: number)
        case .v6(let high, let low): Self.place(high, low)
        }
    }

    /// https://www.iana.org/assignments/iana-ipv4-special-registry
    private static func place(ofV4 number: UInt32) -> Place {
        func isIn(_ network: UInt32, _ length: UInt32) -> Bool { (number ^ network) >> (32 - length) == 0 }
        // Metadata services outside of 169.254/16: Alibaba, Oracle, Azure.
        if [0x6464_64C8, 0xC000_00C0, 0xA83F_8110].contains(number) { return .special }
        // "This network", the local link, multicast, reserved and broadcast.
        if isIn(0, 8) || isIn(0xA9FE_0000, 16) || isIn(0xE000_0000, 3) { return .special }
        if isIn(0x7F00_0000, 8) { return .loopback }
        let networks: [(UInt32, UInt32)] = [
            (0x0A00_0000, 8), (0xAC10_0000, 12), (0xC0A8_0000, 16), (0x6440_0000, 10), (0xC612_0000, 15),
            (0xC000_0000, 24),
        ]
        return networks.contains { isIn($0, $1) } ? .privateNetwork : .everywhere
    }

    /// https://www.iana.org/assignments/iana-ipv6-special-registry
    private static func place(_ high: UInt64, _ low: UInt64) -> Place {
        if high == 0, low == 1 { return .loopback }
        if high == 0, low == 0 { return .special }
        if let inner = embedded(high, low) {
            // The outer address may be one that leads nowhere else either.
            let outer = plainPlace(high)
            let found = place(ofV4: inner)
            return found == .everywhere ? outer : outer == .special ? outer : found
        }
        return plainPlace(high)
    }

    private static func plainPlace(_ high: UInt64) -> Place {
        let first = high >> 48
        // The local link, multicast, and metadata services: fd00:ec2::254, fd20:ce::254, fd00:42::42.
        if first & 0xFFC0 == 0xFE80 || first & 0xFF00 == 0xFF00 { return .special }
        if [0xFD00_0EC2, 0xFD20_00CE, 0xFD00_0042].contains(high >> 32) { return .special }
        // 64:ff9b:1::/48 leads wherever somebody's translator leads.
        if high >> 16 == 0x0064_FF9B_0001 { return .special }
        if first & 0xFE00 == 0xFC00 || first & 0xFFC0 == 0xFEC0 { return .privateNetwork }
        return .everywhere
    }

    /// The IPv4 address inside.
    private static func embedded(_ high: UInt64, _ low: UInt64) -> UInt32? {
        let last = UInt32(truncatingIfNeeded: low)
        if high == 0 {
            // ::a.b.c.d, ::ffff:a.b.c.d, ::ffff:0:a.b.c.d
            let between = low >> 32
            if between == 0 || between == 0xFFFF || between == 0xFFFF_0000 { return last }
        }
        // https://www.rfc-editor.org/rfc/rfc6052
        if high == 0x0064_FF9B_0000_0000, low >> 32 == 0 { return last }
        // 6to4; Teredo, whose client's address is inverted; ISATAP.
        if high >> 48 == 0x2002 { return UInt32(truncatingIfNeeded: high >> 16) }
        if high >> 32 == 0x2001_0000 { return ~last }
        if low >> 32 & 0xFCFF_FFFF == 0x0000_5EFE { return last }
        return nil
    }

    // MARK: Texts

    /// As `inet_aton` reads it: one to four numbers, decimal, octal or hexadecimal.
    private static func parseV4(_ text: Substring) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...4).contains(parts.count) else { return nil }
        var numbers: [UInt64] = []
        for part in parts {
            guard let number = parseNumber(part), number <= UInt64(UInt32.max) else { return nil }
            numbers.append(number)
        }
        var value: UInt64 = 0
        for number in numbers.dropLast() {
            guard number < 256 else { return nil }
            value = value << 8 | number
        }
        let last = numbers[numbers.count - 1]
        let bits = UInt64(8 * (5 - numbers.count))
        guard last < 1 << bits else { return nil }
        return UInt32(truncatingIfNeeded: value << bits | last)
    }

    private static func parseNumber(_ text: Substring) -> UInt64? {
        guard let first = text.utf8.first, (0x30...0x39).contains(first) else { return nil }
        if text.hasPrefix("0x") || text.hasPrefix("0X") {
            return text.count == 2 ? 0 : UInt64(text.dropFirst(2), radix: 16)
        }
        return first == 0x30 && text.count > 1 ? UInt64(text.dropFirst(), radix: 8) : UInt64(text)
    }

    private static func parseV6(_ text: Substring) -> Form? {
        let halves = text.split(separator: "::", maxSplits: 1, omittingEmptySubsequences: false)
        func words(_ half: Substring) -> [UInt64]? {
            guard !half.isEmpty else { return [] }
            var words: [UInt64] = []
            for part in half.split(separator: ":", omittingEmptySubsequences: false) {
                if part.contains(".") {
                    guard let number = parseV4(part) else { return nil }
                    words += [UInt64(number >> 16), UInt64(number & 0xFFFF)]
                } else {
                    guard let word = UInt16(part, radix: 16) else { return nil }
                    words.append(UInt64(word))
                }
            }
            return words
        }
        guard let first = halves.first, var all = words(first) else { return nil }
        if halves.count == 2 {
            guard let back = words(halves[1]), all.count + back.count < 8 else { return nil }
            all += [UInt64](repeating: 0, count: 8 - all.count - back.count) + back
        }
        guard all.count == 8 else { return nil }
        func number(_ words: ArraySlice<UInt64>) -> UInt64 { words.reduce(0) { $0 << 16 | $1 } }
        return .v6(high: number(all[..<4]), low: number(all[4...]))
    }

    package var description: String {
        switch form {
        case .v4(let number):
            return (0..<4).map { String(number >> UInt32(24 - 8 * $0) & 0xFF) }.joined(separator: ".")
        case .v6(let high, let low):
            return (0..<8).map { index in
                String(((index < 4 ? high : low) >> UInt64(48 - 16 * (index % 4))) & 0xFFFF, radix: 16)
            }.joined(separator: ":")
        }
    }
}

/// Where connections may go: asked of the address that is connected to, so of what a name resolves to at that moment.
package struct AddressRule: Hashable, Sendable {
    package var allowsPrivate: Bool
    package var allowsLoopback: Bool
    package var allowsSpecial: Bool

    package init(allowsPrivate: Bool = false, allowsLoopback: Bool = false, allowsSpecial: Bool = false) {
        self.allowsPrivate = allowsPrivate
        self.allowsLoopback = allowsLoopback
        self.allowsSpecial = allowsSpecial
    }

    package static let everything = AddressRule(
        allowsPrivate: true,
        allowsLoopback: true,
        allowsSpecial: true
    )

    package func allows(_ address: NetworkAddress) -> Bool {
        switch address.place {
        case .everywhere: true
        case .privateNetwork: allowsPrivate
        case .loopback: allowsLoopback
        case .special: allowsSpecial
        }
    }
}
