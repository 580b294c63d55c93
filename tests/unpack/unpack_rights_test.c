/* Goal: nothing that unpacking does not need is left to berth-unpack. Method: a child
 * puts the walls up and tries; that it is killed is what is wanted, and its exit status
 * tells what got through. */
#include "base/cleanup.h"
#include "support/test_main.h"
#include "unpack/unpack_kernel.h"
#include "unpack/unpack_rights.h"

#include <check.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define GOT_THROUGH 0
#define WALLS_FAULT 100

static int tmp_file;

static void read_a_file(void)
{
    (void)syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
}

static void run_a_program(void)
{
    char *const argv[] = {NULL};
    (void)syscall(SYS_execve, "/bin/true", argv, argv);
}

static void make_a_process(void)
{
    (void)syscall(SYS_fork);
}

static void make_a_socket(void)
{
    (void)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

static void signal_another(void)
{
    (void)syscall(SYS_kill, getppid(), 0);
}

static void map_code(void)
{
    (void)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void make_code(void)
{
    (void)syscall(SYS_mprotect, (uintptr_t)&tmp_file & ~UINT64_C(4095), 4096,
                  PROT_READ | PROT_WRITE | PROT_EXEC);
}

static void control_a_device(void)
{
    (void)syscall(SYS_ioctl, 0, 0x5413, NULL);
}

static void (*const tries[])(void) = {read_a_file,   run_a_program,   make_a_process,
                                      make_a_socket, signal_another,  map_code,
                                      make_code,     control_a_device};

static int child_status(void (*child)(void))
{
    int status = 0;
    const pid_t pid = fork();
    if (pid == 0) {
        if (unpack_rights_drop(getppid(), UINT64_MAX, NULL) < 0) {
            _exit(WALLS_FAULT);
        }
        child();
        _exit(GOT_THROUGH);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

START_TEST(what_is_not_unpacking_ends_it)
{
    const int status = child_status(tries[_i]);

    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "status %x", status);
}
END_TEST

static void unpack_some(void)
{
    char byte = 0;
    void *room = malloc(32u << 20);
    if (pread(tmp_file, &byte, 1, 0) != 1 || byte != 'x' || room == NULL ||
        write(tmp_file, "y", 1) != 1) {
        _exit(1);
    }
    free(room);
}

START_TEST(unpacking_works_behind_the_walls)
{
    ck_assert_int_eq(child_status(unpack_some), 0);
}
END_TEST

static const struct {
    uint64_t room, most;
} rooms[] = {{UINT64_MAX, UNPACK_BYTES_MAX}, {12345, 12345}};

/* What is asked before the last wall is up is told by its result. */
START_TEST(it_is_nobody_with_limits)
{
    int status = 0;
    int ends[2];
    int wait[2];
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(pipe(wait), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        if (unpack_rights_drop(getppid(), rooms[_i].room, NULL) < 0) {
            _exit(WALLS_FAULT);
        }
        char never;
        (void)!write(ends[1], "x", 1);
        (void)!read(wait[0], &never, 1);
        _exit(1);
    }
    char byte;
    char path[64];
    char text[4096] = "";
    ck_assert_int_eq(read(ends[0], &byte, 1), 1);
    (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_gt(read(fd, text, sizeof(text) - 1), 0);
    (void)close(fd);
    if (geteuid() == 0) {
        ck_assert_ptr_nonnull(strstr(text, "Uid:\t65527\t65527\t65527\t65527"));
        ck_assert_ptr_nonnull(strstr(text, "Gid:\t65527\t65527\t65527\t65527"));
        ck_assert_ptr_nonnull(strstr(text, "CapBnd:\t0000000000000000"));
    }
    ck_assert_ptr_nonnull(strstr(text, "CapEff:\t0000000000000000"));
    ck_assert_ptr_nonnull(strstr(text, "NoNewPrivs:\t1"));
    ck_assert_ptr_nonnull(strstr(text, "Seccomp:\t2"));
    (void)snprintf(path, sizeof(path), "/proc/%d/limits", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    memset(text, 0, sizeof(text));
    ck_assert_int_gt(read(fd, text, sizeof(text) - 1), 0);
    (void)close(fd);
    (void)snprintf(path, sizeof(path), "Max file size             %llu",
                   (unsigned long long)rooms[_i].most);
    ck_assert_ptr_nonnull(strstr(text, path));
    (void)snprintf(path, sizeof(path), "Max cpu time              %d",
                   UNPACK_RIGHTS_CPU_S);
    ck_assert_ptr_nonnull(strstr(text, path));
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    for (unsigned i = 0; i < 2; i++) {
        (void)close(ends[i]);
        (void)close(wait[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("unpack_rights");
    TCase *tests = tcase_create("all");
    tmp_file = memfd_create("file", MFD_CLOEXEC);
    if (tmp_file < 0 || write(tmp_file, "x", 1) != 1) {
        return 1;
    }
    tcase_add_loop_test(tests, what_is_not_unpacking_ends_it, 0, (int)ARRAY_COUNT(tries));
    tcase_add_test(tests, unpacking_works_behind_the_walls);
    tcase_add_loop_test(tests, it_is_nobody_with_limits, 0, (int)ARRAY_COUNT(rooms));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
