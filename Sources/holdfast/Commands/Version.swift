internal import ArgumentParser
internal import StoreModel

struct Version: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show the version of holdfast.")

    private struct Report: Encodable { let version: String }

    /// The version of the program; formats on disk have versions of their own.
    static let number = "0.1.0"

    @Flag(name: .long, help: "Print JSON.")
    var json = false

    func run() async throws {
        try Output(isJSON: json, isQuiet: false).result(Report(version: Self.number)) {
            ["holdfast \(Self.number)"]
        }
    }
}
