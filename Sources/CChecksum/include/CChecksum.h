// The three cyclic redundancy checks that S3 knows, all of them bit-reflected, with initial value and final mask of
// ones. The register handed in and out is the raw one: without the initial value and without the final mask.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// One polynomial with everything that is computed from it.
typedef struct holdfast_crc_kernel holdfast_crc_kernel;

/// CRC-32 of zlib, Ethernet and PNG: polynomial 0x04C11DB7.
const holdfast_crc_kernel *holdfast_crc32(void);
/// CRC-32C (Castagnoli) of iSCSI, RFC 3720: polynomial 0x1EDC6F41.
const holdfast_crc_kernel *holdfast_crc32c(void);
/// CRC-64/NVME: polynomial 0xAD93D23594C93659.
const holdfast_crc_kernel *holdfast_crc64nvme(void);

/// The register after `size` more bytes: by carry-less multiplication where the processor has it, else by tables.
uint64_t holdfast_crc_update(const holdfast_crc_kernel *kernel, uint64_t state, const void *bytes, size_t size);

/// The same by tables alone, for the test that compares the two.
uint64_t holdfast_crc_update_by_tables(
    const holdfast_crc_kernel *kernel, uint64_t state, const void *bytes, size_t size);
