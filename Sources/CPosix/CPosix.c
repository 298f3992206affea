#define _GNU_SOURCE
#include "CPosix.h"

#include <pthread.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <unistd.h>

int holdfast_start_writeback(int descriptor, long offset, long length) {
    return sync_file_range(descriptor, offset, length, SYNC_FILE_RANGE_WRITE);
}

int holdfast_open_at(int directory, const char *name, int flags, unsigned int mode) {
    return openat(directory, name, flags | O_CLOEXEC | O_NOFOLLOW, mode);
}

int holdfast_reopen_direct(int descriptor) {
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    return open(name, O_RDWR | O_DIRECT | O_CLOEXEC);
}

int holdfast_reopen_direct_reading(int descriptor) {
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    return open(name, O_RDONLY | O_DIRECT | O_CLOEXEC);
}

long holdfast_read_cached(int descriptor, void *bytes, unsigned long count, void *rest, unsigned long rest_count, long offset) {
    struct iovec parts[2] = {{.iov_base = bytes, .iov_len = count}, {.iov_base = rest, .iov_len = rest_count}};
    return preadv2(descriptor, parts, rest_count == 0 ? 1 : 2, offset, RWF_NOWAIT);
}

int holdfast_punch_hole(int descriptor, long offset, long length) {
    return fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

int holdfast_lock(int descriptor) { return flock(descriptor, LOCK_EX | LOCK_NB); }

int holdfast_lock_shared(int descriptor) { return flock(descriptor, LOCK_SH | LOCK_NB); }

int holdfast_unlock(int descriptor) { return flock(descriptor, LOCK_UN); }

void holdfast_lower_thread_priority(void) {
    // ioprio_set(IOPRIO_WHO_PROCESS, this thread, class 2 (best effort), level 7 (lowest)).
    syscall(SYS_ioprio_set, 1, 0, (2 << 13) | 7);
    // In Linux a nice value belongs to the thread.
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10);
}

void holdfast_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

void holdfast_bound_allocator(void) {
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 32 << 20);
#endif
}

int holdfast_clock_is_synchronised(void) {
    struct timex state = {0};
    if (adjtimex(&state) < 0) return -1;
    return (state.status & STA_UNSYNC) == 0;
}
