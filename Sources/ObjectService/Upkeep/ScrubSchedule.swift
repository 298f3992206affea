package import StoreModel

/// When scrubs start by themselves.
package struct ScrubSchedule: Sendable {
    /// Of every volume; nil: never.
    package var volumes: CronExpression?
    package var audit: CronExpression?
    /// The name that was configured, for people.
    package var timeZone = "UTC"
    /// Seconds by which the wall clock is ahead of UTC at a moment.
    package var offset: @Sendable (Int64) -> Int64 = { _ in 0 }
    /// Each subject starts later by a part of this that is always the same for it: volumes that share a machine, and stores
    /// that share a configuration, don't start together.
    package var jitter: Duration = .seconds(6 * 3600)
    /// What never ran is due as if it had run then.
    package var since: Timestamp

    /// Weekly, at night.
    package init(since: Timestamp = Timestamp(milliseconds: 0)) {
        self.since = since
        volumes = try? CronExpression("17 1 * * 0")
        audit = try? CronExpression("17 1 * * 3")
    }

    /// When a subject is due next; the past when that was missed.
    package func next(_ job: ScrubJob) -> Timestamp? {
        guard !job.isOfLaterFormat else { return nil }
        let cron: CronExpression?
        let share: UInt64
        switch job.subject {
        case .volume(let id): (cron, share) = (volumes, id.low ^ id.high)
        case .audit: (cron, share) = (audit, 0)
        }
        return next(cron, share: share, startedAt: job.startedAt)
    }

    /// When something that starts by a schedule is due next; the past when that was missed.
    /// - Parameter share: a number that is always the same for it, for its part of the jitter.
    package func next(_ cron: CronExpression?, share: UInt64, startedAt: Timestamp?) -> Timestamp? {
        guard let cron else { return nil }
        let window = max(jitter.components.seconds, 0)
        let delay = window == 0 ? 0 : Int64(share % UInt64(window)) * 1000
        // Its last start was late by the same delay.
        let last = max(startedAt ?? since, since)
        let base = Timestamp(milliseconds: last.milliseconds - delay)
        guard let next = cron.next(after: base, offset: offset) else { return nil }
        return Timestamp(milliseconds: next.milliseconds + delay)
    }
}
