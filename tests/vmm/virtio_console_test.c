/* Goal: bytes go through in both directions, in order, and neither side can make the host
 * hold them. Method: a socket for the world. */
#include "guest_driver.h"
#include "support/test_main.h"
#include "vmm/virtio_console.h"

#include <check.h>

#include <sys/socket.h>
#include <unistd.h>

#define RX 0u
#define TX 1u

static struct guest guest;
static int world;

static void set_up(void)
{
    struct virtio_device *device = NULL;
    int ends[2];
    guest_init(&guest);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(virtio_console_new(&guest.place, ends[0], &device, NULL), 0);
    world = ends[1];
    guest_attach(&guest, device);
    guest_drive(&guest, 0);
}

static void tear_down(void)
{
    guest_fini(&guest);
    close(world);
}

static void say(const void *data, uint32_t size)
{
    const uint64_t at = guest_put(&guest, data, size);
    guest_post(&guest, TX, &(struct guest_buffer){at, size, false}, 1);
    guest_kick(&guest, TX);
    ck_assert_uint_eq(guest_wait(&guest, TX), 0);
}

START_TEST(what_the_guest_says_is_heard)
{
    char heard[64] = {0};

    say("hello, ", 7);
    say("world", 5);

    ck_assert_int_eq(recv(world, heard, sizeof(heard), MSG_DONTWAIT), 12);
    ck_assert_str_eq(heard, "hello, world");
}
END_TEST

START_TEST(what_is_said_to_the_guest_waits_for_its_buffers)
{
    char got[8] = {0};
    ck_assert_int_eq(send(world, "0123456789", 10, 0), 10);
    guest_settle(&guest); /* no buffers: this must end */

    const uint64_t at = guest_alloc(&guest, 16);
    guest_post(&guest, RX, &(struct guest_buffer){at, 4, true}, 1);
    guest_post(&guest, RX, &(struct guest_buffer){at + 4, 12, true}, 1);
    guest_kick(&guest, RX);

    ck_assert_uint_eq(guest_wait(&guest, RX), 4);
    ck_assert_uint_eq(guest_wait(&guest, RX), 6);
    ck_assert_int_eq(guest_memory_read(&guest.memory, at + 3, got, 7), 0);
    ck_assert_str_eq(got, "3456789");
}
END_TEST

START_TEST(a_reader_that_sleeps_costs_bytes_not_memory)
{
    static uint8_t data[60000];
    struct virtio_console_counters counters;
    const uint64_t at = guest_put(&guest, data, sizeof(data));
    for (unsigned i = 0; i < 200; i++) { /* 12 MB nobody reads */
        guest_post(&guest, TX, &(struct guest_buffer){at, sizeof(data), false}, 1);
        guest_kick(&guest, TX);
        ck_assert_uint_eq(guest_wait(&guest, TX), 0);
    }

    virtio_console_count(guest.pci->virtio, &counters);

    ck_assert_uint_gt(counters.dropped_bytes, 1000000);
    ck_assert_uint_eq(counters.dropped_bytes + counters.sent_bytes, 200 * sizeof(data));
}
END_TEST

START_TEST(a_request_of_gigabytes_is_cut)
{
    struct guest_buffer same[60];
    for (unsigned i = 0; i < 60; i++) {
        same[i] = (struct guest_buffer){0, GUEST_RAM_BYTES, false};
    }
    guest_post(&guest, TX, same, 60);
    guest_kick(&guest, TX);

    ck_assert_uint_eq(guest_wait(&guest, TX), 0);

    struct virtio_console_counters counters;
    virtio_console_count(guest.pci->virtio, &counters);
    ck_assert_uint_le(counters.sent_bytes, 128 << 10);
}
END_TEST

START_TEST(a_world_that_left_does_not_spin)
{
    close(world);
    world = -1;
    const uint64_t at = guest_alloc(&guest, 16);
    guest_post(&guest, RX, &(struct guest_buffer){at, 16, true}, 1);
    guest_kick(&guest, RX);

    guest_settle(&guest); /* this must end */

    say("anyone?", 7);
}
END_TEST

START_TEST(a_restored_console_goes_on)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct virtio_device *device = NULL;
    int ends[2];
    const uint64_t at = guest_alloc(&guest, 64);
    guest_post(&guest, RX, &(struct guest_buffer){at, 64, true}, 1);
    guest_kick(&guest, RX);
    guest_settle(&guest);
    device_stop(&guest.pci->device);
    bytes_writer_init(&writer, 1 << 16);
    device_save(&guest.pci->device, &writer);
    device_free(&guest.pci->device);
    close(world);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(virtio_console_new(&guest.place, ends[0], &device, NULL), 0);
    world = ends[1];
    guest_attach_stopped(&guest, device);

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(device_restore(&guest.pci->device, &reader, NULL), 0);
    device_start(&guest.pci->device);
    ck_assert_int_eq(send(world, "again", 5, 0), 5);

    ck_assert_uint_eq(guest_wait(&guest, RX), 5);
    bytes_writer_fini(&writer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio_console");
    TCase *tests = tcase_create("virtio_console");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, what_the_guest_says_is_heard);
    tcase_add_test(tests, what_is_said_to_the_guest_waits_for_its_buffers);
    tcase_add_test(tests, a_reader_that_sleeps_costs_bytes_not_memory);
    tcase_add_test(tests, a_request_of_gigabytes_is_cut);
    tcase_add_test(tests, a_world_that_left_does_not_spin);
    tcase_add_test(tests, a_restored_console_goes_on);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
