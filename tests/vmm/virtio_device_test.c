/* Goal: the rules that all types share: who may change what when, and that a device which
 * went wrong is out of service and nothing more. Method: a type that counts its calls. */
#include "guest_driver.h"
#include "support/test_main.h"

#include <check.h>

#include <stdlib.h>

struct counting {
    struct virtio_device device;
    unsigned activated;
    unsigned notified;
    unsigned reset;
    unsigned served;
    unsigned wait_after; /* requests until it answers VIRTIO_WAIT */
};

static struct guest guest;
static struct counting *counter;

static void count_activate(struct virtio_device *device)
{
    ((struct counting *)device)->activated++;
}

static enum virtio_handled
count_request(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    struct counting *self = (struct counting *)device;
    if (self->wait_after == 0) {
        return VIRTIO_WAIT;
    }
    self->wait_after--;
    self->served++;
    virtio_device_give(device, queue, chain->head, 7);
    return VIRTIO_TAKEN;
}

static void count_notify(struct virtio_device *device, unsigned queue)
{
    ((struct counting *)device)->notified++;
    virtio_device_serve(device, queue, count_request);
}

static void count_reset(struct virtio_device *device)
{
    ((struct counting *)device)->reset++;
}

static void count_free(struct virtio_device *device)
{
    free(device);
}

static const struct virtio_ops count_ops = {
    .kind = "counter",
    .type = VIRTIO_TYPE_CONSOLE,
    .activate = count_activate,
    .notify = count_notify,
    .reset = count_reset,
    .free = count_free,
};

static struct counting *counter_new(void)
{
    struct counting *self = calloc(1, sizeof(*self));
    ck_assert_ptr_nonnull(self);
    virtio_device_setup(&self->device, &count_ops, &guest.place, 4, 2, 64);
    self->wait_after = UINT32_MAX;
    return self;
}

static void set_up(void)
{
    guest_init(&guest);
    counter = counter_new();
    guest_attach(&guest, &counter->device);
}

static void tear_down(void)
{
    guest_fini(&guest);
}

static uint8_t status_after(uint8_t status)
{
    guest_set(&guest, GUEST_STATUS, 1, status);
    return (uint8_t)guest_get(&guest, GUEST_STATUS, 1);
}

START_TEST(status_bits_are_only_ever_added_and_in_order)
{
    ck_assert_uint_eq(status_after(1), 1);
    ck_assert_uint_eq(status_after(1 | 4), 1); /* no DRIVER_OK without FEATURES_OK */
    ck_assert_uint_eq(status_after(1 | 2), 3);
    ck_assert_uint_eq(status_after(2), 3); /* none is taken back */
    guest_features_accept(&guest, VIRTIO_F_MODERN | 4);
    ck_assert_uint_eq(status_after(1 | 2 | 8), 11);
    ck_assert_uint_eq(status_after(1 | 2 | 8 | 64 | 16), 11); /* not the driver's */
    ck_assert_uint_eq(status_after(15), 15);
    ck_assert_uint_eq(counter->activated, 1);
    ck_assert_uint_eq(status_after(15), 15);
    ck_assert_uint_eq(counter->activated, 1);
    ck_assert_uint_eq(status_after(15 | 128), 15 | 128);
    ck_assert_uint_eq(status_after(0), 0);
    ck_assert_uint_eq(counter->reset, 1);
}
END_TEST

struct feature_row {
    uint64_t features;
    bool accepted;
};

static const struct feature_row feature_rows[] = {
    {VIRTIO_F_MODERN, true},
    {VIRTIO_F_MODERN | 4 | VIRTIO_F_EVENT_IDX, true},
    {4, false},                                   /* a legacy driver */
    {VIRTIO_F_MODERN | 8, false},                 /* not offered */
    {VIRTIO_F_MODERN | UINT64_C(1) << 34, false}, /* packed rings: not offered */
};

START_TEST(features_are_accepted_from_those_offered)
{
    const struct feature_row *row = &feature_rows[_i];
    (void)status_after(3);
    guest_features_accept(&guest, row->features);

    ck_assert_uint_eq(status_after(11), row->accepted ? 11 : 3);

    guest_features_accept(&guest, 0); /* too late once they are agreed on */
    ck_assert_uint_eq(counter->device.features, row->accepted ? row->features : 0);
}
END_TEST

START_TEST(a_guest_that_never_stops_asking_gives_others_a_turn)
{
    guest_drive(&guest, 0);
    counter->device.status &= (uint8_t)~VIRTIO_DRIVER_OK; /* fill it first */
    for (unsigned i = 0; i < GUEST_QUEUE_SIZE; i++) {
        guest_post(&guest, 0, &(struct guest_buffer){GUEST_HEAP_AT, 1, false}, 1);
    }
    counter->device.status |= VIRTIO_DRIVER_OK;
    counter->wait_after = 10;

    guest_kick(&guest, 0);

    ck_assert_uint_eq(counter->served, 10); /* the rest waits */
    ck_assert_uint_eq(counter->device.queues[0].in_flight_count, 0);
    counter->wait_after = UINT32_MAX;
    virtio_device_again(&counter->device, 0);
    guest_settle(&guest);
    ck_assert_uint_eq(counter->served, GUEST_QUEUE_SIZE);
}
END_TEST

START_TEST(a_broken_queue_takes_the_device_out_of_service)
{
    guest_drive(&guest, 0);
    const unsigned before = guest.interrupts[0];
    guest_offer(&guest, 1, 0xffff);

    guest_kick(&guest, 1);

    ck_assert(guest_needs_reset(&guest));
    ck_assert_uint_eq(guest.interrupts[0], before + 1); /* the driver hears of it */
    guest_post(&guest, 0, &(struct guest_buffer){GUEST_HEAP_AT, 1, false}, 1);
    guest_kick(&guest, 0);
    ck_assert_uint_eq(counter->served, 0);
    guest_drive(&guest, 0); /* a reset mends it */
    ck_assert(!guest_needs_reset(&guest));
    guest_post(&guest, 0, &(struct guest_buffer){GUEST_HEAP_AT, 1, false}, 1);
    guest_kick(&guest, 0);
    ck_assert_uint_eq(guest_wait(&guest, 0), 7);
}
END_TEST

START_TEST(doorbells_of_queues_that_do_not_exist_are_nothing)
{
    guest_drive(&guest, 0);
    const unsigned before = counter->notified;

    for (unsigned queue = 2; queue < 1024; queue++) {
        guest_set(&guest, GUEST_DOORBELLS + 4u * queue, 4, 0xffffffff);
        virtio_pci_notify(guest.pci, queue | 0x80000000u);
    }

    ck_assert_uint_eq(counter->notified, before);
}
END_TEST

START_TEST(a_stopped_machine_serves_nothing_and_catches_up)
{
    guest_drive(&guest, 0);
    device_stop(&guest.pci->device);
    guest_post(&guest, 0, &(struct guest_buffer){GUEST_HEAP_AT, 1, false}, 1);
    guest_kick(&guest, 0);
    ck_assert_uint_eq(counter->served, 0);

    device_start(&guest.pci->device);

    ck_assert_uint_eq(counter->served, 1);
}
END_TEST

START_TEST(a_changed_configuration_is_announced)
{
    guest_drive(&guest, 0);
    const uint64_t generation = guest_get(&guest, GUEST_GENERATION, 1);
    const unsigned before = guest.interrupts[0];

    virtio_device_enter(&counter->device);
    virtio_device_config_changed(&counter->device);
    virtio_device_leave(&counter->device);

    ck_assert_uint_eq(guest_get(&guest, GUEST_GENERATION, 1), (generation + 1) & 0xff);
    ck_assert_uint_eq(guest.interrupts[0], before + 1);
}
END_TEST

START_TEST(a_restored_device_goes_on_in_the_middle)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct err err = {0};
    guest_drive(&guest, VIRTIO_F_EVENT_IDX);
    guest_post(&guest, 0, &(struct guest_buffer){GUEST_HEAP_AT, 1, false}, 1);
    guest_kick(&guest, 0);
    ck_assert_uint_eq(guest_wait(&guest, 0), 7);
    counter->wait_after = 0;
    guest_post(&guest, 0, &(struct guest_buffer){GUEST_HEAP_AT, 1, false}, 1);
    guest_kick(&guest, 0); /* still waiting when the machine is saved */
    device_stop(&guest.pci->device);
    bytes_writer_init(&writer, 1 << 16);
    device_save(&guest.pci->device, &writer);
    device_free(&guest.pci->device);
    counter = counter_new();
    guest_attach_stopped(&guest, &counter->device);

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_msg(device_restore(&guest.pci->device, &reader, &err) == 0, "%s", err.text);
    device_start(&guest.pci->device);

    ck_assert_uint_eq(counter->served, 1);
    ck_assert_uint_eq(guest_wait(&guest, 0), 7);
    ck_assert(counter->device.queues[0].event_index);
    for (size_t size = 0; size < writer.size; size++) {
        struct counting *other = counter_new();
        struct virtio_pci *pci;
        ck_assert_int_eq(virtio_pci_new(&other->device, "device0", &pci), 0);
        bytes_reader_init(&reader, writer.data, size);
        ck_assert_int_lt(device_restore(&pci->device, &reader, NULL), 0);
        device_free(&pci->device);
    }
    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(configuration_reads_stay_inside_the_struct)
{
    const uint8_t config[5] = {1, 2, 3, 4, 5};
    uint8_t data[8] = {9, 9, 9, 9, 9, 9, 9, 9};

    virtio_config_read(config, sizeof(config), 3, data, 4);
    ck_assert_mem_eq(data, ((uint8_t[]){4, 5, 0, 0, 9}), 5);
    virtio_config_read(config, sizeof(config), UINT64_MAX, data, 4);
    ck_assert_mem_eq(data, ((uint8_t[]){0, 0, 0, 0, 9}), 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio_device");
    TCase *tests = tcase_create("virtio_device");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, status_bits_are_only_ever_added_and_in_order);
    tcase_add_loop_test(tests, features_are_accepted_from_those_offered, 0,
                        (int)ARRAY_COUNT(feature_rows));
    tcase_add_test(tests, a_guest_that_never_stops_asking_gives_others_a_turn);
    tcase_add_test(tests, a_broken_queue_takes_the_device_out_of_service);
    tcase_add_test(tests, doorbells_of_queues_that_do_not_exist_are_nothing);
    tcase_add_test(tests, a_stopped_machine_serves_nothing_and_catches_up);
    tcase_add_test(tests, a_changed_configuration_is_announced);
    tcase_add_test(tests, a_restored_device_goes_on_in_the_middle);
    tcase_add_test(tests, configuration_reads_stay_inside_the_struct);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
