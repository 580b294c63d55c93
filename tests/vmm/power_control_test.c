/* Goal: what the guest asks of the platform reaches the machine as what it is, and
 * nothing else does. */
#include "base/cleanup.h"
#include "support/corpus_seed.h"
#include "support/test_main.h"
#include "vmm/power_control.h"

#include <check.h>

#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>

static struct power_control *power;
static unsigned asked_count;
static unsigned asked_last;
static unsigned event_count;

static void on_asked(void *context, unsigned number)
{
    (void)context;
    asked_count++;
    asked_last = number;
}

static void on_event(void *context, unsigned number)
{
    (void)context;
    (void)number;
    event_count++;
}

static void setup(void)
{
    ck_assert_int_eq(power_control_new(&power), 0);
    power->asked = (struct device_line){on_asked, NULL};
    power->events = (struct device_line){on_event, NULL};
    asked_count = asked_last = event_count = 0;
}

static void teardown(void)
{
    device_free(&power->device);
}

struct write_row {
    unsigned region;
    uint64_t offset;
    uint8_t value;
    unsigned asks; /* 0: nothing */
};

static const struct write_row writes[] = {
    {POWER_PORTS, POWER_SLEEP, 0x34, POWER_ASKS_OFF}, /* type 5, enabled */
    {POWER_PORTS, POWER_SLEEP, 0x14, 0},              /* not enabled */
    {POWER_PORTS, POWER_SLEEP, 0x30, 0},              /* another state */
    {POWER_PORTS, POWER_RESET, 0x01, POWER_ASKS_RESET},
    {POWER_PORTS, POWER_RESET, 0x00, 0},
    {POWER_PORTS, POWER_EVENTS, 0xff, 0},
    {POWER_KEYBOARD, 4, 0xfe, POWER_ASKS_RESET},
    {POWER_KEYBOARD, 4, 0xd1, 0},
    {POWER_KEYBOARD, 0, 0xfe, 0}, /* data, not a command */
    {POWER_PANIC, 0, 0x01, POWER_SAYS_PANIC},
    {POWER_PANIC, 0, 0x02, POWER_SAYS_CRASH_LOADED},
    {POWER_PANIC, 0, 0x03, POWER_SAYS_PANIC},
    {POWER_PANIC, 0, 0xfe, POWER_SAYS_CRASH_LOADED},
    {POWER_PANIC, 0, 0x04, 0}, /* not offered */
    {POWER_PANIC, 0, 0x00, 0},
};

START_TEST(a_write_asks_for_what_it_means_and_no_more)
{
    const struct write_row *row = &writes[_i];

    device_write(&power->device, row->region, row->offset, &row->value, 1);

    ck_assert_uint_eq(asked_count, row->asks != 0);
    ck_assert_uint_eq(asked_last, row->asks);
}
END_TEST

START_TEST(a_wide_write_is_one_of_each_register)
{
    const uint8_t both[] = {0x34, 0, 0x01, 0};

    device_write(&power->device, POWER_PORTS, 0, both, sizeof(both));

    ck_assert_uint_eq(asked_count, 2);
}
END_TEST

START_TEST(the_guest_reads_once_why_it_was_interrupted)
{
    uint8_t why = 0;

    power_control_press(power);

    ck_assert_uint_eq(event_count, 1);
    device_read(&power->device, POWER_PORTS, POWER_EVENTS, &why, 1);
    ck_assert_uint_eq(why, POWER_EVENT_BUTTON);
    device_read(&power->device, POWER_PORTS, POWER_EVENTS, &why, 1);
    ck_assert_uint_eq(why, 0);
}
END_TEST

START_TEST(the_guest_is_told_of_its_new_generation_and_of_cpus)
{
    uint8_t why = 0;

    power_control_renew(power);
    power_control_press(power);
    power_control_tell_cpu(power);

    ck_assert_uint_eq(event_count, 3);
    device_read(&power->device, POWER_PORTS, POWER_EVENTS, &why, 1);
    ck_assert_uint_eq(why, POWER_EVENT_BUTTON | POWER_EVENT_GENERATION | POWER_EVENT_CPU);
}
END_TEST

START_TEST(what_was_not_read_is_saved_and_restored)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    uint8_t why = 0;
    bytes_writer_init(&writer, 1024);
    power_control_press(power);
    power_control_tell_cpu(power);

    device_save(&power->device, &writer);
    device_reset(&power->device);
    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(device_restore(&power->device, &reader, NULL), 0);

    device_read(&power->device, POWER_PORTS, POWER_EVENTS, &why, 1);
    ck_assert_uint_eq(why, POWER_EVENT_BUTTON | POWER_EVENT_CPU);
    bytes_writer_fini(&writer);
}
END_TEST

static bool is_timed(void)
{
    struct itimerspec when = {0};
    ck_assert_int_eq(timerfd_gettime(power->timer_fd, &when), 0);
    return when.it_value.tv_sec != 0 || when.it_value.tv_nsec != 0;
}

START_TEST(what_is_not_read_is_told_again_while_the_guest_runs)
{
    uint8_t why = 0;
    ck_assert_int_eq(poller_new(&power->poller, NULL), 0);
    struct poller *poller = power->poller;
    ck_assert_int_eq(device_init(&power->device, NULL), 0);
    power_control_tell_cpu(power);
    ck_assert_uint_eq(event_count, 1);
    ck_assert(!is_timed()); /* it stands still */

    device_start(&power->device);
    ck_assert_uint_eq(event_count, 2);
    for (unsigned i = 3; i <= 4; i++) {
        ck_assert_int_eq(poller_step(poller, -1), 1);
        ck_assert_uint_eq(event_count, i);
    }
    device_stop(&power->device);
    ck_assert(!is_timed());
    device_start(&power->device);
    ck_assert(is_timed());
    ck_assert_uint_eq(event_count, 5);
    device_read(&power->device, POWER_PORTS, POWER_EVENTS, &why, 1);
    ck_assert_uint_eq(why, POWER_EVENT_CPU);
    ck_assert(!is_timed());
    power_control_press(power);
    ck_assert(is_timed());
    device_reset(&power->device);
    ck_assert(!is_timed());
    ck_assert_uint_eq(event_count, 6);

    teardown();
    poller_free(poller);
    setup();
}
END_TEST

/* Every write of the table, between buttons and reads of why, for the fuzzer to begin
 * with: its steps are what, where (region and offset), how wide, a value. */
START_TEST(fuzzing_begins_with_every_write)
{
    uint8_t steps[3 * 4 * ARRAY_COUNT(writes)];
    size_t size = 0;
    uint8_t *seed = NULL;
    size_t seed_size = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(writes); i++) {
        const uint8_t where = (uint8_t)(writes[i].region | writes[i].offset << 2);
        const uint8_t row[] = {1,
                               where,
                               0,
                               writes[i].value, /* the write */
                               (uint8_t)(2 + i % 7),
                               0,
                               0,
                               0, /* what else comes */
                               0,
                               POWER_PORTS | POWER_EVENTS << 2,
                               (uint8_t)i,
                               0};
        memcpy(steps + size, row, sizeof(row));
        size += sizeof(row);
    }

    corpus_seed("vmm_power_control", "writes", steps, size, &seed, &seed_size);

    ck_assert_uint_eq(seed_size, size);
    ck_assert_mem_eq(seed, steps, size);
    free(seed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("power_control");
    TCase *tests = tcase_create("power_control");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, a_write_asks_for_what_it_means_and_no_more, 0,
                        sizeof(writes) / sizeof(writes[0]));
    tcase_add_test(tests, a_wide_write_is_one_of_each_register);
    tcase_add_test(tests, the_guest_reads_once_why_it_was_interrupted);
    tcase_add_test(tests, the_guest_is_told_of_its_new_generation_and_of_cpus);
    tcase_add_test(tests, what_was_not_read_is_saved_and_restored);
    tcase_add_test(tests, what_is_not_read_is_told_again_while_the_guest_runs);
    tcase_add_test(tests, fuzzing_begins_with_every_write);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
