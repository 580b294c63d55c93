#include "vmm/rate_limit.h"

#include "base/clock.h"

bool rate_specs_valid(const struct rate_specs *specs)
{
    return (specs->operations.burst == 0 || specs->operations.rate != 0) &&
           (specs->bytes.burst == 0 || specs->bytes.rate != 0);
}

static int64_t burst_of(const struct rate_spec *spec)
{
    const uint64_t burst = spec->burst != 0 ? spec->burst : spec->rate;
    return burst > INT64_MAX ? INT64_MAX : (int64_t)burst;
}

static void
bucket_init(struct rate_bucket *bucket, const struct rate_spec *spec, uint64_t now_ns)
{
    *bucket = (struct rate_bucket){
        .spec = *spec, .tokens = burst_of(spec), .filled_ns = now_ns};
}

void rate_limit_init(struct rate_limit *limit,
                     const struct rate_spec *operations,
                     const struct rate_spec *bytes,
                     uint64_t now_ns)
{
    bucket_init(&limit->operations, operations, now_ns);
    bucket_init(&limit->bytes, bytes, now_ns);
}

static void
bucket_change(struct rate_bucket *bucket, const struct rate_spec *spec, uint64_t now_ns)
{
    if (bucket->spec.rate != spec->rate || bucket->spec.burst != spec->burst) {
        bucket_init(bucket, spec, now_ns);
    }
}

void rate_limit_change(struct rate_limit *limit,
                       const struct rate_spec *operations,
                       const struct rate_spec *bytes,
                       uint64_t now_ns)
{
    bucket_change(&limit->operations, operations, now_ns);
    bucket_change(&limit->bytes, bytes, now_ns);
}

/* Adds what has come since the last time, in whole tokens; the rest of the time is kept.
 */
static void bucket_fill(struct rate_bucket *bucket, uint64_t now_ns)
{
    const uint64_t rate = bucket->spec.rate;
    const int64_t burst = burst_of(&bucket->spec);
    if (rate == 0 || now_ns <= bucket->filled_ns) {
        return;
    }
    const unsigned __int128 earned =
        (unsigned __int128)(now_ns - bucket->filled_ns) * rate / NS_PER_S;
    if (earned >= (unsigned __int128)((__int128)burst - bucket->tokens)) {
        bucket->tokens = burst;
        bucket->filled_ns = now_ns;
        return;
    }
    bucket->tokens += (int64_t)earned;
    bucket->filled_ns += (uint64_t)(earned * NS_PER_S / rate);
}

/* How long until there is something in the bucket; 0 when there is. */
static uint64_t bucket_wait(const struct rate_bucket *bucket)
{
    if (bucket->spec.rate == 0 || bucket->tokens > 0) {
        return 0;
    }
    const unsigned __int128 missing = (unsigned __int128)(1 - (__int128)bucket->tokens);
    const unsigned __int128 wait = missing * NS_PER_S / bucket->spec.rate + 1;
    return wait > UINT64_MAX ? UINT64_MAX : (uint64_t)wait;
}

static void bucket_take(struct rate_bucket *bucket, uint64_t count)
{
    if (bucket->spec.rate != 0) {
        const int64_t taken = count > INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)count;
        bucket->tokens -= taken;
    }
}

bool rate_limit_is_none(const struct rate_limit *limit)
{
    return limit->operations.spec.rate == 0 && limit->bytes.spec.rate == 0;
}

uint64_t rate_limit_take(struct rate_limit *limit, uint64_t bytes, uint64_t now_ns)
{
    bucket_fill(&limit->operations, now_ns);
    bucket_fill(&limit->bytes, now_ns);
    const uint64_t operations_ns = bucket_wait(&limit->operations);
    const uint64_t bytes_ns = bucket_wait(&limit->bytes);
    if (operations_ns == 0 && bytes_ns == 0) {
        bucket_take(&limit->operations, 1);
        bucket_take(&limit->bytes, bytes);
        return 0;
    }
    return operations_ns > bytes_ns ? operations_ns : bytes_ns;
}

void rate_limit_save(const struct rate_limit *limit, struct bytes_writer *writer)
{
    bytes_write_u64(writer, (uint64_t)limit->operations.tokens);
    bytes_write_u64(writer, (uint64_t)limit->bytes.tokens);
}

/* Never more than full, never so much owed that it takes for ever. */
static void bucket_restore(struct rate_bucket *bucket, uint64_t tokens, uint64_t now_ns)
{
    const int64_t burst = burst_of(&bucket->spec);
    const int64_t value = (int64_t)tokens;
    bucket->tokens = value > burst ? burst : value < -burst ? -burst : value;
    bucket->filled_ns = now_ns;
}

void rate_limit_restore(struct rate_limit *limit,
                        struct bytes_reader *reader,
                        uint64_t now_ns)
{
    const uint64_t operations = bytes_read_u64(reader);
    const uint64_t bytes = bytes_read_u64(reader);
    if (reader->error == 0) {
        bucket_restore(&limit->operations, operations, now_ns);
        bucket_restore(&limit->bytes, bytes, now_ns);
    }
}
