import Foundation
import Testing

/// The house rules that a compiler does not know, as tests over the source text.
@Suite struct TidyTests {
    struct SourceFile: Sendable {
        /// Relative to the repository: Sources/Target/File.swift.
        let path: String
        let lines: [String]

        var target: String { path.split(separator: "/").dropFirst().first.map(String.init) ?? "" }
    }

    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    static func files(under folder: String, ending: String) -> [SourceFile] {
        let base = root.appendingPathComponent(folder)
        let names = FileManager.default.enumerator(atPath: base.path)?.compactMap { $0 as? String } ?? []
        return names.filter { $0.hasSuffix(ending) }.sorted().compactMap { name in
            guard let text = try? String(contentsOf: base.appendingPathComponent(name), encoding: .utf8)
            else { return nil }
            return SourceFile(path: folder + "/" + name, lines: text.components(separatedBy: "\n"))
        }
    }

    static let sources = files(under: "Sources", ending: ".swift")

    /// A line's code: without comments and without the insides of strings, roughly.
    private func code(_ line: String) -> String {
        var result = ""
        var isInString = false
        var previous: Character = " "
        for character in line {
            if character == "\"", previous != "\\" { isInString.toggle() }
            if !isInString {
                if character == "/", previous == "/" { return String(result.dropLast()) }
                result.append(character)
            }
            previous = character
        }
        return result
    }

    private func offences(
        in files: [SourceFile] = sources,
        _ isOffence: (SourceFile, String) -> Bool
    ) -> [String] {
        files.flatMap { file in
            file.lines.enumerated().compactMap { index, line in
                isOffence(file, code(line))
                    ? "\(file.path):\(index + 1): \(line.trimmingCharacters(in: .whitespaces))" : nil
            }
        }
    }

    @Test func thereAreSourcesToLookAt() {
        #expect(Self.sources.count > 100)
        #expect(Self.sources.contains { $0.path == "Sources/StoreModel/Digest.swift" })
    }

    @Test func nothingTrapsOnPurposeWhereAnErrorIsMeant() {
        #expect(offences { $1.contains("try! ") || $1.contains("as! ") } == [])
    }

    @Test func onlyTheCommandLinePrints() {
        #expect(offences { $0.target != "holdfast" && $1.contains(" print(") } == [])
    }

    @Test func lowerFloorsDoWithoutFoundation() {
        let floors: Set = [
            "StoreModel", "ContentHashing", "BlobVolume", "Catalog", "Replication", "ObjectService",
        ]
        #expect(offences { floors.contains($0.target) && $1.contains("import Foundation") } == [])
    }

    @Test func tasksAreStartedOnlyWhereTheyAreOwned() {
        let owners: Set = ["HoldfastNode", "holdfast"]
        let allowed: Set = [
            "Sources/ObjectService/ChunkPrefetch.swift", "Sources/ObjectService/DigestLane.swift",
            "Sources/Replication/BoundedWait.swift",
        ]
        let found = offences { file, line in
            !owners.contains(file.target) && !allowed.contains(file.path)
                && (line.replacingOccurrences(of: "addTask", with: "")
                    .replacingOccurrences(of: "MirrorTask", with: "").contains("Task {")
                    || line.contains("Task.detached"))
        }
        #expect(found == [])
    }

    @Test func theWallClockIsReadOnlyThroughItsSeam() {
        let found = offences { file, line in
            file.target != "holdfast" && file.path != "Sources/StoreModel/Seams.swift"
                && (line.contains("Date()") || line.contains("gettimeofday")
                    || line.contains("CLOCK_REALTIME"))
        }
        #expect(found == [])
    }

    /// Who can measure how long a comparison takes must not learn how much of a secret was right.
    @Test func secretsAreComparedInConstantTimeByOneFunction() throws {
        let comparers = offences { _, line in
            line.contains("CRYPTO_memcmp") || line.contains("enum ConstantTime")
        }
        #expect(comparers.allSatisfy { $0.hasPrefix("Sources/ContentHashing/KeyedHash.swift:") })
        #expect(comparers.count == 2)
        let names = "signature|hmac|mac|commitment|authenticationTag|expectedSignature|passwordHash"
        let compared = try Regex(
            "\\b(\\w+\\.)*(\(names))\\b(\\.\\w+)* *[!=]=(?! *nil)|[!=]= *(\\w+\\.)*(\(names))\\b"
        ).ignoresCase()
        // "mac" as a word of its own, not the end of another: the words above are whole.
        #expect(offences { _, line in line.contains(compared) } == [])
        // The rule sees what it is meant to see.
        #expect("guard claim.signature == expected".contains(compared))
        #expect("if expected != request.hmac {".contains(compared))
        #expect(!"guard signature != nil else".contains(compared))
        // Where requests are verified, the function is used.
        for file in ["Signing/SignatureVerifier", "Body/AWSChunkedDecoder", "Body/PostForm"] {
            let path = "Sources/S3Protocol/\(file).swift"
            let source = try #require(Self.sources.first { $0.path == path })
            #expect(source.lines.contains { $0.contains("ConstantTime.equal(") }, "\(path)")
        }
    }

    @Test func filesStayReadable() {
        let tooLong = Self.sources.filter { $0.lines.count > 800 }.map {
            "\($0.path): \($0.lines.count) lines"
        }
        #expect(tooLong == [])
    }

    @Test func nothingIsLeftForLater() {
        let marks = ["FIX" + "ME", "TO" + "DO", "XX" + "X:"]
        let found = (Self.sources + Self.files(under: "Tests", ending: ".swift")).flatMap { file in
            file.lines.enumerated().filter { _, line in marks.contains { line.contains($0) } }
                .map { "\(file.path):\($0.offset + 1)" }
        }
        #expect(found == [])
    }

    @Test func everyTargetStandsInTheTourOfTheHouse() throws {
        let tour = try String(
            contentsOf: Self.root.appendingPathComponent("Sources/README.md"),
            encoding: .utf8
        )
        let targets = try FileManager.default.contentsOfDirectory(
            atPath: Self.root.appendingPathComponent("Sources").path
        ).filter { !$0.hasPrefix(".") && $0 != "README.md" }
        #expect(targets.filter { !tour.contains($0) } == [])
    }
}
