/* Goal: a VM's group limits, counts, freezes and kills what is inside. Method: the real
 * kernel, in groups of their own names; without rights to make groups only the
 * degradation is tested. */
#include "agent/resource_groups.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UID 424242

static char name[RESOURCE_GROUPS_NAME_SIZE];
static struct resource_groups *groups;
static pid_t child;

static void setup(void)
{
    (void)snprintf(name, sizeof(name), "engine-test-%d", (int)getpid());
    groups = resource_groups_open(name, NULL, NULL);
    ck_assert_ptr_nonnull(groups);
    ck_assert_int_ne(resource_groups_mode(groups), RESOURCE_NONE);
    child = fork();
    if (child == 0) {
        for (;;) {
            pause();
        }
    }
}

static void teardown(void)
{
    if (child > 0) {
        (void)resource_group_freeze(groups, UID, false);
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
    }
    ck_assert_int_eq(resource_group_remove(groups, UID), 0);
    resource_groups_remove(groups);
    resource_groups_close(groups);
}

static const struct resource_limits limits = {
    .cpu_count = 2,
    .cpu_weight = 200,
    .memory_bytes = UINT64_C(128) << 20,
    .disk_bytes = UINT64_C(32) << 30,
};

static void make_and_put(void)
{
    struct err err = {0};
    ck_assert_msg(resource_group_make(groups, UID, &limits, &err) == 0, "%s", err.text);
    ck_assert_msg(resource_group_put(groups, UID, child, &err) == 0, "%s", err.text);
}

/* Text of a file in the child's group of that controller. */
static char *group_file(const char *controller, const char *file)
{
    char command[512];
    static char text[256];
    bool v2 = resource_groups_mode(groups) == RESOURCE_V2;
    (void)snprintf(command, sizeof(command),
                   "cat /sys/fs/cgroup/%s$(sed -n 's/^[0-9]*:%s://p' /proc/%d/cgroup)/%s",
                   v2 ? "" : controller, v2 ? "" : controller, (int)child, file);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    size_t count = fread(text, 1, sizeof(text) - 1, pipe);
    (void)pclose(pipe);
    text[count] = '\0';
    return text;
}

START_TEST(the_limits_are_the_vms_and_a_little)
{
    bool v2 = resource_groups_mode(groups) == RESOURCE_V2;

    make_and_put();

    ck_assert_str_eq(group_file("memory", v2 ? "memory.max" : "memory.limit_in_bytes"),
                     "406847488\n"); /* 128 + 256 + 2 (of 128) + 2 (of 32 GiB) MiB */
    if (v2) {
        ck_assert_str_eq(group_file("cpu", "cpu.max"), "225000 100000\n");
        ck_assert_str_eq(group_file("cpu", "cpu.weight"), "200\n");
    } else {
        ck_assert_str_eq(group_file("cpu", "cpu.cfs_quota_us"), "225000\n");
        ck_assert_str_eq(group_file("cpu", "cpu.shares"), "2048\n");
    }
    ck_assert_str_eq(group_file("pids", "pids.max"), "1026\n");
}
END_TEST

static void *wait_for_the_end(void *unused)
{
    (void)pause();
    return unused;
}

/* Threads until no more come; as many as a process counts for. */
static unsigned multiply(void)
{
    pthread_attr_t small;
    pthread_t thread;
    unsigned count = 1;
    (void)pthread_attr_init(&small);
    (void)pthread_attr_setstacksize(&small, (size_t)128 << 10);
    while (count < 4000 && pthread_create(&thread, &small, wait_for_the_end, NULL) == 0) {
        count++;
    }
    return count;
}

START_TEST(a_group_that_multiplies_comes_to_an_end)
{
    static const struct resource_limits roomy = {
        .cpu_count = 2, .cpu_weight = 100, .memory_bytes = UINT64_C(4) << 30};
    int go[2];
    int told[2];
    unsigned count = 0;
    ck_assert_int_eq(pipe(go) | pipe(told), 0);
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    child = fork();
    if (child == 0) {
        (void)!read(go[0], &count, 1);
        count = multiply();
        (void)!write(told[1], &count, sizeof(count));
        (void)pause();
    }
    ck_assert_int_eq(resource_group_make(groups, UID, &roomy, NULL), 0);
    ck_assert_int_eq(resource_group_put(groups, UID, child, NULL), 0);

    ck_assert_int_eq(write(go[1], "x", 1), 1);
    ck_assert_int_eq(read(told[0], &count, sizeof(count)), sizeof(count));

    ck_assert_uint_eq(count, 2 + RESOURCE_OVERHEAD_PROCESSES);
    for (unsigned i = 0; i < 2; i++) {
        (void)close(go[i]);
        (void)close(told[i]);
    }
}
END_TEST

START_TEST(a_process_is_held_by_its_own_group_only)
{
    ck_assert(!resource_group_holds(groups, UID, child));
    make_and_put();

    ck_assert(resource_group_holds(groups, UID, child));
    ck_assert(!resource_group_holds(groups, UID + 1, child));
    ck_assert(!resource_group_holds(groups, UID, getpid()));
    make_and_put(); /* again: nothing changes */
    ck_assert(resource_group_holds(groups, UID, child));
}
END_TEST

START_TEST(the_daemon_may_be_elsewhere_when_it_comes_back)
{
    make_and_put();
    char parent[256];
    char old[512];
    (void)snprintf(parent, sizeof(parent), "/engine-test-%d", (int)getpid());
    (void)snprintf(old, sizeof(old), "%s", group_file("memory", "cgroup.procs"));
    ck_assert_int_eq((pid_t)strtol(old, NULL, 10), child);
    struct resource_groups *later = resource_groups_open(name, parent, NULL);

    ck_assert_int_eq(resource_group_make(later, UID, &limits, NULL), 0);
    ck_assert_int_eq(resource_group_put(later, UID, child, NULL), 0);

    struct resource_usage usage;
    ck_assert(resource_group_holds(later, UID, child));
    ck_assert_int_eq(resource_group_usage(later, UID, &usage), 0);
    ck_assert_int_eq(resource_group_usage(groups, UID, &usage), -ENOENT); /* removed */
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    child = 0;
    ck_assert_int_eq(resource_group_remove(later, UID), 0);
    resource_groups_remove(later);
    resource_groups_close(later);
    static const char *const mounts[] = {"",       "cpu",     "cpuacct",
                                         "memory", "freezer", "pids"};
    for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
        char folder[512];
        (void)snprintf(folder, sizeof(folder), "/sys/fs/cgroup/%s%s", mounts[i], parent);
        (void)rmdir(folder);
    }
}
END_TEST

START_TEST(usage_grows_with_work)
{
    struct resource_usage before;
    struct resource_usage after;
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    child = fork();
    if (child == 0) {
        for (volatile unsigned i = 0;; i++) {
        }
    }
    make_and_put();
    ck_assert_int_eq(resource_group_usage(groups, UID, &before), 0);

    do {
        sched_yield();
        ck_assert_int_eq(resource_group_usage(groups, UID, &after), 0);
    } while (after.cpu_ns < before.cpu_ns + 20000000);

    ck_assert_int_eq(resource_group_usage(groups, UID + 1, &after), -ENOENT);
}
END_TEST

START_TEST(a_frozen_group_can_be_killed)
{
    make_and_put();
    int r = resource_group_freeze(groups, UID, true);
    if (r == -ENOTSUP) {
        return; /* no freezer here */
    }
    ck_assert_int_eq(r, 0);

    ck_assert_int_eq(resource_group_kill(groups, UID), 0);

    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(WTERMSIG(status), SIGKILL);
    ck_assert_int_eq(resource_group_count(groups, UID), 0);
    child = 0;
}
END_TEST

START_TEST(a_group_in_use_is_not_removed)
{
    ck_assert_int_eq(resource_group_count(groups, UID), 0); /* no group yet */
    make_and_put();

    ck_assert_int_eq(resource_group_count(groups, UID), 1);
    ck_assert_int_eq(resource_group_remove(groups, UID), -EBUSY);
    ck_assert(resource_group_holds(groups, UID, child));
    ck_assert_int_eq(resource_group_remove(groups, UID + 1), 0); /* missing is fine */
}
END_TEST

/* ---- a daemon among its VMs ---- */

#define BURNERS    4
#define ENOUGH_NS  UINT64_C(400000000) /* of VMs' time: many turns of each */
#define SHARE_MIN  8 /* at least one of so many; it should be one in two */
#define WEIGHT_TOP 10000

/* All on one CPU, where each has to wait for the others. */
static void stay_on_one_cpu(void)
{
    cpu_set_t allowed;
    cpu_set_t one;
    size_t cpu = 0;
    ck_assert_int_eq(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    while (!CPU_ISSET(cpu, &allowed)) {
        cpu++;
    }
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
}

static uint64_t own_cpu_ns(void)
{
    struct timespec used;
    ck_assert_int_eq(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used), 0);
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

static pid_t burner_start(struct resource_groups *of, uint64_t uid)
{
    static const struct resource_limits heaviest = {
        .cpu_count = 4, .cpu_weight = WEIGHT_TOP, .memory_bytes = UINT64_C(64) << 20};
    pid_t pid = fork();
    if (pid == 0) {
        for (volatile unsigned i = 0;; i++) {
        }
    }
    ck_assert_int_eq(resource_group_make(of, uid, &heaviest, NULL), 0);
    ck_assert_int_eq(resource_group_put(of, uid, pid, NULL), 0);
    return pid;
}

static uint64_t burnt_ns(const struct resource_groups *of)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < BURNERS; i++) {
        struct resource_usage usage;
        ck_assert_int_eq(resource_group_usage(of, UID + 1 + i, &usage), 0);
        sum += usage.cpu_ns;
    }
    return sum;
}

/* A group of our own with us in it, as a service manager makes one; where one process of
 * the topmost group is as good, nothing. */
static void become_a_service(bool v2, char ret_folder[128])
{
    char files[192];
    (void)snprintf(ret_folder, 128, "/sys/fs/cgroup/engine-service-%d", (int)getpid());
    if (!v2) {
        return;
    }
    ck_assert_int_eq(mkdir(ret_folder, 0755), 0);
    (void)snprintf(files, sizeof(files), "%s/cgroup.procs", ret_folder);
    CLEANUP_FD int fd = open(files, O_WRONLY | O_CLOEXEC);
    ck_assert_int_eq(write(fd, "0", 1), 1);
}

START_TEST(vms_of_any_weight_leave_their_daemon_its_half)
{
    char service[128];
    char own[RESOURCE_GROUPS_NAME_SIZE];
    pid_t burners[BURNERS];
    stay_on_one_cpu();
    become_a_service(resource_groups_mode(groups) == RESOURCE_V2, service);
    (void)snprintf(own, sizeof(own), "engine-daemon-%d", (int)getpid());
    struct resource_groups *daemon = resource_groups_open(own, NULL, NULL);
    for (unsigned i = 0; i < BURNERS; i++) {
        burners[i] = burner_start(daemon, UID + 1 + i);
    }

    uint64_t used_ns = own_cpu_ns();
    const uint64_t before_ns = burnt_ns(daemon);
    uint64_t vms_ns = 0;
    while (vms_ns < ENOUGH_NS) {
        vms_ns = burnt_ns(daemon) - before_ns;
    }
    used_ns = own_cpu_ns() - used_ns;

    for (unsigned i = 0; i < BURNERS; i++) {
        (void)kill(burners[i], SIGKILL);
        ck_assert_int_eq(waitpid(burners[i], NULL, 0), burners[i]);
        ck_assert_int_eq(resource_group_remove(daemon, UID + 1 + i), 0);
    }
    resource_groups_remove(daemon);
    resource_groups_close(daemon);
    ck_assert_msg(used_ns >= vms_ns / SHARE_MIN, "%u ms for it, %u ms for its VMs",
                  (unsigned)(used_ns / 1000000), (unsigned)(vms_ns / 1000000));
    if (resource_groups_mode(groups) == RESOURCE_V2) { /* nothing of ours is left there */
        char top[] = "/sys/fs/cgroup/cgroup.procs";
        CLEANUP_FD int fd = open(top, O_WRONLY | O_CLOEXEC);
        ck_assert_int_eq(write(fd, "0", 1), 1);
        ck_assert_int_eq(rmdir(service), 0);
    }
}
END_TEST

START_TEST(without_rights_vms_run_without_groups)
{
    /* A parent that cannot exist: a file, not a folder. */
    struct resource_groups *none =
        resource_groups_open("engine-none", "/cgroup.procs", NULL);
    struct resource_usage usage;

    ck_assert_ptr_nonnull(none);
    ck_assert_int_eq(resource_groups_mode(none), RESOURCE_NONE);
    ck_assert_int_eq(resource_group_make(none, UID, &limits, NULL), -ENOTSUP);
    ck_assert_int_eq(resource_group_put(none, UID, getpid(), NULL), -ENOTSUP);
    ck_assert_int_eq(resource_group_usage(none, UID, &usage), -ENOTSUP);
    ck_assert_int_eq(resource_group_kill(none, UID), -ENOTSUP);
    ck_assert_int_eq(resource_group_remove(none, UID), 0);
    ck_assert(!resource_group_holds(none, UID, getpid()));
    resource_groups_close(none);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resource_groups");
    TCase *degraded = tcase_create("degraded");
    tcase_add_test(degraded, without_rights_vms_run_without_groups);
    suite_add_tcase(suite, degraded);
    struct resource_groups *probe = resource_groups_open("engine-probe", NULL, NULL);
    bool usable = resource_groups_mode(probe) != RESOURCE_NONE;
    resource_groups_remove(probe);
    resource_groups_close(probe);
    if (usable) {
        TCase *tests = tcase_create("kernel");
        tcase_set_timeout(tests, 60);
        tcase_add_checked_fixture(tests, setup, teardown);
        tcase_add_test(tests, the_limits_are_the_vms_and_a_little);
        tcase_add_test(tests, a_group_that_multiplies_comes_to_an_end);
        tcase_add_test(tests, a_process_is_held_by_its_own_group_only);
        tcase_add_test(tests, the_daemon_may_be_elsewhere_when_it_comes_back);
        tcase_add_test(tests, vms_of_any_weight_leave_their_daemon_its_half);
        tcase_add_test(tests, usage_grows_with_work);
        tcase_add_test(tests, a_frozen_group_can_be_killed);
        tcase_add_test(tests, a_group_in_use_is_not_removed);
        suite_add_tcase(suite, tests);
    } else {
        printf("kernel tests skipped: no control group can be made here\n");
    }
    return test_main_run(suite);
}
