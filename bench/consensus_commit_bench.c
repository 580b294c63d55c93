/* Commit throughput and latency of three voters in one process, on one loop, over
 * loopback with encrypted channels and real folders: rates and p50/p99/p99.9 by the
 * number of outstanding proposals.
 *
 *   consensus_commit_bench [folder] [proposals per row]
 *
 * All three voters' work (three logs, three times the cryptography) is done by one thread
 * here; three hosts share it. The disk's own profile is printed first: read the rates
 * together with it.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/require.h"
#include "consensus/consensus.h"

#include <sodium.h>
#include <uv.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VOTERS       3
#define BASE_PORT    21950
#define COMMAND_SIZE 256
#define TIMEOUT_MS   20000
#define SYNCS        200

struct voter {
    struct consensus *consensus;
    char address[32];
    char folder[512];
    uint64_t applied;
    bool leads;
};

static uv_loop_t *loop;
static struct voter voters[VOTERS + 1];
static uint8_t secret_keys[VOTERS + 1][32];
static uint8_t public_keys[VOTERS + 1][32];
static unsigned closed;

/* One row of the table. */
static struct {
    uint64_t *sent_ns; /* ring of the outstanding ones */
    uint64_t *latency_ns;
    unsigned done;
    unsigned sent;
    unsigned total;
    unsigned failed;
} run;

static void apply(void *context,
                  uint64_t index,
                  const void *data,
                  size_t size,
                  struct consensus_result *ret_result)
{
    struct voter *voter = context;
    (void)index;
    (void)data;
    (void)size;
    (void)ret_result;
    voter->applied++;
}

static int snapshot(void *context, uint8_t **ret_data, size_t *ret_size)
{
    struct voter *voter = context;
    *ret_data = malloc(sizeof(voter->applied));
    REQUIRE(*ret_data != NULL);
    memcpy(*ret_data, &voter->applied, sizeof(voter->applied));
    *ret_size = sizeof(voter->applied);
    return 0;
}

static int restore(void *context, const void *data, size_t size)
{
    struct voter *voter = context;
    REQUIRE(size == sizeof(voter->applied));
    memcpy(&voter->applied, data, size);
    return 0;
}

static bool peer_of(void *context, const uint8_t public_key[32], uint64_t *ret_id)
{
    (void)context;
    for (uint64_t id = 1; id <= VOTERS; id++) {
        if (memcmp(public_keys[id], public_key, 32) == 0) {
            *ret_id = id;
            return true;
        }
    }
    return false;
}

static bool key_of(void *context, uint64_t id, uint8_t ret_public_key[32])
{
    (void)context;
    if (id == 0 || id > VOTERS) {
        return false;
    }
    memcpy(ret_public_key, public_keys[id], 32);
    return true;
}

static void on_leadership(void *context, bool is_leader, uint64_t term)
{
    struct voter *voter = context;
    (void)term;
    voter->leads = is_leader;
}

static void on_fatal(void *context, const struct err *why)
{
    (void)context;
    (void)fprintf(stderr, "fatal: %s\n", why->text);
    exit(1);
}

static void fail_on(int r, const struct err *err)
{
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", err_name(r), err->text);
        exit(1);
    }
}

static void open_voter(uint64_t id, const char *folder)
{
    struct voter *voter = &voters[id];
    struct err err = {0};
    (void)snprintf(voter->folder, sizeof(voter->folder), "%s/voter-%u", folder,
                   (unsigned)id);
    (void)snprintf(voter->address, sizeof(voter->address), "127.0.0.1:%u",
                   BASE_PORT + (unsigned)id);
    REQUIRE(mkdir(voter->folder, 0700) == 0);
    randombytes_buf(secret_keys[id], 32);
    crypto_scalarmult_base(public_keys[id], secret_keys[id]);
    struct consensus_config config = {.id = id,
                                      .address = voter->address,
                                      .folder = voter->folder,
                                      .secret_key = secret_keys[id],
                                      .peer_of = peer_of,
                                      .key_of = key_of,
                                      .member_stable_ms = 1};
    struct consensus_fsm fsm = {
        .context = voter, .apply = apply, .snapshot = snapshot, .restore = restore};
    struct consensus_events events = {
        .context = voter, .on_leadership = on_leadership, .on_fatal = on_fatal};
    fail_on(consensus_open(loop, &config, &fsm, &events, &voter->consensus, &err), &err);
    if (id == 1) {
        fail_on(consensus_bootstrap(voter->consensus, &err), &err);
    }
    fail_on(consensus_start(voter->consensus, &err), &err);
}

static void on_changed(void *context, int status)
{
    int *ret_status = context;
    *ret_status = status;
}

static void change(uint64_t id, bool promote)
{
    int status = 1;
    int r = 0;
    struct consensus *leader = voters[1].consensus;
    do {
        r = promote ? consensus_promote(leader, id, on_changed, &status)
                    : consensus_add_standby(leader, id, voters[id].address, on_changed,
                                            &status);
        uv_run(loop, UV_RUN_ONCE);
    } while (r == BERTH_EBUSY);
    while (r == 0 && status == 1) {
        uv_run(loop, UV_RUN_ONCE);
    }
    REQUIRE(r == 0 && status == 0);
}

static void propose_next(void);

static void on_done(void *context, int status, const struct consensus_result *result)
{
    uint64_t *sent_ns = context;
    (void)result;
    run.failed += status != 0;
    run.latency_ns[run.done++] = clock_now_ns(clock_system()) - *sent_ns;
    *sent_ns = 0;
    propose_next();
}

static void propose_next(void)
{
    static uint8_t command[COMMAND_SIZE];
    if (run.sent >= run.total) {
        return;
    }
    uint64_t *slot = run.sent_ns;
    while (*slot != 0) {
        slot++;
    }
    *slot = clock_now_ns(clock_system());
    memcpy(command, &run.sent, sizeof(run.sent));
    run.sent++;
    REQUIRE(consensus_propose(voters[1].consensus, command, sizeof(command), TIMEOUT_MS,
                              on_done, slot) == 0);
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static double percentile_ms(double share)
{
    size_t at = (size_t)((double)(run.total - 1) * share);
    return (double)run.latency_ns[at] / 1e6;
}

static void measure(unsigned outstanding, unsigned total)
{
    struct consensus_counters before;
    struct consensus_counters after;
    memset(&run, 0, sizeof(run));
    run.total = total;
    run.sent_ns = calloc(outstanding + 1, sizeof(uint64_t));
    run.latency_ns = calloc(total, sizeof(uint64_t));
    REQUIRE(run.sent_ns != NULL && run.latency_ns != NULL);
    consensus_counters(voters[1].consensus, &before);
    uint64_t start_ns = clock_now_ns(clock_system());
    for (unsigned i = 0; i < outstanding; i++) {
        propose_next();
    }
    while (run.done < total) {
        uv_run(loop, UV_RUN_ONCE);
    }
    double seconds = (double)(clock_now_ns(clock_system()) - start_ns) / 1e9;
    consensus_counters(voters[1].consensus, &after);
    qsort(run.latency_ns, total, sizeof(uint64_t), compare);
    (void)printf("%11u %10.0f %9.2f %9.2f %9.2f %11.1f %7u\n", outstanding,
                 (double)total / seconds, percentile_ms(0.5), percentile_ms(0.99),
                 percentile_ms(0.999),
                 (double)(after.proposals - before.proposals) /
                     (double)(after.entries - before.entries),
                 run.failed);
    free(run.sent_ns);
    free(run.latency_ns);
}

/* How long one flushed 4 KiB write takes, in the way etcd's log and in the way libraft's
 * does it. */
static void measure_disk(const char *folder, const char *name, int flags, bool sync)
{
    char path[600];
    uint64_t took_ns[SYNCS];
    void *block = aligned_alloc(4096, 4096);
    REQUIRE(block != NULL);
    memset(block, 1, 4096);
    (void)snprintf(path, sizeof(path), "%s/probe", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, (off_t)4096 * SYNCS) != 0) {
        (void)printf("disk: %s: not possible here\n", name);
        free(block);
        fd_close(&fd);
        return;
    }
    for (unsigned i = 0; i < SYNCS; i++) {
        uint64_t start_ns = clock_now_ns(clock_system());
        REQUIRE(pwrite(fd, block, 4096, (off_t)4096 * i) == 4096);
        REQUIRE(!sync || fdatasync(fd) == 0);
        took_ns[i] = clock_now_ns(clock_system()) - start_ns;
    }
    qsort(took_ns, SYNCS, sizeof(uint64_t), compare);
    (void)printf("disk: %s: p50 %.2f ms, p99 %.2f ms\n", name,
                 (double)took_ns[SYNCS / 2] / 1e6,
                 (double)took_ns[SYNCS * 99 / 100] / 1e6);
    fd_close(&fd);
    (void)unlink(path);
    free(block);
}

static void on_closed(void *context)
{
    (void)context;
    closed++;
}

int main(int argc, char **argv)
{
    static const unsigned rows[] = {1, 16, 64, 256, 1024};
    char folder[256];
    unsigned total = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 20000;
    (void)snprintf(folder, sizeof(folder), "%s/berth-bench-XXXXXX",
                   argc > 1 ? argv[1] : "/tmp");
    log_setup(LOG_LEVEL_ERROR, false);
    loop = uv_default_loop();
    if (sodium_init() < 0 || mkdtemp(folder) == NULL || total == 0) {
        (void)fprintf(stderr, "usage: consensus_commit_bench [folder] [proposals]\n");
        return 1;
    }
    measure_disk(folder, "write + fdatasync", 0, true);
    measure_disk(folder, "O_DIRECT | O_DSYNC", O_DIRECT | O_DSYNC, false);
    open_voter(1, folder);
    while (!voters[1].leads) {
        uv_run(loop, UV_RUN_ONCE);
    }
    for (uint64_t id = 2; id <= VOTERS; id++) {
        open_voter(id, folder);
        change(id, false);
        change(id, true);
    }
    (void)printf("%11s %10s %9s %9s %9s %11s %7s\n", "outstanding", "commits/s", "p50 ms",
                 "p99 ms", "p99.9 ms", "per entry", "failed");
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        measure(rows[i], rows[i] == 1 ? total / 10 : total);
    }
    for (uint64_t id = 1; id <= VOTERS; id++) {
        consensus_close(voters[id].consensus, false, on_closed, NULL);
    }
    while (closed < VOTERS) {
        uv_run(loop, UV_RUN_ONCE);
    }
    (void)fd_remove_tree(folder, NULL); /* a probe's leftovers harm nobody */
    return 0;
}
