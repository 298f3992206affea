// libxxhash: XXH3, the cheap checksum of blocks and headers. On x86 the library picks the widest vectors of the CPU.
#pragma once
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#endif

// The library may leave the upper halves of wide vector registers in use, and whoever computes SHA-256 next with the CPU's own
// instructions, which know only the lower ones, does so at three quarters of its speed (measured: 1340 MB/s instead of 1790).
static inline void holdfast_leave_wide_vectors(size_t count) {
#if defined(__x86_64__)
    if (count > 240 && __builtin_cpu_supports("avx")) {
        __asm__ volatile("vzeroupper" ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                         "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    }
#else
    (void)count;
#endif
}

static inline unsigned long long holdfast_xxh3_64(const void *bytes, size_t count) {
    unsigned long long hash = XXH3_64bits(bytes, count);
    holdfast_leave_wide_vectors(count);
    return hash;
}

static inline XXH128_hash_t holdfast_xxh3_128(const void *bytes, size_t count) {
    XXH128_hash_t hash = XXH3_128bits(bytes, count);
    holdfast_leave_wide_vectors(count);
    return hash;
}
