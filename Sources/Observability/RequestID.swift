internal import Synchronization

/// Names requests: 16 upper-case hexadecimal digits, each once in the life of a process and different from those of
/// other processes with high probability.
package final class RequestIDs: Sendable {
    private let next: Atomic<UInt64>

    package init() {
        var generator = SystemRandomNumberGenerator()
        next = Atomic(generator.next())
    }

    package init(startingAt start: UInt64) { next = Atomic(start) }

    package func make() -> String {
        Self.text(Self.mixed(next.wrappingAdd(1, ordering: .relaxed).oldValue))
    }

    /// A permutation of all 64-bit numbers (splitmix64), so that what is counted up never repeats and looks like
    /// nothing.
    private static func mixed(_ value: UInt64) -> UInt64 {
        var mixed = value &+ 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    private static func text(_ value: UInt64) -> String {
        String(unsafeUninitializedCapacity: 16) { target in
            for index in 0..<16 {
                let digit = UInt8(truncatingIfNeeded: value >> UInt64(60 - 4 * index)) & 15
                target.initializeElement(
                    at: index,
                    to: digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "A") + digit - 10
                )
            }
            return 16
        }
    }
}
