/* Goal: each wall stands, whatever the others do, and who cannot have one says so. */
#include "support/test_main.h"
#include "vmm/vmm_walls.h"

#include <check.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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
    const unsigned first = 2000000000;
    const struct vmm_walls walls = {.which = VMM_WALLS_ALL, .first_uid = first};
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

    const unsigned id = first + (unsigned)pid;
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

int main(void)
{
    Suite *suite = suite_create("vmm_walls");
    TCase *tests = tcase_create("vmm_walls");
    tcase_add_test(tests, a_machine_has_a_user_of_its_own_when_there_are_some);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
