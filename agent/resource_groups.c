#include "agent/resource_groups.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/require.h"
#include "base/where.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define MOUNT_FOLDER   "/sys/fs/cgroup"
#define GROUP_PATH_MAX 1024
#define FILE_PATH_MAX  (GROUP_PATH_MAX + 96)
#define FILE_SIZE_MAX  65536
#define PERIOD_US      100000u /* the kernel's own default */
#define US_PER_MCPU    (PERIOD_US / 1000)
#define SHARES_NORMAL  1024u /* v1 for what v2 calls 100 */
#define SHARES_MIN     2u
#define SHARES_MAX     262144u
#define WEIGHT_NORMAL  100u
#define WEIGHT_MAX     10000u
#define KILL_ROUNDS    4 /* a process may fork while we kill */
#define DAEMON_SUFFIX  ".daemon"

/* The hierarchies in use; under v2 ALL is the only one. */
enum hierarchy { ALL = 0, CPU = 0, CPUACCT, MEMORY, FREEZER, PIDS, HIERARCHY_COUNT };
static const char *const v1_controllers[HIERARCHY_COUNT] = {"cpu", "cpuacct", "memory",
                                                            "freezer", "pids"};

struct resource_groups {
    enum resource_mode mode;
    bool limited;          /* limits can be set (v2 without controllers: not) */
    bool counts_processes; /* their number as well */
    char name[RESOURCE_GROUPS_NAME_SIZE];
    /* Folder that holds the vm-* groups, per hierarchy; "" when there is none. */
    char folder[HIERARCHY_COUNT][GROUP_PATH_MAX];
};

/* ---- files ---- */

static int write_text(const char *folder, const char *file, const char *text)
{
    char path[FILE_PATH_MAX];
    WHERE("write to a control group");
    (void)snprintf(path, sizeof(path), "%s/%s", folder, file); /* fits */
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_WRONLY, 0, NULL);
    if (fd < 0) {
        return fd;
    }
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int write_number(const char *folder, const char *file, uint64_t number)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%" PRIu64, number);
    return write_text(folder, file, text);
}

static char *read_text(const char *folder, const char *file)
{
    char path[FILE_PATH_MAX];
    uint8_t *text = NULL;
    size_t size;
    (void)snprintf(path, sizeof(path), "%s/%s", folder, file); /* fits */
    if (fd_read_file(AT_FDCWD, path, FILE_SIZE_MAX, &text, &size, NULL) != 0) {
        return NULL;
    }
    return (char *)text;
}

static int read_number(const char *folder, const char *file, uint64_t *ret_number)
{
    CLEANUP_FREE char *text = read_text(folder, file);
    if (text == NULL) {
        return -ENOENT;
    }
    *ret_number = strtoull(text, NULL, 10);
    return 0;
}

static bool is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* mkdir -p below a folder that exists. */
static int make_folder(const char *path)
{
    char part[GROUP_PATH_MAX];
    for (size_t i = strlen(MOUNT_FOLDER) + 1;; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST) {
            return -errno;
        }
        if (path[i] == '\0') {
            return 0;
        }
    }
}

/* ---- which group is a process in ---- */

/* The path in /proc/<pid>/cgroup on the line of a v1 controller, or of v2 (NULL). */
static bool
group_of(const char *process, const char *controller, char ret_path[GROUP_PATH_MAX])
{
    char folder[64];
    (void)snprintf(folder, sizeof(folder), "/proc/%s", process);
    CLEANUP_FREE char *text = read_text(folder, "cgroup");
    char *save = NULL;
    for (char *line = text == NULL ? NULL : strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        char *controllers = strchr(line, ':');
        char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (path == NULL || strlen(path + 1) >= GROUP_PATH_MAX) {
            continue;
        }
        *path++ = '\0';
        controllers++;
        bool match = controller == NULL && *controllers == '\0';
        char *part_save = NULL;
        for (char *part = strtok_r(controllers, ",", &part_save);
             controller != NULL && part != NULL; part = strtok_r(NULL, ",", &part_save)) {
            match = match || strcmp(part, controller) == 0;
        }
        if (match) {
            memcpy(ret_path, path, strlen(path) + 1);
            return true;
        }
    }
    return false;
}

static bool path_join(char ret_path[GROUP_PATH_MAX], const char *a, const char *b)
{
    const char *slash = *b == '\0' || *b == '/' ? "" : "/";
    int length = snprintf(ret_path, GROUP_PATH_MAX, "%s%s%s", a, slash, b);
    while (length > 1 && length < GROUP_PATH_MAX && ret_path[length - 1] == '/') {
        ret_path[--length] = '\0';
    }
    return length > 0 && length < GROUP_PATH_MAX;
}

/* The parent of a daemon that has moved below it, or was started from there. */
static void daemon_leave_out(const struct resource_groups *groups,
                             char path[GROUP_PATH_MAX])
{
    char tail[RESOURCE_GROUPS_NAME_SIZE + 32];
    int length =
        snprintf(tail, sizeof(tail), "/berth/%s" DAEMON_SUFFIX, groups->name); /* fits */
    size_t size = strlen(path);
    if (size >= (size_t)length && strcmp(path + size - (size_t)length, tail) == 0) {
        path[size - (size_t)length] = '\0'; /* "" is the top */
    }
}

/* Where our groups go in one hierarchy; makes the folder. */
static int hierarchy_open(struct resource_groups *groups,
                          enum hierarchy hierarchy,
                          const char *mount,
                          const char *controller,
                          const char *parent)
{
    char own[GROUP_PATH_MAX] = "/";
    char base[GROUP_PATH_MAX];
    char below[RESOURCE_GROUPS_NAME_SIZE + 16];
    char *folder = groups->folder[hierarchy];
    if (parent == NULL) {
        (void)group_of("self", controller, own); /* else the top */
        daemon_leave_out(groups, own);
    }
    if (!path_join(base, mount, parent == NULL ? own : parent)) {
        return -ENAMETOOLONG;
    }
    if (parent == NULL && !is_folder(base)) {
        /* In a container the path may be the host's while the mount is ours. */
        (void)path_join(base, mount, "/");
    }
    (void)snprintf(below, sizeof(below), "/berth/%s", groups->name); /* fits */
    if (strlen(base) + strlen(below) + 32 >= GROUP_PATH_MAX ||
        !path_join(folder, base, below)) {
        folder[0] = '\0';
        return -ENAMETOOLONG;
    }
    int r = make_folder(folder);
    if (r == 0 && access(folder, W_OK) != 0) {
        r = -errno;
    }
    if (r != 0) {
        folder[0] = '\0';
    }
    return r;
}

/* ---- v2 ---- */

static bool text_has_word(const char *text, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word)) {
        bool starts = at == text || at[-1] == ' ';
        if (starts && (at[length] == '\0' || at[length] == ' ' || at[length] == '\n')) {
            return true;
        }
    }
    return false;
}

static bool hands_out_controllers(const char *folder)
{
    CLEANUP_FREE char *text = read_text(folder, "cgroup.subtree_control");
    return text != NULL && text_has_word(text, "cpu") && text_has_word(text, "memory");
}

/* `folder`, where VMs' groups go, and the two above it: berth, and the parent. */
enum level { PARENT = 0, BERTH, VMS, LEVEL_COUNT };

static void levels_of(const struct resource_groups *groups,
                      char ret_level[LEVEL_COUNT][GROUP_PATH_MAX])
{
    memcpy(ret_level[VMS], groups->folder[ALL], GROUP_PATH_MAX);
    for (int i = BERTH; i >= PARENT; i--) {
        memcpy(ret_level[i], ret_level[i + 1], GROUP_PATH_MAX);
        *strrchr(ret_level[i], '/') = '\0';
    }
}

/* Beside the one that holds all VMs, so that what they weigh together counts. No name has
 * a dot. */
static void daemon_folder(const struct resource_groups *groups,
                          char ret_path[GROUP_PATH_MAX])
{
    (void)snprintf(ret_path, GROUP_PATH_MAX, "%.*s" DAEMON_SUFFIX, GROUP_PATH_MAX - 32,
                   groups->folder[ALL]);
}

/* Lets all levels hand out cpu and memory. */
static int v2_enable(struct resource_groups *groups)
{
    char level[LEVEL_COUNT][GROUP_PATH_MAX];
    levels_of(groups, level);
    if (!hands_out_controllers(level[PARENT]) &&
        write_text(level[PARENT], "cgroup.subtree_control", "+cpu +memory") == -EBUSY) {
        /* Our own process is in the way: it moves below. */
        char daemon[GROUP_PATH_MAX];
        daemon_folder(groups, daemon);
        if (make_folder(daemon) != 0) {
            return -EBUSY;
        }
        int r = write_number(daemon, "cgroup.procs", (uint64_t)getpid());
        if (r != 0) {
            return r;
        }
    }
    for (int i = PARENT; i < LEVEL_COUNT; i++) {
        int r = hands_out_controllers(level[i])
                    ? 0
                    : write_text(level[i], "cgroup.subtree_control", "+cpu +memory");
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

/* Apart from the others: a host without it limits what it can. */
static int v2_enable_pids(struct resource_groups *groups)
{
    char level[LEVEL_COUNT][GROUP_PATH_MAX];
    int r = 0;
    levels_of(groups, level);
    for (int i = PARENT; r == 0 && i < LEVEL_COUNT; i++) {
        r = write_text(level[i], "cgroup.subtree_control", "+pids");
    }
    return r;
}

static void processes_warn(int fault)
{
    log_warn("agent", "VMs run without limits of one kind", KV_STR("controller", "pids"),
             KV_STR("why", err_sentence(fault)));
}

/* Out of the daemon's group again, which nothing else makes one that can be removed. */
static void v2_leave(const struct resource_groups *groups)
{
    char level[LEVEL_COUNT][GROUP_PATH_MAX];
    char daemon[GROUP_PATH_MAX];
    char own[GROUP_PATH_MAX];
    char inside[GROUP_PATH_MAX];
    levels_of(groups, level);
    daemon_folder(groups, daemon);
    if (group_of("self", NULL, own) && path_join(inside, MOUNT_FOLDER, own) &&
        strcmp(inside, daemon) == 0) {
        for (int i = VMS; i >= PARENT; i--) { /* busy: others count on it */
            (void)write_text(level[i], "cgroup.subtree_control", "-cpu -memory");
            (void)write_text(level[i], "cgroup.subtree_control", "-pids");
        }
        (void)write_number(level[PARENT], "cgroup.procs", (uint64_t)getpid());
    }
    (void)rmdir(daemon);                           /* a fence may be in it */
    if (path_join(inside, level[VMS], "daemon")) { /* where releases before had theirs */
        (void)rmdir(inside);
    }
}

static int v2_open(struct resource_groups *groups, const char *parent)
{
    int r = hierarchy_open(groups, ALL, MOUNT_FOLDER, NULL, parent);
    if (r != 0) {
        return r;
    }
    groups->mode = RESOURCE_V2;
    r = v2_enable(groups);
    groups->limited = r == 0;
    if (r != 0) {
        log_warn("agent", "VMs run without CPU and memory limits",
                 KV_STR("group", groups->folder[ALL]), KV_STR("why", err_sentence(r)));
        return 0;
    }
    r = v2_enable_pids(groups);
    groups->counts_processes = r == 0;
    if (r != 0) {
        processes_warn(r);
    }
    return 0;
}

static int v1_open(struct resource_groups *groups, const char *parent)
{
    int r = 0;
    for (enum hierarchy i = CPU; i < HIERARCHY_COUNT; i++) {
        char mount[64];
        (void)snprintf(mount, sizeof(mount), MOUNT_FOLDER "/%s", v1_controllers[i]);
        int fault = is_folder(mount)
                        ? hierarchy_open(groups, i, mount, v1_controllers[i], parent)
                        : -ENOENT;
        if (fault == 0) {
            groups->mode = RESOURCE_V1;
            groups->limited = true;
            groups->counts_processes = groups->counts_processes || i == PIDS;
        } else if (i == PIDS) {
            processes_warn(fault);
        } else if (i == CPU || i == MEMORY) {
            log_warn("agent", "VMs run without limits of one kind",
                     KV_STR("controller", v1_controllers[i]),
                     KV_STR("why", err_sentence(fault)));
            r = fault;
        }
    }
    return groups->mode == RESOURCE_V1 ? 0 : r;
}

struct resource_groups *
resource_groups_open(const char *name, const char *parent, struct err *err)
{
    REQUIRE(strlen(name) < RESOURCE_GROUPS_NAME_SIZE && strchr(name, '/') == NULL);
    REQUIRE(name[0] != '\0' && name[0] != '.');
    struct resource_groups *groups = calloc(1, sizeof(*groups));
    if (groups == NULL) {
        err_set(err, -ENOMEM, "control groups: out of memory");
        return NULL;
    }
    memcpy(groups->name, name, strlen(name) + 1);
    struct statfs status;
    bool v2 = statfs(MOUNT_FOLDER, &status) == 0 && status.f_type == CGROUP2_SUPER_MAGIC;
    int r = v2 ? v2_open(groups, parent) : v1_open(groups, parent);
    if (r != 0) {
        groups->mode = RESOURCE_NONE;
        log_warn("agent", "VMs run without control groups: no limits, usage from /proc",
                 KV_STR("why", err_sentence(r)));
    }
    return groups;
}

struct resource_groups *resource_groups_close(struct resource_groups *groups)
{
    free(groups);
    return NULL;
}

enum resource_mode resource_groups_mode(const struct resource_groups *groups)
{
    return groups->mode;
}

/* Empty groups of VMs that were still busy when their VM was forgotten. */
static void sweep(const char *folder)
{
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        char path[GROUP_PATH_MAX + NAME_MAX + 2];
        if (strncmp(entry->d_name, "vm-", 3) == 0) {
            (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
            (void)rmdir(path); /* one with processes stays */
        }
    }
    if (entries != NULL) {
        (void)closedir(entries); /* only read */
    }
}

void resource_groups_remove(struct resource_groups *groups)
{
    if (groups->mode == RESOURCE_V2) {
        v2_leave(groups);
    }
    for (enum hierarchy i = CPU; i < HIERARCHY_COUNT; i++) {
        char *folder = groups->folder[i];
        if (folder[0] != '\0') {
            sweep(folder);
        }
        if (folder[0] != '\0' && rmdir(folder) == 0) {
            *strrchr(folder, '/') = '\0';
            (void)rmdir(folder); /* berth: another daemon may use it */
        }
    }
    groups->mode = RESOURCE_NONE;
}

/* ---- one VM ---- */

static bool vm_folder(const struct resource_groups *groups,
                      enum hierarchy hierarchy,
                      uint64_t uid,
                      char ret_path[GROUP_PATH_MAX])
{
    if (groups->folder[hierarchy][0] == '\0') {
        return false;
    }
    (void)snprintf(ret_path, GROUP_PATH_MAX, "%.*s/vm-%" PRIu64, GROUP_PATH_MAX - 32,
                   groups->folder[hierarchy], uid);
    return true;
}

static int set_cpu(const struct resource_groups *groups,
                   const char *folder,
                   const struct resource_limits *limits)
{
    uint64_t mcpu = (uint64_t)limits->cpu_count * 1000 + RESOURCE_HEADROOM_MCPU;
    uint64_t quota_us = mcpu * US_PER_MCPU;
    uint64_t weight = limits->cpu_weight < 1            ? 1
                      : limits->cpu_weight > WEIGHT_MAX ? WEIGHT_MAX
                                                        : limits->cpu_weight;
    if (groups->mode == RESOURCE_V2) {
        char text[64];
        (void)snprintf(text, sizeof(text), "%" PRIu64 " %u", quota_us, PERIOD_US);
        int r = write_text(folder, "cpu.max", text);
        return r != 0 ? r : write_number(folder, "cpu.weight", weight);
    }
    uint64_t shares = weight * SHARES_NORMAL / WEIGHT_NORMAL;
    shares = shares < SHARES_MIN ? SHARES_MIN : shares > SHARES_MAX ? SHARES_MAX : shares;
    int r = write_number(folder, "cpu.cfs_period_us", PERIOD_US);
    r = r != 0 ? r : write_number(folder, "cpu.cfs_quota_us", quota_us);
    return r != 0 ? r : write_number(folder, "cpu.shares", shares);
}

static uint64_t memory_most_bytes(const struct resource_limits *limits)
{
    return limits->memory_bytes + RESOURCE_OVERHEAD_BYTES +
           limits->memory_bytes / RESOURCE_OVERHEAD_MEMORY_PART +
           limits->disk_bytes / RESOURCE_OVERHEAD_DISK_PART;
}

static int set_memory(const struct resource_groups *groups,
                      const char *folder,
                      const struct resource_limits *limits)
{
    const char *file =
        groups->mode == RESOURCE_V2 ? "memory.max" : "memory.limit_in_bytes";
    return write_number(folder, file, memory_most_bytes(limits));
}

static int set_processes(const char *folder, const struct resource_limits *limits)
{
    return write_number(folder, "pids.max",
                        (uint64_t)limits->cpu_count + RESOURCE_OVERHEAD_PROCESSES);
}

/* What this hierarchy limits. */
static int limits_set(const struct resource_groups *groups,
                      enum hierarchy hierarchy,
                      const char *folder,
                      const struct resource_limits *limits)
{
    const bool is_v2 = groups->mode == RESOURCE_V2;
    int r = hierarchy == CPU ? set_cpu(groups, folder, limits) : 0;
    if (r == 0 && hierarchy == (is_v2 ? ALL : MEMORY)) {
        r = set_memory(groups, folder, limits);
    }
    if (r == 0 && hierarchy == (is_v2 ? ALL : PIDS) && groups->counts_processes) {
        r = set_processes(folder, limits);
    }
    return r;
}

int resource_group_make(struct resource_groups *groups,
                        uint64_t uid,
                        const struct resource_limits *limits,
                        struct err *err)
{
    if (groups->mode == RESOURCE_NONE) {
        return -ENOTSUP;
    }
    for (enum hierarchy i = CPU; i < HIERARCHY_COUNT; i++) {
        char folder[GROUP_PATH_MAX];
        if (!vm_folder(groups, i, uid, folder)) {
            continue;
        }
        int r = mkdir(folder, 0755) == 0 || errno == EEXIST ? 0 : -errno;
        if (r == 0 && groups->limited) {
            r = limits_set(groups, i, folder, limits);
        }
        if (r != 0) {
            return err_sys(err, r, "control group %s", folder);
        }
    }
    return 0;
}

/* Removes the group of this VM that the process has just left, if it was another one. */
static void remove_left(const struct resource_groups *groups,
                        enum hierarchy hierarchy,
                        uint64_t uid,
                        const char *old_path)
{
    char mount[64] = MOUNT_FOLDER;
    char old[GROUP_PATH_MAX];
    char now[GROUP_PATH_MAX];
    char tail[RESOURCE_GROUPS_NAME_SIZE + 48];
    if (groups->mode == RESOURCE_V1) {
        (void)snprintf(mount, sizeof(mount), MOUNT_FOLDER "/%s",
                       v1_controllers[hierarchy]);
    }
    int length = snprintf(tail, sizeof(tail), "/berth/%s/vm-%" PRIu64, groups->name, uid);
    size_t old_length = strlen(old_path);
    if (length > 0 && old_length >= (size_t)length &&
        strcmp(old_path + old_length - (size_t)length, tail) == 0 &&
        path_join(old, mount, old_path) && vm_folder(groups, hierarchy, uid, now) &&
        strcmp(old, now) != 0) {
        (void)rmdir(old); /* not empty: somebody else's */
    }
}

int resource_group_put(struct resource_groups *groups,
                       uint64_t uid,
                       pid_t pid,
                       struct err *err)
{
    char process[24];
    if (groups->mode == RESOURCE_NONE) {
        return -ENOTSUP;
    }
    (void)snprintf(process, sizeof(process), "%d", (int)pid);
    for (enum hierarchy i = CPU; i < HIERARCHY_COUNT; i++) {
        char folder[GROUP_PATH_MAX];
        char old[GROUP_PATH_MAX] = "";
        if (!vm_folder(groups, i, uid, folder)) {
            continue;
        }
        (void)group_of(process, groups->mode == RESOURCE_V2 ? NULL : v1_controllers[i],
                       old);
        int r = write_number(folder, "cgroup.procs", (uint64_t)pid);
        if (r != 0) {
            return err_sys(err, r, "control group %s: process %d", folder, (int)pid);
        }
        remove_left(groups, i, uid, old);
    }
    return 0;
}

int resource_group_usage(const struct resource_groups *groups,
                         uint64_t uid,
                         struct resource_usage *ret_usage)
{
    char folder[GROUP_PATH_MAX];
    struct resource_usage usage = {0};
    if (groups->mode == RESOURCE_NONE) {
        return -ENOTSUP;
    }
    if (groups->mode == RESOURCE_V2) {
        (void)vm_folder(groups, ALL, uid, folder);
        CLEANUP_FREE char *text = read_text(folder, "cpu.stat");
        const char *at = text == NULL ? NULL : strstr(text, "usage_usec ");
        if (at == NULL ||
            read_number(folder, "memory.current", &usage.memory_bytes) != 0) {
            return -ENOENT;
        }
        usage.cpu_ns = strtoull(at + strlen("usage_usec "), NULL, 10) * 1000;
    } else {
        if (!vm_folder(groups, CPUACCT, uid, folder) ||
            read_number(folder, "cpuacct.usage", &usage.cpu_ns) != 0 ||
            !vm_folder(groups, MEMORY, uid, folder) ||
            read_number(folder, "memory.usage_in_bytes", &usage.memory_bytes) != 0) {
            return -ENOENT;
        }
    }
    *ret_usage = usage;
    return 0;
}

bool resource_group_holds(const struct resource_groups *groups, uint64_t uid, pid_t pid)
{
    char process[24];
    char tail[RESOURCE_GROUPS_NAME_SIZE + 48];
    char path[GROUP_PATH_MAX];
    (void)snprintf(process, sizeof(process), "%d", (int)pid);
    (void)snprintf(tail, sizeof(tail), "/berth/%s/vm-%" PRIu64, groups->name, uid);
    if (groups->mode == RESOURCE_NONE) {
        return false;
    }
    for (enum hierarchy i = CPU; i < HIERARCHY_COUNT; i++) {
        const char *controller = groups->mode == RESOURCE_V2 ? NULL : v1_controllers[i];
        if (groups->folder[i][0] == '\0') {
            continue;
        }
        if (!group_of(process, controller, path) || strlen(path) < strlen(tail) ||
            strcmp(path + strlen(path) - strlen(tail), tail) != 0) {
            return false;
        }
    }
    return true;
}

int resource_group_freeze(struct resource_groups *groups, uint64_t uid, bool frozen)
{
    char folder[GROUP_PATH_MAX];
    if (groups->mode == RESOURCE_NONE) {
        return -ENOTSUP;
    }
    if (groups->mode == RESOURCE_V2) {
        (void)vm_folder(groups, ALL, uid, folder);
        return write_text(folder, "cgroup.freeze", frozen ? "1" : "0");
    }
    if (!vm_folder(groups, FREEZER, uid, folder)) {
        return -ENOTSUP;
    }
    return write_text(folder, "freezer.state", frozen ? "FROZEN" : "THAWED");
}

/* SIGKILL to each process listed; how many there were. */
static unsigned kill_listed(const char *folder)
{
    unsigned count = 0;
    char *save = NULL;
    CLEANUP_FREE char *text = read_text(folder, "cgroup.procs");
    for (char *line = text == NULL ? NULL : strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        long pid = strtol(line, NULL, 10);
        if (pid > 0) { /* 0: a process of another pid namespace */
            count += kill((pid_t)pid, SIGKILL) == 0;
        }
    }
    return count;
}

int resource_group_count(const struct resource_groups *groups, uint64_t uid)
{
    char folder[GROUP_PATH_MAX];
    int count = 0;
    for (enum hierarchy i = CPU; i < HIERARCHY_COUNT && groups->mode != RESOURCE_NONE;
         i++) {
        char path[FILE_PATH_MAX];
        CLEANUP_FREE uint8_t *text = NULL;
        size_t size = 0;
        int lines = 0;
        if (!vm_folder(groups, i, uid, folder)) {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%s/cgroup.procs", folder); /* fits */
        int r = fd_read_file(AT_FDCWD, path, FILE_SIZE_MAX, &text, &size, NULL);
        if (r != 0 && r != -ENOENT && r != -ENODEV) { /* it was removed meanwhile */
            return r;
        }
        for (size_t at = 0; r == 0 && at < size; at++) {
            lines += text[at] == '\n';
        }
        count = lines > count ? lines : count;
    }
    return count;
}

int resource_group_kill(struct resource_groups *groups, uint64_t uid)
{
    char folder[GROUP_PATH_MAX];
    if (groups->mode == RESOURCE_NONE) {
        return -ENOTSUP;
    }
    if (groups->mode == RESOURCE_V2) {
        (void)vm_folder(groups, ALL, uid, folder);
        if (write_text(folder, "cgroup.kill", "1") == 0) {
            return 0;
        }
    }
    for (enum hierarchy i = CPU; i < HIERARCHY_COUNT; i++) {
        if (vm_folder(groups, i, uid, folder)) {
            for (int round = 0; round < KILL_ROUNDS && kill_listed(folder) > 0; round++) {
            }
            /* A frozen process dies when it thaws. */
            (void)resource_group_freeze(groups, uid, false);
            return 0;
        }
    }
    return -ENOENT;
}

static int open_file(const char *folder, const char *file, int flags)
{
    char path[FILE_PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, file); /* fits */
    int fd = fd_open_at(AT_FDCWD, path, flags, 0, NULL);
    return fd < 0 ? -1 : fd;
}

void resource_group_open_fence(const struct resource_groups *groups,
                               uint64_t uid,
                               struct resource_fence *ret_fence)
{
    char folder[GROUP_PATH_MAX];
    *ret_fence = (struct resource_fence){
        .freezer = -1, .kill = -1, .is_v2 = groups->mode == RESOURCE_V2};
    if (groups->mode == RESOURCE_V2 && vm_folder(groups, ALL, uid, folder)) {
        ret_fence->freezer = open_file(folder, "cgroup.freeze", O_RDWR);
        ret_fence->kill = open_file(folder, "cgroup.kill", O_WRONLY);
    } else if (groups->mode == RESOURCE_V1 && vm_folder(groups, FREEZER, uid, folder)) {
        ret_fence->freezer = open_file(folder, "freezer.state", O_RDWR);
    }
}

int resource_group_remove(struct resource_groups *groups, uint64_t uid)
{
    int r = 0;
    for (enum hierarchy i = CPU; i < HIERARCHY_COUNT; i++) {
        char folder[GROUP_PATH_MAX];
        if (vm_folder(groups, i, uid, folder) && rmdir(folder) != 0 && errno != ENOENT) {
            r = -errno;
        }
    }
    return r;
}
