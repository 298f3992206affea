// Simulated time, chance and scheduling for one thread. Only tests link this.
//
// 1. clock_gettime(2) of the whole process is answered here: on a thread that lives in a simulation with the simulation's
//    time, on every other one by the C library. So ContinuousClock, which the engine reads directly, stands still until the
//    simulation moves it.
// 2. What Swift's runtime would give to its pool of threads is given to the simulation instead, when it comes from that thread
//    (the hooks swift_task_enqueueGlobal…_hook). A job of a simulated task that is resumed on another thread escapes; nothing
//    in a simulated engine does that.
#pragma once

struct holdfast_simulation {
    void *context;
    /// A job that may run now.
    void (*enqueue)(void *context, void *job);
    /// A job that may run when the monotonic clock shows this, or later.
    void (*enqueue_at)(void *context, void *job, long long nanoseconds);
    long long monotonic_nanoseconds;
    long long wall_nanoseconds;
};

/// From now on the calling thread lives in a simulation; NULL: in the real world again.
void holdfast_enter_simulation(struct holdfast_simulation *simulation);

/// Runs a job that was given to `enqueue`, on the calling thread.
void holdfast_run_job(void *job);
