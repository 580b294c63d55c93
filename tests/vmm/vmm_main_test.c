/* Goal: what a guest's owner has brought, be it a kernel or a saved machine, is read when
 * all walls stand, and what disks need is still to be had then. Method: the real program,
 * each of whose system calls is seen by ptrace; and its log. */
#include "micro_kernel.h"
#include "ring_allowed.h"
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/io_ring.h"
#include "vmm/snapshot_file.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM   BERTH_BINARY_DIR "/berth-vmm"
#define CALLS_MAX 100000u /* it has read by then, or never will */

/* Descriptors of the program. */
enum { KERNEL = 3, INITRD = 4, INCOMING = 5 };

/* What it has done so far. */
struct seen {
    bool walls;  /* the last of them, which is Landlock's */
    bool filter; /* of system calls */
    bool read[INCOMING + 1];
};

static const uint8_t halt[] = {0xf4};

static bool reads(long number)
{
    return number == SYS_read || number == SYS_pread64 || number == SYS_readv ||
           number == SYS_preadv || number == SYS_mmap;
}

/* At the entry of each of its calls; false: enough was seen. */
static bool look(const struct user_regs_struct *at, struct seen *seen, bool comes_in)
{
    const long number = (long)at->orig_rax;
    const unsigned long fd = number == SYS_mmap ? at->r8 : at->rdi;
    seen->walls = seen->walls || number == SYS_landlock_restrict_self;
    seen->filter = seen->filter || number == SYS_seccomp;
    if (!reads(number) || fd < KERNEL || fd > INCOMING) {
        return true;
    }
    ck_assert_msg(seen->walls, "call %ld reads %lu before the walls stand", number, fd);
    ck_assert_msg(seen->filter, "call %ld reads %lu before calls are limited", number,
                  fd);
    seen->read[fd] = true;
    return comes_in ? !seen->read[INCOMING] : !(seen->read[KERNEL] && seen->read[INITRD]);
}

static _Noreturn void
program_be(const char *const arguments[], const int given[3], bool traced)
{
    (void)alarm(50);
    for (int i = 0; i < 3; i++) {
        /* all of them, so that no library is read there */
        if (dup2(given[i] >= 0 ? given[i] : STDIN_FILENO, KERNEL + i) < 0) {
            _exit(98);
        }
    }
    if (traced && (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 || raise(SIGSTOP) != 0)) {
        _exit(98);
    }
    (void)execv(PROGRAM, (char *const *)(uintptr_t)arguments);
    _exit(99);
}

static void watch(const char *const arguments[], const int given[3], bool comes_in)
{
    struct seen seen = {0};
    int status = 0;
    unsigned calls = 0;
    bool goes_on = true;
    (void)fflush(NULL);
    const pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        program_be(arguments, given, true);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSTOPPED(status));
    ck_assert_int_eq(
        ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL),
        0);
    for (bool enters = true; goes_on && calls < CALLS_MAX; calls++) {
        struct user_regs_struct at;
        ck_assert_int_eq(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFSTOPPED(status), "it has ended: 0x%x", status);
        if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
            continue; /* its exec */
        }
        ck_assert_int_eq(ptrace(PTRACE_GETREGS, pid, NULL, &at), 0);
        goes_on = enters ? look(&at, &seen, comes_in) : true;
        enters = !enters;
    }
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(!goes_on, "it did not read it");
}

/* A copy beyond the numbers that the program has them at. */
static int high(int fd)
{
    const int copy = fcntl(fd, F_DUPFD, 100);
    ck_assert_int_ge(copy, 100);
    (void)close(fd);
    return copy;
}

START_TEST(a_kernel_is_read_behind_all_walls)
{
    const char *const arguments[] = {PROGRAM, "--kernel",  "fd:3",  "--initrd",
                                     "fd:4",  "--memory",  "32MiB", "--serial",
                                     "none",  "--cmdline", "x",     NULL};
    const int given[] = {high(micro_kernel(halt, sizeof(halt))),
                         high(micro_kernel(halt, sizeof(halt))), -1};

    watch(arguments, given, false);

    (void)close(given[0]);
    (void)close(given[1]);
}
END_TEST

START_TEST(a_saved_machine_is_read_behind_all_walls)
{
    const char *const arguments[] = {
        PROGRAM,    "--kernel", "fd:3",       "--memory", "32MiB",
        "--serial", "none",     "--incoming", "fd:5",     _i == 0 ? NULL : "--lazy",
        NULL};
    const int given[] = {high(micro_kernel(halt, sizeof(halt))), -1,
                         high(micro_kernel(halt, sizeof(halt)))};

    watch(arguments, given, true); /* it is none: that is found behind them, too */

    (void)close(given[0]);
    (void)close(given[2]);
}
END_TEST

static bool ring_is_made(int fd)
{
    struct io_ring *ring = NULL;
    const int event = eventfd(0, EFD_CLOEXEC);
    const int r = io_ring_new(&fd, 1, event, &ring, NULL);
    io_ring_free(ring);
    (void)close(event);
    return r == 0;
}

static const uint8_t speaks[] = {0x66, 0xba, 0xf8, 0x03,              /* mov dx, 0x3f8 */
                                 0xb0, '!',  0xee, 0xf4, 0xeb, 0xfd}; /* out; hlt */

/* Its memory is counted as locked, by the kernels of some years. */
START_TEST(a_disk_is_read_by_a_ring_behind_all_walls)
{
    const char *const arguments[] = {PROGRAM,           "--kernel", "fd:3",  "--disk",
                                     "name=d,raw=fd:4", "--memory", "32MiB", "--uids",
                                     "2100000000",      NULL};
    const int given[] = {high(micro_kernel(speaks, sizeof(speaks))),
                         high(memfd_create("disk", MFD_CLOEXEC)), -1};
    int said[2];
    char byte = 0;
    char log[4096];
    FILE *logged = tmpfile();
    ck_assert_ptr_nonnull(logged);
    ck_assert_int_eq(pipe2(said, O_CLOEXEC), 0);
    ck_assert_int_eq(ftruncate(given[1], 1 << 20), 0);
    ck_assert(ring_is_made(given[1]));
    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(said[1], STDOUT_FILENO);
        (void)dup2(fileno(logged), STDERR_FILENO);
        program_be(arguments, given, false);
    }
    ck_assert_int_eq(read(said[0], &byte, 1), 1);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert_int_eq(byte, '!');
    const ssize_t size = pread(fileno(logged), log, sizeof(log) - 1, 0);
    ck_assert_int_ge((int)size, 0);
    log[size] = '\0';
    ck_assert_msg(strstr(log, "threads alone") == NULL, "%s", log);
    (void)fclose(logged);
    (void)close(given[0]);
    (void)close(given[1]);
    (void)close(said[0]);
    (void)close(said[1]);
}
END_TEST

/* A host whose disks cannot be made durable, for this process and what it becomes. */
static void syncs_fail(void)
{
    struct sock_filter rows[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fdatasync, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const struct sock_fprog filter = {sizeof(rows) / sizeof(rows[0]), rows};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
        _exit(97);
    }
}

/* A client of the listener at `path`, and all that is said until it is greeted. */
static int client_of(const char *path, pid_t pid)
{
    static const char hello[] = "{\"execute\":\"qmp_capabilities\"}\n";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.90s", path);
    while (connect(client, (struct sockaddr *)&address, sizeof(address)) != 0) {
        ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0); /* it still comes up */
        (void)sched_yield();
    }
    ck_assert_int_eq(write(client, hello, sizeof(hello) - 1), sizeof(hello) - 1);
    return client;
}

/* Until the words were said, or (NULL) nobody is there any more. */
static void
hear_until(int client, const char *words, char *heard, size_t size, size_t *heard_size)
{
    ssize_t got;
    do {
        got = read(client, heard + *heard_size, size - 1 - *heard_size);
        *heard_size += got > 0 ? (size_t)got : 0;
        heard[*heard_size] = '\0';
    } while (got > 0 && (words == NULL || strstr(heard, words) == NULL));
    ck_assert_msg(words == NULL || got > 0, "%s", heard);
}

/* Its guest takes for written what is nowhere then: who controls it has to know. */
START_TEST(a_disk_that_is_not_durable_at_the_end_is_told_of)
{
    struct temp_dir dir;
    char qmp[128];
    char heard[8192];
    size_t heard_size = 0;
    int status = 0;
    temp_dir_init(&dir);
    char *path = temp_dir_path(&dir, "qmp");
    (void)snprintf(qmp, sizeof(qmp), "unix:%s", path);
    const char *const arguments[] = {
        PROGRAM,    "--kernel", "fd:3",     "--disk", "name=d,raw=fd:4",
        "--memory", "32MiB",    "--serial", "none",   "--qmp",
        qmp,        NULL};
    const int given[] = {high(micro_kernel(halt, sizeof(halt))),
                         high(memfd_create("disk", MFD_CLOEXEC)), -1};
    ck_assert_int_eq(ftruncate(given[1], 1 << 20), 0);
    (void)fflush(NULL);
    const pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        syncs_fail();
        program_be(arguments, given, false);
    }
    const int client = client_of(path, pid);
    hear_until(client, "\"return\"", heard, sizeof(heard), &heard_size);

    ck_assert_int_eq(kill(pid, SIGTERM), 0);

    hear_until(client, NULL, heard, sizeof(heard), &heard_size);
    ck_assert_msg(strstr(heard, "\"event\":\"BLOCK_IO_ERROR\",\"data\":{\"device\":"
                                "\"d\",\"node-name\":\"d\",\"operation\":\"write\","
                                "\"action\":\"ignore\",\"nospace\":false") != NULL,
                  "%s", heard);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void)close(client);
    (void)close(given[0]);
    (void)close(given[1]);
    free(path);
    temp_dir_fini(&dir);
}
END_TEST

/* ---- a machine that comes in, and is not wanted any more ---- */

#define SAVED_INITRD (16u << 20) /* of RAM that is not zeros */

static void tell(int client, const char *text, int fd)
{
    union {
        struct cmsghdr part;
        char room[CMSG_SPACE(sizeof(int))];
    } with = {.part = {.cmsg_len = CMSG_LEN(sizeof(int)),
                       .cmsg_level = SOL_SOCKET,
                       .cmsg_type = SCM_RIGHTS}};
    struct iovec piece = {(char *)(uintptr_t)text, strlen(text)};
    struct msghdr header = {.msg_iov = &piece, .msg_iovlen = 1};
    if (fd >= 0) {
        memcpy(CMSG_DATA(&with.part), &fd, sizeof(fd));
        header.msg_control = &with;
        header.msg_controllen = sizeof(with.room);
    }
    ck_assert_int_eq(sendmsg(client, &header, MSG_NOSIGNAL), (int)strlen(text));
}

/* Of a machine that has not run, but holds an initrd. */
static int machine_saved(int kernel)
{
    static uint8_t initrd[SAVED_INITRD];
    struct temp_dir dir;
    char qmp[128];
    char heard[8192];
    size_t heard_size = 0;
    int status = 0;
    temp_dir_init(&dir);
    char *path = temp_dir_path(&dir, "qmp");
    (void)snprintf(qmp, sizeof(qmp), "unix:%s", path);
    const char *const arguments[] = {PROGRAM,    "--kernel", "fd:3",   "--initrd", "fd:4",
                                     "--memory", "32MiB",    "--hold", "--serial", "none",
                                     "--qmp",    qmp,        NULL};
    const int given[] = {kernel, high(memfd_create("initrd", MFD_CLOEXEC)), -1};
    const int image = high(memfd_create("image", MFD_CLOEXEC));
    memset(initrd, 1, sizeof(initrd));
    ck_assert_int_eq(write(given[1], initrd, sizeof(initrd)), sizeof(initrd));
    (void)fflush(NULL);
    const pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        program_be(arguments, given, false);
    }
    const int client = client_of(path, pid);
    tell(client, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"i\"}}", image);
    tell(client, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:i\"}}", -1);
    hear_until(client, "\"completed\"", heard, sizeof(heard), &heard_size);
    tell(client, "{\"execute\":\"quit\"}", -1);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void)close(client);
    (void)close(given[1]);
    free(path);
    temp_dir_fini(&dir);
    return image;
}

/* It is told to end within the first read of RAM: it reads no other piece. */
START_TEST(a_machine_that_is_not_wanted_any_more_is_not_read_to_its_end)
{
    const char *const arguments[] = {PROGRAM, "--kernel",   "fd:3", "--memory",
                                     "32MiB", "--incoming", "fd:5", "--serial",
                                     "none",  NULL};
    const int kernel = high(micro_kernel(halt, sizeof(halt)));
    const int given[] = {kernel, -1, machine_saved(kernel)};
    unsigned reads_of_ram = 0;
    int status = 0;
    (void)fflush(NULL);
    const pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        program_be(arguments, given, true);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(
        ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL),
        0);
    for (bool enters = true;; enters = !enters) {
        struct user_regs_struct at;
        ck_assert_int_eq(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        if (!WIFSTOPPED(status)) {
            break;
        }
        if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
            enters = !enters; /* its exec */
            continue;
        }
        ck_assert_int_eq(ptrace(PTRACE_GETREGS, pid, NULL, &at), 0);
        if (enters && (long)at.orig_rax == SYS_pread64 && at.rdi == INCOMING &&
            at.r10 >= SNAPSHOT_RAM_AT && at.r10 < SNAPSHOT_RAM_AT + (32u << 20) &&
            ++reads_of_ram == 1) {
            ck_assert_int_eq(kill(pid, SIGTERM), 0);
        }
    }

    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    ck_assert_uint_eq(reads_of_ram, 1);
    (void)close(given[0]);
    (void)close(given[2]);
}
END_TEST

int main(void)
{
    const int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return test_main_skip("no /dev/kvm");
    }
    (void)close(fd);
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1U) < 1) {
        return test_main_skip("no Landlock, whose wall is the last one");
    }
    Suite *suite = suite_create("vmm_main");
    TCase *tests = tcase_create("vmm_main");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_kernel_is_read_behind_all_walls);
    tcase_add_loop_test(tests, a_saved_machine_is_read_behind_all_walls, 0, 2);
    tcase_add_test(tests, a_disk_that_is_not_durable_at_the_end_is_told_of);
    tcase_add_test(tests, a_machine_that_is_not_wanted_any_more_is_not_read_to_its_end);
    if (ring_allowed("a disk is read by a ring behind all walls")) {
        tcase_add_test(tests, a_disk_is_read_by_a_ring_behind_all_walls);
    }
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
