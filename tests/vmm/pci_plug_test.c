/* Goal: the guest learns once of each device that comes and each that is to go, lets go
 * what was asked for and nothing else, and whatever it does to the registers, the set of
 * its devices is the machine's. Method: the registers alone; accesses of every width at
 * every offset, and far outside. */
#include "support/test_main.h"
#include "vmm/device.h"
#include "vmm/machine_layout.h"
#include "vmm/pci_bus.h"
#include "vmm/pci_plug.h"

#include <check.h>

#include <string.h>

#define LAST (PCI_PLUG_FIRST + PCI_PLUG_SLOTS - 1)

static struct pci_plug plug;

static void setup(void)
{
    plug = (struct pci_plug){.present = 0};
}

static uint8_t get(uint64_t offset)
{
    uint8_t value = 0;
    pci_plug_read(&plug, offset, &value, 1);
    return value;
}

static bool let_go(uint8_t slots)
{
    return pci_plug_write(&plug, PCI_PLUG_EJECT, &slots, 1);
}

START_TEST(the_slots_are_the_last_of_the_bus)
{
    ck_assert_uint_eq(LAST, PCI_SLOTS_MAX);
    ck_assert_uint_eq(PCI_PLUG_EJECT + 1, PCI_PLUG_SIZE);
    ck_assert(!pci_plug_has(PCI_PLUG_FIRST - 1) && pci_plug_has(PCI_PLUG_FIRST));
    ck_assert(pci_plug_has(LAST) && !pci_plug_has(LAST + 1));
}
END_TEST

START_TEST(a_device_that_comes_is_news_once_and_stays)
{
    pci_plug_add(&plug, PCI_PLUG_FIRST + 2, true);
    pci_plug_add(&plug, LAST, true);

    ck_assert_uint_eq(get(PCI_PLUG_PRESENT), 0x84);
    ck_assert_uint_eq(get(PCI_PLUG_UP), 0x84);
    ck_assert_uint_eq(get(PCI_PLUG_UP), 0);
    ck_assert_uint_eq(get(PCI_PLUG_PRESENT), 0x84);
    ck_assert_uint_eq(get(PCI_PLUG_DOWN), 0);
}
END_TEST

START_TEST(a_device_that_is_there_from_the_beginning_is_no_news)
{
    pci_plug_add(&plug, PCI_PLUG_FIRST, false);

    ck_assert_uint_eq(get(PCI_PLUG_PRESENT), 1);
    ck_assert_uint_eq(get(PCI_PLUG_UP), 0);
}
END_TEST

START_TEST(a_device_goes_when_it_is_asked_for_and_let_go)
{
    pci_plug_add(&plug, PCI_PLUG_FIRST, false);
    pci_plug_ask(&plug, PCI_PLUG_FIRST);
    ck_assert_uint_eq(get(PCI_PLUG_DOWN), 1);
    ck_assert_uint_eq(get(PCI_PLUG_DOWN), 0);
    ck_assert(!pci_plug_is_leaving(&plug, PCI_PLUG_FIRST));

    ck_assert(let_go(1));

    ck_assert(pci_plug_is_leaving(&plug, PCI_PLUG_FIRST));
    ck_assert(!let_go(1)); /* it was told already */
    pci_plug_remove(&plug, PCI_PLUG_FIRST);
    ck_assert_uint_eq(get(PCI_PLUG_PRESENT), 0);
    ck_assert(!let_go(0xff));
    ck_assert(!pci_plug_is_leaving(&plug, PCI_PLUG_FIRST));
}
END_TEST

START_TEST(what_nobody_has_asked_for_stays)
{
    pci_plug_add(&plug, PCI_PLUG_FIRST, true);
    pci_plug_add(&plug, PCI_PLUG_FIRST + 1, true);
    pci_plug_ask(&plug, PCI_PLUG_FIRST + 1);

    ck_assert(!let_go(0xff)); /* it cannot know that it was asked */
    ck_assert_uint_eq(get(PCI_PLUG_DOWN), 2);
    ck_assert(!let_go(0xfd));
    ck_assert_uint_eq(plug.leaving, 0);
    ck_assert(let_go(0xff));

    ck_assert_uint_eq(plug.leaving, 2);
    ck_assert_uint_eq(get(PCI_PLUG_PRESENT), 3); /* until the machine takes it out */
}
END_TEST

START_TEST(one_that_does_nothing_is_asked_again)
{
    pci_plug_add(&plug, PCI_PLUG_FIRST, false);
    for (unsigned i = 0; i < 3; i++) {
        pci_plug_ask(&plug, PCI_PLUG_FIRST);
        ck_assert_uint_eq(get(PCI_PLUG_DOWN), 1);
    }
    pci_plug_ask(&plug, PCI_PLUG_FIRST);
    ck_assert(let_go(1)); /* late is as good */
}
END_TEST

START_TEST(a_device_that_leaves_is_no_news_to_the_guest)
{
    pci_plug_add(&plug, PCI_PLUG_FIRST, false);
    pci_plug_ask(&plug, PCI_PLUG_FIRST);

    pci_plug_leave(&plug, PCI_PLUG_FIRST);

    ck_assert(pci_plug_is_leaving(&plug, PCI_PLUG_FIRST));
    ck_assert_uint_eq(get(PCI_PLUG_DOWN), 0);
    ck_assert(!let_go(1));
}
END_TEST

/* A guest that was asked twice may eject twice, and be late with the second time. */
START_TEST(what_is_let_go_late_is_not_the_next_device_in_the_slot)
{
    pci_plug_add(&plug, LAST, true);
    pci_plug_ask(&plug, LAST);
    ck_assert_uint_eq(get(PCI_PLUG_DOWN), 0x80);
    pci_plug_ask(&plug, LAST);
    ck_assert_uint_eq(get(PCI_PLUG_DOWN), 0x80);
    ck_assert(let_go(0x80));
    pci_plug_remove(&plug, LAST);
    pci_plug_add(&plug, LAST, true);
    ck_assert(!let_go(0x80));

    pci_plug_ask(&plug, LAST);

    ck_assert(!let_go(0x80));
    ck_assert_uint_eq(get(PCI_PLUG_DOWN), 0x80);
    ck_assert(let_go(0x80));
}
END_TEST

START_TEST(a_slot_that_is_used_again_has_forgotten_what_was)
{
    pci_plug_add(&plug, LAST, true);
    pci_plug_ask(&plug, LAST);
    (void)get(PCI_PLUG_DOWN);
    (void)let_go(0x80);
    pci_plug_remove(&plug, LAST);

    pci_plug_add(&plug, LAST, true);

    ck_assert_uint_eq(get(PCI_PLUG_UP), 0x80);
    ck_assert_uint_eq(get(PCI_PLUG_DOWN), 0);
    ck_assert(!let_go(0x80));
}
END_TEST

/* _i: the width. */
START_TEST(an_access_of_any_width_at_any_offset_sees_bytes_and_lets_go_what_was_asked)
{
    const unsigned size = (unsigned)_i;
    for (uint64_t offset = 0; offset <= PCI_PLUG_SIZE + 8; offset++) {
        uint8_t expected[PCI_PLUG_SIZE + 2 * DEVICE_ACCESS_MAX + 8];
        uint8_t seen[DEVICE_ACCESS_MAX];
        const uint8_t ones[DEVICE_ACCESS_MAX] = {0xff, 0xff, 0xff, 0xff,
                                                 0xff, 0xff, 0xff, 0xff};
        memset(expected, 0xff, sizeof(expected));
        expected[PCI_PLUG_PRESENT] = 0x83;
        expected[PCI_PLUG_UP] = 0x81;
        expected[PCI_PLUG_DOWN] = 0x02;
        expected[PCI_PLUG_EJECT] = 0;
        setup();
        pci_plug_add(&plug, PCI_PLUG_FIRST, true);
        pci_plug_add(&plug, PCI_PLUG_FIRST + 1, false);
        pci_plug_add(&plug, LAST, true);
        pci_plug_ask(&plug, PCI_PLUG_FIRST + 1);

        pci_plug_read(&plug, offset, seen, size);
        (void)get(PCI_PLUG_DOWN);
        const bool reaches = offset <= PCI_PLUG_EJECT && offset + size > PCI_PLUG_EJECT;
        ck_assert(pci_plug_write(&plug, offset, ones, size) == reaches);

        ck_assert_int_eq(memcmp(seen, expected + offset, size), 0);
        ck_assert_uint_eq(plug.leaving, reaches ? 2 : 0);
        ck_assert_uint_eq(plug.present, 0x83);
        ck_assert_uint_eq(plug.asked, 2);
    }
}
END_TEST

START_TEST(an_access_far_outside_reads_ones_and_does_nothing)
{
    static const uint64_t far[] = {PCI_PLUG_SIZE, UINT64_C(1) << 32, UINT64_MAX - 8,
                                   UINT64_MAX / 8 + 1};
    const uint64_t ones = UINT64_MAX;
    uint64_t value = 0;
    pci_plug_add(&plug, LAST, true);
    pci_plug_ask(&plug, LAST);

    ck_assert(!pci_plug_write(&plug, far[_i], &ones, 8));
    pci_plug_read(&plug, far[_i], &value, 8);

    ck_assert_uint_eq(value, UINT64_MAX);
    ck_assert_uint_eq(get(PCI_PLUG_UP), 0x80);
    ck_assert_uint_eq(plug.leaving, 0);
}
END_TEST

START_TEST(a_reset_keeps_devices_and_forgets_news)
{
    pci_plug_add(&plug, LAST, true);
    pci_plug_ask(&plug, LAST);
    (void)get(PCI_PLUG_DOWN);
    pci_plug_ask(&plug, LAST);
    plug.is_unknown = true;

    pci_plug_reset(&plug);

    ck_assert_uint_eq(get(PCI_PLUG_PRESENT), 0x80);
    ck_assert_uint_eq(get(PCI_PLUG_UP), 0);
    ck_assert_uint_eq(get(PCI_PLUG_DOWN), 0);
    ck_assert(!let_go(0x80));
    ck_assert(!plug.is_unknown); /* its tables are of this program */
}
END_TEST

static int taken(struct bytes_writer *writer, struct pci_plug *into, struct err *err)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, writer->data, writer->size);
    const int r = pci_plug_restore(into, &reader, err);
    return r < 0 ? r : bytes_reader_end(&reader);
}

START_TEST(saved_sets_come_back_with_their_news)
{
    struct bytes_writer writer;
    struct pci_plug other = {.present = 0x85};
    bytes_writer_init(&writer, 64);
    pci_plug_add(&plug, PCI_PLUG_FIRST, true);
    pci_plug_add(&plug, PCI_PLUG_FIRST + 2, false);
    pci_plug_add(&plug, LAST, false);
    pci_plug_ask(&plug, LAST);
    pci_plug_save(&plug, &writer);

    ck_assert_int_eq(taken(&writer, &other, NULL), 0);

    bytes_writer_fini(&writer);
    ck_assert_int_eq(memcmp(&plug, &other, sizeof(plug)), 0);
}
END_TEST

START_TEST(who_has_heard_may_let_go_in_another_process)
{
    struct bytes_writer writer;
    struct pci_plug other = {.present = 0x81};
    const uint8_t all = 0xff;
    bytes_writer_init(&writer, 64);
    pci_plug_add(&plug, PCI_PLUG_FIRST, false);
    pci_plug_add(&plug, LAST, false);
    pci_plug_ask(&plug, LAST);
    (void)get(PCI_PLUG_DOWN);
    pci_plug_ask(&plug, PCI_PLUG_FIRST); /* of which it has not */
    pci_plug_save(&plug, &writer);

    ck_assert_int_eq(taken(&writer, &other, NULL), 0);
    bytes_writer_fini(&writer);

    ck_assert(pci_plug_write(&other, PCI_PLUG_EJECT, &all, 1));
    ck_assert_uint_eq(other.leaving, 0x80);
}
END_TEST

START_TEST(a_machine_with_other_devices_is_refused_in_words)
{
    struct bytes_writer writer;
    struct pci_plug other = {.present = (uint8_t)(_i == 0 ? 0 : 0x84)};
    const struct pci_plug before = other;
    struct err err = {0};
    bytes_writer_init(&writer, 64);
    pci_plug_add(&plug, PCI_PLUG_FIRST, false);
    pci_plug_add(&plug, LAST, false);
    pci_plug_save(&plug, &writer);

    ck_assert_int_eq(taken(&writer, &other, &err), BERTH_EINVALID);

    bytes_writer_fini(&writer);
    ck_assert_str_eq(
        err.text,
        _i == 0
            ? "the saved machine has devices in slots 24, 31, and this one in none"
            : "the saved machine has devices in slots 24, 31, and this one in 26, 31");
    ck_assert_int_eq(memcmp(&other, &before, sizeof(other)), 0);
}
END_TEST

/* Unknown, present, up, down, asked. */
static const uint8_t senseless[][5] = {
    {0, 0x01, 0x02, 0, 0}, /* news of none */
    {0, 0x01, 0, 0, 0x02}, /* none is asked for */
    {0, 0x01, 0, 0x01, 0}, /* told, and not asked for */
};

START_TEST(sets_that_make_no_sense_are_refused)
{
    struct bytes_writer writer;
    bytes_writer_init(&writer, 64);
    plug.present = 1;
    bytes_write_raw(&writer, senseless[_i], sizeof(senseless[_i]));

    ck_assert_int_eq(taken(&writer, &plug, NULL), BERTH_ECORRUPT);

    writer.size = 3; /* nor is half of it taken */
    ck_assert_int_eq(taken(&writer, &plug, NULL), BERTH_ECORRUPT);
    bytes_writer_fini(&writer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pci_plug");
    TCase *tests = tcase_create("pci_plug");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, the_slots_are_the_last_of_the_bus);
    tcase_add_test(tests, a_device_that_comes_is_news_once_and_stays);
    tcase_add_test(tests, a_device_that_is_there_from_the_beginning_is_no_news);
    tcase_add_test(tests, a_device_goes_when_it_is_asked_for_and_let_go);
    tcase_add_test(tests, what_nobody_has_asked_for_stays);
    tcase_add_test(tests, one_that_does_nothing_is_asked_again);
    tcase_add_test(tests, a_device_that_leaves_is_no_news_to_the_guest);
    tcase_add_test(tests, what_is_let_go_late_is_not_the_next_device_in_the_slot);
    tcase_add_test(tests, a_slot_that_is_used_again_has_forgotten_what_was);
    tcase_add_loop_test(
        tests, an_access_of_any_width_at_any_offset_sees_bytes_and_lets_go_what_was_asked,
        1, DEVICE_ACCESS_MAX + 1);
    tcase_add_loop_test(tests, an_access_far_outside_reads_ones_and_does_nothing, 0, 4);
    tcase_add_test(tests, a_reset_keeps_devices_and_forgets_news);
    tcase_add_test(tests, saved_sets_come_back_with_their_news);
    tcase_add_test(tests, who_has_heard_may_let_go_in_another_process);
    tcase_add_loop_test(tests, a_machine_with_other_devices_is_refused_in_words, 0, 2);
    tcase_add_loop_test(tests, sets_that_make_no_sense_are_refused, 0, 3);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
