/// The contents of a file as pages, so that copies are cheap and holes are known.
struct SparseBytes: Sendable, Equatable {
    static let pageSize = 4096
    private static let zeroPage = [UInt8](repeating: 0, count: pageSize)

    private(set) var size = 0
    /// nil where nothing is allocated: reads as zeros.
    private var pages: [[UInt8]?] = []

    var allocatedSize: Int { pages.count { $0 != nil } * Self.pageSize }

    var bytes: [UInt8] {
        [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            count = read(into: UnsafeMutableRawBufferPointer(buffer), at: 0)
        }
    }

    /// Fills `buffer` up to the end of the file; returns the bytes read.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) -> Int {
        let count = max(0, min(buffer.count, size - offset))
        Self.forEachPage(offset..<offset + count) { page, range, position in
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[position..<position + range.count])
            guard let source = pages[page] else {
                target.initializeMemory(as: UInt8.self, repeating: 0)
                return
            }
            source.withUnsafeBytes { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[range])) }
        }
        return count
    }

    mutating func write(_ bytes: ArraySlice<UInt8>, at offset: Int) {
        guard !bytes.isEmpty else { return }
        if offset + bytes.count > size { truncate(to: offset + bytes.count) }
        let first = bytes.startIndex
        Self.forEachPage(offset..<offset + bytes.count) { page, range, position in
            let source = bytes[first + position..<first + position + range.count]
            if range.count == Self.pageSize && [UInt8](source) == Self.zeroPage {
                // One shared page: a preallocated log costs no memory.
                pages[page] = Self.zeroPage
                return
            }
            var content = pages[page] ?? Self.zeroPage
            pages[page] = nil
            content.withUnsafeMutableBytes { target in
                source.withUnsafeBytes {
                    UnsafeMutableRawBufferPointer(rebasing: target[range]).copyMemory(from: $0)
                }
            }
            pages[page] = content
        }
    }

    mutating func truncate(to newSize: Int) {
        if newSize < size { punch(newSize..<size) }
        let pageCount = (newSize + Self.pageSize - 1) / Self.pageSize
        if pageCount < pages.count {
            pages.removeLast(pages.count - pageCount)
        } else {
            pages.append(contentsOf: repeatElement(nil, count: pageCount - pages.count))
        }
        size = newSize
    }

    /// Makes a range read as zeros and frees the pages that lie in it completely.
    mutating func punch(_ hole: Range<Int>) {
        let hole = hole.clamped(to: 0..<size)
        guard !hole.isEmpty else { return }
        Self.forEachPage(hole) { page, range, _ in
            // The last page counts as whole when the hole reaches the end of the file.
            let pageEnd = min(Self.pageSize, size - page * Self.pageSize)
            if range.lowerBound == 0 && range.upperBound >= pageEnd {
                pages[page] = nil
            } else if var content = pages[page] {
                pages[page] = nil
                content.replaceSubrange(range, with: repeatElement(0, count: range.count))
                pages[page] = content
            }
        }
    }

    mutating func flip(bit: Int, at offset: Int) {
        precondition(offset < size && (0..<8).contains(bit), "A flipped bit lies inside of the file.")
        let page = offset / Self.pageSize
        var content = pages[page] ?? Self.zeroPage
        content[offset % Self.pageSize] ^= 1 << UInt8(bit)
        pages[page] = content
    }

    /// Calls `body` with the page, the range inside of it, and how far that is from the start of `range`.
    /// Calls `body` with the page, the range inside of it, and how far that is from the start of `range`.
    private static func forEachPage(_ range: Range<Int>, _ body: (Int, Range<Int>, Int) -> Void) {
        var offset = range.lowerBound
        while offset < range.upperBound {
            let page = offset / pageSize
            let end = min(range.upperBound, (page + 1) * pageSize)
            body(page, offset - page * pageSize..<end - page * pageSize, offset - range.lowerBound)
            offset = end
        }
    }
}
