/* What a count puts behind its noun: "1 VM", "2 VMs", "2 VMs are". Threads: pure. */
#pragma once

#include <stdint.h>

static inline const char *plural_s(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static inline const char *plural_s_are(uint64_t count)
{
    return count == 1 ? " is" : "s are";
}
