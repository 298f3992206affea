// Linux calls that the Glibc module does not show to Swift. No system header is included here: under _GNU_SOURCE
// they would define types that differ from those that other C modules of this package export.
#pragma once

/// Starts writing the dirty pages of a byte range to the device, without waiting (sync_file_range(2)).
int holdfast_start_writeback(int descriptor, long offset, long length);

/// openat(2), which is variadic. The last component is never followed when it is a symbolic link.
int holdfast_open_at(int directory, const char *name, int flags, unsigned int mode);

/// Opens the file of a descriptor once more, for writes past the page cache (O_DIRECT). -1 and errno where the file system
/// or the system has no such thing.
int holdfast_reopen_direct(int descriptor);

/// The same for reading.
int holdfast_reopen_direct_reading(int descriptor);

/// Reads what is in the page cache, without waiting for a disk (preadv2(2), RWF_NOWAIT); -1 when nothing is. What follows the
/// first bytes goes to `rest`.
long holdfast_read_cached(int descriptor, void *bytes, unsigned long count, void *rest, unsigned long rest_count, long offset);

/// Frees the blocks of a range; the size stays (fallocate(2)).
int holdfast_punch_hole(int descriptor, long offset, long length);

/// Takes the exclusive flock(2) of an open file, without waiting.
int holdfast_lock(int descriptor);
int holdfast_lock_shared(int descriptor);
int holdfast_unlock(int descriptor);

/// Gives the calling thread a low CPU priority and the lowest of disk I/O. Best effort.
void holdfast_lower_thread_priority(void);

/// Names the calling thread for debuggers and ps (at most 15 characters).
void holdfast_name_thread(const char *name);

/// Whether the kernel's clock is kept in step with others (adjtimex(2)): 1, 0, or -1 when it does not say.
int holdfast_clock_is_synchronised(void);

/// Makes the allocator keep little: one arena, since what a thread of another arena frees is not used by this one, and
/// chunks of objects on the heap, because a mapping for each would fault in every page of every chunk again; for the
/// same reason 32 MiB of what is free at the heap's end are kept. Called before there are threads.
void holdfast_bound_allocator(void);
