import Glibc

/// Which seeds a test runs: a fixed range, which every run repeats, and some new ones. `HOLDFAST_SEED`
/// replays one seed alone, `HOLDFAST_SEED_FACTOR` multiplies how many there are. A failing test names its
/// seed.
package enum TestSeeds {
    /// `HOLDFAST_LONG=1`: sizes as in life.
    package static var isLong: Bool { getenv("HOLDFAST_LONG").map { String(cString: $0) } == "1" }

    package static func seeds(fixed: Int, fresh: Int = 0) -> [UInt64] {
        if let text = getenv("HOLDFAST_SEED"), let seed = UInt64(String(cString: text)) { return [seed] }
        let factor = getenv("HOLDFAST_SEED_FACTOR").flatMap { Int(String(cString: $0)) } ?? 1
        var generator = SystemRandomNumberGenerator()
        return (0..<UInt64(fixed * factor)).map { $0 }
            + (0..<fresh * factor).map { _ in generator.next() >> 16 }
    }
}
