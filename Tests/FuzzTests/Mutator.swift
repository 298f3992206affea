import StoreTestKit

/// Changes inputs: bytes, runs of bytes, numbers, words of the format's own, and pieces of other inputs.
struct Mutator {
    private var generator: SeededGenerator
    private let words: [[UInt8]]

    private static let numbers: [[UInt8]] = [
        "0", "-1", "1", "255", "65536", "2147483648", "4294967295", "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615", "18446744073709551616", "99999999999999999999999", "1e999", "0x10", "+5",
        "00000000000000000001",
        "7fffffffffffffff", "ffffffffffffffff", "fffffffffffffff",
    ].map { [UInt8]($0.utf8) }

    init(seed: UInt64, words: [String]) {
        generator = SeededGenerator(seed: seed)
        self.words = words.map { [UInt8]($0.utf8) } + Self.numbers
    }

    mutating func below(_ bound: Int) -> Int { generator.below(max(1, bound)) }

    /// Cuts an input at places of its own choice, for parsers that take bytes as they come.
    mutating func pieces(of input: [UInt8]) -> [ArraySlice<UInt8>] {
        var pieces: [ArraySlice<UInt8>] = []
        var position = 0
        while position < input.count {
            let end = min(input.count, position + 1 + below(generator.oneIn(3) ? 3 : 40))
            pieces.append(input[position..<end])
            position = end
        }
        return pieces
    }

    /// One of the inputs, changed at one to eight places.
    mutating func next(of corpus: [[UInt8]]) -> [UInt8] {
        var bytes = generator.pick(corpus)
        for _ in 0...below(8) { change(&bytes, corpus) }
        return bytes.count > 1 << 16 ? Array(bytes.prefix(1 << 16)) : bytes
    }

    private mutating func change(_ bytes: inout [UInt8], _ corpus: [[UInt8]]) {
        let place = below(bytes.count + 1)
        let rest = bytes.count - place
        switch below(12) {
        case 0 where rest > 0: bytes[place] ^= 1 << UInt8(below(8))
        case 1 where rest > 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
        case 2: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: place)
        case 3: bytes.removeSubrange(place..<place + below(min(rest, 40) + 1))
        case 4: bytes.insert(contentsOf: Array(bytes[place..<place + below(min(rest, 60) + 1)]), at: place)
        case 5, 6: bytes.insert(contentsOf: generator.pick(words), at: place)
        case 7: replaceNumber(&bytes, from: place)
        case 8 where rest >= 4:
            let edges: [UInt32] = [0, 1, 0x7FFF_FFFF, 0x8000_0000, .max, .max - 1, UInt32(bytes.count)]
            let value = generator.pick(edges)
            withUnsafeBytes(of: value.littleEndian) {
                bytes.replaceSubrange(place..<place + 4, with: $0)
            }
        case 9 where rest >= 8:
            bytes.replaceSubrange(
                place..<place + 8,
                with: [UInt8](repeating: generator.oneIn(2) ? 0xFF : 0x7F, count: 8)
            )
        case 10:
            let other = generator.pick(corpus)
            let start = below(other.count)
            bytes.replaceSubrange(place..., with: other[start...])
        default:
            if rest > 0 { bytes.removeSubrange((place + below(rest))...) }
        }
    }

    private mutating func replaceNumber(_ bytes: inout [UInt8], from place: Int) {
        let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
        guard let start = bytes[place...].firstIndex(where: { digits.contains($0) }) else { return }
        let end = bytes[start...].firstIndex { !digits.contains($0) } ?? bytes.endIndex
        bytes.replaceSubrange(start..<end, with: generator.pick(Self.numbers))
    }
}
