import Catalog
import Testing

@Suite struct KeyBoundsTests {
    @Test func theSuccessorOfAPrefixIsBehindEverythingUnderIt() {
        #expect(KeyBounds.successor(ofPrefix: [1, 2]) == [1, 3])
        #expect(KeyBounds.successor(ofPrefix: [1, 0xFF, 0xFF]) == [2])
        #expect(KeyBounds.successor(ofPrefix: [0xFF]) == nil)
        #expect(KeyBounds.successor(ofPrefix: []) == nil)
    }

    @Test func commonPrefixesEndWithTheFirstDelimiterBehindThePrefix() {
        func common(_ key: String, _ prefix: String, _ delimiter: String) -> String? {
            KeyBounds.commonPrefix(
                of: Array(key.utf8),
                prefix: Array(prefix.utf8),
                delimiter: Array(delimiter.utf8)
            )
            .map { String(decoding: $0, as: UTF8.self) }
        }
        #expect(common("a/b/c", "", "/") == "a/")
        #expect(common("a/b/c", "a/", "/") == "a/b/")
        #expect(common("a/b/c", "a/b", "/") == "a/b/")
        #expect(common("a/b/c", "a/b/", "/") == nil)
        #expect(common("a/", "a/", "/") == nil)
        #expect(common("/a", "", "/") == "/")
        #expect(common("aXYXYb", "", "XY") == "aXY")
        #expect(common("aXYXYb", "aX", "XY") == "aXYXY")
        #expect(common("aX", "", "XY") == nil)
        #expect(common("abc", "", "") == nil)
    }
}
