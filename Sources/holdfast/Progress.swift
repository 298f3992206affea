internal import Foundation
internal import StoreModel
internal import Synchronization

/// A line on standard error with the amount done, the rate and the time left, redrawn at most ten times a
/// second. It draws nothing unless standard error is a terminal.
final class Progress: Sendable {
    private struct State {
        var done: UInt64 = 0
        var total: UInt64?
        var skipped: UInt64 = 0
        var lastDrawn: ContinuousClock.Instant?
        var isVisible = false
    }

    private let label: String
    private let isEnabled: Bool
    private let usesColor: Bool
    private let start = ContinuousClock.now
    private let state: Mutex<State>

    /// - Parameter total: bytes there are to do; nil when no one knows.
    init(_ label: String, total: UInt64?, output: Output) {
        self.label = HumanFormat.visible(label)
        isEnabled = output.showsProgress
        usesColor = ProcessInfo.processInfo.environment["NO_COLOR", default: ""].isEmpty
        state = Mutex(State(total: total))
    }

    /// Counts bytes as done.
    func advance(by byteCount: Int) { change { $0.done += UInt64(byteCount) } }

    /// Sets how many bytes are done.
    func advance(to byteCount: UInt64) { change { $0.done = max($0.done, byteCount) } }

    /// Counts bytes that were there already: they are done, but say nothing about the rate.
    func skip(_ byteCount: UInt64) {
        change {
            $0.done += byteCount
            $0.skipped += byteCount
        }
    }

    /// More to do has become known.
    func extend(by byteCount: UInt64) { change { $0.total = ($0.total ?? 0) + byteCount } }

    /// Removes the line. Nothing is drawn afterwards.
    func finish() {
        guard isEnabled else { return }
        state.withLock { state in
            if state.isVisible { Self.draw("") }
            state.lastDrawn = start + .seconds(1 << 40)
        }
    }

    private func change(_ body: (inout State) -> Void) {
        guard isEnabled else { return }
        state.withLock { state in
            body(&state)
            let now = ContinuousClock.now
            if let last = state.lastDrawn, now < last + .milliseconds(100) { return }
            guard now - start > .milliseconds(250) else { return }
            state.lastDrawn = now
            state.isVisible = true
            Self.draw(line(of: state, after: now - start))
        }
    }

    private func line(of state: State, after elapsed: Duration) -> String {
        let seconds = elapsed / .seconds(1)
        let rate = Double(state.done - state.skipped) / max(seconds, 0.001)
        let width = Self.terminalWidth()
        guard let total = state.total, total > 0 else {
            return fit(
                "\(label)  \(HumanFormat.size(state.done))  \(HumanFormat.rate(bytesPerSecond: rate))",
                to: width
            )
        }
        let fraction = min(1, Double(state.done) / Double(total))
        let left = rate > 0 ? Double(total - min(total, state.done)) / rate : nil
        let numbers =
            "\(Int(fraction * 100))%  \(HumanFormat.size(state.done)) of \(HumanFormat.size(total))  "
            + HumanFormat.rate(bytesPerSecond: rate)
            + (left.map { "  \(HumanFormat.duration(seconds: $0)) left" } ?? "")
        let barWidth = min(24, width - numbers.count - label.count - 6)
        guard barWidth >= 8 else { return fit("\(label)  \(numbers)", to: width) }
        let filled = Int((fraction * Double(barWidth)).rounded(.down))
        let full = String(repeating: "█", count: filled)
        let rest = String(repeating: "░", count: barWidth - filled)
        let bar = usesColor ? "\u{1B}[36m\(full)\u{1B}[2m\(rest)\u{1B}[0m" : full + rest
        return "\(label)  \(bar)  \(numbers)"
    }

    private func fit(_ text: String, to width: Int) -> String { String(text.prefix(max(10, width - 1))) }

    private static func draw(_ text: String) {
        try? Output.write("\r\u{1B}[K" + text, to: STDERR_FILENO)
    }

    private static func terminalWidth() -> Int {
        var size = winsize()
        guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
        return Int(size.ws_col)
    }
}
