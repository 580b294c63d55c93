/* tests/sim/rack: runs seeds, shrinks and shows the failing ones. See --help. */
#include "rack_save.h"
#include "rack_totals.h"
#include "sim.h"
#include "sim_fault.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define LINES_SHOWN    400
#define JOBS_MAX       64
#define RUNS_MAX       10000000
#define RUNS_A_PROCESS 25
#define ONLY_NONE      "none"
#define HOSTS          3 /* where nobody says otherwise */

struct options {
    uint64_t seed;
    uint64_t runs;
    uint64_t mask;
    bool has_mask;
    bool telling;
    bool quiet;
    bool shrinks;
    bool until_failure;
    uint64_t jobs; /* 0: as many as fit */
    const char *save;
    uint64_t faults_ms;
    uint64_t voters; /* 0: by the seed */
    uint64_t hosts;
    bool log_only;
    bool members; /* change, whatever the seed */
    bool late;    /* likewise, hosts come back with old orders */
    enum sim_bug bug;
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
    "  --runs K        how many (1), at least one\n"
    "  --faults-ms T   how long faults go on in each (20000, log 12000, members 32000);\n"
    "                  then they recover\n"
    "  --voters N      1, 3 or 5 (default: by the seed)\n"
    "  --hosts N       hosts without the log (3), at most 6\n"
    "  --log           only the log and its clients, no VMs\n"
    "  --members       members change in every seed, not in each third\n"
    "  --late          hosts come back with old orders in every seed, not in some\n"
    "  --only I,J,...  these faults of the seed only, as a shrunk run says; or none\n"
    "  --bug NAME      with a mistake put in: bare ack-before-fsync no-leader-wait\n"
    "                  lease-from-ack old-orders old-start unknown-is-over\n"
    "                  no-epoch-check\n"
    "                  resume-late no-fence drop-at-restart no-keep disks-anew\n"
    "                  disks-forgotten feed-gap resume-skips no-compare seal-unwaited\n"
    "                  damage-as-torn log-anew early-voter two-at-once standby-counts\n"
    "                  begun-unsaid loss-unsaid change-stays change-missed\n"
    "                  never-asks stale-read own-clock slow-election\n"
    "  --trace         tell the timeline of every run\n"
    "  --no-shrink     show a failing seed as it is\n"
    "  --jobs N        runs at a time (1; with --save as many as there are cores)\n"
    "  --save FILE     what is through is kept in FILE, and not run again by the next "
    "rack\n"
    "                  with the same FILE, build and runs (more of them, too); at a low\n"
    "                  priority; ends with tables\n"
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

/* ---- runs in a process of their own ---- */

/* What it leaves behind, in shared memory. */
struct outcome {
    struct rack_totals totals; /* of the runs that came to an end */
    uint64_t seed;             /* the last one begun */
    bool failed;               /* that one, for this: */
    char failure[WORLD_FAILURE_MAX];
};

/* A row of seeds, some a process. */
struct job {
    pid_t pid; /* 0: none */
    uint64_t first, next, end;
    struct rack_totals totals;
    struct outcome *outcome;
};

/* One seed, which may be run with fewer of its faults. */
struct attempt {
    struct sim_config config;
    struct sim_fault_list faults;
    struct outcome *outcome;
};

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

static void
attempt_prepare(struct attempt *attempt, const struct options *options, uint64_t seed)
{
    attempt->config = config_of(options, seed);
    sim_faults_make(&attempt->config, &attempt->faults);
}

/* What the process that runs now has to tell should it crash. */
static struct {
    const struct world *world;
    unsigned lines;
} dying;

/* Only calls that a signal may make, and no heap, which may be what broke. */
static void tell_crash(void)
{
    const struct world *world = dying.world;
    const uint64_t held =
        world->line_count < WORLD_LINES_MAX ? world->line_count : WORLD_LINES_MAX;
    const uint64_t shown = held < dying.lines ? held : dying.lines;
    for (uint64_t i = world->line_count - shown; i < world->line_count; i++) {
        const char *line = world->lines[i % WORLD_LINES_MAX];
        if (write(STDOUT_FILENO, line, strnlen(line, WORLD_LINE_MAX)) < 0 ||
            write(STDOUT_FILENO, "\n", 1) < 0) {
            break; /* nobody reads it */
        }
    }
}

static void on_crash(int number)
{
    tell_crash();
    (void)raise(number); /* by now with what it does else: the end */
}

/* The timeline is what it is until the crash. What has been printed is out: fork_for. */
static void tell_should_it_crash(const struct sim *sim, unsigned lines)
{
    static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND};
    if (!sim->world.telling) {
        return;
    }
    dying.world = &sim->world;
    dying.lines = lines;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        (void)sigaction(numbers[i], &action, NULL); /* these numbers are good */
    }
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(tell_crash); /* it ends without a signal */
#endif
}

static bool run_here(const struct attempt *attempt, uint64_t mask, unsigned lines)
{
    struct outcome *outcome = attempt->outcome;
    outcome->seed = attempt->config.seed;
    struct sim *sim = sim_new(&attempt->config, &attempt->faults, mask);
    tell_should_it_crash(sim, lines);
    bool good = sim_run(sim);
    rack_totals_add_run(&outcome->totals, sim, good);
    if (!good) {
        outcome->failed = true;
        (void)snprintf(outcome->failure, sizeof(outcome->failure), "%s",
                       sim->world.failure);
    }
    world_print(&sim->world, lines);
    sim_free(sim);
    return good;
}

/* Forked: a crash is a broken promise like any other, and ends one run only. */
static pid_t fork_for(struct outcome *outcome)
{
    *outcome = (struct outcome){0};
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        perror("rack: fork");
        exit(2);
    }
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody would hear of it */
    }
    return pid;
}

/* Of a process that has ended so. */
static void note_crash(struct outcome *outcome, int status)
{
    if (status == 0) {
        return;
    }
    outcome->failed = true;
    outcome->totals.runs++;
    outcome->totals.failed++;
    (void)snprintf(outcome->failure, sizeof(outcome->failure), "the rack crashed (%s %d)",
                   WIFSIGNALED(status) ? "signal" : "exit",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static bool run_alone(struct attempt *attempt, uint64_t mask, unsigned lines)
{
    int status = 0;
    pid_t pid = fork_for(attempt->outcome);
    if (pid == 0) {
        (void)run_here(attempt, mask, lines);
        fflush(stdout);
        _exit(0);
    }
    (void)waitpid(pid, &status, 0);
    note_crash(attempt->outcome, status);
    return !attempt->outcome->failed;
}

/* One process for several seeds, up to the first that fails: memory is taken from the
 * system once. What is left over from a run would show in the trace. */
static void job_start(struct job *job, const struct options *options)
{
    job->pid = fork_for(job->outcome);
    if (job->pid != 0) {
        return;
    }
    struct attempt attempt = {.outcome = job->outcome};
    uint64_t mask = options->has_mask ? options->mask : UINT64_MAX;
    bool good = true;
    for (uint64_t seed = job->next; seed < job->end && good; seed++) {
        attempt_prepare(&attempt, options, seed);
        good = run_here(&attempt, mask, options->telling ? WORLD_LINES_MAX : 0);
    }
    fflush(stdout);
    _exit(0);
}

/* Takes faults away, halves first, as long as it still fails. */
static uint64_t shrink(struct attempt *attempt, uint64_t mask)
{
    unsigned count = attempt->faults.count;
    for (unsigned size = count / 2; size > 0; size /= 2) {
        for (unsigned at = 0; at < count; at += size) {
            uint64_t chunk = ((UINT64_C(1) << size) - 1) << at;
            if ((mask & chunk) != 0 && !run_alone(attempt, mask & ~chunk, 0)) {
                mask &= ~chunk;
            }
        }
    }
    return mask;
}

/* Of what was given, all that decides what a seed is run with. */
static void print_given(const struct options *options)
{
    printf("again: rack%s%s%s", options->log_only ? " --log" : "",
           options->members ? " --members" : "", options->late ? " --late" : "");
    if (options->faults_ms != 0) {
        printf(" --faults-ms %llu", (unsigned long long)options->faults_ms);
    }
    if (options->voters != 0) {
        printf(" --voters %llu", (unsigned long long)options->voters);
    }
    if (options->hosts != HOSTS) {
        printf(" --hosts %llu", (unsigned long long)options->hosts);
    }
    if (options->bug != SIM_BUG_NONE) {
        printf(" --bug %s", sim_bug_names[options->bug]);
    }
}

static void
print_again(const struct options *options, const struct attempt *attempt, uint64_t mask)
{
    char text[128];
    const char *comma = "";
    printf("\nfaults that are needed:\n");
    for (unsigned i = 0; i < attempt->faults.count; i++) {
        if ((mask >> i & 1) != 0) {
            sim_fault_print(&attempt->faults.items[i], text, sizeof(text));
            printf("  %2u  %s\n", i, text);
        }
    }
    print_given(options);
    printf(" --seed %llu --trace --only ", (unsigned long long)attempt->config.seed);
    for (unsigned i = 0; i < attempt->faults.count; i++) {
        if ((mask >> i & 1) != 0) {
            printf("%s%u", comma, i);
            comma = ",";
        }
    }
    printf("%s\n\n", *comma == '\0' ? ONLY_NONE : "");
}

static void show(const struct options *options, const struct job *job)
{
    struct attempt attempt = {.outcome = outcome_new()};
    uint64_t mask = options->has_mask ? options->mask : UINT64_MAX;
    uint64_t seed = job->outcome->seed;
    printf("seed %llu FAILED: %s\n", (unsigned long long)seed, job->outcome->failure);
    attempt_prepare(&attempt, options, seed);
    if (!options->quiet && run_alone(&attempt, mask, 0)) {
        printf(
            "alone it keeps its promises: what the runs before it leave over matters; ");
        print_given(options);
        printf(" --seed %llu --runs %llu\n", (unsigned long long)job->next,
               (unsigned long long)(seed + 1 - job->next));
    } else if (!options->quiet) {
        mask = options->shrinks ? shrink(&attempt, mask) : mask;
        attempt.config.telling = true;
        (void)run_alone(&attempt, mask, LINES_SHOWN);
        print_again(options, &attempt, mask);
    }
    (void)munmap(attempt.outcome, sizeof(*attempt.outcome));
}

/* ---- words of the command line ---- */

static bool parse_only(struct options *options, const char *text)
{
    options->has_mask = true;
    options->mask = 0;
    if (strcmp(text, ONLY_NONE) == 0) {
        return true;
    }
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
    if (strcmp(name, "--save") == 0) {
        options->save = value;
        return true;
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
    } else if (strcmp(name, "--jobs") == 0 && number > 0) {
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
           options->jobs <= JOBS_MAX && options->runs > 0 && options->runs <= RUNS_MAX &&
           options->seed <= UINT64_MAX - RUNS_MAX;
}

/* ---- many runs ---- */

static struct job *job_of(struct job *jobs, uint64_t count, pid_t pid)
{
    for (uint64_t i = 0; i < count; i++) {
        if (jobs[i].pid == pid) {
            return &jobs[i];
        }
    }
    return NULL;
}

/* What is still to be run: of a save, or a row. */
struct row {
    struct rack_save *save; /* NULL: what is run is known to nobody else */
    uint64_t next, end;
    uint64_t a_process; /* so many seeds */
};

static bool row_take(struct row *row, struct job *job)
{
    uint64_t count = 0;
    if (row->save != NULL) {
        count = rack_save_next(row->save, row->a_process, &job->first);
    } else {
        count =
            row->end - row->next < row->a_process ? row->end - row->next : row->a_process;
        job->first = row->next;
        row->next += count;
    }
    job->next = job->first;
    job->end = job->first + count;
    job->totals = (struct rack_totals){0};
    return count > 0;
}

/* Of the runs: other work on the machine is not counted. */
static uint64_t cpu_us(const struct rusage *used)
{
    return (uint64_t)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) * 1000000 +
           (uint64_t)(used->ru_utime.tv_usec + used->ru_stime.tv_usec);
}

static void save_or_end(bool saved)
{
    if (!saved) {
        exit(2);
    }
}

/* Its process has ended: true when all its seeds are through. */
static bool job_end(const struct options *options,
                    const struct row *row,
                    struct job *job,
                    int status,
                    const struct rusage *used)
{
    struct outcome *outcome = job->outcome;
    job->pid = 0;
    note_crash(outcome, status);
    outcome->totals.cpu_us = cpu_us(used);
    rack_totals_add(&job->totals, &outcome->totals);
    if (outcome->failed) {
        show(options, job);
    }
    if (outcome->failed && row->save != NULL) {
        save_or_end(rack_save_failed(row->save, outcome->seed, outcome->failure));
    }
    job->next = outcome->failed ? outcome->seed + 1 : job->end;
    return job->next == job->end;
}

static void tell_progress(const struct options *options, const struct rack_totals *totals)
{
    uint64_t step =
        options->runs / 100 > RUNS_A_PROCESS ? options->runs / 100 : RUNS_A_PROCESS;
    static uint64_t told;
    if (options->save != NULL && !options->quiet && totals->runs / step != told) {
        told = totals->runs / step;
        printf("%llu of %llu runs, %llu failed\n", (unsigned long long)totals->runs,
               (unsigned long long)options->runs, (unsigned long long)totals->failed);
        fflush(stdout);
    }
}

static void
run_all(const struct options *options, struct row *row, struct rack_totals *totals)
{
    struct job jobs[JOBS_MAX] = {0};
    unsigned busy = 0;
    bool ends = false;
    for (uint64_t i = 0; i < options->jobs; i++) {
        jobs[i].outcome = outcome_new();
    }
    for (;;) {
        struct job *job = job_of(jobs, options->jobs, 0);
        if (!ends && job != NULL && row_take(row, job)) {
            job_start(job, options);
            busy++;
            continue;
        }
        if (busy == 0) {
            break;
        }
        int status = 0;
        struct rusage used;
        pid_t pid = wait4(-1, &status, 0, &used);
        job = job_of(jobs, options->jobs, pid);
        bool through = job_end(options, row, job, status, &used);
        ends = ends || (job->outcome->failed && options->until_failure);
        if (!through && !ends) {
            job_start(job, options);
            continue;
        }
        busy--;
        rack_totals_add(totals, &job->totals);
        if (through && row->save != NULL) {
            save_or_end(rack_save_done(row->save, job->first, job->end - job->first,
                                       &job->totals));
        }
        tell_progress(options, totals);
    }
    for (uint64_t i = 0; i < options->jobs; i++) {
        (void)munmap(jobs[i].outcome, sizeof(struct outcome));
    }
}

/* What is run, for a save to know it again. */
static void say_runs(const struct options *options, char *text, size_t size)
{
    (void)snprintf(
        text, size, "%s%s%s faults-ms %llu, voters %llu, hosts %llu, bug %s, faults %llx",
        options->log_only ? " --log" : "", options->members ? " --members" : "",
        options->late ? " --late" : "", (unsigned long long)options->faults_ms,
        (unsigned long long)options->voters, (unsigned long long)options->hosts,
        sim_bug_names[options->bug],
        (unsigned long long)(options->has_mask ? options->mask : UINT64_MAX));
}

/* A long row is run beside what else the machine does. */
static bool
save_open(const struct options *options, struct row *row, struct rack_totals *totals)
{
    char runs[256];
    say_runs(options, runs, sizeof(runs));
    if (setpriority(PRIO_PROCESS, 0, 19) < 0) {
        perror("rack: a lower priority"); /* it takes from others, and goes on */
    }
    row->save = rack_save_open(options->save, runs, options->seed, options->runs, totals);
    return row->save != NULL;
}

static uint64_t cores(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : count > JOBS_MAX ? JOBS_MAX : (uint64_t)count;
}

int main(int argc, char **argv)
{
    struct options options = {.seed = 1, .runs = 1, .hosts = HOSTS, .shrinks = true};
    struct rack_totals totals = {0};
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (!parse(&options, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    if (options.jobs == 0) {
        options.jobs = options.save != NULL ? cores() : 1;
    }
    struct row row = {.next = options.seed,
                      .end = options.seed + options.runs,
                      .a_process = options.until_failure ? 1 : RUNS_A_PROCESS};
    if (options.save != NULL && !save_open(&options, &row, &totals)) {
        return 2;
    }
    run_all(&options, &row, &totals);
    rack_totals_print(&totals);
    if (row.save != NULL) {
        rack_totals_print_tables(&totals);
        row.save = rack_save_close(row.save);
    }
    return totals.failed == 0 ? 0 : 1;
}
