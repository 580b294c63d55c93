/* Goal: a port with a limit lets its burst pass and drops what is beyond it, each way,
 * and nobody else's. Method: real networks, frames by hand (guest_fixture.h). A frame of
 * the end is sent until one has come: nothing is waited for that may not come. */
#include "guest_fixture.h"

#include <unistd.h>

#define BURST  20
#define FRAMES 400
#define END    1000000
#define END_MS                                                              \
    100 /* between two frames of the end: as long as one takes to be earned \
         */
#define ENDS 100

/* VM_FRONT or VM_SECOND. */
static void limit_port(unsigned port, uint64_t packets, uint64_t bytes)
{
    hosts[1].ports[0][port].limit =
        (struct network_limit){.packets = packets, .bytes = bytes};
    host_set(&hosts[1]);
}

/* How many of FRAMES arrive. */
static unsigned send_many(const struct vm *from, const struct vm *to)
{
    unsigned arrived = 0;
    struct frame frame;
    for (uint32_t i = 0; i < FRAMES; i++) {
        frame = frame_token(from, to, 1);
        vm_send(from, &frame);
        while (vm_take(to, &frame, 0)) {
            arrived += frame_is_token(&frame, 1) ? 1 : 0;
        }
    }
    for (unsigned i = 0; i < ENDS; i++) {
        frame = frame_token(from, to, END);
        vm_send(from, &frame);
        while (vm_take(to, &frame, END_MS)) {
            if (frame_is_token(&frame, END)) {
                return arrived;
            }
            arrived += frame_is_token(&frame, 1) ? 1 : 0;
        }
    }
    ck_abort_msg("nothing passes any more");
    return arrived;
}

/* Row 0: what leaves the VM, row 1: what comes to it. */
START_TEST(packets_beyond_the_burst_are_dropped)
{
    struct vm front = vm_open(&hosts[1], 7, VM_FRONT);
    struct vm second = vm_open(&hosts[1], 7, VM_SECOND);
    ck_assert_uint_eq(send_many(&front, &second), FRAMES);

    limit_port((unsigned)_i, BURST, 0);

    unsigned arrived = send_many(&front, &second);
    ck_assert_uint_ge(arrived, BURST / 2); /* a host may have had a word, too */
    ck_assert_uint_lt(arrived, FRAMES);

    limit_port((unsigned)_i, 0, 0);
    ck_assert_uint_eq(send_many(&front, &second), FRAMES);
}
END_TEST

START_TEST(bytes_beyond_the_burst_are_dropped)
{
    struct vm front = vm_open(&hosts[1], 7, VM_FRONT);
    struct vm second = vm_open(&hosts[1], 7, VM_SECOND);
    struct frame frame = frame_token(&front, &second, 1);

    limit_port((unsigned)_i, 0, BURST * frame.size);

    unsigned arrived = send_many(&front, &second);
    ck_assert_uint_ge(arrived, BURST / 2);
    ck_assert_uint_lt(arrived, FRAMES);
}
END_TEST

START_TEST(the_other_ports_are_not_limited)
{
    struct vm front = vm_open(&hosts[1], 7, VM_FRONT);
    struct vm second = vm_open(&hosts[1], 7, VM_SECOND);
    struct vm other = vm_open(&hosts[1], 8, VM_ELSE);
    struct network_port *port = &hosts[1].ports[1][0];
    ck_assert_uint_eq(port->vm_uid, other.uid);
    port->limit = (struct network_limit){.packets = BURST};
    host_set(&hosts[1]);

    ck_assert_uint_eq(send_many(&front, &second), FRAMES);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("network_limit");
    TCase *c = tcase_create("limits");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, packets_beyond_the_burst_are_dropped, 0, 2);
    tcase_add_loop_test(c, bytes_beyond_the_burst_are_dropped, 0, 2);
    tcase_add_test(c, the_other_ports_are_not_limited);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return run_in_namespaces(suite);
}
