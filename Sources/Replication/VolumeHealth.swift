internal import StoreModel
internal import Synchronization

/// How well a volume works, from its errors and latencies, sampled once a second.
///
/// ```
///            errors, a call that hangs, much slower than its peers        many errors, a call that hangs for long
///   healthy ─────────────────────────────────────────────────────▶ suspect ─────────────────────────────────▶ failed
///      ▲                                                             │  ▲                                        │
///      └─────────────────────────────────────────────────────────────┘  └────────────────────────────────────────┘
///                      quiet for a while                                     several probes in a row went well
/// ```
///
/// A failed volume's breaker is open: it gets no payloads and is read last. It is probed, first soon, then more and more
/// rarely. A volume whose write or fsync failed is failed whatever the probes say, until it is opened again.
package struct VolumeHealth: Sendable, Hashable {
    package enum State: String, Sendable {
        case healthy, suspect, failed
    }

    /// What was seen since the last sample.
    package struct Sample: Sendable {
        package var errors = 0
        /// How long the oldest running call has been running.
        package var busy = Duration.zero
        /// What most of its reads take.
        package var tail: Duration?
        /// The median of the other volumes' tails.
        package var peersTail: Duration?
        /// Whether a write or an fsync failed.
        package var isBroken = false
        /// How a probe went; nil when none was made.
        package var probe: Bool?

        package init() {}
    }

    private static let suspectScore = 2.0
    private static let failedScore = 8.0
    /// Errors count half after about seven samples.
    private static let decay = 0.9
    private static let slowFactor = 4
    private static let slowTailMin = Duration.milliseconds(20)
    private static let slowSamplesMin = 3
    private static let goodProbesMin = 3
    private static let probePauseMax = 30

    package private(set) var state = State.healthy
    package private(set) var reason: String?
    private var score = 0.0
    private var slowSamples = 0
    private var goodProbes = 0
    private var probePause = 1
    private var untilProbe = 1

    package init() {}

    /// Whether the next sample should come with a probe.
    package var wantsProbe: Bool { state != .healthy && untilProbe <= 1 }

    package mutating func observe(_ sample: Sample) {
        score = score * Self.decay + Double(sample.errors)
        if let tail = sample.tail, let peers = sample.peersTail, tail > Self.slowTailMin,
            tail > peers * Self.slowFactor
        {
            slowSamples += 1
        } else {
            slowSamples = 0
        }
        if let probe = sample.probe {
            if !probe { score += 1 }
            goodProbes = probe && sample.errors == 0 ? goodProbes + 1 : 0
            probePause = probe ? 1 : min(probePause * 2, Self.probePauseMax)
            untilProbe = probePause
        } else {
            untilProbe = max(0, untilProbe - 1)
        }
        decide(sample)
    }

    private mutating func decide(_ sample: Sample) {
        if sample.isBroken { return enter(.failed, "a write or an fsync failed") }
        if sample.busy > Limits.hangCertainty {
            goodProbes = 0
            return enter(.failed, "a call has been running for \(sample.busy.components.seconds) s")
        }
        if score >= Self.failedScore {
            goodProbes = sample.errors > 0 ? 0 : goodProbes
            if state == .failed || sample.errors > 0 || sample.probe == false {
                if goodProbes < Self.goodProbesMin { return enter(.failed, "too many errors") }
            }
        }
        if state == .failed {
            guard goodProbes >= Self.goodProbesMin else { return }
            score = min(score, Self.suspectScore)
            return enter(.suspect, "it failed a short while ago")
        }
        if sample.busy > Limits.hangSuspicion { return enter(.suspect, "a call hangs") }
        if slowSamples >= Self.slowSamplesMin {
            return enter(.suspect, "it is much slower than the other volumes")
        }
        if score >= Self.suspectScore { return enter(.suspect, "errors") }
        if state == .suspect, slowSamples > 0 { return }
        enter(.healthy, nil)
    }

    private mutating func enter(_ next: State, _ why: String?) {
        if next == .failed, state != .failed {
            probePause = 1
            untilProbe = 1
            goodProbes = 0
        }
        if next == .suspect, state == .healthy { untilProbe = 1 }
        state = next
        reason = why
    }
}

/// The health of all volumes of a process.
final class VolumeHealthBoard: Sendable {
    private let entries = Mutex<[Int: VolumeHealth]>([:])

    func health(of index: Int) -> VolumeHealth { entries.withLock { $0[index] ?? VolumeHealth() } }

    /// - Returns: the health after the sample, and whether its state is news.
    func observe(_ index: Int, _ sample: VolumeHealth.Sample) -> (health: VolumeHealth, isNews: Bool) {
        entries.withLock { entries in
            let before = entries[index]?.state ?? .healthy
            entries[index, default: VolumeHealth()].observe(sample)
            let health = entries[index, default: VolumeHealth()]
            return (health, health.state != before)
        }
    }

    func forget(_ index: Int) { entries.withLock { $0[index] = nil } }
}
