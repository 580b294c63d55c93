/* Goal: a watched process is frozen, thawed and killed by every means there is, and only
 * what was frozen here is thawed. Method: real processes in real control groups, where
 * this machine has them. */
#include "base/cleanup.h"
#include "fence/fence_hold.h"
#include "fence_fixture.h"
#include "support/test_main.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* A control group of one kind with a process in it. */
struct group {
    enum fence_freezer kind;
    char folder[128];
    pid_t pid;
};

static bool is_v2(const char *path)
{
    struct statfs status;
    return statfs(path, &status) == 0 && status.f_type == CGROUP2_SUPER_MAGIC;
}

static const char *mount_of(enum fence_freezer kind)
{
    if (kind == FENCE_FREEZER_V1) {
        return "/sys/fs/cgroup/freezer";
    }
    return is_v2("/sys/fs/cgroup") ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
}

static int group_open(const struct group *group, const char *file, int flags)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", group->folder, file);
    return fd_open_at(AT_FDCWD, path, flags, 0, NULL);
}

/* False where this machine has no such group. */
static bool group_init(struct group *group, enum fence_freezer kind)
{
    char text[24];
    group->kind = kind;
    (void)snprintf(group->folder, sizeof(group->folder), "%s/berth-fence-test-%d",
                   mount_of(kind), (int)getpid());
    if (kind == FENCE_FREEZER_V2 && !is_v2(mount_of(kind))) {
        return false;
    }
    if (mkdir(group->folder, 0755) != 0) {
        return false;
    }
    group->pid = bench_child();
    (void)snprintf(text, sizeof(text), "%d", (int)group->pid);
    CLEANUP_FD int procs = group_open(group, "cgroup.procs", O_WRONLY);
    CLEANUP_FD int freezer = group_open(
        group, kind == FENCE_FREEZER_V1 ? "freezer.state" : "cgroup.freeze", O_RDWR);
    if (freezer < 0 || procs < 0 || fd_write_full(procs, text, strlen(text)) != 0) {
        bench_kill(group->pid);
        (void)rmdir(group->folder);
        return false;
    }
    return true;
}

static void group_fini(struct group *group)
{
    while (rmdir(group->folder) != 0) { /* the kernel takes its time to empty it */
        ck_assert_int_eq(errno, EBUSY);
        bench_breathe();
    }
}

static void take(const struct group *group, struct fence_hold *hold, struct fence_vm *vm)
{
    int fds[FENCE_FDS_MAX] = {pidfd_open(group->pid, 0), -1, -1};
    struct fence_watch watch = bench_watch_of(1, 1, group->pid);
    watch.freezer = group->kind;
    if (group->kind == FENCE_FREEZER_V1) {
        fds[1] = group_open(group, "freezer.state", O_RDWR);
    } else if (group->kind == FENCE_FREEZER_V2) {
        fds[1] = group_open(group, "cgroup.freeze", O_RDWR);
        fds[2] = group_open(group, "cgroup.kill", O_WRONLY);
        watch.kill = 1;
    }
    ck_assert_int_eq(fence_hold_take(&watch, fds, hold, vm), 0);
    ck_assert_int_eq(fds[0], -1); /* taken */
}

static void wait_frozen(const struct group *group, bool frozen)
{
    char text[256] = "";
    const char *const want = group->kind == FENCE_FREEZER_V1
                                 ? (frozen ? "FROZEN" : "THAWED")
                                 : (frozen ? "frozen 1" : "frozen 0");
    while (strstr(text, want) == NULL) {
        CLEANUP_FD int fd = group_open(
            group, group->kind == FENCE_FREEZER_V1 ? "freezer.state" : "cgroup.events",
            O_RDONLY);
        ssize_t count = read(fd, text, sizeof(text) - 1);
        ck_assert_int_gt(count, 0);
        text[count] = '\0';
        bench_breathe();
    }
}

static const enum fence_freezer kinds[] = {FENCE_FREEZER_V1, FENCE_FREEZER_V2};

START_TEST(a_group_is_frozen_thawed_and_killed)
{
    struct group group;
    struct fence_hold hold;
    struct fence_vm vm;
    if (!group_init(&group, kinds[_i])) {
        return; /* not on this machine */
    }
    take(&group, &hold, &vm);

    ck_assert(fence_hold_freeze(&hold, &vm));
    wait_frozen(&group, true);
    ck_assert(vm.frozen && !vm.stopped);
    ck_assert(!fence_hold_freeze(&hold, &vm)); /* again */
    ck_assert(fence_hold_thaw(&hold, &vm));
    wait_frozen(&group, false);
    ck_assert(!fence_hold_thaw(&hold, &vm));

    /* A frozen one dies as well. */
    ck_assert(fence_hold_freeze(&hold, &vm));
    wait_frozen(&group, true);
    ck_assert(fence_hold_kill(&hold, &vm));
    fence_hold_kill_group(&hold, &vm);
    ck_assert_int_eq(bench_reap(group.pid), SIGKILL);
    ck_assert(fence_hold_is_over(&hold));
    ck_assert(!fence_hold_kill(&hold, &vm)); /* it was counted */
    fence_hold_close(&hold);
    group_fini(&group);
}
END_TEST

START_TEST(a_group_that_an_earlier_fence_froze_is_thawed)
{
    struct group group;
    struct fence_hold hold;
    struct fence_vm vm;
    if (!group_init(&group, kinds[_i])) {
        return; /* not on this machine */
    }
    take(&group, &hold, &vm);
    ck_assert(fence_hold_freeze(&hold, &vm));
    wait_frozen(&group, true);
    fence_hold_close(&hold);

    take(&group, &hold, &vm);
    ck_assert(vm.frozen);
    ck_assert(fence_hold_thaw(&hold, &vm));

    wait_frozen(&group, false);
    fence_hold_close(&hold);
    bench_kill(group.pid);
    group_fini(&group);
}
END_TEST

START_TEST(all_that_a_vm_started_ends_with_it)
{
    struct group group;
    struct fence_hold hold;
    struct fence_vm vm;
    if (!group_init(&group, FENCE_FREEZER_V2)) {
        return; /* v1 has no cgroup.kill */
    }
    char text[24];
    pid_t helper = bench_child();
    (void)snprintf(text, sizeof(text), "%d", (int)helper);
    int procs = group_open(&group, "cgroup.procs", O_WRONLY);
    ck_assert_int_eq(fd_write_full(procs, text, strlen(text)), 0);
    ck_assert_int_eq(close(procs), 0);
    take(&group, &hold, &vm);

    fence_hold_kill_group(&hold, &vm);

    ck_assert_int_eq(bench_reap(helper), SIGKILL);
    ck_assert_int_eq(bench_reap(group.pid), SIGKILL);
    fence_hold_close(&hold);
    group_fini(&group);
}
END_TEST

START_TEST(without_a_group_a_signal_freezes_and_thaws)
{
    struct group group = {.kind = FENCE_FREEZER_NONE, .pid = bench_child()};
    struct fence_hold hold;
    struct fence_vm vm;
    take(&group, &hold, &vm);

    ck_assert(fence_hold_freeze(&hold, &vm));
    bench_wait_state(group.pid, 'T');
    ck_assert(vm.stopped && !vm.frozen);
    ck_assert(!fence_hold_freeze(&hold, &vm));
    ck_assert(fence_hold_thaw(&hold, &vm));
    bench_wait_state(group.pid, 'S');

    ck_assert(!fence_hold_is_over(&hold));
    fence_hold_close(&hold);
    bench_kill(group.pid);
}
END_TEST

START_TEST(what_berthd_stopped_is_berthds_to_let_go_on)
{
    struct group group = {.kind = FENCE_FREEZER_NONE, .pid = bench_child()};
    struct fence_hold hold;
    struct fence_vm vm;
    take(&group, &hold, &vm);
    ck_assert_int_eq(kill(group.pid, SIGSTOP), 0);
    bench_wait_state(group.pid, 'T');

    ck_assert(!fence_hold_freeze(&hold, &vm));
    ck_assert(!fence_hold_thaw(&hold, &vm));

    bench_wait_state(group.pid, 'T');
    /* Should it be let go on while it must not run, it is stopped again, now by us. */
    ck_assert_int_eq(kill(group.pid, SIGCONT), 0);
    bench_wait_state(group.pid, 'S');
    ck_assert(fence_hold_freeze(&hold, &vm));
    bench_wait_state(group.pid, 'T');
    fence_hold_close(&hold);
    bench_kill(group.pid);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("fence_hold");
    TCase *tcase = tcase_create("hold");
    tcase_set_timeout(tcase, 30);
    tcase_add_loop_test(tcase, a_group_is_frozen_thawed_and_killed, 0, 2);
    tcase_add_loop_test(tcase, a_group_that_an_earlier_fence_froze_is_thawed, 0, 2);
    tcase_add_test(tcase, all_that_a_vm_started_ends_with_it);
    tcase_add_test(tcase, without_a_group_a_signal_freezes_and_thaws);
    tcase_add_test(tcase, what_berthd_stopped_is_berthds_to_let_go_on);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return test_main_run(suite());
}
