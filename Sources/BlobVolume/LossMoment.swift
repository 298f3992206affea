internal import Synchronization

/// A moment in the order of everything that the volumes of this process were found to have lost.
///
/// Who looks at what volumes have notes the moment before, and what it has found out then counts only for volumes that have
/// lost nothing since. One order for all volumes: a moment is a number to carry along, also where many volumes were asked,
/// and holds for a volume that was opened again in between. That a loss is later than a moment is the only thing that is ever
/// asked, so stores that share a process do not disturb each other.
package struct LossMoment: Comparable, Sendable {
    private static let last = Atomic<UInt64>(0)

    private let number: UInt64

    /// Behind everything that was lost before the call, and in front of everything after it.
    package static var now: LossMoment { LossMoment(number: last.load(ordering: .acquiring)) }

    static func next() -> LossMoment {
        LossMoment(number: last.wrappingAdd(1, ordering: .acquiringAndReleasing).newValue)
    }

    package static func < (left: LossMoment, right: LossMoment) -> Bool { left.number < right.number }
}
