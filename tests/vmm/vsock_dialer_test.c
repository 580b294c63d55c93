/* Goal: who dials connects to PATH_PORT and nothing else, says what went wrong, and ends
 * with whom it serves. Method: the real process, real sockets in a folder of the test. */
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/vsock_dialer.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct temp_dir folder;
static char path[VSOCK_DIAL_PATH_MAX + 1];

static void set_up(void)
{
    temp_dir_init(&folder);
    ck_assert_int_lt(snprintf(path, sizeof(path), "%s/v", folder.path),
                     (int)sizeof(path));
}

static void tear_down(void)
{
    temp_dir_fini(&folder);
}

static int listen_at(uint32_t port)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", path, port);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    return fd;
}

/* The answer, and the descriptor beside it or -1. */
static struct vsock_dial_answer ask(int fd, uint64_t id, uint32_t port, int *ret_fd)
{
    const struct vsock_dial_request request = {.id = id, .port = port};
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct vsock_dial_answer answer = {0};
    struct iovec piece = {&answer, sizeof(answer)};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ck_assert_int_eq(send(fd, &request, sizeof(request), 0), sizeof(request));
    ck_assert_int_eq(recvmsg(fd, &message, 0), sizeof(answer));
    const struct cmsghdr *part = CMSG_FIRSTHDR(&message);
    *ret_fd = -1;
    if (part != NULL) {
        ck_assert_int_eq(part->cmsg_type, SCM_RIGHTS);
        memcpy(ret_fd, CMSG_DATA(part), sizeof(*ret_fd));
    }
    return answer;
}

START_TEST(it_connects_to_the_port_and_says_when_it_cannot)
{
    const int listener = listen_at(4294967295u);
    struct err err = {0};
    int connected;
    char byte = 0;
    const int fd = vsock_dialer_start(path, &err);
    ck_assert_msg(fd >= 0, "%s", err.text);
    ck_assert_int_eq(send(fd, "x", 1, 0), 1); /* no request: passed over */

    struct vsock_dial_answer answer = ask(fd, 77, 4294967295u, &connected);

    ck_assert_uint_eq(answer.id, 77);
    ck_assert_int_eq(answer.result, 0);
    ck_assert_int_ge(connected, 0);
    const int accepted = accept(listener, NULL, NULL);
    ck_assert_int_ge(accepted, 0);
    ck_assert_int_eq(read(connected, &byte, 1), -1); /* it does not block */
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert_int_eq(write(connected, "y", 1), 1);
    ck_assert_int_eq(read(accepted, &byte, 1), 1);
    ck_assert_int_eq(byte, 'y');
    answer = ask(fd, 78, 5, &connected);
    ck_assert_uint_eq(answer.id, 78);
    ck_assert_int_eq(answer.result, -ENOENT);
    ck_assert_int_eq(connected, -1);
    (void)close(fd);
    ck_assert_int_gt(wait(NULL), 0); /* its end is ours */
}
END_TEST

START_TEST(a_path_that_leaves_no_room_for_a_port_is_refused)
{
    char long_path[VSOCK_DIAL_PATH_MAX + 2];
    struct err err = {0};
    memset(long_path, 'p', sizeof(long_path) - 1);
    long_path[sizeof(long_path) - 1] = '\0';

    ck_assert_int_eq(vsock_dialer_start(long_path, &err), BERTH_EINVALID);

    ck_assert_ptr_nonnull(strstr(err.text, "more than 96 bytes"));
}
END_TEST

/* Another descriptor of this process would keep a pipe open. */
START_TEST(it_holds_no_other_descriptor)
{
    int ends[2];
    char byte;
    ck_assert_int_eq(pipe(ends), 0);
    const int fd = vsock_dialer_start(path, NULL);
    int connected;
    (void)ask(fd, 1, 1, &connected); /* it is at work */

    (void)close(ends[1]);

    ck_assert_int_eq(read(ends[0], &byte, 1), 0);
    (void)close(fd);
    (void)wait(NULL);
}
END_TEST

/* The process that was started last; its number is in the kernel's list of our children.
 */
static long child_of_ours(void)
{
    char where[64];
    long pid = 0;
    (void)snprintf(where, sizeof(where), "/proc/self/task/%d/children", (int)getpid());
    FILE *list = fopen(where, "re");
    ck_assert_ptr_nonnull(list);
    ck_assert_int_eq(fscanf(list, "%ld", &pid), 1);
    (void)fclose(list);
    return pid;
}

/* A line of its status. */
static void status_of(long pid, const char *word, char *ret_value, size_t size)
{
    char where[64];
    char line[256];
    (void)snprintf(where, sizeof(where), "/proc/%ld/status", pid);
    FILE *status = fopen(where, "re");
    ck_assert_ptr_nonnull(status);
    ret_value[0] = '\0';
    while (fgets(line, sizeof(line), status) != NULL) {
        if (strncmp(line, word, strlen(word)) == 0) {
            (void)snprintf(ret_value, size, "%s", line + strlen(word));
            ret_value[strcspn(ret_value, "\n")] = '\0';
        }
    }
    (void)fclose(status);
}

START_TEST(it_has_no_rights_but_to_connect)
{
    char value[64];
    int connected;
    const int fd = vsock_dialer_start(path, NULL);
    (void)ask(fd, 1, 1, &connected); /* it is at work */
    const long pid = child_of_ours();

    status_of(pid, "Seccomp:\t", value, sizeof(value));
    ck_assert_str_eq(value, "2"); /* a filter */
    status_of(pid, "NoNewPrivs:\t", value, sizeof(value));
    ck_assert_str_eq(value, "1");
    status_of(pid, "CapEff:\t", value, sizeof(value));
    ck_assert_str_eq(value, "0000000000000000");
    status_of(pid, "CapPrm:\t", value, sizeof(value));
    ck_assert_str_eq(value, "0000000000000000");

    (void)close(fd);
    (void)wait(NULL);
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_an_error)
{
    struct err err = {0};
    ck_assert_int_eq(vsock_dialer_start("/nowhere/v", &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.text, "/nowhere"));
}
END_TEST

/* Where this process may leave its world, the other has none but the folder. */
START_TEST(its_world_is_the_folder)
{
    char where[64];
    char root[sizeof(folder.path) + 8] = "";
    int connected;
    if (geteuid() != 0) {
        return;
    }
    const int fd = vsock_dialer_start(path, NULL);
    (void)ask(fd, 1, 1, &connected);
    (void)snprintf(where, sizeof(where), "/proc/%ld/root/%s", child_of_ours(), "mark");
    (void)snprintf(root, sizeof(root), "%s/mark", folder.path);
    const int mark = open(root, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(mark, 0);
    (void)close(mark);

    ck_assert_int_eq(access(where, F_OK), 0);

    (void)close(fd);
    (void)wait(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vsock_dialer");
    TCase *tests = tcase_create("vsock_dialer");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, it_connects_to_the_port_and_says_when_it_cannot);
    tcase_add_test(tests, a_path_that_leaves_no_room_for_a_port_is_refused);
    tcase_add_test(tests, it_holds_no_other_descriptor);
    tcase_add_test(tests, it_has_no_rights_but_to_connect);
    tcase_add_test(tests, a_folder_that_is_not_there_is_an_error);
    tcase_add_test(tests, its_world_is_the_folder);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
