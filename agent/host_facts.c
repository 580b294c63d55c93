#include "agent/host_facts.h"

#include "agent/engine_kvm.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse_number.h"
#include "base/where.h"
#include "vmm/kvm_probe.h"
#include "vmm/vcpu.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define PROC_SIZE_MAX  (1u << 20) /* /proc/stat has a line per interrupt */
#define NUMA_MAX       1024
#define KIB_PER_LINE   1024
#define POOL_FILE      "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
#define TSC_MEASURE_MS 50
/* A machine that has just started may be slow to load it. */
#define QEMU_VERSION_MS 20000

extern char **environ;

/* ---- texts of /proc
 * ---------------------------------------------------------------------------------- */

bool host_facts_parse_stat(const char *text, uint64_t *ret_busy, uint64_t *ret_total)
{
    /* user nice system idle iowait irq softirq steal; guest time is in user already */
    enum { IDLE = 3, IOWAIT = 4, FIELDS = 8 };
    uint64_t total = 0;
    uint64_t idle = 0;
    if (strncmp(text, "cpu ", 4) != 0) {
        return false;
    }
    const char *at = text + 4;
    for (int field = 0; field < FIELDS; field++) {
        char *end;
        unsigned long long ticks = strtoull(at, &end, 10);
        if (end == at) {
            return false;
        }
        total += ticks;
        idle += field == IDLE || field == IOWAIT ? ticks : 0;
        at = end;
    }
    *ret_busy = total - idle;
    *ret_total = total;
    return true;
}

static bool meminfo_line(const char *text, const char *key, uint64_t *ret_bytes)
{
    const char *line = strstr(text, key);
    char *end;
    if (line == NULL || (line != text && line[-1] != '\n')) {
        return false;
    }
    unsigned long long kib = strtoull(line + strlen(key), &end, 10);
    *ret_bytes = kib * KIB_PER_LINE;
    return end != line + strlen(key);
}

bool host_facts_parse_meminfo(const char *text,
                              uint64_t *ret_total_bytes,
                              uint64_t *ret_available_bytes)
{
    uint64_t total = 0;
    uint64_t available = 0;
    if (!meminfo_line(text, "MemTotal:", &total) ||
        !meminfo_line(text, "MemAvailable:", &available)) {
        return false;
    }
    *ret_total_bytes = total;
    *ret_available_bytes = available;
    return true;
}

static char *proc_read(const char *path)
{
    uint8_t *data = NULL;
    size_t size = 0;
    return fd_read_file(AT_FDCWD, path, PROC_SIZE_MAX, &data, &size, NULL) == 0
               ? (char *)data
               : NULL;
}

/* ---- inventory
 * ---------------------------------------------------------------------------------------
 */

static uint32_t cores_count(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 0;
}

static uint32_t numa_count(void)
{
    uint32_t count = 0;
    for (unsigned node = 0; node < NUMA_MAX; node++) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/sys/devices/system/node/node%u", node);
        if (access(path, F_OK) == 0) {
            count++;
        } else if (node > count + 8) {
            break; /* numbers have holes, but not wide ones */
        }
    }
    return count > 0 ? count : 1;
}

/* First line of `qemu-system-x86_64 --version`: "QEMU emulator version 7.2.22 (...)" ->
 * "7.2.22". */
static void qemu_version_read(char version[HOST_FACTS_TEXT_SIZE])
{
    static const char mark[] = "version ";
    char *arguments[] = {(char *)"qemu-system-x86_64", (char *)"--version", NULL};
    posix_spawn_file_actions_t actions;
    char text[256] = "";
    int pipe_fds[2];
    pid_t pid;
    WHERE("ask qemu-system-x86_64 for its version");
    version[0] = '\0';
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        return;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO);
    int r = posix_spawnp(&pid, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    fd_close(&pipe_fds[1]);
    if (r == 0) {
        int status = 0;
        ssize_t size =
            fd_read_within(pipe_fds[0], text, sizeof(text) - 1, QEMU_VERSION_MS);
        text[size > 0 ? size : 0] = '\0';
        if (size < 0) {
            log_warn("agent", "qemu-system-x86_64 does not say its version",
                     KV_STR("why", err_sentence((int)size)));
            (void)kill(pid, SIGKILL); /* our own child, not reaped: the pid is its */
        }
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
        const char *at = strstr(text, mark);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && at != NULL) {
            at += strlen(mark);
            (void)snprintf(version, HOST_FACTS_TEXT_SIZE, "%.*s", (int)strcspn(at, " \n"),
                           at);
        }
    }
    fd_close(&pipe_fds[0]);
}

static uint64_t raw_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC_RAW, &now); /* cannot fail */
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* Ticks of the time stamp counter per millisecond, over TSC_MEASURE_MS: good to a part in
 * ten thousand. */
static uint32_t tsc_khz_measure(void)
{
    struct timespec pause = {.tv_nsec = TSC_MEASURE_MS * 1000000L};
    uint64_t start_ns = raw_ns();
    uint64_t start = __rdtsc();
    (void)nanosleep(&pause, NULL); /* a signal only makes it shorter */
    uint64_t ticks = __rdtsc() - start;
    uint64_t elapsed_ns = raw_ns() - start_ns;
    return elapsed_ns > 0 ? (uint32_t)(ticks * 1000000U / elapsed_ns) : 0;
}

/* The model's baselines are berth-vmm's levels. */
_Static_assert((int)CPU_BASELINE_HOST == CPU_HOST && (int)CPU_BASELINE_V2 == CPU_V2 &&
                   (int)CPU_BASELINE_V3 == CPU_V3 && (int)CPU_BASELINE_V4 == CPU_V4 &&
                   CPU_LEVEL_COUNT == CPU_V4 + 1,
               "one is the other");

static enum cpu_baseline cpu_baseline_find(const char *device)
{
    struct cpu_table table;
    CLEANUP_FD int kvm_fd = fd_open_at(AT_FDCWD, device, O_RDWR, 0, NULL);
    unsigned level = kvm_fd < 0 ? CPU_HOST : CPU_V4;
    while (level > CPU_HOST &&
           vcpu_table_make(kvm_fd, (enum cpu_level)level, &table, NULL) < 0) {
        level--;
    }
    return (enum cpu_baseline)level;
}

int host_facts_read(struct host_facts *ret_facts, struct err *err)
{
    struct host_facts facts = {.cores = cores_count(), .numa_nodes = numa_count()};
    struct kvm_probe_result kvm;
    struct utsname names;
    uint64_t available = 0;
    CLEANUP_FREE char *meminfo = proc_read("/proc/meminfo");
    if (facts.cores == 0 || meminfo == NULL ||
        !host_facts_parse_meminfo(meminfo, &facts.memory_bytes, &available)) {
        return err_set(err, BERTH_ECORRUPT,
                       "this host's cores or memory cannot be read from /proc");
    }
    if (uname(&names) == 0) {
        (void)snprintf(facts.kernel, sizeof(facts.kernel), "%s", names.release);
    }
    qemu_version_read(facts.qemu_version);
    kvm_probe("/dev/kvm", &kvm);
    facts.kvm = kvm.kind;
    facts.tsc_khz = tsc_khz_measure();
    (void)snprintf(facts.kvm_reason, sizeof(facts.kvm_reason), "%s", kvm.reason);
    facts.engines = ENGINE_BIT(ENGINE_FAKE);
    if (facts.qemu_version[0] != '\0') {
        facts.engines |= ENGINE_BIT(ENGINE_QEMU);
    }
    if (facts.kvm == KVM_NATIVE && engine_kvm_is_here()) {
        facts.engines |= ENGINE_BIT(ENGINE_KVM);
        facts.cpu_baseline = cpu_baseline_find(ENGINE_KVM_DEVICE);
    }
    *ret_facts = facts;
    return 0;
}

/* ---- usage
 * -------------------------------------------------------------------------------------------
 */

uint64_t host_disk_bytes(const char *folder)
{
    struct statvfs disk;
    WHERE("ask how full the disk is");
    return statvfs(folder, &disk) == 0 ? (uint64_t)disk.f_blocks * disk.f_frsize : 0;
}

uint64_t host_pool_bytes(void)
{
    uint64_t pages = 0;
    CLEANUP_FREE char *text = proc_read(POOL_FILE);
    if (text != NULL) {
        text[strcspn(text, "\n")] = '\0';
    }
    return text != NULL && parse_u64(text, &pages, NULL) == 0 &&
                   pages < UINT64_MAX / MEMORY_HUGE_PAGE
               ? pages * MEMORY_HUGE_PAGE
               : 0;
}

uint64_t host_reserve_default(const struct host_facts *facts)
{
    uint64_t half = facts->memory_bytes / 2;
    return half < HOST_RESERVE_MAX ? half : HOST_RESERVE_MAX;
}

int host_reserve_check(const struct host_facts *facts,
                       uint64_t reserve_bytes,
                       struct err *err)
{
    char wanted[NUMBER_TEXT_SIZE];
    char have[NUMBER_TEXT_SIZE];
    if (reserve_bytes < facts->memory_bytes) {
        return 0;
    }
    format_bytes_human(reserve_bytes, wanted);
    format_bytes_human(facts->memory_bytes, have);
    return err_set(err, BERTH_EINVALID,
                   "--reserve-memory %s is all of this machine's memory (%s) or more: "
                   "nothing would be left for VMs; where none is wanted, leave 1MiB",
                   wanted, have);
}

int host_usage_sample(struct host_sampler *sampler,
                      const char *folder,
                      struct host_usage *ret_usage,
                      struct err *err)
{
    struct host_usage usage = {0};
    uint64_t busy = 0;
    uint64_t total = 0;
    uint64_t memory = 0;
    struct statvfs disk;
    WHERE("ask how full the disk is");
    CLEANUP_FREE char *stat = proc_read("/proc/stat");
    CLEANUP_FREE char *meminfo = proc_read("/proc/meminfo");
    if (stat == NULL || !host_facts_parse_stat(stat, &busy, &total)) {
        return err_set(err, BERTH_ECORRUPT, "/proc/stat cannot be read");
    }
    if (meminfo == NULL ||
        !host_facts_parse_meminfo(meminfo, &memory, &usage.memory_available_bytes)) {
        return err_set(err, BERTH_ECORRUPT, "/proc/meminfo cannot be read");
    }
    if (total > sampler->total_ticks && busy >= sampler->busy_ticks) {
        usage.cpu_busy_permille = (uint32_t)((busy - sampler->busy_ticks) * 1000 /
                                             (total - sampler->total_ticks));
    }
    sampler->busy_ticks = busy;
    sampler->total_ticks = total;
    usage.memory_used_bytes =
        memory > usage.memory_available_bytes ? memory - usage.memory_available_bytes : 0;
    if (statvfs(folder, &disk) == 0) {
        usage.disk_total_bytes = (uint64_t)disk.f_blocks * disk.f_frsize;
        usage.disk_free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    }
    *ret_usage = usage;
    return 0;
}
