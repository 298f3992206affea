/// Up to which commit a volume has every payload, and which later commits it has whole as well.
///
/// Only the watermark goes to disk. What is known beyond it makes it jump once the gap is filled: without that, one batch
/// that came without its payloads would have all batches looked at that came after it, for as long as new ones come.
///
/// Invariants:
/// 1. A stretch says of batches that were acknowledged after the watermark was last lowered that they are whole.
/// 2. Stretches are in order, apart from each other and from the watermark.
struct CompleteWatermark: Sendable {
    private(set) var sequence: UInt64
    private var ahead: [ClosedRange<UInt64>] = []
    /// Of batches up to here, which were there when the watermark was lowered, nothing is taken for known.
    private var doubtedThrough: UInt64 = 0

    /// Gaps that are remembered; of batches after one more, nothing is.
    private static let stretchCountMax = 256

    init(_ sequence: UInt64 = 0) { self.sequence = sequence }

    /// Moves the watermark; unless that is forwards, what is known beyond it is forgotten.
    /// - Parameter tail: the last batch that the volume has.
    mutating func set(_ sequence: UInt64, tail: UInt64) {
        if sequence <= self.sequence {
            ahead = []
            doubtedThrough = max(doubtedThrough, tail)
        }
        self.sequence = sequence
        joinStretches()
    }

    /// Takes note of a batch that is here with all its payloads. Batches are told of in order.
    mutating func note(_ whole: UInt64) {
        guard whole > sequence else { return }
        if whole == sequence + 1 {
            sequence = whole
            joinStretches()
        } else if whole > doubtedThrough {
            if let last = ahead.last, last.upperBound + 1 == whole {
                ahead[ahead.count - 1] = last.lowerBound...whole
            } else if ahead.last.map({ $0.upperBound < whole }) ?? true, ahead.count < Self.stretchCountMax {
                ahead.append(whole...whole)
            }
        }
    }

    private mutating func joinStretches() {
        var passed = 0
        while passed < ahead.count, ahead[passed].lowerBound <= sequence + 1 {
            sequence = max(sequence, ahead[passed].upperBound)
            passed += 1
        }
        if passed > 0 { ahead.removeFirst(passed) }
    }
}
