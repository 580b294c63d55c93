#include "fence/fence_hold.h"

#include "base/err.h"
#include "base/fd.h"
#include "base/proc_stat.h"
#include "base/require.h"

#include <errno.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/vfs.h>
#include <unistd.h>

#define FREEZER_TEXT_SIZE 16

static const struct freezer_words {
    const char *frozen, *thawed;
    long magic; /* of its file system */
} freezer_words[] = {
    [FENCE_FREEZER_NONE] = {"", "", 0},
    [FENCE_FREEZER_V1] = {"FROZEN", "THAWED", CGROUP_SUPER_MAGIC},
    [FENCE_FREEZER_V2] = {"1", "0", CGROUP2_SUPER_MAGIC},
};

/* ---- taking ---- */

/* Files of control groups never make a write wait for a reader, as a pipe would. */
static bool is_on(int fd, long magic)
{
    struct statfs status;
    return fstatfs(fd, &status) == 0 && (long)status.f_type == magic;
}

static bool is_frozen(const struct fence_hold *hold)
{
    char text[FREEZER_TEXT_SIZE] = "";
    return hold->freezer >= 0 && pread(hold->freezer, text, sizeof(text) - 1, 0) > 0 &&
           (text[0] == '1' || strncmp(text, "FR", 2) == 0); /* FROZEN or FREEZING */
}

static int check_process(int pidfd, const struct fence_watch *watch)
{
    struct proc_stat stat;
    pid_t pid = proc_pid_of(pidfd);
    if (pid < 0) {
        return pid == -ESRCH ? -ESRCH : BERTH_EINVALID;
    }
    if ((uint32_t)pid != watch->pid) {
        return BERTH_EINVALID;
    }
    int r = proc_stat_read(pid, &stat);
    if (r != 0) {
        return r;
    }
    /* While the pidfd is not over, the pid is its process': so this is that one's. */
    return proc_stat_is_dead(&stat)                 ? -ESRCH
           : stat.start_ticks != watch->start_ticks ? BERTH_EINVALID
                                                    : 0;
}

int fence_hold_take(const struct fence_watch *watch,
                    int fds[FENCE_FDS_MAX],
                    struct fence_hold *ret_hold,
                    struct fence_vm *ret_vm)
{
    struct fence_hold hold = FENCE_HOLD_EMPTY;
    struct proc_stat stat;
    unsigned next = 1;
    if (watch->freezer > FENCE_FREEZER_V2 || watch->kill > 1) {
        return BERTH_EINVALID;
    }
    hold.kind = (enum fence_freezer)watch->freezer;
    hold.pidfd = fds[0];
    hold.freezer = watch->freezer != FENCE_FREEZER_NONE ? fds[next++] : -1;
    hold.kill = watch->kill ? fds[next++] : -1;
    if ((hold.kind != FENCE_FREEZER_NONE &&
         !is_on(hold.freezer, freezer_words[hold.kind].magic)) ||
        (watch->kill && !is_on(hold.kill, CGROUP2_SUPER_MAGIC)) ||
        (next < FENCE_FDS_MAX && fds[next] >= 0)) {
        return BERTH_EINVALID;
    }
    int r = check_process(hold.pidfd, watch);
    if (r != 0) {
        return r;
    }
    *ret_vm = (struct fence_vm){
        .uid = watch->uid,
        .epoch = watch->epoch,
        .pid = (int32_t)watch->pid,
        .start_ticks = watch->start_ticks,
        .frozen = is_frozen(&hold),
        .stopped = proc_stat_read((pid_t)watch->pid, &stat) == 0 && stat.state == 'T',
    };
    *ret_hold = hold;
    memset(fds, -1, sizeof(*fds) * FENCE_FDS_MAX);
    return 0;
}

void fence_hold_close(struct fence_hold *hold)
{
    fd_close(&hold->pidfd);
    fd_close(&hold->freezer);
    fd_close(&hold->kill);
}

bool fence_hold_is_over(const struct fence_hold *hold)
{
    struct pollfd poll_fd = {.fd = hold->pidfd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) > 0;
}

/* ---- acting ---- */

static bool freezer_write(const struct fence_hold *hold, const char *word)
{
    size_t size = strlen(word);
    return hold->freezer >= 0 && pwrite(hold->freezer, word, size, 0) == (ssize_t)size;
}

static bool signal_send(const struct fence_hold *hold, int number)
{
    return pidfd_send_signal(hold->pidfd, number, NULL, 0) == 0;
}

bool fence_hold_freeze(const struct fence_hold *hold, struct fence_vm *vm)
{
    struct proc_stat stat;
    if (vm->frozen) {
        return false;
    }
    if (freezer_write(hold, freezer_words[hold->kind].frozen)) {
        vm->frozen = true;
        return true;
    }
    if (proc_stat_read(vm->pid, &stat) == 0 && stat.state == 'T') {
        return false; /* by us or by berthd, whose it is to let it go on */
    }
    bool first = !vm->stopped;
    vm->stopped = signal_send(hold, SIGSTOP) || vm->stopped;
    return first && vm->stopped;
}

bool fence_hold_thaw(const struct fence_hold *hold, struct fence_vm *vm)
{
    if (!vm->frozen && !vm->stopped) {
        return false;
    }
    bool thawed = !vm->frozen || freezer_write(hold, freezer_words[hold->kind].thawed);
    bool resumed = !vm->stopped || signal_send(hold, SIGCONT);
    vm->frozen = vm->frozen && !thawed;
    vm->stopped = vm->stopped && !resumed;
    return thawed && resumed;
}

bool fence_hold_kill(const struct fence_hold *hold, struct fence_vm *vm)
{
    bool first = !vm->killed;
    vm->killed = signal_send(hold, SIGKILL) || vm->killed;
    return first && vm->killed;
}

void fence_hold_kill_group(const struct fence_hold *hold, struct fence_vm *vm)
{
    if (hold->kill >= 0) {
        ssize_t written = write(hold->kill, "1", 1);
        (void)written; /* the signal is what counts */
    }
    if (hold->kind != FENCE_FREEZER_NONE) {
        /* A frozen process of v1 dies only when it thaws, whoever froze it. */
        (void)freezer_write(hold, freezer_words[hold->kind].thawed);
        vm->frozen = false;
    }
}
