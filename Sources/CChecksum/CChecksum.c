// One kernel for three checks.
//
// A reflected CRC of 32 bits is handled like one of 64 bits: the register's bit i stands for x^(width-1-i), and the
// first byte of the message is added to the low byte of the register either way.
//
// With PCLMULQDQ the message is folded (Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
// Instruction", Intel 2009): four registers of 128 bits hold a remainder that is congruent with everything before
// them; each step multiplies them by x^512 modulo the polynomial and adds the next 64 bytes. What is left in the end
// is 16 bytes with the same CRC as the whole message, and those go through the tables: no Barrett reduction is
// needed, and one routine serves every polynomial.
//
// A 64-bit constant K stands for the polynomial with bit i for x^(63-i); so do the halves of a register. Their
// carry-less product has bit k for x^(126-k), but as a register's 128 bits it is read as x^(127-k): one power too
// many. So the constant for "times x^n" is x^(n-1) modulo the polynomial.
#include "CChecksum.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define HOLDFAST_HAS_FOLDING 1
#else
#define HOLDFAST_HAS_FOLDING 0
#endif

struct holdfast_crc_kernel {
    uint64_t tables[8][256];
    // Times x^(64+512), x^512, x^(64+128), x^128: for the low and the high half of a register.
    uint64_t fold_far[2];
    uint64_t fold_near[2];
};

static holdfast_crc_kernel crc32_kernel, crc32c_kernel, crc64nvme_kernel;
static int has_folding;

// x^exponent modulo the polynomial, bit i for x^(63-i). `reflected` has width bits, bit i for x^(width-1-i).
static uint64_t power_of_x(uint64_t reflected, unsigned width, unsigned exponent) {
    // Bit width-1 of a register of `width` bits is x^0.
    uint64_t value = 1ULL << (width - 1);
    for (unsigned index = 0; index < exponent; index++) {
        value = (value >> 1) ^ ((value & 1) ? reflected : 0);
    }
    return value << (64 - width);
}

static void prepare(holdfast_crc_kernel *kernel, uint64_t reflected, unsigned width) {
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t value = byte;
        for (unsigned bit = 0; bit < 8; bit++) value = (value >> 1) ^ ((value & 1) ? reflected : 0);
        kernel->tables[0][byte] = value;
    }
    for (unsigned slice = 1; slice < 8; slice++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            uint64_t before = kernel->tables[slice - 1][byte];
            kernel->tables[slice][byte] = (before >> 8) ^ kernel->tables[0][before & 0xFF];
        }
    }
    kernel->fold_far[0] = power_of_x(reflected, width, 64 + 512 - 1);
    kernel->fold_far[1] = power_of_x(reflected, width, 512 - 1);
    kernel->fold_near[0] = power_of_x(reflected, width, 64 + 128 - 1);
    kernel->fold_near[1] = power_of_x(reflected, width, 128 - 1);
}

// Before main, while there is one thread: afterwards the kernels are only read.
__attribute__((constructor)) static void prepare_kernels(void) {
    prepare(&crc32_kernel, 0xEDB88320u, 32);
    prepare(&crc32c_kernel, 0x82F63B78u, 32);
    prepare(&crc64nvme_kernel, 0x9A6C9329AC4BC9B5ULL, 64);
#if HOLDFAST_HAS_FOLDING
    __builtin_cpu_init();
    has_folding = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
}

const holdfast_crc_kernel *holdfast_crc32(void) { return &crc32_kernel; }
const holdfast_crc_kernel *holdfast_crc32c(void) { return &crc32c_kernel; }
const holdfast_crc_kernel *holdfast_crc64nvme(void) { return &crc64nvme_kernel; }

static uint64_t little_endian_word(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

uint64_t holdfast_crc_update_by_tables(
    const holdfast_crc_kernel *kernel, uint64_t state, const void *bytes, size_t size) {
    const uint8_t *next = bytes;
    const uint64_t(*tables)[256] = kernel->tables;
    // Eight bytes at once (Kounavis and Berry, "A Systematic Approach to Building High Performance Software-based
    // CRC Generators", 2005).
    for (; size >= 8; size -= 8, next += 8) {
        uint64_t word = state ^ little_endian_word(next);
        state = tables[7][word & 0xFF] ^ tables[6][(word >> 8) & 0xFF] ^ tables[5][(word >> 16) & 0xFF]
            ^ tables[4][(word >> 24) & 0xFF] ^ tables[3][(word >> 32) & 0xFF] ^ tables[2][(word >> 40) & 0xFF]
            ^ tables[1][(word >> 48) & 0xFF] ^ tables[0][word >> 56];
    }
    for (; size > 0; size--, next++) state = (state >> 8) ^ tables[0][(state ^ *next) & 0xFF];
    return state;
}

#if HOLDFAST_HAS_FOLDING
__attribute__((target("pclmul,sse4.1"))) static inline __m128i fold(__m128i value, __m128i constants) {
    return _mm_xor_si128(
        _mm_clmulepi64_si128(value, constants, 0x00), _mm_clmulepi64_si128(value, constants, 0x11));
}

__attribute__((target("pclmul,sse4.1"))) static uint64_t update_by_folding(
    const holdfast_crc_kernel *kernel, uint64_t state, const uint8_t *next, size_t size) {
    const __m128i *block = (const __m128i *)next;
    __m128i first = _mm_xor_si128(_mm_loadu_si128(block), _mm_set_epi64x(0, (long long)state));
    __m128i second = _mm_loadu_si128(block + 1);
    __m128i third = _mm_loadu_si128(block + 2);
    __m128i fourth = _mm_loadu_si128(block + 3);
    const __m128i far = _mm_set_epi64x((long long)kernel->fold_far[1], (long long)kernel->fold_far[0]);
    const __m128i near = _mm_set_epi64x((long long)kernel->fold_near[1], (long long)kernel->fold_near[0]);
    size -= 64;
    for (block += 4; size >= 64; size -= 64, block += 4) {
        first = _mm_xor_si128(fold(first, far), _mm_loadu_si128(block));
        second = _mm_xor_si128(fold(second, far), _mm_loadu_si128(block + 1));
        third = _mm_xor_si128(fold(third, far), _mm_loadu_si128(block + 2));
        fourth = _mm_xor_si128(fold(fourth, far), _mm_loadu_si128(block + 3));
    }
    first = _mm_xor_si128(fold(first, near), second);
    first = _mm_xor_si128(fold(first, near), third);
    first = _mm_xor_si128(fold(first, near), fourth);
    for (; size >= 16; size -= 16, block++) first = _mm_xor_si128(fold(first, near), _mm_loadu_si128(block));
    uint8_t rest[16];
    _mm_storeu_si128((__m128i *)rest, first);
    state = holdfast_crc_update_by_tables(kernel, 0, rest, sizeof rest);
    return holdfast_crc_update_by_tables(kernel, state, block, size);
}
#endif

uint64_t holdfast_crc_update(
    const holdfast_crc_kernel *kernel, uint64_t state, const void *bytes, size_t size) {
#if HOLDFAST_HAS_FOLDING
    // Shorter messages gain nothing from folding.
    if (has_folding && size >= 128) return update_by_folding(kernel, state, bytes, size);
#endif
    return holdfast_crc_update_by_tables(kernel, state, bytes, size);
}
