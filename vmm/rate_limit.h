/* Token buckets: how much a device may do per second, and how much at once.
 *
 * Shapes: `struct rate_limit` holds two buckets, operations and bytes. A bucket refills
 * at `rate` per second up to `burst`; a request is let through while there is anything in
 * the bucket and may take more than there is, so that one larger than the burst does pass
 * and is paid for afterwards. Rate 0 means no limit.
 *
 * Units: operations, bytes, monotonic nanoseconds. Pure: time is an argument. Threads:
 * the owner's lock.
 */
#pragma once

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

struct rate_spec {
    uint64_t rate;  /* per second; 0: no limit */
    uint64_t burst; /* 0: as much as one second gives */
};

struct rate_specs {
    struct rate_spec operations;
    struct rate_spec bytes;
};

struct rate_bucket {
    struct rate_spec spec;
    int64_t tokens; /* below 0: owed */
    uint64_t filled_ns;
};

struct rate_limit {
    struct rate_bucket operations;
    struct rate_bucket bytes;
};

/* A burst without a rate would let everything through: false. */
bool rate_specs_valid(const struct rate_specs *specs);
/* Both full. */
void rate_limit_init(struct rate_limit *limit,
                     const struct rate_spec *operations,
                     const struct rate_spec *bytes,
                     uint64_t now_ns);
/* Other limits for a device that works: a bucket whose spec is the same keeps what it
 * has, so that who says it again and again gives nothing away; another one is full. */
void rate_limit_change(struct rate_limit *limit,
                       const struct rate_spec *operations,
                       const struct rate_spec *bytes,
                       uint64_t now_ns);
/* Whether nobody is ever held back. */
bool rate_limit_is_none(const struct rate_limit *limit);
/* Takes one operation of that many bytes: 0, or how many ns to wait before asking again
 * (then nothing was taken). */
uint64_t rate_limit_take(struct rate_limit *limit, uint64_t bytes, uint64_t now_ns);
/* What is owed and what is left; the specs belong to the machine's configuration. */
void rate_limit_save(const struct rate_limit *limit, struct bytes_writer *writer);
void rate_limit_restore(struct rate_limit *limit,
                        struct bytes_reader *reader,
                        uint64_t now_ns);
