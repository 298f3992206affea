internal import Foundation
internal import StoreModel
internal import Synchronization

/// Where results and remarks go: results to standard output, as text or as one JSON document; remarks and
/// progress to standard error, for people only.
struct Output: Sendable {
    let isJSON: Bool
    let isQuiet: Bool

    /// Whether progress may be drawn.
    var showsProgress: Bool {
        !isJSON && !isQuiet && isatty(STDERR_FILENO) == 1
            && ProcessInfo.processInfo.environment["TERM"] != "dumb"
    }

    /// Prints a result, once per command.
    func result(_ report: some Encodable, human: () -> [String]) throws {
        let text = isJSON ? try JSONOutput.document(report) : human().joined(separator: "\n")
        if !text.isEmpty { try Self.write(text + "\n", to: STDOUT_FILENO) }
    }

    /// One line of a result that has many.
    func line(_ text: String) throws { try Self.write(text + "\n", to: STDOUT_FILENO) }

    /// A remark for people; programs and --quiet don't see it.
    func remark(_ text: String) {
        guard !isJSON, !isQuiet else { return }
        try? Self.write(text + "\n", to: STDERR_FILENO)
    }

    /// What must not be missed, and is no result.
    func notice(_ text: String) { try? Self.write(text + "\n", to: STDERR_FILENO) }

    /// A warning, which --quiet does not hide. Programs find the same in the result.
    func warning(_ text: String) {
        guard !isJSON else { return }
        try? Self.write("warning: \(text)\n", to: STDERR_FILENO)
    }

    /// Writes an error to standard error.
    static func report(_ error: ErrorReport, isJSON: Bool) {
        if isJSON, let text = try? JSONOutput.document(["error": error]) {
            try? write(text + "\n", to: STDERR_FILENO)
            return
        }
        var text = "error: \(HumanFormat.visible(error.message))"
        if let advice = error.advice { text += "\n       \(HumanFormat.visible(advice))" }
        try? write("\(text)\n", to: STDERR_FILENO)
    }

    /// - Throws: `CommandError` with `.brokenPipe` when the reader went away.
    static func write(_ text: String, to descriptor: Int32) throws {
        try LocalFile.writeAll([UInt8](text.utf8)[...], to: descriptor, named: "standard output")
    }
}

/// The JSON that commands print: sorted keys, so that equal results are equal text.
enum JSONOutput {
    static func document(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }

    /// On one line, for an element of a long list.
    static func element(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}

/// Prints a long list as it comes, page by page, without holding it: for programs one JSON document
/// `{"fields…", "NAME": [ … ], "isComplete": true}`, for people one line per element.
///
/// When the list breaks off, the document is still closed, with `"isComplete": false`.
struct ListOutput {
    private let output: Output
    private var elementCount = 0

    init(_ output: Output, header: [String: String], name: String) throws {
        self.output = output
        guard output.isJSON else { return }
        var text = "{\n"
        for (field, value) in header.sorted(by: { $0.key < $1.key }) {
            text += "  \(try JSONOutput.element(field)) : \(try JSONOutput.element(value)),\n"
        }
        try Output.write(text + "  \(try JSONOutput.element(name)) : [", to: STDOUT_FILENO)
    }

    /// Adds elements; those of a page are written at once.
    mutating func append<Element: Encodable>(_ elements: [Element], human: (Element) -> String) throws {
        var text = ""
        for element in elements {
            if output.isJSON {
                text += elementCount == 0 ? "\n    " : ",\n    "
                text += try JSONOutput.element(element)
            } else {
                text += human(element) + "\n"
            }
            elementCount += 1
        }
        if !text.isEmpty { try Output.write(text, to: STDOUT_FILENO) }
    }

    func finish(isComplete: Bool) throws {
        guard output.isJSON else { return }
        try Output.write("\n  ],\n  \"isComplete\" : \(isComplete)\n}\n", to: STDOUT_FILENO)
    }
}
