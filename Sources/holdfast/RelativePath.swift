/// The relative path of a key below a directory; made only from keys that stay below it.
package struct RelativePath: Equatable, Sendable {
    package static let componentSizeMax = 255

    /// Directories, outermost first.
    package let directories: [String]
    package let name: String

    /// Why a key can't be a file name.
    package struct Refusal: Error, Equatable { package let reason: String }

    /// - Parameter text: the key without the prefix that stands for the directory.
    package init(_ text: String) throws(Refusal) {
        var components = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard let last = components.popLast(), !text.isEmpty else {
            throw Refusal(reason: "it names the directory")
        }
        guard !text.utf8.contains(0) else { throw Refusal(reason: "it holds a NUL byte") }
        guard !text.hasPrefix("/") else { throw Refusal(reason: "it would be an absolute path") }
        guard !last.isEmpty else { throw Refusal(reason: "it ends with a slash, which a file name can't") }
        for component in components + [last] {
            switch component {
            case "": throw Refusal(reason: "it has an empty path component")
            case "..": throw Refusal(reason: "it would lead out of the directory by '..'")
            case ".": throw Refusal(reason: "it has a path component '.'")
            default: break
            }
            guard component.utf8.count <= Self.componentSizeMax else {
                throw Refusal(reason: "a path component has more than \(Self.componentSizeMax) bytes")
            }
        }
        guard !PartialDownload.isReserved(last) else {
            throw Refusal(reason: "such names are kept for unfinished downloads")
        }
        directories = components
        name = last
    }
}
