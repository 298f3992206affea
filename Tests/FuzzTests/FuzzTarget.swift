import Foundation
import Testing

/// A parser of bytes that the store did not make, and inputs to begin with.
struct FuzzTarget: Sendable, CustomTestStringConvertible {
    let name: String
    /// Words of the format: what a parser looks for is put into inputs more often than chance would.
    let words: [String]
    /// Good inputs that are made here; those in fixtures/fuzz/NAME are added.
    let samples: @Sendable () throws -> [[UInt8]]
    /// Takes an input; must return, whatever it is. What it says of the input is checked in here.
    let take: @Sendable ([UInt8], inout Mutator) throws -> Void

    var testDescription: String { name }

    /// `repository/fixtures/fuzz/NAME`
    var directory: URL {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("fixtures/fuzz/\(name)")
    }

    /// The samples, and the files of the corpus: inputs that were interesting once, bugs among them.
    func corpus() throws -> [[UInt8]] {
        let manager = FileManager.default
        let names = (try? manager.contentsOfDirectory(atPath: directory.path)) ?? []
        let files = names.sorted().filter { !$0.hasPrefix(".") }
        return try samples()
            + files.map { [UInt8](try Data(contentsOf: directory.appendingPathComponent($0))) }
    }
}

/// An input after which a parser said something that can't be.
struct FuzzFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

func require(_ condition: Bool, _ what: @autoclosure () -> String) throws {
    if !condition { throw FuzzFailure(what()) }
}
