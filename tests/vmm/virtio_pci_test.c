/* Goal: a driver finds the device by its capabilities, and no register, in no width, with
 * no value and at no time, does more than the specification lets it. Method: the entropy
 * device behind the function; walks over every register. */
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
}

static void tear_down(void)
{
    guest_fini(&guest);
}

static uint32_t space_get(uint64_t offset, unsigned size)
{
    uint32_t value = 0;
    device_read(&guest.pci->device, VIRTIO_PCI_CONFIG, offset, &value, size);
    return value;
}

static void space_put(uint64_t offset, unsigned size, uint32_t value)
{
    device_write(&guest.pci->device, VIRTIO_PCI_CONFIG, offset, &value, size);
}

/* The capability with this id and type (0: any), or 0. */
static uint32_t find_capability(uint8_t id, uint8_t type)
{
    uint32_t at = space_get(0x34, 1);
    for (unsigned i = 0; at != 0 && i < 48; i++) {
        if (space_get(at, 1) == id && (type == 0 || space_get(at + 3, 1) == type)) {
            return at;
        }
        at = space_get(at + 1, 1);
    }
    return 0;
}

START_TEST(a_driver_finds_every_structure)
{
    static const uint32_t offsets[] = {
        [1] = 0x0000, [2] = 0x3000, [3] = 0x1000, [4] = 0x2000};
    ck_assert_uint_eq(space_get(0, 4), 0x10441af4);
    ck_assert_uint_eq(space_get(8, 1), 1);
    ck_assert_uint_eq(space_get(0x2e, 2), 0x44);
    for (uint8_t type = 1; type <= 4; type++) {
        const uint32_t at = find_capability(9, type);
        ck_assert_uint_ne(at, 0);
        ck_assert_uint_eq(space_get(at + 4, 1), 0); /* BAR 0 */
        ck_assert_uint_eq(space_get(at + 8, 4), offsets[type]);
    }
    ck_assert_uint_eq(space_get(find_capability(9, 2) + 16, 4), 4); /* per doorbell */
    ck_assert_uint_eq(space_get(find_capability(0x11, 0) + 2, 2) & 0x7ff, 1); /* two */
}
END_TEST

/* Everything that decides where the device reads and writes. */
static void take_picture(struct virtio_queue *ret_queue)
{
    *ret_queue = guest.pci->virtio->queues[0];
}

START_TEST(no_register_of_a_running_queue_can_be_rewritten)
{
    struct virtio_queue before;
    struct virtio_queue after;
    static const uint64_t values[] = {0,      1,      2,          0x7fff,
                                      0x8000, 0xffff, UINT32_MAX, UINT64_MAX};
    guest_drive(&guest, 0);
    take_picture(&before);

    for (unsigned offset = 0; offset < 64; offset++) {
        for (unsigned size = 1; size <= 8; size++) {
            for (unsigned i = 0; i < ARRAY_COUNT(values); i++) {
                if (offset != GUEST_STATUS && offset != GUEST_STATUS - 1) {
                    guest_set(&guest, GUEST_QUEUE_SELECT, 2, 0);
                    guest_set(&guest, offset, size, values[i]);
                }
            }
        }
    }

    take_picture(&after);
    ck_assert_mem_eq(&before, &after, sizeof(before));
    guest_set(&guest, GUEST_QUEUE_SELECT, 2, 0);
    guest_set(&guest, GUEST_QUEUE_VECTOR, 2, 1);
    guest_post(&guest, 0, &(struct guest_buffer){GUEST_HEAP_AT, 64, true}, 1);
    guest_kick(&guest, 0);
    ck_assert_uint_eq(guest_wait(&guest, 0), 64);
}
END_TEST

START_TEST(every_selector_and_vector_is_checked)
{
    for (uint32_t value = 0; value <= 0xffff; value++) {
        guest_set(&guest, GUEST_QUEUE_SELECT, 2, value);
        const bool exists = value == 0;
        ck_assert_uint_eq(guest_get(&guest, GUEST_QUEUE_SIZE_AT, 2),
                          exists ? VIRTIO_QUEUE_SIZE_MAX : 0);
        guest_set(&guest, GUEST_QUEUE_VECTOR, 2, value);
        guest_set(&guest, GUEST_QUEUE_ENABLE, 2, 1);
        ck_assert_uint_eq(guest_get(&guest, GUEST_QUEUE_ENABLE, 2), 0);
        guest_set(&guest, GUEST_QUEUE_DESCRIPTORS, 8, value);
        ck_assert_uint_eq(guest_get(&guest, GUEST_QUEUE_DESCRIPTORS, 8), 0);
        guest_set(&guest, GUEST_QUEUE_SELECT, 2, 0);
        guest_set(&guest, GUEST_QUEUE_VECTOR, 2, value);
        ck_assert_uint_eq(guest_get(&guest, GUEST_QUEUE_VECTOR, 2),
                          value < 2 ? value : PCI_NO_VECTOR);
        guest_set(&guest, GUEST_CONFIG_VECTOR, 2, value);
        ck_assert_uint_eq(guest_get(&guest, GUEST_CONFIG_VECTOR, 2),
                          value < 2 ? value : PCI_NO_VECTOR);
    }
}
END_TEST

START_TEST(queue_sizes_that_cannot_be_are_not_taken)
{
    guest_set(&guest, GUEST_STATUS, 1, 3);
    guest_features_accept(&guest, VIRTIO_F_MODERN);
    guest_set(&guest, GUEST_STATUS, 1, 11);
    uint16_t size = VIRTIO_QUEUE_SIZE_MAX;

    for (uint32_t value = 0; value <= 0xffff; value++) {
        guest_set(&guest, GUEST_QUEUE_SIZE_AT, 2, value);
        if (value > 0 && value <= VIRTIO_QUEUE_SIZE_MAX && (value & (value - 1)) == 0) {
            size = (uint16_t)value;
        }
        ck_assert_uint_eq(guest_get(&guest, GUEST_QUEUE_SIZE_AT, 2), size);
    }
}
END_TEST

START_TEST(addresses_can_be_written_in_halves)
{
    guest_set(&guest, GUEST_STATUS, 1, 3);
    guest_features_accept(&guest, VIRTIO_F_MODERN);
    guest_set(&guest, GUEST_STATUS, 1, 11);

    guest_set(&guest, GUEST_QUEUE_DRIVER, 4, 0x89abcdef);
    guest_set(&guest, GUEST_QUEUE_DRIVER + 4, 4, 0x01234567);

    ck_assert_uint_eq(guest_get(&guest, GUEST_QUEUE_DRIVER, 8), 0x0123456789abcdef);
    ck_assert_uint_eq(guest_get(&guest, GUEST_QUEUE_DRIVER + 4, 4), 0x01234567);
    ck_assert_uint_eq(guest_get(&guest, GUEST_QUEUE_DRIVER + 1, 2),
                      0); /* no such field */
}
END_TEST

START_TEST(a_queue_outside_ram_is_not_enabled)
{
    guest_set(&guest, GUEST_STATUS, 1, 3);
    guest_features_accept(&guest, VIRTIO_F_MODERN);
    guest_set(&guest, GUEST_STATUS, 1, 11);
    guest_set(&guest, GUEST_QUEUE_DESCRIPTORS, 8, GUEST_BAR_AT); /* our own registers */
    guest_set(&guest, GUEST_QUEUE_DRIVER, 8, GUEST_RING_AT);
    guest_set(&guest, GUEST_QUEUE_DEVICE, 8, GUEST_RING_AT + 0x1000);

    guest_set(&guest, GUEST_QUEUE_ENABLE, 2, 1);

    ck_assert_uint_eq(guest_get(&guest, GUEST_QUEUE_ENABLE, 2), 0);
    ck_assert(guest_needs_reset(&guest));
}
END_TEST

START_TEST(the_isr_is_cleared_by_reading_it)
{
    guest_drive(&guest, 0);
    guest_post(&guest, 0, &(struct guest_buffer){GUEST_HEAP_AT, 64, true}, 1);
    guest_kick(&guest, 0);
    ck_assert_uint_eq(guest_wait(&guest, 0), 64);

    ck_assert_uint_eq(guest_get(&guest, GUEST_ISR, 1), 1);
    ck_assert_uint_eq(guest_get(&guest, GUEST_ISR, 1), 0);
}
END_TEST

START_TEST(the_window_reaches_the_bar_and_no_further)
{
    const uint32_t window = find_capability(9, 5);
    ck_assert_uint_ne(window, 0);

    space_put(window + 4, 1, 0);
    space_put(window + 8, 4, GUEST_QUEUES);
    space_put(window + 12, 4, 2);
    ck_assert_uint_eq(space_get(window + 16, 2), 1); /* number of queues */
    space_put(window + 8, 4, GUEST_STATUS);
    space_put(window + 12, 4, 1);
    space_put(window + 16, 1, 1);
    ck_assert_uint_eq(guest_get(&guest, GUEST_STATUS, 1), 1);
    for (uint32_t length = 0; length < 0x200; length++) { /* lies about the length */
        for (unsigned bar = 0; bar < 8; bar++) {
            space_put(window + 4, 1, bar);
            space_put(window + 8, 4,
                      bar % 2 == 0 ? VIRTIO_PCI_BAR_BYTES - 1 : UINT32_MAX);
            space_put(window + 12, 4, length);
            space_put(window + 16, 4, UINT32_MAX);
            (void)space_get(window + 16, 4);
        }
    }
    ck_assert_uint_eq(guest_get(&guest, GUEST_STATUS, 1), 1);
}
END_TEST

START_TEST(every_offset_and_width_of_the_bar_answers)
{
    guest_drive(&guest, 0);
    for (uint64_t offset = 0; offset < VIRTIO_PCI_BAR_BYTES + 64; offset++) {
        for (unsigned size = 1; size <= 8; size++) {
            uint8_t data[9] = {0};
            data[size] = 0x5a;
            device_read(&guest.pci->device, VIRTIO_PCI_BAR, offset, data, size);
            ck_assert_uint_eq(data[size], 0x5a);
            if (offset != GUEST_STATUS) {
                device_write(&guest.pci->device, VIRTIO_PCI_BAR, offset, data, size);
            }
        }
    }
    ck_assert(!guest_needs_reset(&guest));
}
END_TEST

static void on_moved(void *context, unsigned number)
{
    (void)number;
    ++*(unsigned *)context;
}

START_TEST(doorbells_come_and_go_with_the_driver)
{
    unsigned moved = 0;
    uint64_t address = 0;
    guest.pci->function.moved = (struct device_line){on_moved, &moved};
    ck_assert(!virtio_pci_doorbell(guest.pci, 0, &address));

    guest_drive(&guest, 0);
    ck_assert_uint_eq(moved, 1);
    ck_assert(virtio_pci_doorbell(guest.pci, 0, &address));
    guest_set(&guest, GUEST_STATUS, 1, guest_get(&guest, GUEST_STATUS, 1));
    ck_assert_uint_eq(moved, 1);
    guest_set(&guest, GUEST_STATUS, 1, 0);

    ck_assert_uint_eq(moved, 2);
    ck_assert(!virtio_pci_doorbell(guest.pci, 0, &address));
}
END_TEST

/* What a bus would make of the last word. */
static void on_moved_look(void *context, unsigned number)
{
    uint64_t address;
    *(bool *)context = virtio_pci_doorbell(guest.pci, number, &address);
}

START_TEST(a_restored_driver_has_its_doorbells)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct virtio_device *device = NULL;
    bool rings = false;
    uint64_t address = 0;
    guest_drive(&guest, 0);
    device_stop(&guest.pci->device);
    bytes_writer_init(&writer, 1 << 16);
    device_save(&guest.pci->device, &writer);
    device_free(&guest.pci->device);
    ck_assert_int_eq(virtio_random_new(&guest.place, &device), 0);
    guest_attach_stopped(&guest, device);
    guest.pci->function.moved = (struct device_line){on_moved_look, &rings};

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(device_restore(&guest.pci->device, &reader, NULL), 0);

    ck_assert(rings);
    ck_assert(virtio_pci_doorbell(guest.pci, 0, &address));
    ck_assert_uint_eq(address, GUEST_BAR_AT + UINT64_C(0x3000));
    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(doorbells_follow_the_bar)
{
    uint64_t address = 0;
    guest_drive(&guest, 0);
    ck_assert(virtio_pci_doorbell(guest.pci, 0, &address));
    ck_assert_uint_eq(address, GUEST_BAR_AT + UINT64_C(0x3000));
    ck_assert(!virtio_pci_doorbell(guest.pci, 1, &address));

    space_put(0x10, 4, 0xd0000000);
    ck_assert(virtio_pci_doorbell(guest.pci, 0, &address));
    ck_assert_uint_eq(address, UINT64_C(0xd0003000));
    space_put(4, 2, 0);

    ck_assert(!virtio_pci_doorbell(guest.pci, 0, &address));
}
END_TEST

START_TEST(a_reset_of_the_machine_forgets_everything)
{
    uint64_t address = 0;
    guest_drive(&guest, 0);

    device_reset(&guest.pci->device);

    ck_assert_uint_eq(guest.pci->virtio->status, 0);
    ck_assert(!guest.pci->virtio->queues[0].enabled);
    ck_assert_uint_eq(guest.pci->queue_vectors[0], PCI_NO_VECTOR);
    ck_assert(!virtio_pci_doorbell(guest.pci, 0, &address));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio_pci");
    TCase *tests = tcase_create("virtio_pci");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, a_driver_finds_every_structure);
    tcase_add_test(tests, no_register_of_a_running_queue_can_be_rewritten);
    tcase_add_test(tests, every_selector_and_vector_is_checked);
    tcase_add_test(tests, queue_sizes_that_cannot_be_are_not_taken);
    tcase_add_test(tests, addresses_can_be_written_in_halves);
    tcase_add_test(tests, a_queue_outside_ram_is_not_enabled);
    tcase_add_test(tests, the_isr_is_cleared_by_reading_it);
    tcase_add_test(tests, the_window_reaches_the_bar_and_no_further);
    tcase_add_test(tests, every_offset_and_width_of_the_bar_answers);
    tcase_add_test(tests, doorbells_come_and_go_with_the_driver);
    tcase_add_test(tests, a_restored_driver_has_its_doorbells);
    tcase_add_test(tests, doorbells_follow_the_bar);
    tcase_add_test(tests, a_reset_of_the_machine_forgets_everything);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
