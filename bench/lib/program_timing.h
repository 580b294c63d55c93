/* Programs that are started and timed by what they write, for benches of berth-vmm.
 *
 * Shapes: `struct timed` is a child with a pipe on its standard output; what it says on
 * the other stream goes to /dev/null; `struct timing_spread` is what a table's line says
 * of its samples. Times are from before the fork, in nanoseconds of the monotonic clock.
 * Threads: one. Errors: whatever goes wrong ends the bench with words. */
#pragma once

#include "base/require.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMED_SILENT_MS (5 * 60 * 1000) /* a guest may hang in an emulated machine */

struct timed {
    pid_t pid;
    int output;
    uint64_t began_ns;
};

static inline uint64_t timing_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static inline void timed_start(struct timed *timed, char *const argv[])
{
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    timed->began_ns = timing_now_ns();
    timed->pid = fork();
    REQUIRE(timed->pid >= 0);
    if (timed->pid == 0) {
        const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* the bench may give up */
        (void)dup2(null, STDIN_FILENO);
        (void)dup2(ends[1], STDOUT_FILENO);
        if (getenv("BENCH_LOUD") == NULL) {
            (void)dup2(null, STDERR_FILENO);
        }
        (void)execv(argv[0], argv);
        _exit(127);
    }
    (void)close(ends[1]);
    timed->output = ends[0];
}

/* How long until it has written this byte; what comes before is passed over. */
static inline uint64_t timed_await(const struct timed *timed, char byte)
{
    char buffer[256];
    struct pollfd readable = {.fd = timed->output, .events = POLLIN};
    for (;;) {
        if (poll(&readable, 1, TIMED_SILENT_MS) == 0) {
            (void)fprintf(stderr, "a program has said nothing for five minutes\n");
            exit(1);
        }
        const ssize_t got = read(timed->output, buffer, sizeof(buffer));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            (void)fprintf(stderr, "a program ended without a word (BENCH_LOUD=1)\n");
            exit(1);
        }
        if (memchr(buffer, byte, (size_t)got) != NULL) {
            return timing_now_ns() - timed->began_ns;
        }
    }
}

static inline void timed_kill(struct timed *timed)
{
    int status;
    (void)kill(timed->pid, SIGKILL);
    (void)waitpid(timed->pid, &status, 0);
    (void)close(timed->output);
}

static inline int timing_rising(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Of sorted samples; share in thousandths. */
static inline uint64_t
timing_quantile(const uint64_t *sorted, unsigned count, unsigned thousandths)
{
    const unsigned rank = (count * thousandths + 999) / 1000;
    return sorted[rank > 0 ? rank - 1 : 0];
}

/* What a table's line says of its samples, in its unit. */
struct timing_spread {
    double p50;
    double p99;
};

/* One line of a table, in units of so many of what the samples are in; sorts them. */
static inline struct timing_spread
timing_row(const char *what, uint64_t *samples, unsigned count, double unit)
{
    qsort(samples, count, sizeof(samples[0]), timing_rising);
    const struct timing_spread spread = {
        (double)timing_quantile(samples, count, 500) / unit,
        (double)timing_quantile(samples, count, 990) / unit};
    (void)printf("| %s | %.1f | %.1f | %u |\n", what, spread.p50, spread.p99, count);
    return spread;
}

static inline void timing_head(const char *what, const char *unit)
{
    (void)printf("\n| %s | p50 %s | p99 %s | n |\n| --- | --- | --- | --- |\n", what,
                 unit, unit);
}

/* How much of theirs is ours. */
static inline void
timing_ratio(struct timing_spread ours, struct timing_spread theirs, const char *goal)
{
    (void)printf("\n%.3fx at p50, %.3fx at p99 (goal: %s).\n", ours.p50 / theirs.p50,
                 ours.p99 / theirs.p99, goal);
    (void)fflush(stdout);
}

/* As QEMU and berth-vmm see it: which tier of tests this machine is. */
static inline const char *timing_tier(const char *kvm_kind)
{
    return strcmp(kvm_kind, "native") == 0
               ? "T2 (native KVM)"
               : "T1 (an emulated KVM: it interprets the guest's kernel mode)";
}
