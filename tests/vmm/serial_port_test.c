/* Goal: a driver of a 16550 finds one: what it sends leaves in order, what comes in is
 * read in order, and each new reason interrupts, none is lost. Method: the registers, as
 * Linux' driver uses them. */
#include "support/corpus_seed.h"
#include "support/test_main.h"
#include "vmm/serial_port.h"

#include <check.h>

#include <string.h>

#define DATA    0
#define IER     1
#define IIR     2
#define LCR     3
#define MCR     4
#define LSR     5
#define MSR     6
#define SCRATCH 7

static struct serial_port *serial;
static char sent[64];
static unsigned sent_count;
static unsigned interrupts;
static unsigned drains;

static void on_output(void *context, uint8_t byte)
{
    (void)context;
    ck_assert_uint_lt(sent_count, sizeof(sent));
    sent[sent_count++] = (char)byte;
}

static void on_drained(void *context)
{
    (void)context;
    drains++;
}

static void on_line(void *context, unsigned number)
{
    (void)context;
    (void)number;
    interrupts++;
}

static void setup(void)
{
    ck_assert_int_eq(serial_port_new(&serial), 0);
    serial->line = (struct device_line){on_line, NULL};
    serial->output = on_output;
    serial->drained = on_drained;
    sent_count = interrupts = drains = 0;
}

static void teardown(void)
{
    device_free(&serial->device);
}

static uint8_t get(unsigned offset)
{
    uint8_t value;
    device_read(&serial->device, 0, offset, &value, 1);
    return value;
}

static void put(unsigned offset, uint8_t value)
{
    device_write(&serial->device, 0, offset, &value, 1);
}

START_TEST(what_is_sent_leaves_in_order_and_sending_never_waits)
{
    for (const char *c = "berth"; *c != '\0'; c++) {
        ck_assert_uint_eq(get(LSR) & 0x60, 0x60);
        put(DATA, (uint8_t)*c);
    }

    ck_assert_uint_eq(sent_count, 5);
    ck_assert_int_eq(memcmp(sent, "berth", 5), 0);
    ck_assert_uint_eq(interrupts, 0);
}
END_TEST

START_TEST(the_divisor_is_not_data)
{
    put(LCR, 0x83);
    put(DATA, 0x01);
    put(IER, 0x02);

    ck_assert_uint_eq(get(DATA), 0x01);
    ck_assert_uint_eq(get(IER), 0x02);
    put(LCR, 0x03);
    ck_assert_uint_eq(sent_count, 0);
    ck_assert_uint_eq(get(IER), 0);
}
END_TEST

START_TEST(input_interrupts_and_is_read_in_order)
{
    put(IER, 0x01);

    ck_assert_uint_eq(serial_port_receive(serial, "ab", 2), 2);

    ck_assert_uint_eq(interrupts, 1);
    ck_assert_uint_eq(get(IIR) & 0x0f, 0x04);
    ck_assert_uint_eq(get(LSR) & 0x01, 0x01);
    ck_assert_uint_eq(get(DATA), 'a');
    ck_assert_uint_eq(get(DATA), 'b');
    ck_assert_uint_eq(get(LSR) & 0x01, 0);
    ck_assert_uint_eq(get(IIR) & 0x0f, 0x01);
    ck_assert_uint_eq(drains, 1);
}
END_TEST

START_TEST(input_that_came_before_its_interrupt_was_wanted_interrupts_then)
{
    ck_assert_uint_eq(serial_port_receive(serial, "x", 1), 1);
    ck_assert_uint_eq(interrupts, 0);

    put(IER, 0x01);

    ck_assert_uint_eq(interrupts, 1);
}
END_TEST

START_TEST(a_full_port_refuses_and_takes_again_what_was_read)
{
    uint8_t many[SERIAL_INPUT_MAX + 10];
    memset(many, 'm', sizeof(many));

    ck_assert_uint_eq(serial_port_receive(serial, many, sizeof(many)), SERIAL_INPUT_MAX);
    ck_assert_uint_eq(serial_port_receive(serial, many, 1), 0);
    (void)get(DATA);
    ck_assert_uint_eq(serial_port_receive(serial, many, 5), 1);
}
END_TEST

START_TEST(wanting_to_send_interrupts_once_until_sent_again)
{
    put(IER, 0x02);
    ck_assert_uint_eq(interrupts, 1);
    ck_assert_uint_eq(get(IIR) & 0x0f, 0x02);
    ck_assert_uint_eq(get(IIR) & 0x0f, 0x01); /* reading it acknowledged it */

    put(DATA, 's');

    ck_assert_uint_eq(interrupts, 2);
    ck_assert_uint_eq(get(IIR) & 0x0f, 0x02);
}
END_TEST

START_TEST(what_is_sent_in_loopback_comes_back)
{
    put(MCR, 0x1f);
    put(DATA, 'l');

    ck_assert_uint_eq(sent_count, 0);
    ck_assert_uint_eq(get(DATA), 'l');
    ck_assert_uint_eq(get(MSR), 0xf0);
}
END_TEST

START_TEST(a_saved_port_goes_on_where_it_was)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    bytes_writer_init(&writer, 1024);
    put(SCRATCH, 0x42);
    put(IER, 0x01);
    (void)serial_port_receive(serial, "pq", 2);
    (void)get(DATA);
    device_save(&serial->device, &writer);
    device_reset(&serial->device);
    interrupts = 0;

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(device_restore(&serial->device, &reader, NULL), 0);
    device_start(&serial->device);

    ck_assert_uint_eq(interrupts, 1); /* it was due when it was saved */
    ck_assert_uint_eq(get(SCRATCH), 0x42);
    ck_assert_uint_eq(get(DATA), 'q');
    bytes_writer_fini(&writer);
}
END_TEST

/* A driver that sets the port up, talks, and is moved, for the fuzzer to begin with: its
 * steps are what, where, how wide, a value. */
START_TEST(fuzzing_begins_with_a_driver)
{
    enum { READ = 0, WRITE, RECEIVE, RESET, START, SAVE };
    static const uint8_t steps[][4] = {
        {WRITE, LCR, 0, 0x83}, {WRITE, DATA, 0, 1},   {WRITE, IER, 0, 0},
        {WRITE, LCR, 0, 3},    {WRITE, IIR, 0, 7},    {WRITE, MCR, 0, 0x0b},
        {WRITE, IER, 0, 3},    {READ, IIR, 0, 0},     {WRITE, DATA, 0, 'a'},
        {RECEIVE, 0, 3, 'x'},  {READ, IIR, 0, 0},     {READ, LSR, 0, 0},
        {READ, DATA, 0, 0},    {SAVE, 0, 0, 0},       {START, 0, 0, 0},
        {READ, DATA, 0, 0},    {WRITE, MCR, 0, 0x1b}, {WRITE, DATA, 0, 'l'},
        {READ, DATA, 7, 0},    {RECEIVE, 0, 255, 0},  {RECEIVE, 0, 9, 0},
        {WRITE, IIR, 0, 2},    {READ, 0xff, 7, 0},    {WRITE, 0xff, 7, 0x1f},
        {RESET, 0, 0, 0},      {READ, SCRATCH, 1, 0},
    };
    uint8_t *seed = NULL;
    size_t seed_size = 0;

    corpus_seed("vmm_serial_port", "driver", steps, sizeof(steps), &seed, &seed_size);

    ck_assert_uint_eq(seed_size, sizeof(steps));
    ck_assert_mem_eq(seed, steps, sizeof(steps));
    free(seed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serial_port");
    TCase *tests = tcase_create("serial_port");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_is_sent_leaves_in_order_and_sending_never_waits);
    tcase_add_test(tests, the_divisor_is_not_data);
    tcase_add_test(tests, input_interrupts_and_is_read_in_order);
    tcase_add_test(tests,
                   input_that_came_before_its_interrupt_was_wanted_interrupts_then);
    tcase_add_test(tests, a_full_port_refuses_and_takes_again_what_was_read);
    tcase_add_test(tests, wanting_to_send_interrupts_once_until_sent_again);
    tcase_add_test(tests, what_is_sent_in_loopback_comes_back);
    tcase_add_test(tests, a_saved_port_goes_on_where_it_was);
    tcase_add_test(tests, fuzzing_begins_with_a_driver);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
