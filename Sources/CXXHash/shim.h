// libxxhash: XXH3, the cheap checksum of blocks and headers. On x86 the library picks the widest vectors of the CPU.
#pragma once
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#endif

static inline unsigned long long holdfast_xxh3_64(const void *bytes, size_t count) {
    return XXH3_64bits(bytes, count);
}

static inline XXH128_hash_t holdfast_xxh3_128(const void *bytes, size_t count) {
    return XXH3_128bits(bytes, count);
}
