/* Goal: a place is given once, found by what the guest may know, and an id that outlives
 * its connection names nobody. Method: the table alone, sockets of our own. */
#include "support/test_main.h"
#include "vmm/vsock_links.h"

#include <check.h>

#include <sys/socket.h>
#include <unistd.h>

static struct vsock_links links;
static struct poller *poller;
static uint64_t heard;

static void on_link(void *context, uint64_t token, unsigned events)
{
    (void)context;
    (void)events;
    heard = token;
}

static void set_up(void)
{
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    vsock_links_init(&links, poller, on_link, NULL);
}

static void tear_down(void)
{
    for (unsigned i = 0; i < VSOCK_LINKS_MAX; i++) {
        if (links.links[i].state != LINK_FREE) {
            vsock_link_free(&links, &links.links[i]);
        }
    }
    poller_free(poller);
}

START_TEST(there_are_so_many_places_and_no_more)
{
    for (unsigned i = 0; i < VSOCK_LINKS_MAX; i++) {
        ck_assert_ptr_nonnull(vsock_links_new(&links, LINK_GREETING));
    }
    ck_assert_ptr_null(vsock_links_new(&links, LINK_GREETING));
    vsock_link_free(&links, &links.links[7]);

    ck_assert_ptr_eq(vsock_links_new(&links, LINK_DIALING), &links.links[7]);
    ck_assert_uint_eq(counter_read(&links.count), VSOCK_LINKS_MAX);
}
END_TEST

START_TEST(a_link_is_found_by_its_ports_once_the_guest_may_know)
{
    struct vsock_link *link = vsock_links_new(&links, LINK_GREETING);
    link->host_port = 5;
    link->guest_port = 6;
    ck_assert_ptr_null(vsock_links_find(&links, 5, 6));
    link->state = LINK_REQUESTED;
    ck_assert_ptr_eq(vsock_links_find(&links, 5, 6), link);
    ck_assert_ptr_null(vsock_links_find(&links, 6, 5));
    vsock_link_free(&links, link);
    ck_assert_ptr_null(vsock_links_find(&links, 5, 6));
    ck_assert_uint_eq(links.end, 0);
}
END_TEST

START_TEST(an_id_names_one_connection_for_good)
{
    struct vsock_link *link = vsock_links_new(&links, LINK_DIALING);
    const uint64_t id = vsock_link_id(&links, link);
    ck_assert_ptr_eq(vsock_links_of(&links, id), link);
    vsock_link_free(&links, link);
    ck_assert_ptr_null(vsock_links_of(&links, id));
    ck_assert_ptr_eq(vsock_links_new(&links, LINK_DIALING), link);
    ck_assert_ptr_null(vsock_links_of(&links, id));
    ck_assert_ptr_null(vsock_links_of(&links, UINT64_MAX));
}
END_TEST

START_TEST(a_socket_is_heard_by_its_links_id_and_goes_with_it)
{
    int ends[2];
    char byte;
    struct vsock_link *link = vsock_links_new(&links, LINK_GREETING);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(vsock_link_take(&links, link, ends[0]), 0);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    ck_assert_int_eq(poller_step(poller, 0), 0); /* for nothing yet */

    vsock_link_watch(&links, link, true);
    ck_assert_int_eq(poller_step(poller, 0), 1);
    ck_assert_uint_eq(heard, vsock_link_id(&links, link));
    vsock_link_watch(&links, link, false);
    ck_assert_int_eq(poller_step(poller, 0), 0);

    vsock_link_free(&links, link);
    ck_assert_int_le(read(ends[1], &byte, 1), 0);
    close(ends[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vsock_links");
    TCase *tests = tcase_create("vsock_links");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, there_are_so_many_places_and_no_more);
    tcase_add_test(tests, a_link_is_found_by_its_ports_once_the_guest_may_know);
    tcase_add_test(tests, an_id_names_one_connection_for_good);
    tcase_add_test(tests, a_socket_is_heard_by_its_links_id_and_goes_with_it);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
