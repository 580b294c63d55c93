#include "vmm/boot_trace.h"

#include "base/clock.h"
#include "base/require.h"

#include <string.h>
#include <time.h>

static uint64_t worked_ns(void)
{
    struct timespec worked = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &worked); /* else it counts from main */
    return (uint64_t)worked.tv_sec * NS_PER_S + (uint64_t)worked.tv_nsec;
}

void boot_trace_begin(struct boot_trace *trace)
{
    const uint64_t now_ns = clock_now_ns(clock_system());
    const uint64_t before_ns = worked_ns();
    memset(trace, 0, sizeof(*trace));
    trace->exec_ns = before_ns < now_ns ? now_ns - before_ns : 0;
    boot_trace_reach(trace, BOOT_STARTED);
}

static uint64_t since_exec(const struct boot_trace *trace)
{
    const uint64_t now_ns = clock_now_ns(clock_system());
    return now_ns > trace->exec_ns ? now_ns - trace->exec_ns : 1;
}

void boot_trace_reach(struct boot_trace *trace, enum boot_phase phase)
{
    REQUIRE(phase < BOOT_PHASE_COUNT);
    if (trace == NULL || counter_read(&trace->reached[phase]) != 0) {
        return;
    }
    unsigned long long none = 0; /* two CPUs may come at once: one of them was first */
    (void)atomic_compare_exchange_strong(&trace->reached[phase].value, &none,
                                         since_exec(trace));
}

void boot_trace_mark(void *context, unsigned byte)
{
    struct boot_trace *trace = context;
    const uint64_t count = trace == NULL ? 0 : counter_read(&trace->mark_count);
    bool is_new = trace != NULL && count < BOOT_MARKS_MAX;
    for (uint64_t i = 0; is_new && i < count; i++) {
        is_new = trace->marks[i].byte != byte;
    }
    if (is_new) {
        trace->marks[count] = (struct boot_mark){since_exec(trace), (uint8_t)byte};
        atomic_store(&trace->mark_count.value, count + 1); /* with what is in it */
    }
}

const char *boot_phase_name(enum boot_phase phase)
{
    static const char *const names[BOOT_PHASE_COUNT] = {
        [BOOT_STARTED] = "started",       [BOOT_OPENED] = "opened",
        [BOOT_MEMORY] = "memory",         [BOOT_MADE] = "made",
        [BOOT_JAILED] = "jailed",         [BOOT_LOADED] = "loaded",
        [BOOT_CONNECTED] = "connected",   [BOOT_RESTORED] = "restored",
        [BOOT_READY] = "ready",           [BOOT_GO] = "go",
        [BOOT_FIRST_RUN] = "first-run",   [BOOT_FIRST_EXIT] = "first-exit",
        [BOOT_FIRST_BYTE] = "first-byte",
    };
    REQUIRE(phase < BOOT_PHASE_COUNT);
    return names[phase];
}

uint64_t boot_trace_ns(const struct boot_trace *trace, enum boot_phase phase)
{
    REQUIRE(phase < BOOT_PHASE_COUNT);
    return counter_read(&trace->reached[phase]);
}

unsigned boot_trace_marks(const struct boot_trace *trace,
                          struct boot_mark ret_marks[BOOT_MARKS_MAX])
{
    const unsigned count = (unsigned)atomic_load(&trace->mark_count.value);
    memcpy(ret_marks, trace->marks, count * sizeof(ret_marks[0]));
    return count;
}
