/* tests/sim/rack: runs seeds, shrinks and shows the failing ones. See --help. */
#include "base/parse_number.h"
#include "sim.h"
#include "sim_fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINES_SHOWN 400
#define JOBS_MAX    64

struct options {
    uint64_t seed;
    uint64_t runs;
    uint64_t mask;
    bool has_mask;
    bool telling;
    bool quiet;
    bool shrinks;
    bool until_failure;
    uint64_t jobs;
    uint64_t faults_ms;
    uint64_t voters; /* 0: by the seed */
    uint64_t hosts;
    bool log_only;
    bool members; /* change, whatever the seed */
    bool late;    /* likewise, hosts come back with old orders */
    enum sim_bug bug;
};

struct totals {
    uint64_t runs, failed, virtual_ns, events;
    uint64_t traces; /* of all, in any order */
    struct sim_stats stats;
};

static const char usage[] =
    "usage: rack [--seed N] [--runs K] [options]\n"
    "\n"
    "Runs a simulated rack under K schedules of faults, from seed N on, and checks "
    "every\n"
    "promise. A failing seed is shrunk and told as a timeline. The same seed gives the "
    "same\n"
    "run.\n"
    "\n"
    "  --seed N        the first seed (1)\n"
    "  --runs K        how many (1)\n"
    "  --faults-ms T   how long faults go on in each (20000, log 12000, members 32000);\n"
    "                  then they recover\n"
    "  --voters N      1, 3 or 5 (default: by the seed)\n"
    "  --hosts N       hosts without the log (3)\n"
    "  --log           only the log and its clients, no VMs\n"
    "  --members       members change in every seed, not in each third\n"
    "  --late          hosts come back with old orders in every seed, not in some\n"
    "  --only I,J,...  these faults of the seed only, as a shrunk run says\n"
    "  --bug NAME      with a mistake put in: bare ack-before-fsync no-leader-wait\n"
    "                  lease-from-ack old-orders old-start no-epoch-check\n"
    "                  resume-late no-fence drop-at-restart no-keep disks-anew\n"
    "                  disks-forgotten feed-gap resume-skips no-compare seal-unwaited\n"
    "                  damage-as-torn log-anew early-voter two-at-once standby-counts\n"
    "  --trace         tell the timeline of every run\n"
    "  --no-shrink     show a failing seed as it is\n"
    "  --jobs N        runs at a time (1)\n"
    "  --until-failure stop at the first failing seed\n"
    "  --quiet         only the last line\n"
    "\n"
    "Exit: 0 all promises kept, 1 a violation, 2 wrong usage.\n";

static struct sim_config config_of(const struct options *options, uint64_t seed)
{
    struct sim_config config = options->members ? sim_config_changing(seed)
                               : options->late  ? sim_config_late(seed)
                                                : sim_config_of(seed, !options->log_only);
    config.bug = options->bug;
    config.telling = options->telling;
    if (options->faults_ms != 0) {
        config.faults_ms = options->faults_ms;
    }
    config.hosts = config.rack ? (unsigned)options->hosts : 0;
    config.members = config.members && config.hosts > 0;
    config.spares = config.members ? config.spares : 0;
    if (options->voters != 0) {
        config.voters = (unsigned)options->voters;
    }
    return config;
}

/* What a run in a process of its own leaves behind. */
struct outcome {
    bool good;
    uint64_t virtual_ns;
    uint64_t events;
    uint64_t trace;
    struct sim_stats stats;
    char failure[WORLD_FAILURE_MAX];
};

struct job {
    pid_t pid; /* 0: free */
    struct sim_config config;
    struct sim_fault_list faults;
    struct outcome *outcome; /* shared */
};

static void add_outcome(struct totals *totals, const struct outcome *outcome)
{
    const uint64_t *from = (const uint64_t *)&outcome->stats;
    uint64_t *to = (uint64_t *)&totals->stats;
    for (size_t i = 0; i < sizeof(outcome->stats) / sizeof(uint64_t); i++) {
        to[i] += from[i];
    }
    totals->runs++;
    totals->failed += outcome->good ? 0U : 1U;
    totals->virtual_ns += outcome->virtual_ns;
    totals->events += outcome->events;
    totals->traces += outcome->trace;
}

static struct outcome *outcome_new(void)
{
    void *memory = mmap(NULL, sizeof(struct outcome), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("rack: mmap");
        exit(2);
    }
    return memory;
}

static void run_here(const struct job *job, uint64_t mask, unsigned lines)
{
    struct outcome *outcome = job->outcome;
    struct sim *sim = sim_new(&job->config, &job->faults, mask);
    outcome->good = sim_run(sim);
    outcome->virtual_ns = sim->world.now_ns;
    outcome->events = sim->world.events_run;
    outcome->stats = sim->stats;
    outcome->trace = sim_trace(sim);
    (void)snprintf(outcome->failure, sizeof(outcome->failure), "%s", sim->world.failure);
    world_print(&sim->world, lines);
    sim_free(sim);
}

/* Forked: a crash is a broken promise like any other, and ends one run only. */
static void job_start(struct job *job, uint64_t mask, unsigned lines)
{
    *job->outcome = (struct outcome){0};
    fflush(stdout);
    job->pid = fork();
    if (job->pid == 0) {
        run_here(job, mask, lines);
        fflush(stdout);
        _exit(0);
    }
}

static void job_end(struct job *job, int status)
{
    struct outcome *outcome = job->outcome;
    job->pid = 0;
    if (status == 0) {
        return;
    }
    outcome->good = false;
    (void)snprintf(outcome->failure, sizeof(outcome->failure), "the rack crashed (%s %d)",
                   WIFSIGNALED(status) ? "signal" : "exit",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static bool run_alone(struct job *job, uint64_t mask, unsigned lines)
{
    int status = 0;
    job_start(job, mask, lines);
    (void)waitpid(job->pid, &status, 0);
    job_end(job, status);
    return job->outcome->good;
}

/* Takes faults away, halves first, as long as it still fails. */
static uint64_t shrink(struct job *job, uint64_t mask)
{
    unsigned count = job->faults.count;
    for (unsigned size = count / 2; size > 0; size /= 2) {
        for (unsigned at = 0; at < count; at += size) {
            uint64_t chunk = ((UINT64_C(1) << size) - 1) << at;
            if ((mask & chunk) != 0 && !run_alone(job, mask & ~chunk, 0)) {
                mask &= ~chunk;
            }
        }
    }
    return mask;
}

static void print_again(const struct job *job, uint64_t mask)
{
    const struct sim_config *config = &job->config;
    char text[128];
    printf("\nfaults that are needed:\n");
    for (unsigned i = 0; i < job->faults.count; i++) {
        if ((mask >> i & 1) != 0) {
            sim_fault_print(&job->faults.items[i], text, sizeof(text));
            printf("  %2u  %s\n", i, text);
        }
    }
    printf(
        "again: rack%s --seed %llu --faults-ms %llu --voters %u --bug %s --trace --only ",
        !config->rack     ? " --log"
        : config->members ? " --members"
        : config->late    ? " --late"
                          : "",
        (unsigned long long)config->seed, (unsigned long long)config->faults_ms,
        config->voters, sim_bug_names[config->bug]);
    const char *comma = "";
    for (unsigned i = 0; i < job->faults.count; i++) {
        if ((mask >> i & 1) != 0) {
            printf("%s%u", comma, i);
            comma = ",";
        }
    }
    printf("\n\n");
}

static void show(const struct options *options, struct job *job, uint64_t mask)
{
    printf("seed %llu FAILED: %s\n", (unsigned long long)job->config.seed,
           job->outcome->failure);
    if (options->quiet) {
        return;
    }
    if (options->shrinks) {
        mask = shrink(job, mask);
    }
    job->config.telling = true;
    (void)run_alone(job, mask, LINES_SHOWN);
    print_again(job, mask);
}

/* ---- words of the command line ---- */

static bool parse_only(struct options *options, const char *text)
{
    options->has_mask = true;
    options->mask = 0;
    while (*text != '\0') {
        char *end = NULL;
        unsigned long bit = strtoul(text, &end, 10);
        if (end == text || bit >= SIM_FAULTS_MAX) {
            return false;
        }
        options->mask |= UINT64_C(1) << bit;
        text = *end == ',' ? end + 1 : end;
    }
    return true;
}

static bool parse_bug(struct options *options, const char *text)
{
    for (unsigned i = 0; i < SIM_BUG_COUNT; i++) {
        if (strcmp(text, sim_bug_names[i]) == 0) {
            options->bug = (enum sim_bug)i;
            return true;
        }
    }
    return false;
}

static bool parse_value(struct options *options, const char *name, const char *value)
{
    char *end = NULL;
    uint64_t number = strtoull(value, &end, 10);
    if (strcmp(name, "--bug") == 0) {
        return parse_bug(options, value);
    }
    if (strcmp(name, "--only") == 0) {
        return parse_only(options, value);
    }
    if (*value == '\0' || *end != '\0') {
        return false;
    }
    if (strcmp(name, "--seed") == 0) {
        options->seed = number;
    } else if (strcmp(name, "--runs") == 0) {
        options->runs = number;
    } else if (strcmp(name, "--faults-ms") == 0) {
        options->faults_ms = number;
    } else if (strcmp(name, "--hosts") == 0) {
        options->hosts = number;
    } else if (strcmp(name, "--jobs") == 0) {
        options->jobs = number;
    } else if (strcmp(name, "--voters") == 0) {
        options->voters = number;
    } else {
        return false;
    }
    return true;
}

static bool parse(struct options *options, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) {
            options->telling = true;
        } else if (strcmp(argv[i], "--log") == 0) {
            options->log_only = true;
        } else if (strcmp(argv[i], "--members") == 0) {
            options->members = true;
        } else if (strcmp(argv[i], "--late") == 0) {
            options->late = true;
        } else if (strcmp(argv[i], "--quiet") == 0) {
            options->quiet = true;
        } else if (strcmp(argv[i], "--until-failure") == 0) {
            options->until_failure = true;
        } else if (strcmp(argv[i], "--no-shrink") == 0) {
            options->shrinks = false;
        } else if (i + 1 >= argc || !parse_value(options, argv[i], argv[i + 1])) {
            return false;
        } else {
            i++;
        }
    }
    return (options->faults_ms == 0 || options->faults_ms >= 2000) &&
           options->faults_ms <= 600000 && options->voters <= 5 && options->hosts <= 6 &&
           options->jobs > 0 && options->jobs <= JOBS_MAX;
}

/* Of the runs: other work on the machine is not counted. */
static double cpu_seconds(void)
{
    struct rusage used;
    (void)getrusage(RUSAGE_CHILDREN, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void sum_up(const struct totals *totals, double took)
{
    const struct sim_stats *stats = &totals->stats;
    double virtual_s = (double)totals->virtual_ns / 1e9;
    printf("%llu runs, %llu failed; %.1f s of rack time in %.2f s of CPU: %.0f times "
           "real time, "
           "%.1f runs/s, %.0f events/s\n",
           (unsigned long long)totals->runs, (unsigned long long)totals->failed,
           virtual_s, took, virtual_s / took, (double)totals->runs / took,
           (double)totals->events / took);
    printf("trace of all %016llx: the same seeds give the same\n",
           (unsigned long long)totals->traces);
    printf(
        "faults %llu, deaths %llu, leaders %llu, packets %llu; writes acked %llu, reads "
        "%llu, retries %llu, unknown %llu, logs refused %llu\n",
        (unsigned long long)stats->faults, (unsigned long long)stats->crashes,
        (unsigned long long)stats->leaders, (unsigned long long)stats->packets,
        (unsigned long long)stats->acked, (unsigned long long)stats->reads,
        (unsigned long long)stats->retries, (unsigned long long)stats->unknown,
        (unsigned long long)stats->refusals_to_start);
    printf("VMs started %llu (%llu with kept disks), frozen %llu, ended by lease %llu; "
           "kept disks given up %llu, disks removed %llu\n",
           (unsigned long long)stats->vm_starts,
           (unsigned long long)stats->vm_disk_starts,
           (unsigned long long)stats->vm_freezes, (unsigned long long)stats->vm_kills,
           (unsigned long long)stats->disks_given_up,
           (unsigned long long)stats->disks_removed);
    printf("changes told to watches %llu; watches gone on %llu, reset %llu; histories "
           "%llu, undecided %llu\n",
           (unsigned long long)stats->watch_events,
           (unsigned long long)stats->watch_resumes,
           (unsigned long long)stats->watch_resets, (unsigned long long)stats->histories,
           (unsigned long long)stats->undecided);
    printf(
        "machines or logs gone %llu, machines joined %llu, changes of voters %llu (%llu "
        "new ones)\n",
        (unsigned long long)stats->gone, (unsigned long long)stats->joined,
        (unsigned long long)stats->changes, (unsigned long long)stats->replaced);
}

/* ---- many runs ---- */

static void job_prepare(struct job *job, const struct options *options, uint64_t seed)
{
    job->config = config_of(options, seed);
    sim_faults_make(&job->config, &job->faults);
}

static struct job *job_of(struct job *jobs, uint64_t count, pid_t pid)
{
    for (uint64_t i = 0; i < count; i++) {
        if (jobs[i].pid == pid) {
            return &jobs[i];
        }
    }
    return NULL;
}

static void run_all(const struct options *options, struct totals *totals)
{
    struct job jobs[JOBS_MAX] = {0};
    uint64_t mask = options->has_mask ? options->mask : UINT64_MAX;
    uint64_t started = 0;
    for (uint64_t i = 0; i < options->jobs; i++) {
        jobs[i].outcome = outcome_new();
    }
    for (uint64_t ended = 0; ended < options->runs;) {
        struct job *job = job_of(jobs, options->jobs, 0);
        if (job != NULL && started < options->runs) {
            job_prepare(job, options, options->seed + started++);
            job_start(job, mask, options->telling ? WORLD_LINES_MAX : 0);
            continue;
        }
        int status = 0;
        pid_t pid = waitpid(-1, &status, 0);
        job = job_of(jobs, options->jobs, pid);
        job_end(job, status);
        ended++;
        add_outcome(totals, job->outcome);
        if (!job->outcome->good) {
            show(options, job, mask);
        }
        if (!job->outcome->good && options->until_failure) {
            break;
        }
    }
    for (uint64_t i = 0; i < options->jobs; i++) {
        if (jobs[i].pid > 0) {
            (void)waitpid(jobs[i].pid, NULL, 0);
        }
        (void)munmap(jobs[i].outcome, sizeof(struct outcome));
    }
}

int main(int argc, char **argv)
{
    struct options options = {
        .seed = 1, .runs = 1, .jobs = 1, .hosts = 3, .shrinks = true, .faults_ms = 0};
    struct totals totals = {0};
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (!parse(&options, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    run_all(&options, &totals);
    sum_up(&totals, cpu_seconds());
    return totals.failed == 0 ? 0 : 1;
}
