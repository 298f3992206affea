/// The global options are every command's own; people write them before the command as well.
package enum ArgumentOrder {
    /// Moves options that stand before the command behind it.
    package static func movedBehindCommand(_ arguments: [String]) -> [String] {
        var moved: [String] = []
        var rest = arguments[...]
        while let first = rest.first {
            if ["--json", "--quiet", "-q"].contains(first) || isAssignment(first) {
                moved.append(rest.removeFirst())
            } else if valued.contains(first), rest.count > 1 {
                moved += rest.prefix(2)
                rest = rest.dropFirst(2)
            } else {
                break
            }
        }
        // Without a command there is nothing to move them behind: the parser then says what is wrong.
        guard !rest.isEmpty, !moved.isEmpty else { return arguments }
        let end = rest.firstIndex(of: "--") ?? rest.endIndex
        return [String](rest[..<end]) + moved + [String](rest[end...])
    }

    private static let valued = [
        "--store", "--lock-timeout", "--endpoint", "--credentials-file", "--region", "--ca-file",
        "--addressing-style",
    ]

    private static func isAssignment(_ argument: String) -> Bool {
        valued.contains { argument.hasPrefix($0 + "=") }
    }
}
