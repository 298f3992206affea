#define _GNU_SOURCE
#include "CSimulation.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Thread_local struct holdfast_simulation *current;

#define SWIFT_CALL __attribute__((swiftcall))

typedef SWIFT_CALL void (*enqueue_original)(void *job);
typedef SWIFT_CALL void (*enqueue_hook)(void *job, enqueue_original original);
typedef SWIFT_CALL void (*delay_original)(unsigned long long delay, void *job);
typedef SWIFT_CALL void (*delay_hook)(unsigned long long delay, void *job, delay_original original);
typedef SWIFT_CALL void (*deadline_original)(
    long long seconds, long long nanoseconds, long long tolerance_seconds, long long tolerance_nanoseconds, int clock,
    void *job);
typedef SWIFT_CALL void (*deadline_hook)(
    long long seconds, long long nanoseconds, long long tolerance_seconds, long long tolerance_nanoseconds, int clock,
    void *job, deadline_original original);

extern enqueue_hook swift_task_enqueueGlobal_hook;
extern delay_hook swift_task_enqueueGlobalWithDelay_hook;
extern deadline_hook swift_task_enqueueGlobalWithDeadline_hook;
extern SWIFT_CALL void swift_job_run(void *job, void *executor_identity, uintptr_t executor_implementation);

static SWIFT_CALL void enqueue(void *job, enqueue_original original) {
    if (current) {
        current->enqueue(current->context, job);
    } else {
        original(job);
    }
}

static SWIFT_CALL void enqueue_after(unsigned long long delay, void *job, delay_original original) {
    if (current) {
        current->enqueue_at(current->context, job, current->monotonic_nanoseconds + (long long)delay);
    } else {
        original(delay, job);
    }
}

static SWIFT_CALL void enqueue_at(
    long long seconds, long long nanoseconds, long long tolerance_seconds, long long tolerance_nanoseconds, int clock,
    void *job, deadline_original original) {
    if (current) {
        current->enqueue_at(current->context, job, seconds * 1000000000 + nanoseconds);
    } else {
        original(seconds, nanoseconds, tolerance_seconds, tolerance_nanoseconds, clock, job);
    }
}

void holdfast_enter_simulation(struct holdfast_simulation *simulation) {
    swift_task_enqueueGlobal_hook = enqueue;
    swift_task_enqueueGlobalWithDelay_hook = enqueue_after;
    swift_task_enqueueGlobalWithDeadline_hook = enqueue_at;
    current = simulation;
}

void holdfast_run_job(void *job) {
    // The generic executor.
    swift_job_run(job, NULL, 0);
}

// Stands in front of the C library's for everything that is linked with this program.
__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *time) {
    if (current) {
        long long now = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? current->wall_nanoseconds
                                                                                   : current->monotonic_nanoseconds;
        time->tv_sec = now / 1000000000;
        time->tv_nsec = now % 1000000000;
        return 0;
    }
    static int (*real)(clockid_t, struct timespec *);
    int (*function)(clockid_t, struct timespec *) = __atomic_load_n(&real, __ATOMIC_RELAXED);
    if (!function) {
        function = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
        if (!function) return (int)syscall(SYS_clock_gettime, clock, time);
        __atomic_store_n(&real, function, __ATOMIC_RELAXED);
    }
    return function(clock, time);
}
