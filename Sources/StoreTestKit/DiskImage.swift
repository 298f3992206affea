/// How a store that used a `CrashDisk` came to an end.
package enum CrashMode: Hashable, Sendable {
    /// The process died, the machine did not: everything is still in the page cache, and what was not
    /// synced can still be lost by a later power cut.
    case killOnly
    /// Power cut; by luck everything had been written back.
    case kept
    /// Power cut; only what was synced is there.
    case dropped
    /// Power cut; every un-synced write is independently there, lost, or torn at 512-byte sectors, and every
    /// un-synced name change is independently there or lost.
    case torn(seed: UInt64)
}

/// Everything that a `CrashDisk` holds, as a value: what is durable, and the un-synced changes in their
/// order.
///
/// #### What the image promises, and no more than that
/// 1. `sync` of a file makes its content durable, not its name.
/// 2. `syncDirectory` makes the name changes in that directory durable, not the directory's own name, and
///    not the content of its files.
/// 3. A rename is atomic. One that crosses directories is durable when both have been synced.
/// 4. Un-synced writes may reach the device in any order, each as a whole, in part (sectors of 512 bytes),
///    or not.
/// 5. A write that was un-synced when a `sync` failed is never made durable by a later `sync`.
package struct DiskImage: Sendable {
    static let sectorSize = 512

    enum ContentChange: Sendable {
        case write(offset: Int, bytes: [UInt8])
        case truncate(size: Int)
        case punch(Range<Int>)

        func apply(to content: inout SparseBytes) {
            switch self {
            case .write(let offset, let bytes): content.write(bytes[...], at: offset)
            case .truncate(let size): content.truncate(to: size)
            case .punch(let range): content.punch(range)
            }
        }
    }

    struct File: Sendable {
        var durable = SparseBytes()
        /// What a reader sees: the page cache.
        var current = SparseBytes()
        /// What leads from `durable` to `current`, in order.
        var pending: [ContentChange] = []
        /// Of `pending`, the changes at the front that a failed sync has given up.
        var givenUpCount = 0
        /// `current` shows bytes that no sync will make durable any more.
        var hasLostBytes = false

        mutating func change(_ change: ContentChange) {
            change.apply(to: &current)
            pending.append(change)
        }

        mutating func sync() {
            if hasLostBytes {
                for change in pending[givenUpCount...] { change.apply(to: &durable) }
            } else {
                durable = current
            }
            pending = []
            givenUpCount = 0
        }

        /// What was un-synced is given up, but `current` goes on showing it: the page cache hides the loss.
        mutating func failSync() {
            givenUpCount = pending.count
            hasLostBytes = hasLostBytes || givenUpCount > 0
        }
    }

    struct Names: Sendable {
        var directories: Set<String> = [""]
        var files: [String: Int] = [:]
    }

    enum NameChange: Sendable {
        case makeDirectory(String)
        case create(String, file: Int)
        case rename(file: Int, from: String, to: String)
        case remove(String, file: Int)
    }

    struct PendingNameChange: Sendable {
        let change: NameChange
        /// Directories that have to be synced before the change is durable.
        var unsyncedDirectories: Set<String>
    }

    var durableNames = Names()
    var currentNames = Names()
    var pendingNames: [PendingNameChange] = []
    var files: [Int: File] = [:]
    private var nextFile = 1

    package init() {}

    mutating func addFile() -> Int {
        defer { nextFile += 1 }
        files[nextFile] = File()
        return nextFile
    }
}

// MARK: - Looking at an image and damaging it

extension DiskImage {
    /// Paths of all files, sorted, as a running process sees them.
    package var fileNames: [String] { currentNames.files.keys.sorted() }

    /// The bytes of a file as a running process sees them, or nil when there is none.
    package func contents(of name: String) -> [UInt8]? {
        currentNames.files[name].flatMap { files[$0] }?.current.bytes
    }

    /// Where these bytes stand: the first file, by name, and the offset in it.
    package func find(_ bytes: [UInt8]) -> (name: String, offset: Int)? {
        guard let first = bytes.first else { return nil }
        for name in fileNames {
            guard let content = contents(of: name), content.count >= bytes.count else { continue }
            var start = content.startIndex
            while let index = content[start...].firstIndex(of: first), index + bytes.count <= content.count {
                if content[index..<index + bytes.count].elementsEqual(bytes) { return (name, index) }
                start = index + 1
            }
        }
        return nil
    }

    package func size(of name: String) -> Int? {
        currentNames.files[name].flatMap { files[$0] }?.current.size
    }

    /// Changes of content and names that a power cut could undo.
    package var unsyncedChangeCount: Int {
        pendingNames.count + files.values.reduce(0) { $0 + $1.pending.count }
    }

    /// Whether everything that was written to a file is on the medium.
    package func isSynced(_ name: String) -> Bool {
        currentNames.files[name].flatMap { files[$0] }?.pending.isEmpty ?? false
    }

    /// Flips one bit on the medium: durable and visible at once.
    package mutating func flip(_ name: String, offset: Int, bit: Int = 0) {
        damage(name) { $0.flip(bit: bit, at: offset) }
    }

    /// Overwrites bytes on the medium: durable and visible at once.
    package mutating func overwrite(_ name: String, offset: Int, with bytes: [UInt8]) {
        damage(name) { $0.write(bytes[...], at: offset) }
    }

    /// Cuts or extends a file on the medium: durable and visible at once.
    package mutating func truncate(_ name: String, to size: Int) {
        damage(name) { $0.truncate(to: size) }
    }

    /// Takes a file away: durable and visible at once.
    package mutating func delete(_ name: String) {
        currentNames.files[name] = nil
        durableNames.files[name] = nil
    }

    /// Puts a file there: durable and visible at once. Its directory must exist.
    package mutating func place(_ name: String, _ bytes: [UInt8]) {
        precondition(currentNames.directories.contains(Self.directory(of: name)), "\(name) has no directory.")
        let file = addFile()
        currentNames.files[name] = file
        durableNames.files[name] = file
        overwrite(name, offset: 0, with: bytes)
    }

    private mutating func damage(_ name: String, _ body: (inout SparseBytes) -> Void) {
        guard let number = currentNames.files[name], var file = files[number] else {
            preconditionFailure("There is no file \(name) to damage.")
        }
        precondition(
            file.pending.isEmpty,
            "\(name) has un-synced changes; damage an image after a power cut."
        )
        body(&file.durable)
        body(&file.current)
        files[number] = file
    }

    static func directory(of name: String) -> String {
        guard let slash = name.firstIndex(of: "/") else { return "" }
        return String(name[..<slash])
    }
}

// MARK: - Names

extension DiskImage {
    mutating func changeName(_ change: NameChange) {
        Self.apply(change, to: &currentNames)
        pendingNames.append(PendingNameChange(change: change, unsyncedDirectories: change.directories))
    }

    mutating func syncNames(in directory: String) {
        for index in pendingNames.indices { pendingNames[index].unsyncedDirectories.remove(directory) }
        // A durable change carries the earlier ones of the same name or file with it.
        var paths: Set<String> = []
        var numbers: Set<Int> = []
        var isDurable = [Bool](repeating: false, count: pendingNames.count)
        for (index, pending) in pendingNames.enumerated().reversed() {
            let isCarried =
                !paths.isDisjoint(with: pending.change.paths)
                || pending.change.file.map(numbers.contains) ?? false
            guard pending.unsyncedDirectories.isEmpty || isCarried else { continue }
            isDurable[index] = true
            paths.formUnion(pending.change.paths)
            if let file = pending.change.file { numbers.insert(file) }
        }
        for (index, pending) in pendingNames.enumerated() where isDurable[index] {
            Self.apply(pending.change, to: &durableNames)
        }
        pendingNames = zip(pendingNames, isDurable).filter { !$0.1 }.map(\.0)
    }

    /// Applies a change also where earlier ones were lost: the change's own outcome holds, and no file gets
    /// two names.
    private static func apply(_ change: NameChange, to names: inout Names) {
        switch change {
        case .makeDirectory(let path):
            names.directories.insert(path)
        case .create(let path, let file):
            names.files[path] = file
        case .rename(let file, let source, let destination):
            names.files = names.files.filter { $0.value != file }
            names.files[source] = nil
            names.files[destination] = file
        case .remove(let path, let file):
            names.files = names.files.filter { $0.value != file }
            names.files[path] = nil
        }
    }
}

extension DiskImage.NameChange {
    fileprivate var paths: [String] {
        switch self {
        case .makeDirectory(let path), .create(let path, _), .remove(let path, _): [path]
        case .rename(_, let source, let destination): [source, destination]
        }
    }

    fileprivate var file: Int? {
        switch self {
        case .makeDirectory: nil
        case .create(_, let file), .rename(let file, _, _), .remove(_, let file): file
        }
    }

    fileprivate var directories: Set<String> { Set(paths.map(DiskImage.directory(of:))) }
}

// MARK: - Crashing

extension DiskImage {
    /// What the next process finds.
    package func restarted(after mode: CrashMode) -> DiskImage {
        var next = self
        switch mode {
        case .killOnly:
            return next
        case .kept:
            for number in files.keys {
                next.files[number]?.settle { change, content in change.apply(to: &content) }
            }
            for pending in pendingNames { Self.apply(pending.change, to: &next.durableNames) }
        case .dropped:
            for number in files.keys { next.files[number]?.settle { _, _ in } }
        case .torn(let seed):
            let random = SeededRandom(seed: seed)
            for number in files.keys.sorted() {
                next.files[number]?.settle { change, content in Self.tear(change, &content, random) }
            }
            for pending in pendingNames where random.next() & 1 == 0 {
                Self.apply(pending.change, to: &next.durableNames)
            }
        }
        next.settleNames()
        return next
    }

    /// After a power cut there is nothing but what is durable.
    private mutating func settleNames() {
        let directories = durableNames.directories
        durableNames.files = durableNames.files.filter { directories.contains(Self.directory(of: $0.key)) }
        currentNames = durableNames
        pendingNames = []
        let reachable = Set(currentNames.files.values)
        files = files.filter { reachable.contains($0.key) }
    }

    private static func tear(_ change: ContentChange, _ content: inout SparseBytes, _ random: SeededRandom) {
        switch random.next() % 3 {
        case 0:
            return
        case 1:
            change.apply(to: &content)
        default:
            guard case .write(let offset, let bytes) = change, !bytes.isEmpty else {
                if random.next() & 1 == 0 { change.apply(to: &content) }
                return
            }
            tearWrite(bytes, at: offset, &content, random)
        }
    }

    /// Writes some of the sectors: those before a point, those after one, or any.
    private static func tearWrite(
        _ bytes: [UInt8],
        at offset: Int,
        _ content: inout SparseBytes,
        _ random: SeededRandom
    ) {
        let firstSector = offset / sectorSize
        let sectorCount = (offset + bytes.count - 1) / sectorSize - firstSector + 1
        let tear = Int(random.next() % UInt64(sectorCount + 1))
        let style = random.next() % 3
        for sector in 0..<sectorCount {
            let isWritten =
                switch style {
                case 0: sector < tear
                case 1: sector >= tear
                default: random.next() & 1 == 0
                }
            guard isWritten else { continue }
            let start = max(offset, (firstSector + sector) * sectorSize)
            let end = min(offset + bytes.count, (firstSector + sector + 1) * sectorSize)
            content.write(bytes[start - offset..<end - offset], at: start)
        }
        // The new size may have been written although the bytes were not: they read as zeros.
        if content.size < offset + bytes.count && random.next() & 1 == 0 {
            content.truncate(to: offset + bytes.count)
        }
    }
}

extension DiskImage.File {
    fileprivate mutating func settle(_ apply: (DiskImage.ContentChange, inout SparseBytes) -> Void) {
        for change in pending { apply(change, &durable) }
        current = durable
        pending = []
        givenUpCount = 0
        hasLostBytes = false
    }
}
