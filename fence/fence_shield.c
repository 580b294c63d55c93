#include "fence/fence_shield.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "fence/fence_loop.h"
#include "fence/fence_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define OOM_NEVER  "-1000"
#define STACK_SIZE 65536 /* far more than the loop ever needs */

static uint32_t report(const char *what, int fault, uint32_t flag)
{
    if (fault == 0) {
        return flag;
    }
    log_warn("fence", "the fence has to do without", KV_STR("what", what),
             KV_STR("why", err_sentence(fault)));
    return 0;
}

static int oom_shield(void)
{
    CLEANUP_FD int fd =
        fd_open_at(AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY, 0, NULL);
    return fd < 0 ? fd : fd_write_full(fd, OOM_NEVER, strlen(OOM_NEVER));
}

static int files_raise(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= FENCE_FILES_WANTED) {
        return 0;
    }
    files.rlim_cur = FENCE_FILES_WANTED;
    files.rlim_max =
        files.rlim_max < FENCE_FILES_WANTED ? FENCE_FILES_WANTED : files.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &files) == 0 ? 0 : -errno;
}

/* What is locked must be there first: a page of the stack is made when it is touched. */
static __attribute__((noinline)) void stack_touch(void)
{
    char stack[STACK_SIZE];
    explicit_bzero(stack, sizeof(stack)); /* a memset would be optimised away */
}

uint32_t fence_shield(void)
{
    stack_touch();
    struct sched_param priority = {.sched_priority = FENCE_SHIELD_PRIORITY};
    stack_touch();
    int locked = mlockall(MCL_CURRENT | MCL_FUTURE) == 0 ? 0 : -errno;
    int real_time = sched_setscheduler(0, SCHED_FIFO, &priority) == 0 ? 0 : -errno;
    (void)report("descriptors for every VM", files_raise(), 0);
    return report("locked memory", locked, FENCE_HAS_LOCKED_MEMORY) |
           report("real-time priority", real_time, FENCE_HAS_REAL_TIME) |
           report("a shield from the out-of-memory killer", oom_shield(),
                  FENCE_HAS_OOM_SHIELD);
}
