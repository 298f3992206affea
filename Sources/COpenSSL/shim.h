// libcrypto: digests (it uses the CPU's SHA instructions) and constant-time comparison.
#pragma once
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
