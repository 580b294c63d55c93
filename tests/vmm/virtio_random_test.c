/* Goal: the guest gets random bytes, never more than it asked for, and a request cannot
 * cost the host more than a page. */
#include "guest_driver.h"
#include "support/test_main.h"
#include "vmm/virtio_random.h"

#include <check.h>

#include <stdlib.h>

static struct guest guest;

static void set_up(void)
{
    struct virtio_device *device = NULL;
    guest_init(&guest);
    ck_assert_int_eq(virtio_random_new(&guest.place, &device), 0);
    guest_attach(&guest, device);
    guest_drive(&guest, VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC);
}

static void tear_down(void)
{
    guest_fini(&guest);
}

static uint32_t ask(uint64_t at, uint32_t size)
{
    guest_post(&guest, 0, &(struct guest_buffer){at, size, true}, 1);
    guest_kick(&guest, 0);
    return guest_wait(&guest, 0);
}

START_TEST(a_buffer_is_filled_and_the_next_one_differs)
{
    uint8_t first[65] = {0};
    uint8_t second[65] = {0};
    const uint8_t zeros[32] = {0};
    const uint64_t at = guest_alloc(&guest, 128);

    ck_assert_uint_eq(ask(at, 64), 64);
    ck_assert_int_eq(guest_memory_read(&guest.memory, at, first, 65), 0);
    ck_assert_uint_eq(ask(at, 64), 64);
    ck_assert_int_eq(guest_memory_read(&guest.memory, at, second, 65), 0);

    ck_assert_mem_ne(first, zeros, 32);
    ck_assert_mem_ne(first, second, 64);
    ck_assert_uint_eq(first[64], 0); /* not one byte more */
    ck_assert_uint_eq(guest.interrupts[1], 2);
}
END_TEST

START_TEST(a_request_is_capped_whatever_it_claims)
{
    struct guest_buffer same[GUEST_QUEUE_SIZE];
    for (unsigned i = 0; i < GUEST_QUEUE_SIZE; i++) { /* megabytes over one page */
        same[i] = (struct guest_buffer){GUEST_HEAP_AT, 1u << 20, true};
    }

    guest_post(&guest, 0, same, GUEST_QUEUE_SIZE);
    guest_kick(&guest, 0);

    ck_assert_uint_eq(guest_wait(&guest, 0), VIRTIO_RANDOM_BYTES_MAX);
}
END_TEST

START_TEST(a_buffer_that_cannot_be_written_gets_nothing)
{
    guest_post(&guest, 0, &(struct guest_buffer){GUEST_HEAP_AT, 64, false}, 1);
    guest_kick(&guest, 0);

    ck_assert_uint_eq(guest_wait(&guest, 0), 0);
    ck_assert(!guest_needs_reset(&guest));
}
END_TEST

/* _i: a buffer waits in the ring when the machine is saved. */
START_TEST(two_copies_of_a_machine_are_given_different_bytes_at_once)
{
    const uint8_t zeros[64] = {0};
    uint8_t drawn[2][64];
    struct bytes_writer writer;
    const uint64_t at = guest_alloc(&guest, 64);
    device_stop(&guest.pci->device);
    if (_i == 1) {
        guest_post(&guest, 0, &(struct guest_buffer){at, 64, true}, 1);
    }
    bytes_writer_init(&writer, 1 << 16);
    device_save(&guest.pci->device, &writer);
    const struct guest_ring ring = guest.rings[0];
    uint8_t *ram = malloc(GUEST_RAM_BYTES);
    ck_assert_ptr_nonnull(ram);
    ck_assert_int_eq(guest_memory_read(&guest.memory, 0, ram, GUEST_RAM_BYTES), 0);

    for (unsigned copy = 0; copy < 2; copy++) {
        struct bytes_reader reader;
        struct virtio_device *device = NULL;
        device_free(&guest.pci->device);
        ck_assert_int_eq(guest_memory_write(&guest.memory, 0, ram, GUEST_RAM_BYTES), 0);
        guest.rings[0] = ring;
        ck_assert_int_eq(virtio_random_new(&guest.place, &device), 0);
        guest_attach_stopped(&guest, device);
        bytes_reader_init(&reader, writer.data, writer.size);
        ck_assert_int_eq(device_restore(&guest.pci->device, &reader, NULL), 0);
        device_start(&guest.pci->device);
        ck_assert_uint_eq(_i == 1 ? guest_wait(&guest, 0) : ask(at, 64), 64);
        ck_assert_int_eq(guest_memory_read(&guest.memory, at, drawn[copy], 64), 0);
    }

    ck_assert_mem_ne(drawn[0], zeros, 64);
    ck_assert_mem_ne(drawn[1], zeros, 64);
    ck_assert_mem_ne(drawn[0], drawn[1], 64);
    free(ram);
    bytes_writer_fini(&writer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio_random");
    TCase *tests = tcase_create("virtio_random");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, a_buffer_is_filled_and_the_next_one_differs);
    tcase_add_test(tests, a_request_is_capped_whatever_it_claims);
    tcase_add_test(tests, a_buffer_that_cannot_be_written_gets_nothing);
    tcase_add_loop_test(tests, two_copies_of_a_machine_are_given_different_bytes_at_once,
                        0, 2);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
