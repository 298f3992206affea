internal import ArgumentParser
internal import CPosix
internal import Foundation
internal import StoreModel

/// The roof: parses the command line, runs one command, turns what it throws into a message and an exit code.
@main
struct Holdfast: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast",
        abstract: "A versioned object store for model artifacts, replicated on your own disks.",
        discussion: """
            Every object is cut into chunks, each chunk is written to several volumes and fsynced before the \
            command says so, every byte is verified when it is read, and every version is kept.

              holdfast init                          make a store of three volumes
              holdfast bucket create models          make a bucket
              holdfast put tiny.safetensors models/  put a file under its own name
              holdfast ls models                     see what is there
              holdfast get models/tiny.safetensors   get it back, verified
              holdfast log models/tiny.safetensors   see its versions
              holdfast verify                        verify every copy of everything

            The store is --store DIR, else $HOLDFAST_STORE, else ./holdfast-data. One process uses a store \
            at a time. Addresses are BUCKET/KEY; an address that ends with a slash stands for all keys that \
            begin so. With --endpoint URL (or HOLDFAST_ENDPOINT) the commands of objects and \
            buckets ask a server instead. With --json a command prints one JSON document, and errors are JSON on standard error.

            Exit codes: 0 done, 1 internal fault, 2 wrong usage or name, 3 not found, 4 conflict, 5 not \
            enough replicas, 6 damaged data, 7 store in use, 8 full, 9 outcome unknown, 10 unsupported \
            format, 11 local file, 12 partly done, 13 disk error, 14 repaired, 15 not mirrored \
            yet, 16 denied, 17 server not reached, 130 and 143 interrupted, 141 nobody reads the output.

            Completions: holdfast --generate-completion-script bash (or zsh, or fish)
            """,
        groupedSubcommands: [
            CommandGroup(
                name: "Objects",
                subcommands: [
                    Put.self, Get.self, List.self, Log.self, Statistics.self, Remove.self, Restore.self,
                    Copy.self, Presign.self, Upload.self,
                ]
            ),
            CommandGroup(name: "Buckets", subcommands: [Bucket.self, Retention.self]),
            CommandGroup(name: "The service", subcommands: [Serve.self]),
            CommandGroup(name: "Mirrors", subcommands: [MirrorCommand.self]),
            CommandGroup(name: "Who may use it", subcommands: [Account.self, Key.self]),
            CommandGroup(
                name: "The store",
                subcommands: [
                    Initialize.self, Status.self, Verify.self, Scrub.self, Check.self, RebuildCatalog.self,
                    Volume.self,
                    Garbage.self, DiskUsage.self, Doctor.self, Bench.self, Version.self,
                ]
            ),
        ]
    )

    static func main() async {
        holdfast_bound_allocator()
        var arguments = [String](CommandLine.arguments.dropFirst())
        // Not the parser's own flag: commands have options of that name.
        if arguments == ["--version"] { arguments = ["version"] }
        let isJSON = arguments.contains("--json")
        let signals = Interruption.signals()
        do {
            try refuseUnreadableArguments()
            try await run(ArgumentOrder.movedBehindCommand(arguments), stoppingAt: signals)
            Glibc.exit(ExitStatus.success.rawValue)
        } catch let error as CommandError where error.code == .brokenPipe {
            Glibc.exit(error.exitStatus.rawValue)
        } catch {
            Glibc.exit(finish(with: Interruption.error ?? error, isJSON: isJSON))
        }
    }

    /// Runs one command; a signal cancels it.
    private static func run(_ arguments: [String], stoppingAt signals: AsyncStream<Int32>) async throws {
        try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                var command = try await Holdfast.asyncParseAsRoot(arguments)
                if var command = command as? any AsyncParsableCommand {
                    try await command.run()
                } else {
                    try command.run()
                }
                return true
            }
            group.addTask {
                for await _ in signals where !Interruption.stopGently() { return false }
                return false
            }
            var isFinished = false
            while !isFinished, let next = try await group.next() {
                isFinished = next
                group.cancelAll()
            }
        }
    }

    /// Says what happened and returns the exit code.
    private static func finish(with error: any Error, isJSON: Bool) -> Int32 {
        if error is CommandError || error is StoreError || error is CancellationError {
            let report = ErrorReport(error)
            Output.report(report, isJSON: isJSON)
            return report.exitCode
        }
        // A command that has nothing to say but its exit code.
        if let code = error as? ExitCode { return code.rawValue }
        let parserCode = exitCode(for: error)
        if parserCode.isSuccess {
            try? Output.write(fullMessage(for: error) + "\n", to: STDOUT_FILENO)
            return ExitStatus.success.rawValue
        }
        guard parserCode == .validationFailure else {
            let report = ErrorReport(error)
            Output.report(report, isJSON: isJSON)
            return report.exitCode
        }
        if isJSON {
            Output.report(ErrorReport(CommandError(.usage, message(for: error))), isJSON: true)
        } else {
            try? Output.write(fullMessage(for: error) + "\n", to: STDERR_FILENO)
        }
        return ExitStatus.usage.rawValue
    }

    /// Swift shows arguments as text and mends what is not UTF-8: such a name would silently become another
    /// one.
    private static func refuseUnreadableArguments() throws {
        for index in 0..<Int(CommandLine.argc) {
            guard let argument = CommandLine.unsafeArgv[index] else { continue }
            let bytes = [UInt8](UnsafeRawBufferPointer(start: argument, count: strlen(argument)))
            guard String(validating: bytes, as: UTF8.self) == nil else { continue }
            throw StoreError(
                .invalidKey,
                "Argument \(index), \(quoted(bytes)), is not valid UTF-8.",
                advice: "Keys are UTF-8. For a file with such a name: holdfast put - BUCKET/KEY < FILE"
            )
        }
    }
}
