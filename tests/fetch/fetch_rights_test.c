/* Goal: nothing that a download does not need is left to berth-fetch. Method: a child
 * puts the walls up and tries; which try got through is its exit status (the framework's
 * own files cannot be written behind the walls). */
#include "fetch/fetch_rights.h"
#include "support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WALLS_FAULT 100

static int status_file;
static bool files_are_closed;
static pid_t sibling; /* another download, of the same user */

/* Only the walls say that: else a try was not one. */
static bool is_refused(long result)
{
    return result < 0 && errno == EPERM;
}

static bool status_says(const char *line)
{
    char text[8192];
    ssize_t size = pread(status_file, text, sizeof(text) - 1, 0);
    text[size > 0 ? size : 0] = '\0';
    return strstr(text, line) != NULL;
}

static bool is_another_user(void)
{
    uid_t real;
    uid_t effective;
    uid_t saved;
    return getresuid(&real, &effective, &saved) == 0 && real != 0 && effective == real &&
           saved == real && getgid() != 0 && getgroups(0, NULL) == 0 && setuid(0) != 0;
}

static bool has_no_capability(void)
{
    return status_says("CapInh:\t0000000000000000") &&
           status_says("CapPrm:\t0000000000000000") &&
           status_says("CapEff:\t0000000000000000") &&
           status_says("CapBnd:\t0000000000000000") &&
           status_says("CapAmb:\t0000000000000000");
}

static bool gets_no_new_rights(void)
{
    return status_says("NoNewPrivs:\t1") && status_says("Seccomp:\t2");
}

static bool writes_no_file(void)
{
    return open("/tmp/berth-fetch-test", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0;
}

static bool reads_only_what_it_needs(void)
{
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    int secret = open("/etc/shadow", O_RDONLY | O_CLOEXEC);
    int other = open("/proc/version", O_RDONLY | O_CLOEXEC);
    return fd >= 0 && secret < 0 && (!files_are_closed || other < 0);
}

static bool runs_no_program(void)
{
    char name[] = "true";
    char *const argv[] = {name, NULL};
    return execve("/bin/true", argv, environ) < 0 && errno == EPERM;
}

static bool signals_nobody(void)
{
    siginfo_t info = {.si_code = SI_QUEUE};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return kill(getppid(), 0) < 0 && kill(-1, 0) < 0 && is_refused(kill(sibling, 0)) &&
           is_refused(syscall(SYS_tkill, sibling, 0)) &&
           is_refused(syscall(SYS_tgkill, sibling, sibling, 0)) &&
           is_refused(syscall(SYS_rt_sigqueueinfo, sibling, 0, &info)) &&
           is_refused(syscall(SYS_rt_tgsigqueueinfo, sibling, sibling, 0, &info)) &&
           fd >= 0 && is_refused(fcntl(fd, F_SETOWN, sibling)) &&
           is_refused(fcntl(fd, F_SETSIG, SIGTERM)) &&
           pthread_kill(pthread_self(), 0) == 0; /* as abort does */
}

static bool leaves_siblings_alone(void)
{
    struct rlimit limit;
    struct sched_param param = {0};
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(0, &cpus);
    return is_refused(prlimit(sibling, RLIMIT_NOFILE, NULL, &limit)) &&
           is_refused(sched_setaffinity(sibling, sizeof(cpus), &cpus)) &&
           is_refused(sched_setscheduler(sibling, SCHED_IDLE, &param)) &&
           is_refused(sched_setparam(sibling, &param)) &&
           is_refused(syscall(SYS_sched_setattr, sibling, NULL, 0)) &&
           is_refused(setpriority(PRIO_PROCESS, (id_t)sibling, 19)) &&
           is_refused(syscall(SYS_process_vm_readv, sibling, NULL, 0, NULL, 0, 0));
}

static bool clone_is_refused(unsigned long flags)
{
    long pid = syscall(SYS_clone, flags, NULL, NULL, NULL, 0);
    if (pid == 0) {
        _exit(0);
    }
    return is_refused(pid);
}

static bool has_no_child(void)
{
    char arguments[64] = {0};
    return clone_is_refused(SIGCHLD) && clone_is_refused(CLONE_NEWUSER | SIGCHLD) &&
           clone_is_refused(CLONE_VM | CLONE_VFORK | SIGCHLD) &&
           clone_is_refused(CLONE_THREAD | CLONE_NEWUSER) && /* else EINVAL */
           is_refused(unshare(CLONE_NEWUSER)) &&
           syscall(SYS_clone3, arguments, sizeof(arguments)) < 0 && errno == ENOSYS;
}

static bool stays_bound_to_its_parent(void)
{
    return is_refused(prctl(PR_SET_PDEATHSIG, 0)) &&
           is_refused(prctl(PR_SET_DUMPABLE, 1));
}

static bool has_the_network_and_no_unix_socket(void)
{
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 &&
           socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP) >= 0 &&
           socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP) >= 0 &&
           socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE) >= 0 &&
           is_refused(socket(AF_UNIX, SOCK_STREAM, 0)) &&
           is_refused(socket(AF_PACKET, SOCK_RAW, 0)) &&
           is_refused(socket(AF_INET, SOCK_RAW, 1)) &&
           is_refused(socket(AF_INET, SOCK_PACKET, 0)) &&
           is_refused(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)) &&
           is_refused(socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP)) &&
           is_refused(socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
}

/* Pairs of these types can be pointed at a UNIX socket of this host by its name. */
static bool has_pairs_of_streams_only(void)
{
    int ends[2];
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0 &&
           is_refused(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends)) &&
           is_refused(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends)) &&
           is_refused(socketpair(AF_TIPC, SOCK_STREAM, 0, ends));
}

static bool is_no_server(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return is_refused(listen(fd, 1)) && is_refused(accept(fd, NULL, NULL)) &&
           is_refused(accept4(fd, NULL, NULL, 0));
}

static bool leaves_no_socket_that_lingers(void)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 3600};
    const int on = 1;
    const struct msghdr message = {.msg_iovlen = 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return is_refused(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger))) &&
           setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0 &&
           is_refused(sendmsg(fd, &message, 0));
}

static bool opens_few_files(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
           limit.rlim_max <= FETCH_RIGHTS_FILES && getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
           limit.rlim_max == 0 && getrlimit(RLIMIT_CPU, &limit) == 0 &&
           limit.rlim_max <= FETCH_RIGHTS_CPU_S;
}

static void *nothing(void *context)
{
    return context;
}

static bool may_have_a_resolver(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, nothing, NULL) == 0 &&
           pthread_join(thread, NULL) == 0;
}

static const struct {
    const char *name;
    bool (*holds)(void);
    bool as_root; /* only root has it to lose */
} tries[] = {
    {"another user", is_another_user, true},
    {"capabilities", has_no_capability, true},
    {"new rights", gets_no_new_rights, false},
    {"write", writes_no_file, false},
    {"read", reads_only_what_it_needs, false},
    {"run", runs_no_program, false},
    {"signal", signals_nobody, false},
    {"siblings", leaves_siblings_alone, false},
    {"child", has_no_child, false},
    {"parent", stays_bound_to_its_parent, false},
    {"sockets", has_the_network_and_no_unix_socket, false},
    {"pairs", has_pairs_of_streams_only, false},
    {"server", is_no_server, false},
    {"linger", leaves_no_socket_that_lingers, false},
    {"limits", opens_few_files, false},
    {"threads", may_have_a_resolver, false},
};

/* Ends with the one who tries. */
static pid_t sibling_start(void)
{
    int ready[2];
    char byte = 0;
    if (pipe(ready) != 0) {
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        bool is_such = geteuid() != 0 || setuid(FETCH_RIGHTS_UID) == 0;
        if (!is_such || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
            _exit(1);
        }
        (void)!write(ready[1], &byte, 1);
        for (;;) {
            (void)pause();
        }
    }
    (void)close(ready[1]);
    bool is_there = pid > 0 && read(ready[0], &byte, 1) == 1;
    (void)close(ready[0]);
    return is_there ? pid : -1;
}

static int try_all(void)
{
    char missing[FETCH_MISSING_SIZE];
    struct err err = {0};
    const bool as_root = geteuid() == 0;
    status_file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    sibling = sibling_start();
    if (sibling < 0) {
        (void)fprintf(stderr, "no sibling\n");
        return WALLS_FAULT;
    }
    if (fetch_rights_drop(getppid(), missing, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        return WALLS_FAULT;
    }
    files_are_closed = strstr(missing, "files") == NULL;
    for (int i = 0; i < (int)(sizeof(tries) / sizeof(tries[0])); i++) {
        if ((as_root || !tries[i].as_root) && !tries[i].holds()) {
            return i + 1;
        }
    }
    return 0;
}

START_TEST(nothing_is_left_but_what_a_download_needs)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(try_all());
    }

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status), "signal %d", WTERMSIG(status));
    int failed = WEXITSTATUS(status);
    ck_assert_int_ne(failed, WALLS_FAULT);
    ck_assert_msg(failed == 0, "it got through: %s", tries[failed - 1].name);
}
END_TEST

static const struct {
    int fault;
    bool may_be;
} landlock_faults[] = {{ENOSYS, true},
                       {EOPNOTSUPP, true},
                       {EPERM, false},
                       {EINVAL, false}};

/* A kernel that answers so; 0: the walls took it rightly. */
static int try_without_landlock(int fault, bool may_be)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)fault),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = 4, .filter = code};
    char missing[FETCH_MISSING_SIZE];
    struct err err = {0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
        return WALLS_FAULT;
    }
    int r = fetch_rights_drop(getppid(), missing, &err);
    return may_be ? r != 0 || strcmp(missing, "files") != 0
                  : r == 0 || strstr(err.text, "files") == NULL;
}

START_TEST(files_stay_open_only_where_the_kernel_has_no_landlock)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(
            try_without_landlock(landlock_faults[_i].fault, landlock_faults[_i].may_be));
    }

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fetch_rights");
    TCase *tests = tcase_create("fetch_rights");
    tcase_add_test(tests, nothing_is_left_but_what_a_download_needs);
    tcase_add_loop_test(tests, files_stay_open_only_where_the_kernel_has_no_landlock, 0,
                        (int)(sizeof(landlock_faults) / sizeof(landlock_faults[0])));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
