#include "vmm/latency_histogram.h"

#include "base/require.h"

static unsigned bin_of(uint64_t took_ns)
{
    const uint64_t firsts = took_ns >> LATENCY_FIRST_LOG;
    const unsigned bits = firsts == 0 ? 0 : 64u - (unsigned)__builtin_clzll(firsts);
    return bits < LATENCY_BINS ? bits : LATENCY_BINS - 1;
}

void latency_histogram_add(struct latency_histogram *histogram, uint64_t took_ns)
{
    counter_add(&histogram->bins[bin_of(took_ns)], 1);
}

uint64_t latency_histogram_boundary_ns(unsigned i)
{
    REQUIRE(i < LATENCY_BOUNDARIES);
    return UINT64_C(1) << (LATENCY_FIRST_LOG + i);
}
