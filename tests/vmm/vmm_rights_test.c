/* Goal: each wall stands: what is behind it cannot be done from inside. Method: a process
 * of its own per try, which drops its rights, says that it got that far, and tries; a
 * system call outside of the list ends it with SIGSYS, else it exits with what it found.
 */
#include "support/test_main.h"
#include "vmm/kvm_calls.h"
#include "vmm/vmm_rights.h"
#include "vmm/vmm_walls.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/userfaultfd.h>
#include <linux/vhost.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define SET_UP    's' /* what a try says before it tries */
#define TRY_MAX_S 50  /* one that hangs is ended by SIGALRM */

static int pipes[2];

/* The wait status of a process that tries this behind the walls of a role (0: of none).
 */
static int behind_walls(unsigned role, int (*try)(void))
{
    const struct vmm_walls walls = {.which = VMM_WALLS_ALL};
    char missing[VMM_MISSING_SIZE];
    char reached = '\0';
    int status = 0;
    ck_assert_int_eq(pipe(pipes), 0);
    (void)fflush(NULL); /* what Check has said: once is enough */
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        const char set_up = SET_UP;
        (void)alarm(TRY_MAX_S);
        if (vmm_walls_put_up(&walls, missing, NULL) != 0 ||
            vmm_rights_process(NULL) != 0 ||
            (role != 0 && vmm_rights_thread(role, NULL) != 0) ||
            write(pipes[1], &set_up, 1) != 1) {
            _exit(99);
        }
        _exit(try());
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(fcntl(pipes[0], F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_eq(read(pipes[0], &reached, 1), 1);
    ck_assert_int_eq(reached, SET_UP);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    return status;
}

static int ends_of(int status)
{
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static int try_socket(void)
{
    (void)socket(AF_INET, SOCK_STREAM, 0);
    return 0;
}

static int try_exec(void)
{
    char *const arguments[] = {NULL};
    (void)execve("/bin/true", arguments, arguments);
    return 0;
}

static int try_vfork(void)
{
    (void)syscall(SYS_vfork);
    return 0;
}

static int try_fork(void)
{
    (void)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    return 0;
}

/* Whoever has one of its own has all capabilities there. */
static int try_user_namespace(void)
{
    (void)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
    return 0;
}

static int try_unshare(void)
{
    (void)unshare(CLONE_NEWUSER);
    return 0;
}

static int try_ptrace(void)
{
    (void)ptrace(PTRACE_ATTACH, 1, NULL, NULL);
    return 0;
}

static int try_kill(void)
{
    (void)kill(1, SIGTERM);
    return 0;
}

static int try_mount(void)
{
    (void)syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL);
    return 0;
}

static int try_setuid(void)
{
    (void)syscall(SYS_setuid, 0);
    return 0;
}

static int try_unlink(void)
{
    (void)syscall(SYS_unlinkat, AT_FDCWD, "/etc/hostname", 0);
    return 0;
}

static int try_bind(void)
{
    (void)bind(pipes[0], NULL, 0);
    return 0;
}

static int try_other_ioctl(void)
{
    (void)ioctl(pipes[0], TIOCSTI, "x");
    return 0;
}

static int try_new_vm(void)
{
    (void)ioctl(pipes[0], KVM_CREATE_VM, 0UL);
    return 0;
}

static int try_more_memory_for_the_guest(void)
{
    (void)ioctl(pipes[0], KVM_SET_USER_MEMORY_REGION, NULL);
    return 0;
}

static int (*const tries[])(void) = {
    try_fork,        try_user_namespace, try_unshare,
    try_socket,      try_exec,           try_vfork,
    try_ptrace,      try_kill,           try_mount,
    try_setuid,      try_unlink,         try_bind,
    try_other_ioctl, try_new_vm,         try_more_memory_for_the_guest,
};

START_TEST(what_is_on_no_list_ends_the_process)
{
    ck_assert_int_eq(ends_of(behind_walls(0, tries[_i])), SIGSYS);
}
END_TEST

static int open_a_path(void)
{
    return open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES ? 0 : 1;
}

START_TEST(no_path_can_be_opened)
{
    ck_assert_int_eq(behind_walls(0, open_a_path), 0);
}
END_TEST

static int try_code_from_memory(void)
{
    (void)mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return 0;
}

START_TEST(no_memory_becomes_code)
{
    ck_assert_int_eq(ends_of(behind_walls(0, try_code_from_memory)), SIGSYS);
}
END_TEST

static void *answer_be(void *answer)
{
    return answer;
}

static int make_a_thread(void)
{
    pthread_t thread;
    char answer = 'x';
    void *got = NULL;
    return pthread_create(&thread, NULL, answer_be, &answer) == 0 &&
                   pthread_join(thread, &got) == 0 && got == &answer
               ? 0
               : 1;
}

static int clone_with_hidden_flags(void)
{
    const uint64_t arguments[8] = {0};
    return syscall(SYS_clone3, arguments, sizeof(arguments)) < 0 && errno == ENOSYS ? 0
                                                                                    : 1;
}

START_TEST(threads_are_all_that_can_be_made_and_by_who_starts_them)
{
#ifndef __SANITIZE_THREAD__ /* whose own thread begins with the first, too late */
    ck_assert_int_eq(behind_walls(0, make_a_thread), 0);
    ck_assert_int_eq(behind_walls(VMM_ROLE_MAIN, make_a_thread), 0);
#else
    (void)make_a_thread;
#endif
    ck_assert_int_eq(behind_walls(VMM_ROLE_MAIN, clone_with_hidden_flags), 0);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_VCPU, clone_with_hidden_flags)),
                     SIGSYS);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_VCPU, try_fork)), SIGSYS);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_MAIN, try_fork)), SIGSYS);
}
END_TEST

static int work_on(void)
{
    char byte = 'x';
    void *memory =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory != MAP_FAILED && munmap(memory, 4096) == 0 &&
                   write(pipes[1], &byte, 1) == 1
               ? 0
               : 1;
}

START_TEST(what_is_open_works_on)
{
    ck_assert_int_eq(behind_walls((unsigned)_i, work_on), 0);
}
END_TEST

static int end_as_main_does(void)
{
    exit(0); /* not _exit: with all that is to be done at the end of a program */
}

START_TEST(a_program_ends_behind_its_walls)
{
    ck_assert_int_eq(behind_walls((unsigned)_i, end_as_main_does), 0);
}
END_TEST

static int run_a_vcpu(void)
{
    return ioctl(pipes[0], KVM_RUN, 0UL) < 0 && errno == ENOTTY ? 0 : 1;
}

static int accept_a_client(void)
{
    return accept4(pipes[0], NULL, NULL, 0) < 0 && errno == ENOTSOCK ? 0 : 1;
}

static int look_at_a_tap(void)
{
    return ioctl(pipes[0], TUNGETIFF, NULL) < 0 && errno == ENOTTY ? 0 : 1;
}

static int write_at_an_offset(void)
{
    return pwrite(pipes[1], "x", 1, 0) < 0 && errno == ESPIPE ? 0 : 1;
}

static int raise_an_interrupt(void)
{
    return ioctl(pipes[0], KVM_SIGNAL_MSI, NULL) < 0 && errno == ENOTTY ? 0 : 1;
}

static int look_for_holes(void)
{
    return lseek(pipes[0], 0, SEEK_DATA) < 0 && errno == ESPIPE ? 0 : 1;
}

static int read_registers(void)
{
    return ioctl(pipes[0], KVM_GET_REGS, NULL) < 0 && errno == ENOTTY ? 0 : 1;
}

static int set_the_clock(void)
{
    return ioctl(pipes[0], KVM_SET_CLOCK, NULL) < 0 && errno == ENOTTY ? 0 : 1;
}

START_TEST(a_machine_is_saved_by_its_control_and_comes_in_before_it_runs)
{
    ck_assert_int_eq(behind_walls(VMM_ROLE_MAIN, read_registers), 0);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_VCPU, read_registers)), SIGSYS);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_DISK, read_registers)), SIGSYS);
    ck_assert_int_eq(behind_walls(VMM_ROLE_DISK, look_for_holes), 0);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_VCPU, look_for_holes)), SIGSYS);
    ck_assert_int_eq(behind_walls(0, set_the_clock), 0);
    for (unsigned role = VMM_ROLE_MAIN; role < VMM_ROLE_START; role <<= 1) {
        ck_assert_int_eq(ends_of(behind_walls(role, set_the_clock)), SIGSYS);
    }
}
END_TEST

static int fill_a_page(void)
{
    return ioctl(pipes[0], UFFDIO_COPY, NULL) < 0 && errno == ENOTTY ? 0 : 1;
}

static int read_at_an_offset(void)
{
    char byte;
    return pread(pipes[0], &byte, 1, 0) < 0 && errno == ESPIPE ? 0 : 1;
}

START_TEST(who_fills_ram_reads_its_image_and_nothing_else)
{
    ck_assert_int_eq(behind_walls(VMM_ROLE_LOAD, fill_a_page), 0);
    ck_assert_int_eq(behind_walls(VMM_ROLE_LOAD, read_at_an_offset), 0);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_LOAD, write_at_an_offset)), SIGSYS);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_LOAD, run_a_vcpu)), SIGSYS);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_LOAD, accept_a_client)), SIGSYS);
    for (unsigned role = VMM_ROLE_MAIN; role <= VMM_ROLE_DISK; role <<= 1) {
        ck_assert_int_eq(ends_of(behind_walls(role, fill_a_page)), SIGSYS);
    }
}
END_TEST

static int give_up_on_ram(void)
{
    void *page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page != MAP_FAILED && mprotect(page, 4096, PROT_NONE) == 0 &&
                   ioctl(pipes[0], UFFDIO_WAKE, NULL) < 0 && errno == ENOTTY
               ? 0
               : 1;
}

START_TEST(whoever_waits_for_ram_may_give_it_up)
{
    for (unsigned role = VMM_ROLE_MAIN; role <= VMM_ROLE_DISK; role <<= 1) {
        ck_assert_int_eq(behind_walls(role, give_up_on_ram), 0);
    }
    ck_assert_int_eq(behind_walls(VMM_ROLE_LOAD, give_up_on_ram), 0);
}
END_TEST

START_TEST(a_worker_of_a_disk_reaches_its_file_and_nothing_else)
{
    ck_assert_int_eq(behind_walls(VMM_ROLE_DISK, write_at_an_offset), 0);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_VCPU, write_at_an_offset)), SIGSYS);
    ck_assert_int_eq(behind_walls(VMM_ROLE_VCPU, raise_an_interrupt), 0);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_DISK, raise_an_interrupt)), SIGSYS);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_DISK, run_a_vcpu)), SIGSYS);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_DISK, accept_a_client)), SIGSYS);
}
END_TEST

static int make_a_ring(void)
{
    return syscall(SYS_io_uring_setup, 0U, NULL) < 0 && errno != EPERM ? 0 : 1;
}

static int enter_a_ring(void)
{
    const long r = syscall(SYS_io_uring_enter, pipes[0], 0U, 0U, 0U, NULL, (size_t)0);
    return r < 0 && errno != EPERM ? 0 : 1;
}

static int change_a_ring(void)
{
    const long r = syscall(SYS_io_uring_register, pipes[0], 0U, NULL, 0U);
    return r < 0 && errno != EPERM ? 0 : 1;
}

START_TEST(a_ring_is_made_before_the_guest_and_entered_where_a_disk_has_one)
{
    ck_assert_int_eq(behind_walls(0, make_a_ring), 0);
    ck_assert_int_eq(behind_walls(0, change_a_ring), 0);
    for (unsigned role = VMM_ROLE_MAIN; role < VMM_ROLE_START; role <<= 1) {
        ck_assert_int_eq(ends_of(behind_walls(role | VMM_ROLE_RING, make_a_ring)),
                         SIGSYS);
        ck_assert_int_eq(ends_of(behind_walls(role | VMM_ROLE_RING, change_a_ring)),
                         SIGSYS);
        ck_assert_int_eq(ends_of(behind_walls(role, enter_a_ring)), SIGSYS);
    }
    ck_assert_int_eq(behind_walls(VMM_ROLE_MAIN | VMM_ROLE_RING, enter_a_ring), 0);
    ck_assert_int_eq(behind_walls(VMM_ROLE_VCPU | VMM_ROLE_RING, enter_a_ring), 0);
}
END_TEST

static int own_the_kernels_nic(void)
{
    return ioctl(pipes[0], VHOST_SET_OWNER, NULL) < 0 && errno == ENOTTY ? 0 : 1;
}

static int start_the_kernels_nic(void)
{
    return ioctl(pipes[0], VHOST_NET_SET_BACKEND, NULL) < 0 && errno == ENOTTY ? 0 : 1;
}

static int change_the_taps_queues(void)
{
    return ioctl(pipes[0], TUNSETQUEUE, NULL) < 0 && errno == ENOTTY ? 0 : 1;
}

START_TEST(who_serves_a_nic_starts_the_kernels_part_where_there_is_one)
{
    ck_assert_int_eq(behind_walls(0, own_the_kernels_nic), 0);
    for (unsigned role = VMM_ROLE_MAIN; role < VMM_ROLE_START; role <<= 1) {
        ck_assert_int_eq(
            ends_of(behind_walls(role | VMM_ROLE_VHOST, own_the_kernels_nic)), SIGSYS);
        ck_assert_int_eq(ends_of(behind_walls(role, start_the_kernels_nic)), SIGSYS);
    }
    ck_assert_int_eq(behind_walls(VMM_ROLE_MAIN | VMM_ROLE_VHOST, start_the_kernels_nic),
                     0);
    ck_assert_int_eq(behind_walls(VMM_ROLE_VCPU | VMM_ROLE_VHOST, start_the_kernels_nic),
                     0);
    ck_assert_int_eq(behind_walls(VMM_ROLE_MAIN, change_the_taps_queues), 0);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_DISK, change_the_taps_queues)),
                     SIGSYS);
}
END_TEST

static int look_at_a_block_device(void)
{
    return ioctl(pipes[0], BLKGETSIZE64, NULL) < 0 && errno == ENOTTY ? 0 : 1;
}

static int make_a_timer(void)
{
    return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC) >= 0 ? 0 : 1;
}

static int look_how_it_is_open(void)
{
    return fcntl(pipes[1], F_GETFL) == O_WRONLY && fcntl(pipes[0], F_SETFL, 0) == 0 &&
                   fcntl(pipes[0], F_DUPFD_CLOEXEC, 0) >= 0
               ? 0
               : 1;
}

static int have_signals_sent(void)
{
    return fcntl(pipes[0], F_SETOWN, 1) == 0 ? 0 : 1;
}

/* A device may come as long as the guest runs, by whoever hears QMP. */
START_TEST(only_who_connects_devices_looks_at_descriptors)
{
    static int (*const looks[])(void) = {look_at_a_tap, look_at_a_block_device,
                                         make_a_timer, look_how_it_is_open};
    for (unsigned i = 0; i < sizeof(looks) / sizeof(looks[0]); i++) {
        ck_assert_int_eq(behind_walls(0, looks[i]), 0);
        ck_assert_int_eq(behind_walls(VMM_ROLE_MAIN, looks[i]), 0);
        ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_VCPU, looks[i])), SIGSYS);
        ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_DISK, looks[i])), SIGSYS);
    }
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_MAIN, have_signals_sent)), SIGSYS);
}
END_TEST

static int end_one_direction(void)
{
    return shutdown(pipes[0], SHUT_WR) < 0 && errno == ENOTSOCK ? 0 : 1;
}

START_TEST(who_serves_devices_ends_connections)
{
    ck_assert_int_eq(behind_walls(VMM_ROLE_MAIN, end_one_direction), 0);
    ck_assert_int_eq(behind_walls(VMM_ROLE_VCPU, end_one_direction), 0);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_DISK, end_one_direction)), SIGSYS);
}
END_TEST

START_TEST(each_role_has_its_own_and_not_the_others)
{
    ck_assert_int_eq(behind_walls(VMM_ROLE_VCPU, run_a_vcpu), 0);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_MAIN, run_a_vcpu)), SIGSYS);
    ck_assert_int_eq(behind_walls(VMM_ROLE_MAIN, accept_a_client), 0);
    ck_assert_int_eq(ends_of(behind_walls(VMM_ROLE_VCPU, accept_a_client)), SIGSYS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vmm_rights");
    TCase *tests = tcase_create("vmm_rights");
    tcase_add_loop_test(tests, what_is_on_no_list_ends_the_process, 0,
                        sizeof(tries) / sizeof(tries[0]));
    tcase_add_test(tests, threads_are_all_that_can_be_made_and_by_who_starts_them);
    tcase_add_test(tests, no_path_can_be_opened);
    tcase_add_test(tests, no_memory_becomes_code);
    tcase_add_loop_test(tests, what_is_open_works_on, 0, 5);
    tcase_add_loop_test(tests, a_program_ends_behind_its_walls, 0, VMM_ROLE_MAIN + 1);
    tcase_add_test(tests, who_fills_ram_reads_its_image_and_nothing_else);
    tcase_add_test(tests, whoever_waits_for_ram_may_give_it_up);
    tcase_add_test(tests, a_worker_of_a_disk_reaches_its_file_and_nothing_else);
    tcase_add_test(tests, a_machine_is_saved_by_its_control_and_comes_in_before_it_runs);
    tcase_add_test(tests,
                   a_ring_is_made_before_the_guest_and_entered_where_a_disk_has_one);
    tcase_add_test(tests, only_who_connects_devices_looks_at_descriptors);
    tcase_add_test(tests, who_serves_a_nic_starts_the_kernels_part_where_there_is_one);
    tcase_add_test(tests, who_serves_devices_ends_connections);
    tcase_add_test(tests, each_role_has_its_own_and_not_the_others);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
