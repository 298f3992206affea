internal import StoreModel
private import Synchronization

/// A generator whose whole course is given by its seed: xoshiro256**, seeded by SplitMix64.
///
/// Source: Blackman and Vigna, "Scrambled linear pseudorandom number generators" (2018).
package struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: (UInt64, UInt64, UInt64, UInt64)

    package init(seed: UInt64) {
        var mixer = seed
        func word() -> UInt64 {
            mixer &+= 0x9E37_79B9_7F4A_7C15
            var bits = mixer
            bits = (bits ^ bits >> 30) &* 0xBF58_476D_1CE4_E5B9
            bits = (bits ^ bits >> 27) &* 0x94D0_49BB_1331_11EB
            return bits ^ bits >> 31
        }
        state = (word(), word(), word(), word())
    }

    package mutating func next() -> UInt64 {
        let product = state.1 &* 5
        let result = (product << 7 | product >> 57) &* 9
        let shifted = state.1 << 17
        state.2 ^= state.0
        state.3 ^= state.1
        state.1 ^= state.2
        state.0 ^= state.3
        state.2 ^= shifted
        state.3 = state.3 << 45 | state.3 >> 19
        return result
    }

    /// A number below `bound`, which is greater than zero.
    package mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }

    /// True once in `count` times on average.
    package mutating func oneIn(_ count: Int) -> Bool { below(count) == 0 }

    /// One of the elements of a collection that is not empty.
    package mutating func pick<Element>(_ elements: [Element]) -> Element { elements[below(elements.count)] }
}

/// A `SeededGenerator` that can be shared, as the store's source of randomness.
package final class SeededRandom: RandomSource, Sendable {
    package let seed: UInt64
    private let generator: Mutex<SeededGenerator>

    package init(seed: UInt64) {
        self.seed = seed
        generator = Mutex(SeededGenerator(seed: seed))
    }

    package func next() -> UInt64 { generator.withLock { $0.next() } }
}

/// Lets a shared source stand where the standard library wants a generator.
extension SeededRandom {
    package struct Generator: RandomNumberGenerator, Sendable {
        fileprivate let source: SeededRandom
        package func next() -> UInt64 { source.next() }
    }

    package var asGenerator: Generator { Generator(source: self) }
}
