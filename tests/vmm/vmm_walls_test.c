/* Goal: each wall stands by itself: what is behind it cannot be done from inside, and can
 * once that wall alone is left out; and who cannot have a wall says so. Method: a process
 * of its own per try, with all walls but the one of system calls. Walls that would stop
 * the same try are left out both times. */
#include "base/cleanup.h"
#include "ring_allowed.h"
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/io_ring.h"
#include "vmm/vmm_walls.h"

#include <check.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A sanitizer has terabytes mapped, and no limit of them. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define UID       2000000000u
#define NOBODY    65534u
#define TRY_MAX_S 50 /* one that hangs is ended by SIGALRM */
#define HOST_NAME "the-host"

/* How a try ends; grep says the same of what it looks for. */
enum { STOPPED = 0, CROSSED = 1, FAILED = 99 };

/* What the host has, and a guest is not to reach. */
static struct {
    struct temp_dir dir;
    int folder; /* of the directory */
    int file;   /* in it, of root */
    int udp;
    int tcp;
    int abstract;
    struct sockaddr_in udp_at;
    struct sockaddr_in tcp_at;
    struct sockaddr_un abstract_at;
    socklen_t abstract_size;
    key_t shm_key;
    int shm;
    pid_t pid;
} host;

static int listen_local(int type, struct sockaddr_in *ret_at)
{
    socklen_t size = sizeof(*ret_at);
    const int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    *ret_at =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)ret_at, size), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)ret_at, &size), 0);
    if (type == SOCK_STREAM) {
        ck_assert_int_eq(listen(fd, 1), 0);
    }
    return fd;
}

static void setup(void)
{
    temp_dir_init(&host.dir);
    ck_assert_int_eq(chmod(host.dir.path, 0755), 0);
    host.folder = open(host.dir.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(host.folder, 0);
    host.file = openat(host.folder, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ck_assert_int_ge(host.file, 0);
    host.udp = listen_local(SOCK_DGRAM, &host.udp_at);
    host.tcp = listen_local(SOCK_STREAM, &host.tcp_at);
    host.abstract = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    host.abstract_at = (struct sockaddr_un){.sun_family = AF_UNIX};
    host.abstract_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                                     (size_t)snprintf(host.abstract_at.sun_path + 1, 64,
                                                      "berth-walls-%d", (int)getpid()));
    ck_assert_int_eq(bind(host.abstract, (const struct sockaddr *)&host.abstract_at,
                          host.abstract_size),
                     0);
    ck_assert_int_eq(listen(host.abstract, 1), 0);
    host.shm_key = (key_t)(0x42000000 + getpid());
    host.shm = shmget(host.shm_key, 4096, IPC_CREAT | IPC_EXCL | 0666);
    ck_assert_int_ge(host.shm, 0);
    host.pid = getpid();
}

static void teardown(void)
{
    (void)shmctl(host.shm, IPC_RMID, NULL);
    (void)close(host.abstract);
    (void)close(host.tcp);
    (void)close(host.udp);
    (void)close(host.file);
    (void)close(host.folder);
    temp_dir_fini(&host.dir);
}

/* ---- tries: true when they got through */

static bool to_socket(int type, const struct sockaddr_in *at)
{
    const int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof(*at)) == 0 &&
           send(fd, "x", 1, MSG_NOSIGNAL) == 1;
}

static bool to_the_hosts_network(void)
{
    return to_socket(SOCK_DGRAM, &host.udp_at);
}

static bool to_the_hosts_tcp(void)
{
    return to_socket(SOCK_STREAM, &host.tcp_at);
}

static bool to_an_abstract_socket(void)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (const struct sockaddr *)&host.abstract_at,
                              host.abstract_size) == 0;
}

static bool to_shared_memory(void)
{
    return shmget(host.shm_key, 0, 0) >= 0;
}

static bool to_the_hosts_name(void)
{
    char name[64] = "";
    return gethostname(name, sizeof(name) - 1) == 0 && strcmp(name, HOST_NAME) == 0;
}

static bool to_names_of_files(void)
{
    return access("/etc/passwd", F_OK) == 0;
}

static bool to_below_a_folder_that_is_open(void)
{
    return openat(host.folder, "file", O_RDONLY | O_CLOEXEC) >= 0;
}

/* A program that root starts has all capabilities that may be had. Its exit status tells,
 * and takes our place. */
static bool to_capabilities_by_exec(void)
{
    (void)execl("/bin/grep", "grep", "-q", "CapEff:.*0000000000000000",
                "/proc/self/status", NULL);
    _exit(FAILED);
}

static bool to_what_is_roots(void)
{
    return fchmod(host.file, 0600) == 0;
}

static bool to_what_takes_a_capability(void)
{
    return fchown(host.file, 1, 1) == 0;
}

static bool to_the_memory_of_another(void)
{
    char byte = 0;
    struct iovec here = {&byte, 1};
    const struct iovec there = {&byte, 1};
    const pid_t pid = fork();
    if (pid == 0) {
        (void)pause();
        _exit(0);
    }
    const bool got = process_vm_readv(pid, &here, 1, &there, 1, 0) == 1;
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    return got;
}

static bool to_other_processes(void)
{
    return getpgid(host.pid) > 0;
}

static bool to_core_dumps(void)
{
    const struct rlimit some = {1, 1};
    return setrlimit(RLIMIT_CORE, &some) == 0;
}

static bool to_signals(void)
{
    return kill(host.pid, 0) == 0;
}

static bool to_many_descriptors(void)
{
    return fcntl(host.file, F_DUPFD, 4096) >= 0;
}

/* Who is not waited for counts. */
static bool to_many_processes(void)
{
    for (unsigned i = 0; i < 600; i++) {
        const pid_t pid = fork();
        if (pid < 0) {
            return false;
        }
        if (pid == 0) {
            _exit(0);
        }
    }
    return true;
}

static bool to_large_files(void)
{
    return pwrite(host.file, "x", 1, 64 << 20) == 1;
}

#if !SANITIZED
static bool to_much_memory(void)
{
    return mmap(NULL, (size_t)5 << 30, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}
#endif

static bool to_memory_that_stays(void)
{
    void *page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return syscall(SYS_mlock, page, (size_t)4096) == 0; /* a sanitizer has its own */
}

static bool to_queues(void)
{
    return syscall(SYS_mq_open, "q", O_RDWR | O_CREAT, 0600, NULL) >= 0;
}

static bool to_importance(void)
{
    return setpriority(PRIO_PROCESS, 0, -1) == 0;
}

static bool to_real_time(void)
{
    const struct rlimit some = {1, 1};
    return setrlimit(RLIMIT_RTPRIO, &some) == 0;
}

#define ROOT      VMM_WALL(VMM_WALL_ROOT)
#define NETWORK   VMM_WALL(VMM_WALL_NETWORK)
#define USER      VMM_WALL(VMM_WALL_USER)
#define FILES     VMM_WALL(VMM_WALL_FILES)
#define BOUNDS    VMM_WALL(VMM_WALL_BOUNDS)
#define RIGHTS    VMM_WALL(VMM_WALL_RIGHTS)
#define PROCESSES VMM_WALL(VMM_WALL_PROCESSES)

static const struct {
    enum vmm_wall wall;
    unsigned without; /* walls that would stop it, too */
    long landlock;    /* the first version that is a wall here; 0: it is another wall */
    bool (*crosses)(void);
} tries[] = {
    {VMM_WALL_RIGHTS, BOUNDS | ROOT | FILES | USER, 0, to_capabilities_by_exec},
    {VMM_WALL_PROCESSES, 0, 0, to_other_processes},
    {VMM_WALL_NETWORK, 0, 0, to_the_hosts_network},
    {VMM_WALL_NETWORK, FILES, 0, to_an_abstract_socket},
    {VMM_WALL_IPC, 0, 0, to_shared_memory},
    {VMM_WALL_HOST_NAME, 0, 0, to_the_hosts_name},
    {VMM_WALL_ROOT, 0, 0, to_names_of_files},
    {VMM_WALL_BOUNDS, RIGHTS | ROOT | FILES | USER, 0, to_capabilities_by_exec},
    {VMM_WALL_USER, 0, 0, to_what_is_roots},
    {VMM_WALL_LIMITS, 0, 0, to_core_dumps},
    {VMM_WALL_LIMITS, 0, 0, to_many_descriptors},
    {VMM_WALL_LIMITS, 0, 0, to_many_processes},
    {VMM_WALL_LIMITS, 0, 0, to_large_files},
#if !SANITIZED
    {VMM_WALL_LIMITS, 0, 0, to_much_memory},
#endif
    {VMM_WALL_LIMITS, 0, 0, to_memory_that_stays},
    {VMM_WALL_LIMITS, FILES, 0, to_queues},
    {VMM_WALL_LIMITS, 0, 0, to_importance},
    {VMM_WALL_LIMITS, 0, 0, to_real_time},
    {VMM_WALL_MEMORY, USER, 0, to_the_memory_of_another},
    {VMM_WALL_CAPABILITIES, USER, 0, to_what_takes_a_capability},
    {VMM_WALL_FILES, 0, 1, to_below_a_folder_that_is_open},
    {VMM_WALL_FILES, NETWORK, 4, to_the_hosts_tcp},
    {VMM_WALL_FILES, NETWORK, 6, to_an_abstract_socket},
    {VMM_WALL_FILES, USER | PROCESSES, 6, to_signals},
};

/* As a daemon may have them, where that is allowed. */
static void limits_raise(void)
{
    static const __rlimit_resource_t raised[] = {
        RLIMIT_CORE,    RLIMIT_NPROC,    RLIMIT_FSIZE, RLIMIT_DATA,
        RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_NICE,  RLIMIT_RTPRIO};
    const struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
    const struct rlimit files = {8192, 8192};
    (void)setrlimit(RLIMIT_NOFILE, &files);
    for (unsigned i = 0; i < ARRAY_COUNT(raised); i++) {
        (void)setrlimit(raised[i], &most);
    }
}

static _Noreturn void try_be(unsigned which, bool (*crosses)(void))
{
    const struct vmm_walls walls = {.which = which, .uid = UID};
    char missing[VMM_MISSING_SIZE];
    (void)alarm(TRY_MAX_S);
    (void)signal(SIGXFSZ, SIG_IGN);
    limits_raise();
    if (unshare(CLONE_NEWUTS) != 0 || sethostname(HOST_NAME, strlen(HOST_NAME)) != 0 ||
        vmm_walls_put_up(&walls, missing, NULL) != 0 || missing[0] != '\0') {
        _exit(FAILED);
    }
    _exit(crosses() ? CROSSED : STOPPED);
}

/* As fork: whoever starts a machine's process puts up that wall. */
static pid_t child_make(bool own_pids)
{
    (void)fflush(NULL); /* what Check has said: once is enough */
    if (!own_pids || geteuid() != 0) {
        return fork();
    }
    CLEANUP_FD int here = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(unshare(CLONE_NEWPID), 0); /* where the next child is */
    const pid_t pid = fork();
    if (pid != 0) {
        ck_assert_int_eq(setns(here, CLONE_NEWPID), 0);
    }
    return pid;
}

/* How a process ends that tries this behind these walls. */
static int behind(unsigned which, bool (*crosses)(void))
{
    int status = 0;
    const pid_t pid = child_make((which & PROCESSES) != 0);
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        try_be(which, crosses);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status), "0x%x", status);
    return WEXITSTATUS(status);
}

static bool is_here(long landlock)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, 1U) >= landlock;
}

/* Who may not have it at all needs no wall before it. */
static bool is_out_of_reach(bool (*crosses)(void))
{
    const __rlimit_resource_t resource =
        crosses == to_importance ? RLIMIT_NICE : RLIMIT_RTPRIO;
    struct rlimit now = {0, 0};
    if (crosses != to_importance && crosses != to_real_time) {
        return false;
    }
    ck_assert_int_eq(getrlimit(resource, &now), 0);
    now.rlim_max = now.rlim_max > 0 ? now.rlim_max : 1;
    return setrlimit(resource, &now) != 0;
}

START_TEST(a_wall_stops_what_nothing_else_would)
{
    const unsigned others = VMM_WALLS_ALL & ~tries[_i].without;
    if (geteuid() != 0 || !is_here(tries[_i].landlock) ||
        is_out_of_reach(tries[_i].crosses)) {
        (void)printf("try %d cannot be made here\n", _i);
        return;
    }

    const int with = behind(others, tries[_i].crosses);
    const int without = behind(others & ~VMM_WALL(tries[_i].wall), tries[_i].crosses);

    ck_assert_int_eq(with, STOPPED);
    ck_assert_int_eq(without, CROSSED);
}
END_TEST

START_TEST(every_wall_is_tried)
{
    unsigned tried = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(tries); i++) {
        tried |= VMM_WALL(tries[i].wall);
    }
    ck_assert_uint_eq(tried, VMM_WALLS_ALL);
}
END_TEST

/* ---- what does not stand */

/* From here on this call is refused, with that first argument if it has one. */
static bool refuse(int number, long argument)
{
    const struct sock_filter any[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)argument, 0, argument >= 0 ? 1 : 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {ARRAY_COUNT(any),
                                       (struct sock_filter *)(uintptr_t)any};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

static const struct refusal {
    const char *missing;
    int number;
    long argument; /* the first; below 0: whatever it is */
    unsigned uid;
    bool own_pids;
} refusals[] = {
    {"network", SYS_unshare, CLONE_NEWNET, UID, true},
    {"IPC", SYS_unshare, CLONE_NEWIPC, UID, true},
    {"host name", SYS_unshare, CLONE_NEWUTS, UID, true},
    {"host name", SYS_sethostname, -1, UID, true},
    {"root", SYS_unshare, CLONE_NEWNS, UID, true},
    {"root", SYS_mount, -1, UID, true},
    {"bounding set", SYS_prctl, PR_CAPBSET_DROP, UID, true},
#ifndef __SANITIZE_THREAD__ /* has a thread that is not refused: glibc ends for that */
    {"user", SYS_setresuid, -1, UID, true},
    {"user", SYS_setgroups, -1, UID, true},
#endif
    {"user", SYS_acct, -1, 0, true}, /* nothing is refused, and it stays root */
    {"processes", SYS_acct, -1, UID, false},
    {"limits", SYS_prlimit64, -1, UID, true},
    {"memory", SYS_prctl, PR_SET_DUMPABLE, UID, true},
    {"capabilities", SYS_capset, -1, UID, true},
    {"files", SYS_landlock_create_ruleset, -1, UID, true},
    {"files", SYS_landlock_restrict_self, -1, UID, true},
};

START_TEST(a_wall_that_cannot_stand_is_named)
{
    const struct refusal *row = &refusals[_i];
    int status = 0;
    if (geteuid() != 0 || !is_here(1)) {
        return; /* more than one would be named */
    }
    const pid_t pid = child_make(row->own_pids);
    if (pid == 0) {
        const struct vmm_walls walls = {.which = VMM_WALLS_ALL, .uid = row->uid};
        char missing[VMM_MISSING_SIZE];
        if (!refuse(row->number, row->argument) ||
            vmm_walls_put_up(&walls, missing, NULL) != 0) {
            _exit(FAILED);
        }
        if (strcmp(missing, row->missing) != 0) {
            (void)fprintf(stderr, "%s: %s\n", row->missing, missing);
            _exit(1);
        }
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(no_process_goes_on_that_could_get_rights_back)
{
    int status = 0;
    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        const struct vmm_walls walls = {.which = VMM_WALLS_ALL};
        struct err err = {0};
        char missing[VMM_MISSING_SIZE];
        if (geteuid() == 0) {
            (void)refuse(SYS_prctl, PR_SET_NO_NEW_PRIVS);
            _exit(vmm_walls_put_up(&walls, missing, &err) == -EPERM &&
                          strstr(err.text, "no new rights") != NULL
                      ? 0
                      : 1);
        }
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* Somebody who starts it by hand. */
static int by_hand(void)
{
    const struct vmm_walls walls = {.which = VMM_WALLS_ALL, .uid = UID};
    char missing[VMM_MISSING_SIZE];
    const gid_t none[] = {NOBODY};
    if (geteuid() == 0 &&
        (setgroups(1, none) != 0 || setresgid(NOBODY, NOBODY, NOBODY) != 0 ||
         setresuid(NOBODY, NOBODY, NOBODY) != 0)) {
        return 2;
    }
    if (vmm_walls_put_up(&walls, missing, NULL) != 0) {
        return 3;
    }
    if (strcmp(missing, "processes, network, IPC, host name, root, bounding set, user") !=
        0) {
        (void)fprintf(stderr, "missing: %s\n", missing);
        return 4;
    }
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 ||
        prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) {
        return 5;
    }
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES ? 0 : 6;
}

START_TEST(who_is_not_root_has_the_other_walls_and_is_told_of_these)
{
    int status = 0;
    if (!is_here(1)) {
        return; /* one more would be named */
    }
    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        _exit(by_hand());
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

static void status_read(pid_t pid, char *ret_text, size_t size)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    const ssize_t got = read(fd, ret_text, size - 1);
    ck_assert_int_gt(got, 0);
    ret_text[got] = '\0';
    (void)close(fd);
}

START_TEST(a_machine_has_a_user_of_its_own_when_there_are_some)
{
    const struct vmm_walls walls = {.which = VMM_WALLS_ALL, .uid = UID};
    int begun[2];
    int wait[2];
    char missing[VMM_MISSING_SIZE];
    char text[4096];
    char want[128];
    char byte;
    if (geteuid() != 0) {
        return; /* who has no rights to begin with stays who it is */
    }
    ck_assert_int_eq(pipe(begun) | pipe(wait), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        byte = vmm_walls_put_up(&walls, missing, NULL) == 0 &&
                       strstr(missing, "user") == NULL
                   ? 'y'
                   : 'n';
        (void)!write(begun[1], &byte, 1);
        (void)!read(wait[0], &byte, 1);
        _exit(0);
    }
    ck_assert_int_eq(read(begun[0], &byte, 1), 1);
    ck_assert_int_eq(byte, 'y');

    status_read(pid, text, sizeof(text));

    const unsigned id = UID;
    (void)snprintf(want, sizeof(want), "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\n", id,
                   id, id, id, id, id, id, id);
    ck_assert_msg(strstr(text, want) != NULL, "%s", text);
    ck_assert_ptr_nonnull(strstr(text, "Groups:\t \n"));
    ck_assert_ptr_nonnull(strstr(text, "CapEff:\t0000000000000000"));
    ck_assert_msg(strstr(text, "CapBnd:\t0000000000000000") != NULL, "%s", text);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    for (unsigned i = 0; i < 2; i++) {
        (void)close(begun[i]);
        (void)close(wait[i]);
    }
}
END_TEST

static bool ring_is_made(void)
{
    struct io_ring *ring = NULL;
    const int event = eventfd(0, EFD_CLOEXEC);
    if (io_ring_new(&host.file, 1, event, &ring, NULL) != 0) {
        return false;
    }
    io_ring_free(ring);
    return true;
}

/* Which the kernel counts as locked memory. */
START_TEST(the_walls_leave_room_for_a_ring)
{
    int status = 0;
    ck_assert(ring_is_made());
    const pid_t pid = child_make(true);
    if (pid == 0) {
        const struct vmm_walls walls = {.which = VMM_WALLS_ALL,
                                        .uid = UID + 1, /* nobody else has one */
                                        .locked_bytes = IO_RING_BYTES_MAX};
        char missing[VMM_MISSING_SIZE];
        _exit(vmm_walls_put_up(&walls, missing, NULL) == 0 && ring_is_made() ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(a_process_knows_its_number_outside)
{
    if (geteuid() != 0) {
        return;
    }
    for (unsigned own_pids = 0; own_pids < 2; own_pids++) {
        int told[2];
        unsigned number = 0;
        ck_assert_int_eq(pipe(told), 0);
        const pid_t pid = child_make(own_pids == 1);
        if (pid == 0) {
            number = getpid() == 1 || own_pids == 0 ? vmm_walls_number() : 0;
            (void)!write(told[1], &number, sizeof(number));
            _exit(0);
        }
        ck_assert_int_eq(read(told[0], &number, sizeof(number)), sizeof(number));
        ck_assert_int_eq(number, pid);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        (void)close(told[0]);
        (void)close(told[1]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vmm_walls");
    TCase *tests = tcase_create("vmm_walls");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, a_wall_stops_what_nothing_else_would, 0,
                        (int)ARRAY_COUNT(tries));
    tcase_add_test(tests, every_wall_is_tried);
    tcase_add_loop_test(tests, a_wall_that_cannot_stand_is_named, 0,
                        (int)ARRAY_COUNT(refusals));
    tcase_add_test(tests, no_process_goes_on_that_could_get_rights_back);
    tcase_add_test(tests, who_is_not_root_has_the_other_walls_and_is_told_of_these);
    tcase_add_test(tests, a_process_knows_its_number_outside);
    tcase_add_test(tests, a_machine_has_a_user_of_its_own_when_there_are_some);
    if (ring_allowed("the walls leave room for a ring")) {
        tcase_add_test(tests, the_walls_leave_room_for_a_ring);
    }
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
