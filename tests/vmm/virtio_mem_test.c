/* Goal: a guest gets as much memory as the host wants it to have and no more, what it
 * gives back is gone for devices too, and all of it goes with a saved machine. */
#include "base/clock.h"
#include "guest_driver.h"
#include "plug_faults.h"
#include "support/test_main.h"
#include "vmm/ram_image.h"
#include "vmm/virtio_mem.h"

#include <check.h>

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define AT       (UINT64_C(1) << 30)
#define BLOCK    RAM_PLUG_BLOCK_BYTES
#define BLOCKS   16u
#define NO_STATE 0xffffu

static const struct ram_backing plain;
static struct guest guest;
static unsigned heard_count; /* who listens */
static uint64_t heard_bytes;

static void attach(void)
{
    struct virtio_device *device = NULL;
    ck_assert_int_eq(virtio_mem_new(&guest.place, &device), 0);
    guest_attach_stopped(&guest, device);
}

static void drive(void)
{
    device_start(&guest.pci->device);
    guest_drive(&guest, VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE);
}

static void set_up(void)
{
    heard_count = 0;
    heard_bytes = 0;
    guest_init(&guest);
    ck_assert_int_eq(
        guest_memory_add_pluggable(&guest.memory, AT, BLOCKS * BLOCK, &plain, NULL), 0);
    attach();
    drive();
}

static void tear_down(void)
{
    guest_fini(&guest);
}

static void want(uint64_t blocks)
{
    ck_assert_int_eq(virtio_mem_want(guest.pci->virtio, blocks * BLOCK, NULL), 0);
}

static struct virtio_mem_state state(void)
{
    struct virtio_mem_state now;
    virtio_mem_state(guest.pci->virtio, &now);
    return now;
}

/* The answer; of STATE the state as well. */
static unsigned
ask_at(uint16_t type, uint64_t address, uint16_t count, unsigned *ret_state)
{
    const struct virtio_mem_request request = {
        .type = type, .address = address, .block_count = count};
    struct virtio_mem_answer answer = {.type = 0xffff, .state = NO_STATE};
    const uint64_t at = guest_put(&guest, &request, sizeof(request));
    const uint64_t to = guest_put(&guest, &answer, sizeof(answer));
    guest_post(&guest, 0,
               (const struct guest_buffer[]){{at, sizeof(request), false},
                                             {to, VIRTIO_MEM_ANSWER_BYTES, true}},
               2);
    guest_kick(&guest, 0);
    (void)guest_wait(&guest, 0);
    ck_assert_int_eq(
        guest_memory_read(&guest.memory, to, &answer, VIRTIO_MEM_ANSWER_BYTES), 0);
    if (ret_state != NULL) {
        *ret_state = answer.state;
    }
    return answer.type;
}

static unsigned ask(uint16_t type, uint32_t block, uint16_t count)
{
    return ask_at(type, AT + block * BLOCK, count, NULL);
}

START_TEST(a_guest_plugs_what_is_wanted_and_no_more)
{
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 0, 1), VIRTIO_MEM_NACK);
    const unsigned before = guest.interrupts[0];
    want(3);
    ck_assert_uint_eq(guest.interrupts[0], before + 1);
    ck_assert_uint_eq(guest_get(&guest, GUEST_DEVICE_CONFIG + 48, 8), 3 * BLOCK);

    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 5, 2), VIRTIO_MEM_ACK);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 9, 2), VIRTIO_MEM_NACK);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 9, 1), VIRTIO_MEM_ACK);

    ck_assert_uint_eq(state().plugged_bytes, 3 * BLOCK);
    ck_assert_uint_eq(guest_get(&guest, GUEST_DEVICE_CONFIG + 40, 8), 3 * BLOCK);
    ck_assert(guest_memory_holds(&guest.memory, AT + 5 * BLOCK, 2 * BLOCK));
    ck_assert(!guest_memory_holds(&guest.memory, AT + 5 * BLOCK, 2 * BLOCK + 1));
    ck_assert(!guest_memory_holds(&guest.memory, AT + 5 * BLOCK - 1, 1));
    ck_assert_int_eq(guest_memory_write(&guest.memory, AT + 9 * BLOCK, "x", 1), 0);
}
END_TEST

START_TEST(what_is_unplugged_is_gone_for_devices_and_comes_back_empty)
{
    uint8_t byte = 0;
    uint16_t word;
    struct iovec piece;
    want(2);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 0, 2), VIRTIO_MEM_ACK);
    ck_assert_int_eq(guest_memory_write(&guest.memory, AT + BLOCK, "x", 1), 0);

    ck_assert_uint_eq(ask(VIRTIO_MEM_UNPLUG, 1, 1), VIRTIO_MEM_ACK);

    ck_assert_int_eq(guest_memory_read(&guest.memory, AT + BLOCK, &byte, 1), -EFAULT);
    ck_assert_int_eq(guest_memory_write(&guest.memory, AT + BLOCK - 1, "xy", 2), -EFAULT);
    ck_assert_int_eq(guest_memory_load_u16(&guest.memory, AT + BLOCK, &word), -EFAULT);
    ck_assert_int_eq(guest_memory_store_u16(&guest.memory, AT + BLOCK, 1), -EFAULT);
    ck_assert_int_eq(guest_memory_iovec(&guest.memory, AT + BLOCK, 1, &piece, 1),
                     -EFAULT);
    ck_assert_int_eq(guest_memory_release(&guest.memory, AT + BLOCK, 4096), -EFAULT);
    ck_assert_uint_eq(guest_memory_content_from(&guest.memory, 1, 0), BLOCKS * BLOCK);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 1, 1), VIRTIO_MEM_ACK);
    ck_assert_int_eq(guest_memory_read(&guest.memory, AT + BLOCK, &byte, 1), 0);
    ck_assert_uint_eq(byte, 0);
}
END_TEST

struct wrong_row {
    uint16_t type;
    uint64_t address;
    uint16_t count;
};

static const struct wrong_row wrong[] = {
    {VIRTIO_MEM_PLUG, AT + 1, 1},
    {VIRTIO_MEM_PLUG, AT - BLOCK, 1},
    {VIRTIO_MEM_PLUG, AT, 0},
    {VIRTIO_MEM_PLUG, AT + BLOCKS *BLOCK, 1},
    {VIRTIO_MEM_PLUG, AT + (BLOCKS - 1) * BLOCK, 2},
    {VIRTIO_MEM_PLUG, AT, UINT16_MAX},
    {VIRTIO_MEM_PLUG, UINT64_MAX - BLOCK + 1, 2},
    {VIRTIO_MEM_PLUG, 0, 1},          /* RAM, but not ours */
    {VIRTIO_MEM_PLUG, AT + BLOCK, 2}, /* the second is plugged */
    {VIRTIO_MEM_UNPLUG, AT + BLOCK, 2},
    {VIRTIO_MEM_UNPLUG, AT + 2 * BLOCK, 0},
    {VIRTIO_MEM_STATE, AT + 1, 1},
    {VIRTIO_MEM_STATE, AT, BLOCKS + 1},
    {4, AT, 1},
    {UINT16_MAX, AT, 1},
};

START_TEST(what_cannot_be_is_refused_and_changes_nothing)
{
    want(BLOCKS);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 2, 1), VIRTIO_MEM_ACK);

    ck_assert_uint_eq(ask_at(wrong[_i].type, wrong[_i].address, wrong[_i].count, NULL),
                      VIRTIO_MEM_ERROR);

    ck_assert_uint_eq(state().plugged_bytes, BLOCK);
    ck_assert(guest_memory_holds(&guest.memory, AT + 2 * BLOCK, BLOCK));
    ck_assert(!guest_needs_reset(&guest));
}
END_TEST

START_TEST(the_state_of_blocks_is_told)
{
    unsigned is = NO_STATE;
    want(2);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 4, 2), VIRTIO_MEM_ACK);

    ck_assert_uint_eq(ask_at(VIRTIO_MEM_STATE, AT + 4 * BLOCK, 2, &is), VIRTIO_MEM_ACK);
    ck_assert_uint_eq(is, VIRTIO_MEM_PLUGGED);
    ck_assert_uint_eq(ask_at(VIRTIO_MEM_STATE, AT + 6 * BLOCK, 2, &is), VIRTIO_MEM_ACK);
    ck_assert_uint_eq(is, VIRTIO_MEM_UNPLUGGED);
    ck_assert_uint_eq(ask_at(VIRTIO_MEM_STATE, AT, BLOCKS, &is), VIRTIO_MEM_ACK);
    ck_assert_uint_eq(is, VIRTIO_MEM_MIXED);
    ck_assert_uint_eq(ask(VIRTIO_MEM_UNPLUG_ALL, 0, 0), VIRTIO_MEM_ACK);
    ck_assert_uint_eq(state().plugged_bytes, 0);
}
END_TEST

START_TEST(what_a_device_is_at_is_busy)
{
    struct iovec piece;
    want(2);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 4, 2), VIRTIO_MEM_ACK);
    ck_assert_int_eq(guest_memory_iovec(&guest.memory, AT + 5 * BLOCK, 1, &piece, 1), 1);

    ck_assert_uint_eq(ask(VIRTIO_MEM_UNPLUG, 4, 2), VIRTIO_MEM_BUSY);
    ck_assert_uint_eq(ask(VIRTIO_MEM_UNPLUG_ALL, 0, 0), VIRTIO_MEM_BUSY);
    ck_assert_uint_eq(state().plugged_bytes, 2 * BLOCK);
    ck_assert_uint_eq(ask(VIRTIO_MEM_UNPLUG, 4, 1), VIRTIO_MEM_ACK);
    guest_memory_iovec_end(&guest.memory, &piece, 1);
    ck_assert_uint_eq(ask(VIRTIO_MEM_UNPLUG_ALL, 0, 0), VIRTIO_MEM_ACK);
    ck_assert_uint_eq(state().plugged_bytes, 0);
}
END_TEST

/* By kind of fault. BUSY has the driver try again later. */
START_TEST(what_could_not_be_unplugged_is_not_acknowledged)
{
    unsigned is = NO_STATE;
    want(3);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 4, 2), VIRTIO_MEM_ACK);

    plug_fault_set((enum plug_fault)_i);
    ck_assert_uint_eq(ask(VIRTIO_MEM_UNPLUG, 4, 1), VIRTIO_MEM_BUSY);
    plug_fault_set((enum plug_fault)_i);
    ck_assert_uint_eq(ask(VIRTIO_MEM_UNPLUG_ALL, 0, 0), VIRTIO_MEM_BUSY);
    plug_fault_set(PLUG_FAULT_NONE);

    ck_assert_uint_eq(state().plugged_bytes, 2 * BLOCK);
    ck_assert(guest_memory_holds(&guest.memory, AT + 4 * BLOCK, 2 * BLOCK));
    ck_assert_uint_eq(ask_at(VIRTIO_MEM_STATE, AT + 4 * BLOCK, 2, &is), VIRTIO_MEM_ACK);
    ck_assert_uint_eq(is, VIRTIO_MEM_PLUGGED);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 8, 2), VIRTIO_MEM_NACK); /* they count */
    ck_assert_uint_eq(ask(VIRTIO_MEM_UNPLUG, 4, 2), VIRTIO_MEM_ACK);
    ck_assert_uint_eq(state().plugged_bytes, 0);
}
END_TEST

START_TEST(a_driver_that_would_touch_what_is_unplugged_gets_nothing)
{
    want(2);
    guest_drive(&guest, 0);

    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 0, 1), VIRTIO_MEM_ERROR);

    ck_assert_uint_eq(state().plugged_bytes, 0);
}
END_TEST

START_TEST(a_reset_of_the_device_takes_nothing_away)
{
    want(2);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 0, 2), VIRTIO_MEM_ACK);

    guest_drive(&guest, VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE);

    ck_assert_uint_eq(state().plugged_bytes, 2 * BLOCK);
    /* As the machine's reset does. */
    ck_assert_int_eq(guest_memory_unplug_all(&guest.memory), 0);
    ck_assert_uint_eq(state().plugged_bytes, 0);
}
END_TEST

START_TEST(half_a_request_takes_it_out_of_service)
{
    const struct virtio_mem_request request = {.type = VIRTIO_MEM_UNPLUG_ALL};
    const uint64_t at = guest_put(&guest, &request, sizeof(request));
    guest_post(&guest, 0, &(struct guest_buffer){at, sizeof(request) - 1, false}, 1);

    guest_kick(&guest, 0);

    ck_assert(guest_needs_reset(&guest));
}
END_TEST

START_TEST(the_host_cannot_want_what_there_is_not)
{
    struct err err = {0};
    ck_assert_int_eq(virtio_mem_want(guest.pci->virtio, BLOCK + 1, &err), BERTH_EINVALID);
    ck_assert_str_eq(err.text,
                     "requested-size: not 0 to 33554432 bytes in steps of 2097152");
    ck_assert_int_eq(virtio_mem_want(guest.pci->virtio, (BLOCKS + 1) * BLOCK, NULL),
                     BERTH_EINVALID);
    ck_assert_int_eq(virtio_mem_want(guest.pci->virtio, BLOCKS * BLOCK, NULL), 0);
}
END_TEST

/* ---- who listens ---- */

static void on_resized(void *context)
{
    ck_assert_ptr_eq(context, &guest);
    heard_bytes = state().plugged_bytes; /* no lock is held */
    heard_count++;
}

static void listen_to_it(void)
{
    device_stop(&guest.pci->device);
    virtio_mem_listen(guest.pci->virtio, on_resized, &guest);
    device_start(&guest.pci->device);
}

static void hear(uint64_t blocks)
{
    while (heard_bytes != blocks * BLOCK) {
        ck_assert_int_gt(poller_step(guest.poller, GUEST_WAIT_MS), 0);
    }
}

START_TEST(who_listens_hears_at_once_and_then_of_the_last)
{
    const uint64_t begun_ms = clock_now_ms(clock_system());
    listen_to_it();
    want(BLOCKS);
    guest_settle(&guest);
    ck_assert_uint_eq(heard_count, 0);

    for (uint32_t i = 0; i < BLOCKS; i++) {
        ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, i, 1), VIRTIO_MEM_ACK);
        guest_settle(&guest);
        ck_assert_uint_gt(heard_count, 0);
    }
    hear(BLOCKS);

    const uint64_t took_s = (clock_now_ms(clock_system()) - begun_ms) / 1000;
    ck_assert_uint_le(heard_count, 2 + took_s);
}
END_TEST

START_TEST(who_listens_hears_nothing_of_what_is_as_it_was)
{
    want(2);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 0, 2), VIRTIO_MEM_ACK);
    listen_to_it();
    hear(2);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 3, 1), VIRTIO_MEM_NACK);
    ck_assert_uint_eq(ask(VIRTIO_MEM_STATE, 3, 1), VIRTIO_MEM_ACK);
    guest_drive(&guest, VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE);
    guest_settle(&guest);
    ck_assert_uint_eq(heard_count, 1);

    device_stop(&guest.pci->device); /* the machine begins anew */
    ck_assert_int_eq(guest_memory_unplug_all(&guest.memory), 0);
    device_start(&guest.pci->device);
    hear(0);
    ck_assert_uint_eq(heard_count, 2);
}
END_TEST

/* Its state as a section; the device is gone then. */
static void save(struct bytes_writer *writer)
{
    device_stop(&guest.pci->device);
    bytes_writer_init(writer, 1 << 16);
    device_save(&guest.pci->device, writer);
    device_free(&guest.pci->device);
}

START_TEST(a_saved_machine_has_the_blocks_it_had)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct err err = {0};
    want(5);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 0, 1), VIRTIO_MEM_ACK);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 7, 2), VIRTIO_MEM_ACK);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, BLOCKS - 1, 1), VIRTIO_MEM_ACK);
    save(&writer);
    ck_assert_int_eq(guest_memory_unplug_all(&guest.memory), 0);
    attach();

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_msg(device_restore(&guest.pci->device, &reader, &err) == 0, "%s", err.text);
    device_start(&guest.pci->device);

    for (unsigned i = 0; i < BLOCKS; i++) {
        ck_assert(guest_memory_holds(&guest.memory, AT + i * BLOCK, BLOCK) ==
                  (i == 0 || i == 7 || i == 8 || i == BLOCKS - 1));
    }
    ck_assert_uint_eq(state().requested_bytes, 5 * BLOCK);
    listen_to_it();
    guest_settle(&guest);
    ck_assert_uint_eq(heard_count, 0); /* who saved it knows */
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 3, 1), VIRTIO_MEM_ACK);
    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(the_state_of_another_machine_is_refused)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct err err = {0};
    save(&writer);
    guest_memory_fini(&guest.memory);
    guest_memory_init(&guest.memory);
    ck_assert_int_eq(guest_memory_add(&guest.memory, 0, GUEST_RAM_BYTES, NULL), 0);
    ck_assert_int_eq(
        guest_memory_add_pluggable(&guest.memory, AT, 2 * BLOCK, &plain, NULL), 0);
    attach();

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(device_restore(&guest.pci->device, &reader, &err), BERTH_EINVALID);

    ck_assert_ptr_nonnull(
        strstr(err.text, "the saved machine may have 32MiB plugged and this one 4MiB"));
    bytes_writer_fini(&writer);
}
END_TEST

/* A file may say anything: nothing is written where nothing is plugged. */
START_TEST(saved_ram_outside_of_what_is_plugged_is_refused)
{
    struct ram_progress progress = {0};
    struct bytes_writer section;
    struct bytes_reader reader;
    struct err err = {0};
    CLEANUP_FD int file = memfd_create("image", MFD_CLOEXEC);
    want(2);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 3, 1), VIRTIO_MEM_ACK);
    ck_assert_int_eq(guest_memory_write(&guest.memory, AT + 3 * BLOCK, "x", 1), 0);
    bytes_writer_init(&section, 1 << 16);
    ck_assert_int_eq(ram_image_write(&guest.memory, file, 0, &progress, &section, NULL),
                     0);
    ck_assert_int_eq(ftruncate(file, (off_t)(GUEST_RAM_BYTES + BLOCKS * BLOCK)), 0);
    ck_assert_uint_eq(ask(VIRTIO_MEM_UNPLUG, 3, 1), VIRTIO_MEM_ACK);

    bytes_reader_init(&reader, section.data, section.size);
    ck_assert_int_eq(ram_image_read(&guest.memory, file, 0, NULL, &reader, &err),
                     BERTH_ECORRUPT);

    ck_assert_str_eq(err.text,
                     "the saved RAM has content where none is plugged, at 0x40600000");
    bytes_writer_fini(&section);
}
END_TEST

/* What a device wrote while its block went is not saved. */
START_TEST(only_what_is_plugged_is_saved)
{
    want(2);
    ck_assert_uint_eq(ask(VIRTIO_MEM_PLUG, 3, 2), VIRTIO_MEM_ACK);
    ck_assert_uint_eq(ask(VIRTIO_MEM_UNPLUG, 3, 1), VIRTIO_MEM_ACK);
    guest.memory.regions[1].host[3 * BLOCK] = 'x';
    guest.memory.regions[1].host[4 * BLOCK + 4096] = 'y';

    ck_assert_uint_eq(guest_memory_content_from(&guest.memory, 1, 0), 4 * BLOCK + 4096);
    ck_assert_uint_le(guest_memory_content_end(&guest.memory, 1, 4 * BLOCK + 4096),
                      5 * BLOCK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio_mem");
    TCase *tests = tcase_create("virtio_mem");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, a_guest_plugs_what_is_wanted_and_no_more);
    tcase_add_test(tests, what_is_unplugged_is_gone_for_devices_and_comes_back_empty);
    tcase_add_loop_test(tests, what_cannot_be_is_refused_and_changes_nothing, 0,
                        (int)ARRAY_COUNT(wrong));
    tcase_add_test(tests, the_state_of_blocks_is_told);
    tcase_add_test(tests, what_a_device_is_at_is_busy);
    tcase_add_loop_test(tests, what_could_not_be_unplugged_is_not_acknowledged, 1,
                        PLUG_FAULT_COUNT);
    tcase_add_test(tests, a_driver_that_would_touch_what_is_unplugged_gets_nothing);
    tcase_add_test(tests, a_reset_of_the_device_takes_nothing_away);
    tcase_add_test(tests, half_a_request_takes_it_out_of_service);
    tcase_add_test(tests, the_host_cannot_want_what_there_is_not);
    tcase_add_test(tests, who_listens_hears_at_once_and_then_of_the_last);
    tcase_add_test(tests, who_listens_hears_nothing_of_what_is_as_it_was);
    tcase_add_test(tests, a_saved_machine_has_the_blocks_it_had);
    tcase_add_test(tests, the_state_of_another_machine_is_refused);
    tcase_add_test(tests, saved_ram_outside_of_what_is_plugged_is_refused);
    tcase_add_test(tests, only_what_is_plugged_is_saved);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
