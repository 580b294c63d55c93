/* Goal: pages that the guest gives back are the host's again, and nothing that it says
 * about them can touch anything else. */
#include "guest_driver.h"
#include "support/test_main.h"
#include "vmm/virtio_balloon.h"

#include <check.h>

#define INFLATE    0u
#define DEFLATE    1u
#define STATISTICS 2u
#define REPORTS    3u
#define AT         UINT64_C(0x400000) /* four megabytes: nobody else is there */

static struct guest guest;

static void attach(void)
{
    struct virtio_device *device = NULL;
    ck_assert_int_eq(virtio_balloon_new(&guest.place, &device), 0);
    guest_attach_stopped(&guest, device);
}

static void set_up(void)
{
    guest_init(&guest);
    attach();
    device_start(&guest.pci->device);
    guest_drive(&guest, VIRTIO_BALLOON_F_STATS_VQ | VIRTIO_BALLOON_F_REPORTING);
}

static void tear_down(void)
{
    guest_fini(&guest);
}

static void ask(unsigned queue, uint64_t address, uint32_t size, bool writable)
{
    guest_post(&guest, queue, &(struct guest_buffer){address, size, writable}, 1);
    guest_kick(&guest, queue);
    (void)guest_wait(&guest, queue);
}

static void fill(uint64_t address, uint64_t size)
{
    uint8_t page[4096];
    memset(page, 0xaa, sizeof(page));
    for (uint64_t done = 0; done < size; done += sizeof(page)) {
        ck_assert_int_eq(guest_memory_write(&guest.memory, address + done, page, 4096),
                         0);
    }
}

static uint8_t byte_at(uint64_t address)
{
    uint8_t byte = 0xff;
    ck_assert_int_eq(guest_memory_read(&guest.memory, address, &byte, 1), 0);
    return byte;
}

static struct virtio_balloon_state state(void)
{
    struct virtio_balloon_state now;
    virtio_balloon_state(guest.pci->virtio, &now);
    return now;
}

START_TEST(inflated_pages_are_given_back)
{
    const uint32_t pages[] = {AT / 4096 + 1, AT / 4096 + 2, AT / 4096 + 5};
    fill(AT, 8 * 4096);

    ask(INFLATE, guest_put(&guest, pages, sizeof(pages)), sizeof(pages), false);

    ck_assert_uint_eq(state().released_bytes, 3 * 4096);
    for (unsigned i = 0; i < 8; i++) {
        const bool gone = i == 1 || i == 2 || i == 5;
        ck_assert_uint_eq(byte_at(AT + i * 4096), gone ? 0 : 0xaa);
    }
    ask(DEFLATE, guest_put(&guest, pages, sizeof(pages)), sizeof(pages), false);
}
END_TEST

/* Each of these pages costs a call of the kernel's: one kick may ask for a quarter of a
 * million. */
START_TEST(others_have_a_turn_while_many_pages_are_given_back)
{
    enum { REQUESTS = 6, PAGES = 80 };
    uint32_t pages[PAGES];
    uint32_t head;
    uint32_t size;
    fill(AT, (uint64_t)REQUESTS * PAGES * 2 * 4096);
    for (unsigned i = 0; i < REQUESTS; i++) {
        for (unsigned k = 0; k < PAGES; k++) {
            pages[k] = (uint32_t)(AT / 4096 + (i * PAGES + k) * 2);
        }
        const uint64_t at = guest_put(&guest, pages, sizeof(pages));
        guest_post(&guest, INFLATE, &(struct guest_buffer){at, sizeof(pages), false}, 1);
    }
    guest_kick(&guest, INFLATE);

    const uint64_t first_bytes = state().released_bytes;
    ck_assert_uint_gt(first_bytes, 0);
    ck_assert_uint_lt(first_bytes, (uint64_t)REQUESTS * PAGES * 4096);
    for (unsigned i = 0; i < REQUESTS; i++) {
        (void)guest_wait(&guest, INFLATE);
    }
    ck_assert(!guest_used(&guest, INFLATE, &head, &size));
    ck_assert_uint_eq(state().released_bytes, REQUESTS * PAGES * 4096);
}
END_TEST

START_TEST(pages_that_do_not_exist_are_nothing)
{
    const uint32_t pages[] = {GUEST_RAM_BYTES / 4096, UINT32_MAX, UINT32_MAX - 1,
                              GUEST_RAM_BYTES / 4096 - 1, GUEST_RAM_BYTES / 4096};

    ask(INFLATE, guest_put(&guest, pages, sizeof(pages)), sizeof(pages) - 1, false);

    ck_assert_uint_le(state().released_bytes, 4096);
    ck_assert(!guest_needs_reset(&guest));
}
END_TEST

START_TEST(reported_ranges_are_given_back_by_whole_pages)
{
    fill(AT, 4 * 4096);

    ask(REPORTS, AT + 1, 2 * 4096, true); /* only the second page is whole */

    ck_assert_uint_eq(state().released_bytes, 4096);
    ck_assert_uint_eq(byte_at(AT), 0xaa);
    ck_assert_uint_eq(byte_at(AT + 4096), 0);
    ck_assert_uint_eq(byte_at(AT + 8192), 0xaa);
    ask(REPORTS, AT + 100, 200, true); /* none */
    ck_assert_uint_eq(state().released_bytes, 4096);
}
END_TEST

START_TEST(statistics_come_when_they_are_asked_for)
{
    const uint8_t bytes[20] = {4,    0,    0, 0x10, 0, 0, 0, 0, 0, 0,
                               0xff, 0xff, 1, 1,    1, 1, 1, 1, 1, 1}; /* unknown */
    uint32_t head;
    uint32_t size;
    const uint64_t at = guest_put(&guest, bytes, sizeof(bytes));
    guest_post(&guest, STATISTICS, &(struct guest_buffer){at, sizeof(bytes), false}, 1);
    guest_kick(&guest, STATISTICS);
    ck_assert(!guest_used(&guest, STATISTICS, &head, &size)); /* kept */
    ck_assert_uint_eq(state().statistics[VIRTIO_BALLOON_FREE_BYTES], 0x1000);

    virtio_balloon_ask(guest.pci->virtio);

    ck_assert(guest_used(&guest, STATISTICS, &head, &size));
    guest_post(&guest, STATISTICS, &(struct guest_buffer){at, 7, false}, 1);
    guest_kick(&guest, STATISTICS);
    ck_assert_uint_eq(state().statistics_count, 2);
    virtio_balloon_ask(guest.pci->virtio);
    virtio_balloon_ask(guest.pci->virtio); /* nothing is held: nothing happens */
}
END_TEST

START_TEST(statistics_of_gigabytes_are_cut)
{
    struct guest_buffer same[60];
    for (unsigned i = 0; i < 60; i++) {
        same[i] = (struct guest_buffer){0, GUEST_RAM_BYTES, false};
    }
    guest_post(&guest, STATISTICS, same, 60);
    guest_kick(&guest, STATISTICS);

    ck_assert_uint_eq(state().statistics_count, 1);
    ck_assert(!guest_needs_reset(&guest));
}
END_TEST

START_TEST(the_target_is_announced_and_the_answer_kept)
{
    const unsigned before = guest.interrupts[0];

    virtio_balloon_target(guest.pci->virtio, 16 << 20);

    ck_assert_uint_eq(guest.interrupts[0], before + 1);
    ck_assert_uint_eq(guest_get(&guest, GUEST_DEVICE_CONFIG, 4), 4096);
    guest_set(&guest, GUEST_DEVICE_CONFIG, 4, 1); /* not its to write */
    guest_set(&guest, GUEST_DEVICE_CONFIG + 4, 4, 1000);
    guest_set(&guest, GUEST_DEVICE_CONFIG + 5, 4, UINT32_MAX);
    ck_assert_uint_eq(state().target_bytes, 16 << 20);
    ck_assert_uint_eq(state().actual_bytes, 1000 * 4096);
}
END_TEST

START_TEST(a_restored_balloon_keeps_its_sizes_and_asks_again)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    uint32_t head;
    uint32_t size;
    const uint64_t at = guest_alloc(&guest, 64);
    virtio_balloon_target(guest.pci->virtio, 8 << 20);
    guest_set(&guest, GUEST_DEVICE_CONFIG + 4, 4, 5);
    guest_post(&guest, STATISTICS, &(struct guest_buffer){at, 10, false}, 1);
    guest_kick(&guest, STATISTICS); /* held while the machine is saved */
    device_stop(&guest.pci->device);
    bytes_writer_init(&writer, 1 << 16);
    device_save(&guest.pci->device, &writer);
    device_free(&guest.pci->device);
    attach();

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(device_restore(&guest.pci->device, &reader, NULL), 0);
    device_start(&guest.pci->device);

    ck_assert_uint_eq(state().target_bytes, 8 << 20);
    ck_assert_uint_eq(state().actual_bytes, 5 * 4096);
    ck_assert(guest_used(&guest, STATISTICS, &head, &size)); /* the guest fills it anew */
    guest_post(&guest, STATISTICS, &(struct guest_buffer){at, 10, false}, 1);
    guest_kick(&guest, STATISTICS);
    ck_assert_uint_eq(state().statistics_count, 1);
    bytes_writer_fini(&writer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio_balloon");
    TCase *tests = tcase_create("virtio_balloon");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, inflated_pages_are_given_back);
    tcase_add_test(tests, others_have_a_turn_while_many_pages_are_given_back);
    tcase_add_test(tests, pages_that_do_not_exist_are_nothing);
    tcase_add_test(tests, reported_ranges_are_given_back_by_whole_pages);
    tcase_add_test(tests, statistics_come_when_they_are_asked_for);
    tcase_add_test(tests, statistics_of_gigabytes_are_cut);
    tcase_add_test(tests, the_target_is_announced_and_the_answer_kept);
    tcase_add_test(tests, a_restored_balloon_keeps_its_sizes_and_asks_again);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
