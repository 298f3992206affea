import StoreModel
import Testing
import holdfast

@Suite struct ObjectAddressTests {
    @Test func theFirstSlashEndsTheBucketAndTheRestIsTheKeyByteForByte() throws {
        for (text, key) in [
            ("models/a", "a"), ("models//a", "/a"), ("models/../a", "../a"), ("models/a/", "a/"),
            ("models/ ", " "),
            ("models/é", "é"),
        ] {
            let address = try ObjectAddress(text)
            #expect(address.bucket.description == "models")
            #expect(try address.key() == ObjectKey(key))
        }
    }

    @Test func aBucketAloneIsAPrefixAndHasNoKey() throws {
        for text in ["models", "models/"] {
            let address = try ObjectAddress(text)
            #expect(address.isPrefix)
            #expect(throws: CommandError.self) { try address.key() }
        }
        #expect(try ObjectAddress("models/a/").isPrefix)
        #expect(try !ObjectAddress("models/a").isPrefix)
    }

    @Test(arguments: ["", "/models/a", "./models/a", "s3://models/a"])
    func pathsAndURLsAreNoAddresses(_ text: String) {
        #expect(throws: (any Error).self) { try ObjectAddress(text) }
    }

    @Test func namesThatS3ForbidsAreRefused() {
        #expect(throws: StoreError.self) { try ObjectAddress("Models/a") }
        #expect(throws: StoreError.self) {
            try ObjectAddress("models/" + String(repeating: "a", count: 1025))
        }
        #expect(throws: StoreError.self) { try ObjectAddress("models/a\0b") }
    }
}

@Suite struct RelativePathTests {
    @Test func ordinaryKeysBecomeDirectoriesAndAName() throws {
        let path = try RelativePath("a/b c/é.bin")
        #expect(path.directories == ["a", "b c"])
        #expect(path.name == "é.bin")
        #expect(try RelativePath("..a").name == "..a")
        #expect(try RelativePath("...").name == "...")
    }

    @Test(arguments: [
        "", "/", "/a", "//a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", "./a", "a\0b",
        "a/..\0",
        ".a.holdfast-partial", "b/.a.holdfast-state", String(repeating: "x", count: 256),
        "a/" + String(repeating: "é", count: 128),
    ])
    func whatIsNoSafePathIsRefused(_ text: String) {
        #expect(throws: RelativePath.Refusal.self) { try RelativePath(text) }
    }
}

@Suite struct ArgumentOrderTests {
    @Test func optionsBeforeTheCommandMoveBehindIt() {
        #expect(
            ArgumentOrder.movedBehindCommand(["--store", "x", "--json", "ls", "models"])
                == ["ls", "models", "--store", "x", "--json"]
        )
        #expect(
            ArgumentOrder.movedBehindCommand(["--store=x", "rm", "--", "-a"]) == [
                "rm", "--store=x", "--", "-a",
            ]
        )
    }

    @Test func everythingElseStaysAsItIs() {
        for arguments in [["ls", "--json"], [], ["--help"], ["--json"], ["--store"], ["--frob", "ls"]] {
            #expect(ArgumentOrder.movedBehindCommand(arguments) == arguments)
        }
    }
}
