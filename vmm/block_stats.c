#include "vmm/block_stats.h"

#include "base/require.h"

void block_stats_begin(struct block_stats *stats)
{
    counter_add(&stats->in_flight, 1);
}

static void one_less(struct block_stats *stats)
{
    REQUIRE(counter_read(&stats->in_flight) > 0);
    counter_set(&stats->in_flight, counter_read(&stats->in_flight) - 1);
}

static void write_note(struct block_stats *stats, const struct block_done *done)
{
    const uint64_t end = done->offset + done->size;
    if (end > counter_read(&stats->highest_offset)) {
        counter_set(&stats->highest_offset, end);
    }
}

void block_stats_done(struct block_stats *stats, const struct block_done *done)
{
    REQUIRE(done->kind < BLOCK_KIND_COUNT);
    struct block_kind_stats *kind = &stats->kinds[done->kind];
    const uint64_t took_ns =
        done->done_ns > done->begun_ns ? done->done_ns - done->begun_ns : 0;
    one_less(stats);
    if (done->is_good) {
        counter_add(&kind->operations, 1);
        counter_add(&kind->bytes, done->size);
    } else {
        counter_add(&kind->failed, 1);
    }
    if (done->is_good && done->kind == BLOCK_WRITE) {
        write_note(stats, done);
    }
    counter_add(&kind->total_ns, took_ns);
    latency_histogram_add(&kind->latency, took_ns);
    counter_set(&stats->last_done_ns, done->done_ns);
}

void block_stats_dropped(struct block_stats *stats)
{
    one_less(stats);
}

void block_stats_invalid(struct block_stats *stats, enum block_kind kind)
{
    REQUIRE(kind < BLOCK_KIND_COUNT);
    counter_add(&stats->kinds[kind].invalid, 1);
}
