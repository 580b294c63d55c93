/* chaos: what a run under faults needs besides the shell. Usage: see below. */
#include "agent/identity.h"
#include "agent/rebirth.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse_number.h"
#include "base/require.h"
#include "chaos_check.h"
#include "chaos_load.h"
#include "chaos_settle.h"
#include "chaos_shim.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PATH_SIZE 512

static const char usage[] =
    "usage: chaos load FOLDER SEED SECONDS  clients, until stdin ends; then all has to\n"
    "                                       come right within SECONDS\n"
    "       chaos check FOLDER              the checks over what was written down\n"
    "       chaos states FOLDER...          the states of voters' folders have to be "
    "equal\n"
    "       chaos shim FILE KEY=VALUE...    wall_s, delay_ms, fail (0, or an errno)\n"
    "In FOLDER: rack (lines \"NAME ADDRESS\"), tokens (a line each), history, vms/NAME,\n"
    "offsets (lines \"NAME NANOSECONDS\").\n";

static FILE *open_in(const char *folder, const char *name, const char *mode)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return fopen(path, mode);
}

/* ---- load ---- */

static void read_rack(struct chaos_load *load, const char *folder)
{
    FILE *rack = open_in(folder, "rack", "re");
    FILE *tokens = open_in(folder, "tokens", "re");
    REQUIRE(rack != NULL && tokens != NULL);
    while (load->rack.count < CHAOS_HOSTS_MAX &&
           fscanf(rack, "%31s %31s", load->rack.names[load->rack.count],
                  load->rack.addresses[load->rack.count]) == 2) {
        load->rack.count++;
    }
    REQUIRE(load->rack.count > 0);
    for (unsigned i = 0; i < CHAOS_CLIENTS; i++) {
        REQUIRE(fscanf(tokens, "%127s", load->tokens[i]) == 1);
    }
    (void)fclose(rack);
    (void)fclose(tokens);
}

static int load_main(const char *folder, uint64_t seed, unsigned bound_s)
{
    static struct chaos_load load;
    static struct chaos_client clients[CHAOS_CLIENTS];
    static const struct {
        unsigned count;
        void *(*main)(void *client);
    } kinds[] = {
        {CHAOS_WRITERS, chaos_write_on},
        {CHAOS_READERS, chaos_read_on},
        {CHAOS_USERS, chaos_use_on},
        {CHAOS_WATCHES, chaos_watch_on},
    };
    unsigned next = 0;
    char sink[64];
    read_rack(&load, folder);
    load.history = open_in(folder, "history", "ae");
    REQUIRE(load.history != NULL);
    chaos_http_init();
    for (unsigned i = 0; i < CHAOS_CLIENTS; i++) {
        clients[i].load = &load;
        clients[i].actor = i;
        clients[i].wire = chaos_wire_new(&load.rack, load.tokens[i]);
        random_seed(&clients[i].random, seed * CHAOS_CLIENTS + i + 1);
    }
    for (size_t kind = 0; kind < ARRAY_COUNT(kinds); kind++) {
        for (unsigned i = 0; i < kinds[kind].count; i++, next++) {
            REQUIRE(pthread_create(&clients[next].thread, NULL, kinds[kind].main,
                                   &clients[next]) == 0);
        }
    }
    while (read(STDIN_FILENO, sink, sizeof(sink)) > 0) {
    }
    unsigned workers = CHAOS_WRITERS + CHAOS_READERS + CHAOS_USERS;
    bool good = chaos_settle(&load, clients, workers, bound_s);
    (void)fflush(stdout);
    atomic_store(&load.over, true);
    atomic_store(&load.settled, true);
    if (!good) {
        _exit(1); /* threads may hang in what failed */
    }
    for (unsigned i = 0; i < next; i++) {
        if (i >= workers) {
            REQUIRE(pthread_join(clients[i].thread, NULL) == 0);
        }
    }
    for (unsigned i = 0; i < CHAOS_CLIENTS; i++) {
        clients[i].wire = chaos_wire_free(clients[i].wire);
    }
    (void)fclose(load.history);
    return 0;
}

/* ---- check ---- */

static int check_main(const char *folder)
{
    struct history history = {0};
    struct vm_runs runs = {0};
    struct chaos_report report = {.stream = stdout};
    char path[PATH_SIZE];
    char host[32];
    int64_t offset_ns;
    (void)snprintf(path, sizeof(path), "%s/history", folder);
    history_read(&history, path);
    FILE *offsets = open_in(folder, "offsets", "re");
    REQUIRE(offsets != NULL);
    while (fscanf(offsets, "%31s %" SCNd64, host, &offset_ns) == 2) {
        (void)snprintf(path, sizeof(path), "%s/vms/%s", folder, host);
        vm_runs_read(&runs, path, host, offset_ns);
    }
    (void)fclose(offsets);
    chaos_check_matter(&history, &runs, &report);
    history_check(&history, &report);
    vm_runs_check(&runs, &report);
    printf("%u faults found\n", report.faults);
    history_fini(&history);
    vm_runs_fini(&runs);
    return report.faults > 0 ? 1 : 0;
}

/* ---- states ---- */

struct voter_state {
    uint64_t revision;
    uint64_t hash;
};

static bool read_state(const char *folder, struct voter_state *ret_state)
{
    struct identity identity;
    struct rebirth_log log = {0};
    struct err err = {0};
    if (identity_open(folder, &identity, &err) < 0 ||
        rebirth_look(&identity, &log, &err) < 0) {
        printf("FAULT: %s: %s\n", folder, err.text);
        return false;
    }
    *ret_state = (struct voter_state){state_revision(log.state), state_hash(log.state)};
    printf("state: %s index %" PRIu64 " revision %" PRIu64 " hash %016" PRIx64 "\n",
           identity.name, log.facts.last_index, ret_state->revision, ret_state->hash);
    rebirth_log_fini(&log);
    identity_fini(&identity);
    return true;
}

/* Each log is replayed to its end, which some reached with an entry more than others, as
 * daemons do not end at the same moment: a majority has to be at one revision. */
static int states_main(int count, char **folders)
{
    struct voter_state states[CHAOS_HOSTS_MAX];
    int faults = 0;
    int most = 0;
    REQUIRE(count <= CHAOS_HOSTS_MAX);
    for (int i = 0; i < count; i++) {
        states[i] = (struct voter_state){0};
        faults += read_state(folders[i], &states[i]) ? 0 : 1;
    }
    for (int i = 0; i < count; i++) {
        int equal = 0;
        for (int k = 0; k < count; k++) {
            if (states[i].revision == states[k].revision) {
                equal += states[i].hash == states[k].hash ? 1 : 0;
                faults += states[i].hash == states[k].hash ? 0 : 1;
            }
        }
        most = equal > most ? equal : most;
    }
    if (most * 2 <= count) {
        faults++;
    }
    printf("states: %d of %d are equal%s\n", most, count,
           faults > 0 ? ", FAULT: others differ at the same revision, or too many do"
                      : "");
    return faults > 0 ? 1 : 0;
}

/* ---- shim ---- */

static int shim_main(const char *path, int count, char **settings)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct chaos_shim *shim =
        fd >= 0 && ftruncate(fd, sizeof(*shim)) == 0
            ? mmap(NULL, sizeof(*shim), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
            : MAP_FAILED;
    if (shim == MAP_FAILED) {
        fprintf(stderr, "chaos: %s: %s\n", path, strerror(errno));
        return 1;
    }
    for (int i = 0; i < count; i++) {
        long long value = 0;
        if (sscanf(settings[i], "wall_s=%lld", &value) == 1) {
            atomic_store(&shim->wall_s, value);
        } else if (sscanf(settings[i], "delay_ms=%lld", &value) == 1) {
            atomic_store(&shim->delay_ms, value);
        } else if (sscanf(settings[i], "fail=%lld", &value) == 1) {
            atomic_store(&shim->fail, value);
        } else {
            fputs(usage, stderr);
            return 2;
        }
    }
    (void)close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t seed = 0;
    uint64_t bound_s = 0;
    log_setup(LOG_LEVEL_WARN, false);
    if (argc == 5 && strcmp(argv[1], "load") == 0 &&
        parse_u64(argv[3], &seed, NULL) == 0 && parse_u64(argv[4], &bound_s, NULL) == 0) {
        return load_main(argv[2], seed, (unsigned)bound_s);
    }
    if (argc == 3 && strcmp(argv[1], "check") == 0) {
        return check_main(argv[2]);
    }
    if (argc >= 3 && strcmp(argv[1], "states") == 0) {
        return states_main(argc - 2, argv + 2);
    }
    if (argc >= 4 && strcmp(argv[1], "shim") == 0) {
        return shim_main(argv[2], argc - 3, argv + 3);
    }
    fputs(usage, stderr);
    return 2;
}
