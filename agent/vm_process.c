#include "agent/vm_process.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/proc_stat.h"
#include "base/require.h"
#include "base/where.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LOG_BEGIN       "---- next run ----"
#define ARGUMENTS_MAX   256
#define GATE_GRANTED    'g'
#define EXIT_NO_PROGRAM 127 /* as shells say it */
#define CHILD_GATE      3   /* descriptors of the child */
#define CHILD_LOCK      VM_PROCESS_LOCK_AT
#define CHILD_STACK     ((size_t)64 << 10)
#define CHILD_SPARE     128 /* from here on it moves them out of the way first */

struct vm_process {
    uv_loop_t *loop;
    uv_poll_t poll; /* of the pidfd; data: the vm_process */
    struct vm_process_identity identity;
    int pidfd;
    int gate;   /* our end, -1 once released */
    bool child; /* ours to reap */
    bool dead;
    void (*ended)(void *context, const struct vm_process_end *end);
    void *context;
};

/* ---- /proc ---- */

static int read_small(const char *path, char *text, size_t size)
{
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_RDONLY, 0, NULL);
    if (fd < 0) {
        return fd;
    }
    ssize_t count = fd_read_full(fd, text, size - 1);
    if (count < 0) {
        return (int)count;
    }
    text[count] = '\0';
    return 0;
}

static int read_boot(char boot[VM_PROCESS_BOOT_SIZE])
{
    boot[0] = '\0';
    int r = read_small("/proc/sys/kernel/random/boot_id", boot, VM_PROCESS_BOOT_SIZE);
    boot[strcspn(boot, "\n")] = '\0';
    return r;
}

int vm_process_identify(pid_t pid, struct vm_process_identity *ret_identity)
{
    struct proc_stat stat;
    int r = proc_stat_read(pid, &stat);
    if (r != 0) {
        return r == -ESRCH ? BERTH_ENOTFOUND : r;
    }
    memset(ret_identity, 0, sizeof(*ret_identity));
    ret_identity->pid = pid;
    ret_identity->start_ticks = stat.start_ticks;
    return read_boot(ret_identity->boot);
}

int vm_process_verify(const struct vm_process_identity *identity)
{
    struct vm_process_identity now;
    struct proc_stat stat;
    int r = vm_process_identify(identity->pid, &now);
    if (r != 0) {
        return r;
    }
    if (now.start_ticks != identity->start_ticks ||
        strcmp(now.boot, identity->boot) != 0) {
        return BERTH_ENOTFOUND;
    }
    /* A zombie holds its pid and runs nothing. */
    r = proc_stat_read(identity->pid, &stat);
    return r == -ESRCH || (r == 0 && proc_stat_is_dead(&stat)) ? BERTH_ENOTFOUND : r;
}

int vm_process_usage(const struct vm_process *process,
                     uint64_t *ret_cpu_ns,
                     uint64_t *ret_memory_bytes)
{
    struct proc_stat stat;
    int r = process->dead ? -ESRCH : proc_stat_read(process->identity.pid, &stat);
    if (r != 0) {
        return r;
    }
    long per_second = sysconf(_SC_CLK_TCK);
    *ret_cpu_ns = stat.cpu_ticks *
                  (UINT64_C(1000000000) / (uint64_t)(per_second > 0 ? per_second : 100));
    *ret_memory_bytes = stat.memory_bytes;
    return 0;
}

bool vm_process_pid_is_stopped(pid_t pid)
{
    struct proc_stat stat;
    return proc_stat_read(pid, &stat) != 0 || proc_stat_is_dead(&stat) ||
           proc_stat_is_stopped(&stat);
}

bool vm_process_is_stopped(const struct vm_process *process)
{
    return process->dead || vm_process_pid_is_stopped(process->identity.pid);
}

/* ---- the child, between clone and exec: async-signal-safe calls only ---- */

struct child_plan {
    const char *folder;
    char *const *argv;
    char *const *envp;
    const char *program; /* with a slash */
    int log, null, gate;
    int lock; /* 0: none */
    const int *given;
    unsigned given_count;
};

static void child_complain(const char *what, const char *object)
{
    const char *const parts[] = {"berthd: cannot ", what, " ", object, "\n"};
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        if (write(STDERR_FILENO, parts[i], strlen(parts[i])) < 0) {
            return; /* nobody is left to tell */
        }
    }
}

static void child_reset_signals(void)
{
    struct sigaction normal = {.sa_handler = SIG_DFL};
    for (int number = 1; number < _NSIG; number++) {
        (void)sigaction(number, &normal,
                        NULL); /* refused for KILL, STOP and libc's own */
    }
    sigset_t none;
    (void)sigemptyset(&none);
    (void)pthread_sigmask(SIG_SETMASK, &none, NULL); /* the one thread of a fork */
}

/* Gate, lock and what is given get their numbers, and nothing else stays open: not the
 * daemon's sockets, not the gates of other VMs. */
static bool child_take_descriptors(const struct child_plan *plan)
{
    int given[VM_PROCESS_GIVEN_MAX];
    int gate = fcntl(plan->gate, F_DUPFD, CHILD_SPARE);
    int lock = plan->lock > 0 ? fcntl(plan->lock, F_DUPFD, CHILD_SPARE) : 0;
    if (gate < 0 || lock < 0) {
        return false;
    }
    for (unsigned i = 0; i < plan->given_count; i++) {
        given[i] = fcntl(plan->given[i], F_DUPFD, CHILD_SPARE);
        if (given[i] < 0) {
            return false;
        }
    }
    if (dup2(gate, CHILD_GATE) < 0 || (lock > 0 && dup2(lock, CHILD_LOCK) < 0)) {
        return false;
    }
    for (unsigned i = 0; i < plan->given_count; i++) {
        if (dup2(given[i], VM_PROCESS_GIVEN_AT + (int)i) < 0) {
            return false;
        }
    }
    if (lock == 0) {
        (void)close(CHILD_LOCK); /* whatever it was in the daemon */
    }
    (void)close_range(VM_PROCESS_GIVEN_AT + plan->given_count, ~0U, 0);
    return true;
}

static _Noreturn void child_run(const struct child_plan *plan)
{
    (void)setsid(); /* a fresh child leads no group: it cannot fail */
    if (dup2(plan->null, STDIN_FILENO) < 0 || dup2(plan->log, STDOUT_FILENO) < 0 ||
        dup2(plan->log, STDERR_FILENO) < 0) {
        _exit(EXIT_NO_PROGRAM);
    }
    if (!child_take_descriptors(plan)) {
        _exit(EXIT_NO_PROGRAM);
    }
    child_reset_signals();
    if (chdir(plan->folder) != 0) {
        child_complain("enter", plan->folder);
        _exit(EXIT_NO_PROGRAM);
    }
    char word = 0;
    ssize_t count;
    do {
        count = read(CHILD_GATE, &word, 1);
    } while (count < 0 && errno == EINTR);
    if (count != 1 || word != GATE_GRANTED) {
        _exit(0); /* the daemon died or gave up: nothing has run */
    }
    (void)close(CHILD_GATE);
    (void)execve(plan->program, plan->argv, plan->envp);
    child_complain("execute", plan->program);
    _exit(EXIT_NO_PROGRAM);
}

/* ---- starting ---- */

/* PATH is searched before the fork: the search allocates. */
static int find_program(const char *name, char *ret_path, size_t size, struct err *err)
{
    if (strchr(name, '/') != NULL) {
        if ((size_t)snprintf(ret_path, size, "%s", name) >= size) {
            return err_set(err, -ENAMETOOLONG, "program %s: path too long", name);
        }
        return 0;
    }
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets it while we run */
    const char *path = getenv("PATH");
    path = path == NULL ? "/usr/bin:/bin" : path;
    while (*path != '\0') {
        size_t length = strcspn(path, ":");
        int written = snprintf(ret_path, size, "%.*s/%s", (int)length, path, name);
        if (written > 0 && (size_t)written < size && access(ret_path, X_OK) == 0) {
            return 0;
        }
        path += length + (path[length] == ':');
    }
    return err_set(err, -ENOENT, "program %s: not found in PATH", name);
}

static void process_polled(uv_poll_t *poll, int status, int events);

/* The handle and the pidfd are released together: libuv must not watch a descriptor that
 * has been closed. */
static void free_process(uv_handle_t *handle)
{
    struct vm_process *process = handle->data;
    fd_close(&process->pidfd);
    fd_close(&process->gate);
    free(process);
}

static struct vm_process *process_watch(uv_loop_t *loop,
                                        const struct vm_process_identity *identity,
                                        int pidfd,
                                        struct err *err)
{
    struct vm_process *process = calloc(1, sizeof(*process));
    if (process == NULL) {
        err_set(err, -ENOMEM, "process %d: out of memory", (int)identity->pid);
        return NULL;
    }
    process->loop = loop;
    process->identity = *identity;
    process->pidfd = pidfd;
    process->gate = -1;
    int r = uv_poll_init(loop, &process->poll, pidfd);
    if (r != 0) {
        err_sys(err, r, "watch process %d", (int)identity->pid);
        free(process);
        return NULL;
    }
    process->poll.data = process;
    REQUIRE(uv_poll_start(&process->poll, UV_READABLE, process_polled) == 0);
    return process;
}

static void process_polled(uv_poll_t *poll, int status, int events)
{
    struct vm_process *process = poll->data;
    (void)status; /* a pidfd has one piece of news */
    (void)events;
    struct vm_process_end end = {.exit_status = -1, .signal_number = -1};
    (void)uv_poll_stop(poll);
    process->dead = true;
    if (process->child) {
        siginfo_t info = {0};
        /* Only WEXITED: a child that is merely stopped has not ended. */
        if (waitid(P_PIDFD, (id_t)process->pidfd, &info, WEXITED | WNOHANG) == 0 &&
            info.si_pid != 0) {
            if (info.si_code == CLD_EXITED) {
                end.exit_status = info.si_status;
            } else {
                end.signal_number = info.si_status;
            }
        }
        process->child = false;
    }
    process->ended(process->context, &end); /* may close the process */
}

static int child_main(void *plan)
{
    child_run(plan);
}

/* As fork, with the pidfd of that very process. Its stack is a copy of ours, as all is.
 */
static pid_t child_clone(const struct child_plan *plan, int flags, int *ret_pidfd)
{
    alignas(16) uint8_t stack[CHILD_STACK];
    int pidfd = -1; /* one that failed may leave a number there that is not ours */
    const pid_t pid =
        clone(child_main, stack + sizeof(stack), flags | CLONE_PIDFD | SIGCHLD,
              (void *)(uintptr_t)plan, &pidfd);
    *ret_pidfd = pid < 0 ? -1 : pidfd;
    return pid;
}

static pid_t fork_child(const struct child_plan *plan, bool own_pids, int *ret_pidfd)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    /* Until the child has default handlers none of ours may run in it. */
    REQUIRE(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    pid_t pid = own_pids ? child_clone(plan, CLONE_NEWPID, ret_pidfd) : -1;
    if (pid < 0) { /* who is not root has no namespaces: what it runs says so */
        pid = child_clone(plan, 0, ret_pidfd);
    }
    int saved = errno;
    REQUIRE(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    errno = saved;
    return pid;
}

/* While it waits at the gate. Lowering the score needs privileges; then the inherited one
 * has to do. */
static void set_oom_score(pid_t pid, int score)
{
    char path[64];
    char text[16];
    (void)snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid); /* fits */
    (void)snprintf(text, sizeof(text), "%d", score);
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_WRONLY, 0, NULL);
    if (fd >= 0) {
        (void)fd_write_full(fd, text, strlen(text));
    }
}

static void end_unwatched(pid_t pid)
{
    WHERE("wait for the end of a process that was not to run");
    (void)kill(pid, SIGKILL); /* our own child, not reaped: the pid is still its */
    (void)waitpid(pid, NULL, 0);
}

struct vm_process *vm_process_spawn(uv_loop_t *loop,
                                    const struct vm_process_spec *spec,
                                    void (*ended)(void *context,
                                                  const struct vm_process_end *end),
                                    void *context,
                                    struct err *err)
{
    REQUIRE(spec->argv != NULL && spec->argv[0] != NULL && ended != NULL);
    REQUIRE(spec->given_count <= VM_PROCESS_GIVEN_MAX);
    const char *name = spec->program == NULL ? spec->argv[0] : spec->program;
    char program[PATH_MAX];
    CLEANUP_FD int log = -1;
    CLEANUP_FD int null = -1;
    int gate[2];
    if (find_program(name, program, sizeof(program), err) != 0) {
        return NULL;
    }
    log = fd_open_at(AT_FDCWD, spec->log_path, O_WRONLY | O_CREAT | O_APPEND, 0600, err);
    null = fd_open_at(AT_FDCWD, "/dev/null", O_RDWR, 0, err);
    if (log < 0 || null < 0) {
        return NULL;
    }
    if (pipe2(gate, O_CLOEXEC) != 0) {
        err_sys(err, -errno, "start %s", spec->argv[0]);
        return NULL;
    }
    struct child_plan plan = {
        .folder = spec->folder,
        .argv = (char *const *)(uintptr_t)spec->argv, /* execve's type, not its deed */
        .envp = environ,
        .program = program,
        .log = log,
        .null = null,
        .gate = gate[0],
        .lock = spec->lock,
        .given = spec->given,
        .given_count = spec->given_count,
    };
    CLEANUP_FD int pidfd = -1;
    pid_t pid = fork_child(&plan, spec->own_pids, &pidfd);
    int fault = errno;
    (void)close(gate[0]);
    CLEANUP_FD int gate_end = gate[1];
    if (pid < 0) {
        err_sys(err, -fault, "start %s: fork", spec->argv[0]);
        return NULL;
    }
    struct vm_process_identity identity;
    if (vm_process_identify(pid, &identity) != 0) {
        err_sys(err, -ESRCH, "start %s: pid %d", spec->argv[0], (int)pid);
        end_unwatched(pid);
        return NULL;
    }
    set_oom_score(pid, spec->oom_score_adj);
    struct vm_process *process = process_watch(loop, &identity, pidfd, err);
    if (process == NULL) {
        end_unwatched(pid);
        return NULL;
    }
    (void)TAKE_FD(pidfd); /* the process owns it now */
    process->gate = TAKE_FD(gate_end);
    process->child = true;
    process->ended = ended;
    process->context = context;
    return process;
}

int vm_process_release(struct vm_process *process, struct err *err)
{
    REQUIRE(process->gate >= 0);
    const char word = GATE_GRANTED;
    /* SIGPIPE is ignored in the daemon (libuv programs need that anyway). */
    int r = process->dead ? -ESRCH : fd_write_full(process->gate, &word, 1);
    fd_close(&process->gate);
    return r == 0 ? 0 : err_sys(err, r, "release process %d", (int)process->identity.pid);
}

struct vm_process *vm_process_adopt(uv_loop_t *loop,
                                    const struct vm_process_identity *identity,
                                    void (*ended)(void *context,
                                                  const struct vm_process_end *end),
                                    void *context,
                                    struct err *err)
{
    REQUIRE(ended != NULL);
    /* First the descriptor, then the check: what is verified is what is held. */
    errno = ESRCH;
    CLEANUP_FD int pidfd = identity->pid > 0 ? pidfd_open(identity->pid, 0) : -1;
    /* EINVAL: the pid is some thread's by now. */
    int r = pidfd >= 0                          ? vm_process_verify(identity)
            : errno == ESRCH || errno == EINVAL ? BERTH_ENOTFOUND
                                                : -errno;
    if (r == BERTH_ENOTFOUND) {
        err_set(err, r, "process %d is gone", (int)identity->pid);
        return NULL;
    }
    if (r != 0) {
        err_sys(err, r, "take over process %d", (int)identity->pid);
        return NULL;
    }
    struct vm_process *process = process_watch(loop, identity, pidfd, err);
    if (process != NULL) {
        (void)TAKE_FD(pidfd); /* the process owns it now */
        process->ended = ended;
        process->context = context;
    }
    return process;
}

const struct vm_process_identity *vm_process_identity(const struct vm_process *process)
{
    return &process->identity;
}

int vm_process_signal(struct vm_process *process, int signal_number)
{
    if (process->dead) {
        return -ESRCH;
    }
    return pidfd_send_signal(process->pidfd, signal_number, NULL, 0) == 0 ? 0 : -errno;
}

struct vm_process *vm_process_close(struct vm_process *process)
{
    if (process != NULL) {
        if (process->child && process->gate >= 0) { /* held: it has run nothing */
            WHERE("wait for the end of a process that was not to run");
            (void)vm_process_signal(process, SIGKILL);
            /* By pid, which is its own until we have reaped it: libuv has made the pidfd
             * one that does not block. */
            while (waitpid(process->identity.pid, NULL, 0) < 0 && errno == EINTR) {
            }
        }
        fd_close(&process->gate);
        (void)uv_poll_stop(&process->poll);
        uv_close((uv_handle_t *)&process->poll, free_process);
    }
    return NULL;
}

/* ---- its log ---- */

/* The end of a file, at most `keep` bytes, NUL-terminated; the count, or -errno and no
 * text. */
static ssize_t read_tail(int fd, char *text, size_t keep)
{
    struct stat status;
    text[0] = '\0';
    if (fstat(fd, &status) != 0) {
        return -errno;
    }
    off_t from = status.st_size > (off_t)keep ? status.st_size - (off_t)keep : 0;
    ssize_t count = pread(fd, text, keep, from);
    if (count < 0) {
        return -errno;
    }
    text[count] = '\0';
    return count;
}

void vm_process_log_begin(const char *log_path)
{
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, log_path, O_WRONLY | O_APPEND, 0, NULL);
    struct stat status;
    if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size > 0) {
        /* without it a reason may quote the run before: no cause not to start */
        (void)fd_write_full(fd, LOG_BEGIN "\n", sizeof(LOG_BEGIN "\n") - 1);
    }
}

void vm_process_log_last_line(const char *log_path, char *ret_text, size_t size)
{
    char tail[1025];
    REQUIRE(size > 0);
    ret_text[0] = '\0';
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, log_path, O_RDONLY, 0, NULL);
    if (fd < 0) {
        return;
    }
    ssize_t length = read_tail(fd, tail, sizeof(tail) - 1);
    while (length > 0 && isspace((unsigned char)tail[length - 1])) {
        tail[--length] = '\0';
    }
    if (length <= 0) {
        return;
    }
    const char *line = strrchr(tail, '\n');
    line = line == NULL ? tail : line + 1;
    if (strcmp(line, LOG_BEGIN) == 0) {
        return;
    }
    size_t used = 0;
    for (; *line != '\0' && used + 1 < size; line++) {
        ret_text[used++] = isprint((unsigned char)*line) ? *line : '?';
    }
    ret_text[used] = '\0';
}

void vm_process_log_trim(const char *log_path)
{
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, log_path, O_RDWR | O_APPEND, 0, NULL);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0 || status.st_size <= VM_PROCESS_LOG_MAX) {
        return;
    }
    CLEANUP_FREE char *tail = cleanup_new(VM_PROCESS_LOG_KEEP + 1, 1);
    ssize_t length = tail == NULL ? 0 : read_tail(fd, tail, VM_PROCESS_LOG_KEEP);
    /* The process appends: after the cut it goes on at the new end. A line it writes in
     * between may stand before the kept tail, or be lost; it is only a log. */
    if (ftruncate(fd, 0) == 0 && length > 0) {
        (void)fd_write_full(fd, tail, (size_t)length);
    }
}
