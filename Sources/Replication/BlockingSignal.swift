internal import Glibc

/// Lets a thread of the operating system wait for another, with a deadline. Never used on Swift's pool threads in
/// steady state: only while a store opens and closes.
package final class BlockingSignal: @unchecked Sendable {
    // Sendable because `isSet` is only touched while `mutex` is held, and both pointers never change.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var isSet = false

    package init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    package func signal() {
        pthread_mutex_lock(mutex)
        isSet = true
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }

    /// - Returns: false when the deadline passed first.
    package func wait(for deadline: Duration) -> Bool {
        if let simulation = ThreadSimulation.current {
            return simulation.wait(for: deadline) {
                pthread_mutex_lock(mutex)
                defer { pthread_mutex_unlock(mutex) }
                return isSet
            }
        }
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        let (seconds, attoseconds) = deadline.components
        time.tv_sec += Int(clamping: seconds)
        time.tv_nsec += Int(attoseconds / 1_000_000_000)
        if time.tv_nsec >= 1_000_000_000 {
            time.tv_nsec -= 1_000_000_000
            time.tv_sec += 1
        }
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while !isSet {
            if pthread_cond_timedwait(condition, mutex, &time) == ETIMEDOUT { return isSet }
        }
        return true
    }
}
