// Kills the process at its k-th call that changes a file of the store, or lets calls fail from the k-th on.
//
// Preloaded (LD_PRELOAD) by the command line tests. It counts calls on paths below one directory only, over all threads
// together:
//
//   KILLPOINTS_ROOT    the directory, without a slash at its end; or several, with colons between
//   KILLPOINTS_AT      k, counted from 1; 0 or missing: only count
//   KILLPOINTS_WHEN    what happens at the k-th call:
//                      "before"  the process ends, the call is not performed
//                      "after"   the process ends when the call was performed
//                      "half"    a write leaves its first half behind and the process ends; other calls as "before"
//                      "fail"    this call and all later ones are not performed and fail with EIO
//                      "reads"   like "fail", and it is reads that are counted
//                      "lost"    nothing is counted; all calls below a directory D fail with EIO while the file D.lost exists,
//                                and those that need room fail with ENOSPC while the file D.full exists
//                      "slow"    nothing is counted; reads take KILLPOINTS_DELAY milliseconds longer while KILLPOINTS_SWITCH exists
//   KILLPOINTS_SWITCH  with "reads", in the place of k: reads fail, and are counted, from when this file exists
//   KILLPOINTS_COUNT   a file outside that directory; at a normal end the number of calls is written into it
//
// A process that is killed ends by SIGKILL: no handler, no destructor and no other thread runs any more.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *roots;
static const char *switch_file;
static long kill_at;
static long delay;
static enum { BEFORE, AFTER, HALF, FAIL, READS, LOST, SLOW } when;
static atomic_long calls;

__attribute__((constructor)) static void read_settings(void) {
    const char *at = getenv("KILLPOINTS_AT");
    const char *moment = getenv("KILLPOINTS_WHEN");
    roots = getenv("KILLPOINTS_ROOT");
    switch_file = getenv("KILLPOINTS_SWITCH");
    kill_at = at ? atol(at) : 0;
    if (moment && strcmp(moment, "after") == 0) when = AFTER;
    if (moment && strcmp(moment, "half") == 0) when = HALF;
    if (moment && strcmp(moment, "fail") == 0) when = FAIL;
    if (moment && strcmp(moment, "reads") == 0) when = READS;
    if (moment && strcmp(moment, "lost") == 0) when = LOST;
    if (moment && strcmp(moment, "slow") == 0) when = SLOW;
    const char *milliseconds = getenv("KILLPOINTS_DELAY");
    delay = milliseconds ? atol(milliseconds) : 0;
}

__attribute__((destructor)) static void write_count(void) {
    const char *path = getenv("KILLPOINTS_COUNT");
    if (!path) return;
    FILE *file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "%ld\n", atomic_load(&calls));
    fclose(file);
}

static void end_here(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

// What the calls of this thread that are to fail now fail with.
static __thread int failure = EIO;

static int is_marked(const char *root, size_t length, const char *mark) {
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%.*s.%s", (int)length, root, mark) < (int)sizeof path && access(path, F_OK) == 0;
}

static int is_marked_failing(const char *root, size_t length) {
    failure = EIO;
    if (is_marked(root, length, "lost")) return 1;
    failure = ENOSPC;
    return is_marked(root, length, "full");
}

static int is_below_root(const char *path) {
    for (const char *root = roots; root;) {
        size_t length = strcspn(root, ":");
        if (length && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0))
            return when != LOST || is_marked_failing(root, length);
        root = root[length] ? root + length + 1 : NULL;
    }
    return 0;
}

static int descriptor_counts(int descriptor) {
    if (!roots) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_below_root(path);
}

static int name_counts(int directory, const char *name) {
    if (!roots || !name) return 0;
    if (name[0] == '/') return is_below_root(name);
    if (directory != AT_FDCWD) return descriptor_counts(directory);
    char here[PATH_MAX];
    return getcwd(here, sizeof here) && is_below_root(here);
}

enum verdict { GO_ON, DIE_AFTERWARDS, GIVE_AN_ERROR };

static enum verdict meet(int counts) {
    if (!counts || when == READS || when == SLOW) return GO_ON;
    if (when == LOST) return failure == ENOSPC ? GO_ON : GIVE_AN_ERROR;
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (kill_at == 0 || number < kill_at) return GO_ON;
    if (when == FAIL) return GIVE_AN_ERROR;
    if (number > kill_at) return GO_ON;
    if (when == BEFORE) end_here();
    return DIE_AFTERWARDS;
}

// A call that needs room.
static enum verdict meet_growth(int counts) {
    return counts && when == LOST ? GIVE_AN_ERROR : meet(counts);
}

static int is_slow_now(void) { return switch_file && access(switch_file, F_OK) == 0; }

static enum verdict meet_read(int descriptor) {
    if ((when != READS && when != LOST && when != SLOW) || !descriptor_counts(descriptor)) return GO_ON;
    if (when == SLOW) {
        if (is_slow_now()) usleep(delay * 1000);
        return GO_ON;
    }
    if (when == LOST) return failure == ENOSPC ? GO_ON : GIVE_AN_ERROR;
    if (switch_file && access(switch_file, F_OK) != 0) return GO_ON;
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (switch_file) return GIVE_AN_ERROR;
    return kill_at != 0 && number >= kill_at ? GIVE_AN_ERROR : GO_ON;
}

static int give_an_error(void) {
    errno = when == LOST ? failure : EIO;
    return -1;
}

#define NEXT(name) \
    static __typeof__(&name) next; \
    if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

// A call that is performed whole or not at all.
#define WHOLE(counts, type, call) PERFORM(meet(counts), type, call)
#define GROWTH(counts, type, call) PERFORM(meet_growth(counts), type, call)
#define PERFORM(met, type, call) \
    enum verdict verdict = met; \
    if (verdict == GIVE_AN_ERROR) return give_an_error(); \
    if (verdict == DIE_AFTERWARDS && when == HALF) end_here(); \
    type result = call; \
    if (verdict == DIE_AFTERWARDS) end_here(); \
    return result

int fsync(int descriptor) {
    NEXT(fsync);
    WHOLE(descriptor_counts(descriptor), int, next(descriptor));
}

int fdatasync(int descriptor) {
    NEXT(fdatasync);
    WHOLE(descriptor_counts(descriptor), int, next(descriptor));
}

int ftruncate(int descriptor, off_t length) {
    NEXT(ftruncate);
    WHOLE(descriptor_counts(descriptor), int, next(descriptor, length));
}

int ftruncate64(int descriptor, off64_t length) {
    NEXT(ftruncate64);
    WHOLE(descriptor_counts(descriptor), int, next(descriptor, length));
}

int fallocate(int descriptor, int mode, off_t offset, off_t length) {
    NEXT(fallocate);
    int counts = descriptor_counts(descriptor);
    PERFORM(mode & FALLOC_FL_PUNCH_HOLE ? meet(counts) : meet_growth(counts), int, next(descriptor, mode, offset, length));
}

int rename(const char *from, const char *to) {
    NEXT(rename);
    WHOLE(name_counts(AT_FDCWD, to), int, next(from, to));
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    NEXT(renameat);
    WHOLE(name_counts(to_directory, to), int, next(from_directory, from, to_directory, to));
}

int unlink(const char *path) {
    NEXT(unlink);
    WHOLE(name_counts(AT_FDCWD, path), int, next(path));
}

int unlinkat(int directory, const char *path, int flags) {
    NEXT(unlinkat);
    WHOLE(name_counts(directory, path), int, next(directory, path, flags));
}

int mkdirat(int directory, const char *path, mode_t mode) {
    NEXT(mkdirat);
    WHOLE(name_counts(directory, path), int, next(directory, path, mode));
}

#define MODE_ARGUMENT(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list arguments; \
        va_start(arguments, flags); \
        mode = va_arg(arguments, mode_t); \
        va_end(arguments); \
    }

#define MAKES(flags) ((flags) & (O_CREAT | O_TRUNC))

int open(const char *path, int flags, ...) {
    MODE_ARGUMENT(flags);
    NEXT(open);
    GROWTH(MAKES(flags) && name_counts(AT_FDCWD, path), int, next(path, flags, mode));
}

int open64(const char *path, int flags, ...) {
    MODE_ARGUMENT(flags);
    NEXT(open64);
    GROWTH(MAKES(flags) && name_counts(AT_FDCWD, path), int, next(path, flags, mode));
}

int openat(int directory, const char *path, int flags, ...) {
    MODE_ARGUMENT(flags);
    NEXT(openat);
    GROWTH(MAKES(flags) && name_counts(directory, path), int, next(directory, path, flags, mode));
}

int openat64(int directory, const char *path, int flags, ...) {
    MODE_ARGUMENT(flags);
    NEXT(openat64);
    GROWTH(MAKES(flags) && name_counts(directory, path), int, next(directory, path, flags, mode));
}

// Writes: "half" leaves the first half of the bytes behind, as a crash in the middle of a long write may.

ssize_t write(int descriptor, const void *bytes, size_t count) {
    NEXT(write);
    enum verdict verdict = meet_growth(descriptor_counts(descriptor));
    if (verdict == GIVE_AN_ERROR) return give_an_error();
    int dies = verdict == DIE_AFTERWARDS;
    ssize_t result = next(descriptor, bytes, dies && when == HALF ? count / 2 : count);
    if (dies) end_here();
    return result;
}

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    NEXT(pwrite);
    enum verdict verdict = meet_growth(descriptor_counts(descriptor));
    if (verdict == GIVE_AN_ERROR) return give_an_error();
    int dies = verdict == DIE_AFTERWARDS;
    ssize_t result = next(descriptor, bytes, dies && when == HALF ? count / 2 : count, offset);
    if (dies) end_here();
    return result;
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t offset) {
    NEXT(pwrite64);
    enum verdict verdict = meet_growth(descriptor_counts(descriptor));
    if (verdict == GIVE_AN_ERROR) return give_an_error();
    int dies = verdict == DIE_AFTERWARDS;
    ssize_t result = next(descriptor, bytes, dies && when == HALF ? count / 2 : count, offset);
    if (dies) end_here();
    return result;
}

static void write_half(int descriptor, const struct iovec *parts, int count, off64_t offset) {
    size_t left = 0;
    for (int index = 0; index < count; index++) left += parts[index].iov_len;
    left /= 2;
    NEXT(pwrite64);
    for (int index = 0; index < count && left > 0; index++) {
        size_t length = parts[index].iov_len < left ? parts[index].iov_len : left;
        if (next(descriptor, parts[index].iov_base, length, offset) != (ssize_t)length) return;
        offset += length;
        left -= length;
    }
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    NEXT(pwritev);
    enum verdict verdict = meet_growth(descriptor_counts(descriptor));
    if (verdict == GIVE_AN_ERROR) return give_an_error();
    int dies = verdict == DIE_AFTERWARDS;
    if (dies && when == HALF) {
        write_half(descriptor, parts, count, offset);
        end_here();
    }
    ssize_t result = next(descriptor, parts, count, offset);
    if (dies) end_here();
    return result;
}

ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t offset) {
    NEXT(pwritev64);
    enum verdict verdict = meet_growth(descriptor_counts(descriptor));
    if (verdict == GIVE_AN_ERROR) return give_an_error();
    int dies = verdict == DIE_AFTERWARDS;
    if (dies && when == HALF) {
        write_half(descriptor, parts, count, offset);
        end_here();
    }
    ssize_t result = next(descriptor, parts, count, offset);
    if (dies) end_here();
    return result;
}

// Reads.

#define READ(call) \
    if (meet_read(descriptor) == GIVE_AN_ERROR) return give_an_error(); \
    return call

// What a slow disk has to be asked for is not in memory.
#define REFUSE_TO_WAIT(flags) \
    if ((flags) & RWF_NOWAIT && when == SLOW && descriptor_counts(descriptor) && is_slow_now()) { \
        errno = EAGAIN; \
        return -1; \
    }

ssize_t read(int descriptor, void *bytes, size_t count) {
    NEXT(read);
    READ(next(descriptor, bytes, count));
}

ssize_t pread(int descriptor, void *bytes, size_t count, off_t offset) {
    NEXT(pread);
    READ(next(descriptor, bytes, count, offset));
}

ssize_t pread64(int descriptor, void *bytes, size_t count, off64_t offset) {
    NEXT(pread64);
    READ(next(descriptor, bytes, count, offset));
}

ssize_t preadv(int descriptor, const struct iovec *parts, int count, off_t offset) {
    NEXT(preadv);
    READ(next(descriptor, parts, count, offset));
}

ssize_t preadv2(int descriptor, const struct iovec *parts, int count, off_t offset, int flags) {
    NEXT(preadv2);
    REFUSE_TO_WAIT(flags);
    READ(next(descriptor, parts, count, offset, flags));
}

ssize_t preadv64v2(int descriptor, const struct iovec *parts, int count, off64_t offset, int flags) {
    NEXT(preadv64v2);
    REFUSE_TO_WAIT(flags);
    READ(next(descriptor, parts, count, offset, flags));
}

ssize_t preadv64(int descriptor, const struct iovec *parts, int count, off64_t offset) {
    NEXT(preadv64);
    READ(next(descriptor, parts, count, offset));
}
