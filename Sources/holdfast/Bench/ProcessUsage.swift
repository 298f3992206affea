internal import Glibc

/// What this process has used: at one moment, or between two.
struct ProcessUsage: Sendable, Equatable {
    /// From the monotonic clock.
    var wallSeconds: Double
    var userSeconds: Double
    var systemSeconds: Double
    /// Highest resident set so far, or since `resetPeak`.
    var peakResidentBytes: UInt64

    var processorSeconds: Double { userSeconds + systemSeconds }

    static func now() -> ProcessUsage {
        var usage = rusage()
        getrusage(.init(RUSAGE_SELF.rawValue), &usage)
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return ProcessUsage(
            wallSeconds: Double(time.tv_sec) + Double(time.tv_nsec) / 1e9,
            userSeconds: seconds(usage.ru_utime),
            systemSeconds: seconds(usage.ru_stime),
            peakResidentBytes: UInt64(clamping: usage.ru_maxrss) * 1024
        )
    }

    /// What was used since an earlier moment. The peak stays absolute: it has no difference.
    func since(_ start: ProcessUsage) -> ProcessUsage {
        ProcessUsage(
            wallSeconds: wallSeconds - start.wallSeconds,
            userSeconds: userSeconds - start.userSeconds,
            systemSeconds: systemSeconds - start.systemSeconds,
            peakResidentBytes: peakResidentBytes
        )
    }

    /// Runs `body` and tells what it used.
    static func measure<Result>(_ body: () throws -> Result) rethrows -> (result: Result, usage: ProcessUsage)
    {
        let start = now()
        let result = try body()
        return (result, now().since(start))
    }

    /// Lets the peak start again from what is resident now, so that one phase of a benchmark does not show
    /// in the next one's.
    /// - Returns: Whether the kernel has done so.
    @discardableResult
    static func resetPeak() -> Bool {
        let descriptor = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return write(descriptor, "5", 1) == 1
    }

    private static func seconds(_ time: timeval) -> Double {
        Double(time.tv_sec) + Double(time.tv_usec) / 1e6
    }
}
