internal import Glibc
package import Observability

/// What the operating system says about this process, under the names that Prometheus uses.
/// https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics
package enum ProcessSamples {
    package static func samples() -> [MetricSample] {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        let seconds =
            Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
            + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
        return [
            MetricSample(
                "process_cpu_seconds_total",
                help: "Processor time, user and system.",
                kind: .counter,
                value: seconds
            ),
            MetricSample(
                "process_resident_memory_bytes",
                help: "Resident memory.",
                value: Double(residentByteCount())
            ),
        ]
    }

    /// The second number of /proc/self/statm, in pages.
    private static func residentByteCount() -> Int {
        let descriptor = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return 0 }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 128)
        let count = bytes.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else { return 0 }
        let fields = String(decoding: bytes[..<count], as: UTF8.self).split(separator: " ")
        guard fields.count > 1, let pages = Int(fields[1]) else { return 0 }
        return pages * Int(getpagesize())
    }
}
