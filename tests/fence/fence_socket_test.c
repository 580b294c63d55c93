/* Goal: messages and descriptors arrive whole, nothing leaks, and nobody waits. */
#include "base/fd.h"
#include "fence/fence_socket.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct pair {
    struct temp_dir dir;
    int listener, client, server;
};

static void pair_init(struct pair *pair)
{
    struct err err = {0};
    pid_t pid;
    temp_dir_init(&pair->dir);
    pair->listener = fence_socket_listen(pair->dir.path, &err);
    ck_assert_msg(pair->listener >= 0, "%s", err.text);
    ck_assert_int_eq(fence_socket_accept(pair->listener), -EAGAIN);
    pair->client = fence_socket_connect(pair->dir.path, &pid, &err);
    ck_assert_msg(pair->client >= 0, "%s", err.text);
    ck_assert_int_eq(pid, getpid());
    pair->server = fence_socket_accept(pair->listener);
    ck_assert_int_ge(pair->server, 0);
}

static void pair_fini(struct pair *pair)
{
    fd_close(&pair->listener);
    fd_close(&pair->client);
    fd_close(&pair->server);
    temp_dir_fini(&pair->dir);
}

static unsigned fds_open(void)
{
    unsigned count = 0;
    DIR *entries = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(entries);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (readdir(entries) != NULL) {
        count++;
    }
    ck_assert_int_eq(closedir(entries), 0);
    return count;
}

static bool same_file(int a, int b)
{
    struct stat one;
    struct stat other;
    return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_ino == other.st_ino &&
           one.st_dev == other.st_dev;
}

START_TEST(a_message_arrives_with_its_descriptors_in_order)
{
    struct pair pair;
    struct fence_message got;
    int fds[FENCE_FDS_MAX];
    int ends[2];
    pair_init(&pair);
    ck_assert_int_eq(pipe(ends), 0);
    const int sent_fds[2] = {ends[1], pair.listener};
    const struct fence_message sent = {.type = FENCE_LEASE, .tag = 3, .body.lease = {9}};

    ck_assert_int_eq(fence_socket_send(pair.client, &sent, sent_fds, 2), 0);
    ck_assert_int_eq(fence_socket_receive(pair.server, &got, fds), 0);

    ck_assert_int_eq(got.type, FENCE_LEASE);
    ck_assert_uint_eq(got.body.lease.granted_ns, 9);
    ck_assert(same_file(fds[0], ends[1]) && same_file(fds[1], pair.listener));
    ck_assert_int_eq(fds[2], -1);
    ck_assert_int_ne(fcntl(fds[0], F_GETFD) & FD_CLOEXEC, 0);
    int no_fds[FENCE_FDS_MAX];
    ck_assert_int_eq(fence_socket_receive(pair.server, &got, no_fds), -EAGAIN);
    for (unsigned i = 0; i < 2; i++) {
        fd_close(&fds[i]);
        fd_close(&ends[i]);
    }
    pair_fini(&pair);
}
END_TEST

START_TEST(descriptors_of_a_refused_message_do_not_stay)
{
    struct pair pair;
    struct fence_message got;
    int fds[FENCE_FDS_MAX];
    char junk[] = "junk";
    union {
        struct cmsghdr header;
        char data[CMSG_SPACE(sizeof(int) * 10)];
    } control = {0};
    pair_init(&pair);
    struct iovec part = {.iov_base = junk, .iov_len = sizeof(junk)};
    struct msghdr packet = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.data,
                            .msg_controllen = sizeof(control.data)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&packet);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * 10); /* more than there is room for */
    for (unsigned i = 0; i < 10; i++) {
        memcpy(CMSG_DATA(header) + i * sizeof(int), &pair.listener, sizeof(int));
    }
    unsigned before = fds_open();

    ck_assert_int_eq(sendmsg(pair.client, &packet, 0), sizeof(junk));
    ck_assert_int_eq(fence_socket_receive(pair.server, &got, fds), BERTH_EPROTO);

    ck_assert_uint_eq(fds_open(), before);
    for (unsigned i = 0; i < FENCE_FDS_MAX; i++) {
        ck_assert_int_eq(fds[i], -1);
    }
    pair_fini(&pair);
}
END_TEST

START_TEST(one_that_does_not_read_is_not_waited_for)
{
    struct pair pair;
    const struct fence_message event = {.type = FENCE_EVENT};
    pair_init(&pair);

    int r = 0;
    while (r == 0) {
        r = fence_socket_send(pair.server, &event, NULL, 0);
    }

    ck_assert_int_eq(r, -EAGAIN);
    pair_fini(&pair);
}
END_TEST

START_TEST(the_end_of_the_other_side_is_seen)
{
    struct pair pair;
    struct fence_message message = {.type = FENCE_HELLO};
    int fds[FENCE_FDS_MAX];
    pair_init(&pair);

    fd_close(&pair.client);

    ck_assert_int_eq(fence_socket_receive(pair.server, &message, fds), -ECONNRESET);
    ck_assert_int_eq(fence_socket_send(pair.server,
                                       &(struct fence_message){.type = FENCE_END}, NULL,
                                       0),
                     -EPIPE);
    pair_fini(&pair);
}
END_TEST

START_TEST(nobody_there_is_told_from_trouble)
{
    struct pair pair;
    struct err err;
    pid_t pid;
    char name[200];
    pair_init(&pair);
    ck_assert_int_eq(fence_socket_connect("/nonexistent", &pid, &err), -ENOENT);

    fd_close(&pair.listener); /* the file stays, as after a kill */
    ck_assert_int_eq(fence_socket_connect(pair.dir.path, &pid, &err), -ECONNREFUSED);
    pair.listener = fence_socket_listen(pair.dir.path, &err); /* and is replaced */
    ck_assert_int_ge(pair.listener, 0);

    memset(name, 'x', sizeof(name));
    name[0] = '/';
    name[sizeof(name) - 1] = '\0';
    ck_assert_int_eq(fence_socket_listen(name, &err), -ENAMETOOLONG);
    pair_fini(&pair);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("fence_socket");
    TCase *tcase = tcase_create("socket");
    tcase_add_test(tcase, a_message_arrives_with_its_descriptors_in_order);
    tcase_add_test(tcase, descriptors_of_a_refused_message_do_not_stay);
    tcase_add_test(tcase, one_that_does_not_read_is_not_waited_for);
    tcase_add_test(tcase, the_end_of_the_other_side_is_seen);
    tcase_add_test(tcase, nobody_there_is_told_from_trouble);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return test_main_run(suite());
}
