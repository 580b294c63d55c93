/* What wakes a sleeper, and what does not; over inproc sockets. */
#include "base/fd.h"
#include "net/mesh_watch.h"
#include "support/test_main.h"

#include <stdlib.h>
#include <sys/eventfd.h>

#define LONG_MS 5000 /* for broken code only */

START_TEST(a_message_makes_its_socket_due_and_no_other)
{
    int set = mesh_watch_set_open();
    ck_assert_int_ge(set, 0);
    zsock_t *reader = zsock_new_pair("@inproc://watch");
    zsock_t *writer = zsock_new_pair(">inproc://watch");
    struct mesh_watch reads = {0};
    struct mesh_watch writes = {0};
    ck_assert_int_eq(mesh_watch_start(&reads, set, reader), 0);
    ck_assert_int_eq(mesh_watch_start(&writes, set, writer), 0);
    ck_assert(reads.due && writes.due); /* nobody knows what happened before */
    char byte;
    ck_assert_int_lt(zmq_recv(zsock_resolve(reader), &byte, 1, ZMQ_DONTWAIT), 0);
    ck_assert_int_lt(zmq_recv(zsock_resolve(writer), &byte, 1, ZMQ_DONTWAIT), 0);
    mesh_watch_wait(set, 0); /* signals of the connecting */
    reads.due = writes.due = false;

    mesh_watch_wait(set, 0);
    ck_assert(!reads.due && !writes.due);
    ck_assert(mesh_watch_writable(&writes, writer));
    ck_assert(!writes.due);
    ck_assert_int_eq(zmq_send(zsock_resolve(writer), "x", 1, ZMQ_DONTWAIT), 1);
    mesh_watch_wait(set, LONG_MS);
    ck_assert(reads.due && !writes.due);

    reads.due = false;
    (void)mesh_watch_writable(&reads, reader); /* takes the signal, so it has to tell */
    ck_assert(reads.due);

    mesh_watch_stop(&reads);
    mesh_watch_stop(&writes);
    mesh_watch_stop(&writes);
    zsock_destroy(&reader);
    zsock_destroy(&writer);
    fd_close(&set);
}
END_TEST

START_TEST(a_descriptor_that_nobody_reads_wakes_once_per_write)
{
    int set = mesh_watch_set_open();
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct mesh_watch watch = {0};
    ck_assert_int_eq(mesh_watch_start_fd(&watch, set, fd), 0);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(eventfd_write(fd, 1), 0);
        watch.due = false;
        mesh_watch_wait(set, LONG_MS);
        ck_assert(watch.due);
        watch.due = false;
        mesh_watch_wait(set, 0);
        ck_assert(!watch.due);
    }
    mesh_watch_stop(&watch);
    fd_close(&fd);
    fd_close(&set);
    ck_assert_int_lt(mesh_watch_start_fd(&watch, set, fd), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mesh_watch");
    TCase *tests = tcase_create("mesh_watch");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_message_makes_its_socket_due_and_no_other);
    tcase_add_test(tests, a_descriptor_that_nobody_reads_wakes_once_per_write);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
