/* Goal: the guest gets random bytes, never more than it asked for, and a request cannot
 * cost the host more than a page. */
#include "guest_driver.h"
#include "support/test_main.h"
#include "vmm/virtio_random.h"

#include <check.h>

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

int main(void)
{
    Suite *suite = suite_create("virtio_random");
    TCase *tests = tcase_create("virtio_random");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, a_buffer_is_filled_and_the_next_one_differs);
    tcase_add_test(tests, a_request_is_capped_whatever_it_claims);
    tcase_add_test(tests, a_buffer_that_cannot_be_written_gets_nothing);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
