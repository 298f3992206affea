/// What clients asked about one key and were told, and whether an order of it explains every answer (Wing and Gong, with
/// Lowe's memory of what was tried). Contents are numbers, each written once; 0 is nothing.
struct KeyHistory {
    enum Action: Hashable {
        case read(Int)
        case write(Int)
        /// Written because nothing was there.
        case create(Int)
        /// Written because this was there.
        case replace(Int, by: Int)
        case delete
        /// Refused because something was there.
        case somethingWasThere
        /// Refused because something else, or nothing, was there.
        case otherWasThere(than: Int)
    }

    struct Call: Hashable {
        let start: Int
        /// When it was answered; nil when it was not, and may have had its effect or not, or may have it later.
        var end: Int?
        let action: Action
    }

    private(set) var calls: [Call] = []

    mutating func add(_ call: Call) { calls.append(call) }

    private struct Point: Hashable {
        var low: UInt64 = 0
        var high: UInt64 = 0
        var value = 0

        func has(_ index: Int) -> Bool {
            index < 64 ? low >> UInt64(index) & 1 == 1 : high >> UInt64(index - 64) & 1 == 1
        }

        mutating func add(_ index: Int) {
            if index < 64 { low |= 1 << UInt64(index) } else { high |= 1 << UInt64(index - 64) }
        }
    }

    static let callCountMax = 128

    /// Whether there is such an order; nil when there are too many calls to tell.
    var isLinearizable: Bool? {
        guard calls.count <= Self.callCountMax else { return nil }
        var seen: Set<Point> = []
        var stack = [Point()]
        while let point = stack.popLast() {
            guard seen.insert(point).inserted else { continue }
            let open = calls.indices.filter { !point.has($0) }
            // A call comes before every one that began after its answer.
            guard let firstEnd = open.compactMap({ calls[$0].end }).min() else { return true }
            for index in open where calls[index].start < firstEnd {
                guard let value = Self.value(after: calls[index].action, on: point.value) else { continue }
                var next = point
                next.add(index)
                next.value = value
                stack.append(next)
            }
        }
        return false
    }

    private static func value(after action: Action, on value: Int) -> Int? {
        switch action {
        case .read(let seen): seen == value ? value : nil
        case .write(let new): new
        case .create(let new): value == 0 ? new : nil
        case .replace(let old, let new): value == old ? new : nil
        case .delete: 0
        case .somethingWasThere: value != 0 ? value : nil
        case .otherWasThere(let old): value != old ? value : nil
        }
    }
}
