/* A fast 64-bit hash of bytes, for comparing replicas: the sum over all objects tells two
 * states apart.
 *
 * Shapes: eight bytes at a time are folded in by a 64 x 64 -> 128 bit product whose
 * halves are xored; the tail and the length close it. The seed says what kind of thing is
 * hashed, so that equal bytes in different tables do not cancel out. Finds accidents, is
 * no defence against a forger. Part of the snapshot format: never changes within a
 * version. Threads: pure.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t content_hash(uint64_t seed, const void *data, size_t size);
