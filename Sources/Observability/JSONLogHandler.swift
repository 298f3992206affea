package import Logging

/// Writes each log message as one JSON object on one line: time, level, part, message, metadata.
package struct JSONLogHandler: LogHandler {
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let label: String
    private let sink: LineSink
    private let now: @Sendable () -> String

    /// - Parameter now: the time as text, RFC 3339.
    package init(
        label: String,
        sink: LineSink,
        level: Logger.Level = .info,
        now: @escaping @Sendable () -> String
    ) {
        self.label = label
        self.sink = sink
        self.now = now
        logLevel = level
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var line = JSONLine()
        line.add("time", now())
        line.add("level", event.level.rawValue)
        line.add("part", label)
        line.add("message", event.message.description)
        var all = metadata
        for (key, value) in metadataProvider?.get() ?? [:] { all[key] = value }
        for (key, value) in event.metadata ?? [:] { all[key] = value }
        for (key, value) in all.sorted(by: { $0.key < $1.key }) { line.add(key, "\(value)") }
        sink.append(line.finished())
    }
}
