package import BlobVolume
internal import Glibc
internal import Synchronization

/// What happens to a call instead of, or beside, its work.
package enum DiskFault: Sendable {
    /// The call does nothing and throws. A `sync` also gives up what it was to make durable, where the disk
    /// below can model that, as Linux does.
    case fail(DiskError.Code, number: Int32)
    /// A write that gets as far as this many bytes and then throws; any other call fails.
    case failAfter(byteCount: Int, DiskError.Code, number: Int32)
    /// The call takes effect and then throws: the caller can't know.
    case failAfterwards(DiskError.Code, number: Int32)
    /// A `sync` or `syncDirectory` that does nothing and reports success: a disk that lies.
    case pretend
    /// A read that gives bytes with this bit of its result flipped (modulo the bytes read).
    case flip(bit: Int)
    /// The call waits at a gate, then does its work. It throws when the gate's deadline passes.
    case hold(FaultGate)
    /// The call waits this long, then does its work.
    case delay(Duration)

    package static let inputOutputError = DiskFault.fail(.inputOutput, number: EIO)
    package static let full = DiskFault.fail(.full, number: ENOSPC)
}

/// Which calls a fault hits.
package struct FaultRule: Sendable {
    package var operations: Set<DiskOperation>
    /// Only calls whose name holds this text.
    package var nameContains: String?
    /// How many calls that match are let through first.
    package var skipCount: Int
    /// How many calls are hit after those; nil means all.
    package var hitCount: Int?
    package var fault: DiskFault

    package init(
        _ fault: DiskFault,
        on operations: Set<DiskOperation>,
        nameContains: String? = nil,
        skipCount: Int = 0,
        hitCount: Int? = 1
    ) {
        self.operations = operations
        self.nameContains = nameContains
        self.skipCount = skipCount
        self.hitCount = hitCount
        self.fault = fault
    }
}

/// Passes the calls on to another disk, except where a rule says otherwise.
package final class FaultyDisk: Disk {
    private struct ActiveRule {
        let rule: FaultRule
        var matchCount = 0
        var firedCount = 0
    }

    private struct State {
        var rules: [Int: ActiveRule] = [:]
        var nextRule = 1
        var freeBytes: UInt64?
        var callCounts: [DiskOperation: Int] = [:]
        var lastHit: DiskCall?
    }

    package let label: String
    private let base: any Disk
    private let state = Mutex(State())

    package init(_ base: any Disk, label: String? = nil) {
        self.base = base
        self.label = label ?? base.label
    }

    /// Adds a rule; its calls are counted from now. The first rule that was added and applies is the one
    /// that acts.
    @discardableResult
    package func add(_ rule: FaultRule) -> Int {
        state.withLock { state in
            defer { state.nextRule += 1 }
            state.rules[state.nextRule] = ActiveRule(rule: rule)
            return state.nextRule
        }
    }

    package func remove(rule: Int) { state.withLock { $0.rules[rule] = nil } }

    package func removeAllRules() { state.withLock { $0.rules = [:] } }

    /// How often a rule has hit a call. A removed rule has hit none.
    package func firedCount(ofRule rule: Int) -> Int { state.withLock { $0.rules[rule]?.firedCount ?? 0 } }

    /// How often any rule has hit a call.
    package var firedCount: Int { state.withLock { $0.rules.values.reduce(0) { $0 + $1.firedCount } } }

    /// The last call that a rule has hit, for messages.
    package var lastHit: DiskCall? { state.withLock { $0.lastHit } }

    package func callCount(of operation: DiskOperation) -> Int {
        state.withLock { $0.callCounts[operation] ?? 0 }
    }

    /// Limits what may be allocated from now on; writes beyond get as far as there is room, and then fail
    /// with `.full`. Removing, truncating and punching give room back. nil takes the limit away.
    package func setFreeBytes(_ count: UInt64?) { state.withLock { $0.freeBytes = count } }

    package var freeBytes: UInt64? { state.withLock { $0.freeBytes } }
}

// MARK: - The seam

extension FaultyDisk {
    package func open(_ name: String, _ mode: DiskOpenMode) throws(DiskError) -> any DiskFile {
        let isCreating = if case .create = mode { true } else { false }
        let call = DiskCall(operation: isCreating ? .create : .open, name: name)
        let file = try apply(call) { () throws(DiskError) -> any DiskFile in try base.open(name, mode) }
        return FaultyFile(disk: self, name: name, base: file)
    }

    package func exists(_ name: String) throws(DiskError) -> Bool {
        try apply(DiskCall(operation: .exists, name: name)) { () throws(DiskError) -> Bool in
            try base.exists(name)
        }
    }

    package func list(_ directory: String) throws(DiskError) -> [String] {
        try apply(DiskCall(operation: .list, name: directory)) { () throws(DiskError) -> [String] in
            try base.list(directory)
        }
    }

    package func makeDirectory(_ name: String) throws(DiskError) {
        try apply(DiskCall(operation: .makeDirectory, name: name)) { () throws(DiskError) in
            try base.makeDirectory(name)
        }
    }

    package func rename(_ source: String, to destination: String) throws(DiskError) {
        try apply(DiskCall(operation: .rename, name: "\(source) to \(destination)")) { () throws(DiskError) in
            try release(destination, in: base) { () throws(DiskError) in
                try base.rename(source, to: destination)
            }
        }
    }

    package func remove(_ name: String) throws(DiskError) {
        try apply(DiskCall(operation: .remove, name: name)) { () throws(DiskError) in
            try release(name, in: base) { () throws(DiskError) in try base.remove(name) }
        }
    }

    package func syncDirectory(_ name: String) throws(DiskError) {
        try apply(DiskCall(operation: .syncDirectory, name: name), pretended: ()) { () throws(DiskError) in
            try base.syncDirectory(name)
        }
    }

    package func lock(_ name: String, content: [UInt8]) throws(DiskError) -> any DiskLock {
        try apply(DiskCall(operation: .lock, name: name)) { () throws(DiskError) -> any DiskLock in
            try base.lock(name, content: content)
        }
    }

    package func space() throws(DiskError) -> DiskSpace {
        try apply(DiskCall(operation: .space, name: "")) { () throws(DiskError) -> DiskSpace in
            var space = try base.space()
            if let freeBytes { space.freeBytes = min(space.freeBytes, freeBytes) }
            return space
        }
    }

    package func deviceID() throws(DiskError) -> UInt64 { try base.deviceID() }

    /// Gives back the room of a file that goes away.
    private func release(
        _ name: String,
        in disk: any Disk,
        _ body: () throws(DiskError) -> Void
    ) throws(DiskError) {
        guard freeBytes != nil, try disk.exists(name) else { return try body() }
        let file = try disk.open(name, .read)
        let allocated = try file.allocatedSize()
        file.close()
        try body()
        account(allocatedBefore: allocated, allocatedAfter: 0)
    }
}

// MARK: - Rules

extension FaultyDisk {
    fileprivate func account(allocatedBefore: UInt64, allocatedAfter: UInt64) {
        state.withLock { state in
            guard let free = state.freeBytes else { return }
            let used = free + allocatedBefore
            state.freeBytes = used > allocatedAfter ? used - allocatedAfter : 0
        }
    }

    /// The fault that hits this call, if any.
    fileprivate func fault(for call: DiskCall) -> DiskFault? {
        state.withLock { state in
            state.callCounts[call.operation, default: 0] += 1
            for number in state.rules.keys.sorted() {
                guard var active = state.rules[number] else { continue }
                guard active.rule.operations.contains(call.operation) else { continue }
                if let text = active.rule.nameContains, !call.name.contains(text) { continue }
                active.matchCount += 1
                let isHit =
                    active.matchCount > active.rule.skipCount
                    && (active.rule.hitCount.map { active.firedCount < $0 } ?? true)
                if isHit {
                    active.firedCount += 1
                    state.lastHit = call
                }
                state.rules[number] = active
                if isHit { return active.rule.fault }
            }
            return nil
        }
    }

    fileprivate func apply<Result>(
        _ call: DiskCall,
        pretended: Result? = nil,
        onFailure: () throws(DiskError) -> Void = { () throws(DiskError) in },
        _ body: () throws(DiskError) -> Result
    ) throws(DiskError) -> Result {
        try perform(fault(for: call), call, pretended: pretended, onFailure: onFailure, body)
    }

    fileprivate func perform<Result>(
        _ fault: DiskFault?,
        _ call: DiskCall,
        pretended: Result? = nil,
        onFailure: () throws(DiskError) -> Void = { () throws(DiskError) in },
        _ body: () throws(DiskError) -> Result
    ) throws(DiskError) -> Result {
        switch fault {
        case nil, .flip:
            return try body()
        case .fail(let code, let number), .failAfter(_, let code, let number):
            try onFailure()
            throw call.error(code, number: number, detail: "injected")
        case .failAfterwards(let code, let number):
            _ = try body()
            throw call.error(code, number: number, detail: "injected, after the call took effect")
        case .pretend:
            guard let pretended else { preconditionFailure("\(call.operation.rawValue) can't be pretended.") }
            return pretended
        case .hold(let gate):
            guard gate.hold() else {
                throw call.error(.inputOutput, detail: "held until the gate's deadline")
            }
            return try body()
        case .delay(let duration):
            delay(duration)
            return try body()
        }
    }

    fileprivate func delay(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        usleep(UInt32(clamping: seconds * 1_000_000 + attoseconds / 1_000_000_000_000))
    }
}

/// An open file of a `FaultyDisk`.
private final class FaultyFile: DiskFile {
    private let disk: FaultyDisk
    private let name: String
    private let base: any DiskFile

    init(disk: FaultyDisk, name: String, base: any DiskFile) {
        self.disk = disk
        self.name = name
        self.base = base
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        let call = DiskCall(operation: .read, name: name, offset: offset, length: buffer.count)
        let fault = disk.fault(for: call)
        let count = try disk.perform(fault, call) { () throws(DiskError) -> Int in
            try base.read(into: buffer, at: offset)
        }
        if case .flip(let bit) = fault, count > 0 { buffer[bit / 8 % count] ^= 1 << UInt8(bit % 8) }
        return count
    }

    func write(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        try write(pieces, at: offset, isDirect: false)
    }

    func writeDirect(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        try write(pieces, at: offset, isDirect: true)
    }

    /// What a fault leaves of a direct write is written as usual: it need not be whole blocks.
    private func write(
        _ pieces: [UnsafeRawBufferPointer],
        at offset: UInt64,
        isDirect: Bool
    ) throws(DiskError) {
        let length = pieces.reduce(0) { $0 + $1.count }
        let call = DiskCall(operation: .write, name: name, offset: offset, length: length)
        switch disk.fault(for: call) {
        case .failAfter(let byteCount, let code, let number):
            try writeWithinBudget(Self.prefix(of: pieces, byteCount), at: offset, call)
            throw call.error(code, number: number, detail: "injected, after \(min(byteCount, length)) bytes")
        case let fault:
            try disk.perform(fault, call) { () throws(DiskError) in
                if isDirect && disk.freeBytes == nil {
                    try base.writeDirect(pieces, at: offset)
                } else {
                    try writeWithinBudget(pieces, at: offset, call)
                }
            }
        }
    }

    func sync() throws(DiskError) {
        let call = DiskCall(operation: .sync, name: name)
        let giveUp = { [base] () throws(DiskError) in
            if let base = base as? any SyncLosing { try base.failSync() }
        }
        try disk.apply(call, pretended: (), onFailure: giveUp) { () throws(DiskError) in try base.sync() }
    }

    func startWriteback(offset: UInt64, length: UInt64) throws(DiskError) {
        try disk.apply(DiskCall(operation: .startWriteback, name: name, offset: offset)) {
            () throws(DiskError) in
            try base.startWriteback(offset: offset, length: length)
        }
    }

    func truncate(to size: UInt64) throws(DiskError) {
        try disk.apply(DiskCall(operation: .truncate, name: name, length: Int(clamping: size))) {
            () throws(DiskError) in
            try accounting { () throws(DiskError) in try base.truncate(to: size) }
        }
    }

    func punchHole(offset: UInt64, length: UInt64) throws(DiskError) {
        try disk.apply(DiskCall(operation: .punch, name: name, offset: offset)) { () throws(DiskError) in
            try accounting { () throws(DiskError) in try base.punchHole(offset: offset, length: length) }
        }
    }

    func size() throws(DiskError) -> UInt64 {
        try disk.apply(DiskCall(operation: .size, name: name)) { () throws(DiskError) -> UInt64 in
            try base.size()
        }
    }

    func allocatedSize() throws(DiskError) -> UInt64 {
        try disk.apply(DiskCall(operation: .size, name: name)) { () throws(DiskError) -> UInt64 in
            try base.allocatedSize()
        }
    }

    func close() { base.close() }

    private func writeWithinBudget(
        _ pieces: [UnsafeRawBufferPointer],
        at offset: UInt64,
        _ call: DiskCall
    ) throws(DiskError) {
        guard let free = disk.freeBytes else { return try base.write(pieces, at: offset) }
        let length = UInt64(pieces.reduce(0) { $0 + $1.count })
        let size = try base.size()
        // A file without holes needs room only beyond its end; for one with holes the worst is assumed.
        let isDense = try base.allocatedSize() >= size
        let covered = isDense && size > offset ? min(length, size - offset) : 0
        guard length - covered > free else {
            return try accounting { () throws(DiskError) in try base.write(pieces, at: offset) }
        }
        try accounting { () throws(DiskError) in
            try base.write(Self.prefix(of: pieces, Int(covered + free)), at: offset)
        }
        throw call.error(.full, number: ENOSPC, detail: "no space left, after \(covered + free) bytes")
    }

    private func accounting(_ body: () throws(DiskError) -> Void) throws(DiskError) {
        guard disk.freeBytes != nil else { return try body() }
        let before = try base.allocatedSize()
        try body()
        disk.account(allocatedBefore: before, allocatedAfter: try base.allocatedSize())
    }

    private static func prefix(of pieces: [UnsafeRawBufferPointer], _ count: Int) -> [UnsafeRawBufferPointer]
    {
        var left = count
        var result: [UnsafeRawBufferPointer] = []
        for piece in pieces where left > 0 {
            result.append(UnsafeRawBufferPointer(rebasing: piece.prefix(left)))
            left -= min(left, piece.count)
        }
        return result
    }
}
