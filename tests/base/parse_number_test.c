#include "base/cleanup.h"
#include "base/parse_number.h"
#include "base/random.h"
#include "support/test_main.h"

#include <string.h>

enum kind { PLAIN, BYTES, RATE, CPU, DURATION, PERCENT, KIND_COUNT };

static int parse(enum kind kind, const char *text, uint64_t *ret_value, struct err *err)
{
    uint32_t small = (uint32_t)*ret_value;
    int r = BERTH_EBUG;
    switch (kind) {
    case PLAIN:
        return parse_u64(text, ret_value, err);
    case BYTES:
        return parse_bytes(text, ret_value, err);
    case RATE:
        return parse_rate(text, ret_value, err);
    case DURATION:
        return parse_duration_ms(text, ret_value, err);
    case CPU:
        r = parse_mcpu(text, &small, err);
        break;
    case PERCENT:
        r = parse_permille(text, &small, err);
        break;
    case KIND_COUNT:
        break;
    }
    *ret_value = small;
    return r;
}

static void format(enum kind kind, uint64_t value, char text[NUMBER_TEXT_SIZE])
{
    if (kind == BYTES) {
        format_bytes(value, text);
    } else if (kind == RATE) {
        format_rate(value, text);
    } else if (kind == DURATION) {
        format_duration_ms(value, text);
    } else if (kind == CPU) {
        format_mcpu((uint32_t)value, text);
    } else {
        format_permille((uint32_t)value, text);
    }
}

struct good_row {
    enum kind kind;
    const char *text;
    uint64_t value;
};

static const struct good_row good_rows[] = {
    {PLAIN, "0", 0},
    {PLAIN, "18446744073709551615", UINT64_MAX},
    {BYTES, "0B", 0},
    {BYTES, "1kB", 1000},
    {BYTES, "4GiB", UINT64_C(4) << 30},
    {BYTES, "1.5GiB", UINT64_C(3) << 29},
    {BYTES, "2MB", 2000000},
    {BYTES, "3GB", UINT64_C(3000000000)},
    {BYTES, "1TB", UINT64_C(1000000000000)},
    {BYTES, "512KiB", 512 * 1024},
    {BYTES, "400MiB", UINT64_C(400) << 20},
    {BYTES, "16777215TiB", UINT64_C(16777215) << 40},
    {BYTES, "18446744073709551615B", UINT64_MAX},
    {RATE, "0B/s", 0},
    {RATE, "400MiB/s", UINT64_C(400) << 20},
    {RATE, "1.5MB/s", 1500000},
    {RATE, "1kbit/s", 125},
    {RATE, "2.4Mbit/s", 300000},
    {RATE, "5Gbit/s", 625000000},
    {RATE, "1Tbit/s", UINT64_C(125000000000)},
    {CPU, "2", 2000},
    {CPU, "0.5", 500},
    {CPU, "0.25", 250},
    {CPU, "1500m", 1500},
    {CPU, "4294967295m", UINT32_MAX},
    {DURATION, "30s", 30000},
    {DURATION, "250ms", 250},
    {DURATION, "1.5h", 5400000},
    {DURATION, "2m", 120000},
    {DURATION, "7d", 604800000},
    {PERCENT, "60%", 600},
    {PERCENT, "12.5%", 125},
    {PERCENT, "150%", 1500},
};

START_TEST(good_numbers_are_read)
{
    const struct good_row *row = &good_rows[_i];
    uint64_t value = 99;
    struct err err = {0};
    ck_assert_msg(parse(row->kind, row->text, &value, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(value, row->value);
}
END_TEST

struct bad_row {
    enum kind kind;
    const char *text;
    const char *told; /* part of the error */
};

static const struct bad_row bad_rows[] = {
    {PLAIN, "", "a whole number"},
    {PLAIN, "-1", "a whole number"},
    {PLAIN, "+1", "a whole number"},
    {PLAIN, " 1", "a whole number"},
    {PLAIN, "1 ", "a whole number"},
    {PLAIN, "0x10", "a whole number"},
    {PLAIN, "18446744073709551616", "to 18446744073709551615"},
    {PLAIN, "99999999999999999999999", "to 18446744073709551615"},
    {BYTES, "4", "has no unit"},
    {BYTES, "4gib", "unknown unit: expected a size with a unit, such as 4GiB"},
    {BYTES, "4 GiB", "unknown unit"},
    {BYTES, "4GiBx", "unknown unit"},
    {BYTES, "GiB", "is not a number"},
    {BYTES, "-4GiB", "is not a number"},
    {BYTES, "1.GiB", "digits after its point"},
    {BYTES, "1.1B", "finer"},
    {BYTES, "1.0000001GiB", "digits after its point"},
    {BYTES, "16777216TiB", "too large"},
    {BYTES, "18446744073709551616B", "is too large"},
    {RATE, "400MiB", "such as 400MiB/s or 1Gbit/s"},
    {RATE, "1Gb/s", "unknown unit"},
    {RATE, "1bit/s", "unknown unit"},
    {CPU, "2 cores", "such as 2, 0.5 or 1500m"},
    {CPU, "0.0001", "finer"},
    {CPU, "4294967296m", "too large"},
    {CPU, "4294968", "too large"},
    {DURATION, "30", "has no unit"},
    {DURATION, "30sec", "such as 30s"},
    {DURATION, "300000000000d", "too large"},
    {PERCENT, "60", "has no unit"},
    {PERCENT, "12.55%", "finer"},
};

START_TEST(bad_numbers_are_refused_with_what_was_expected)
{
    const struct bad_row *row = &bad_rows[_i];
    uint64_t value = 99;
    struct err err = {0};
    ck_assert_int_eq(parse(row->kind, row->text, &value, &err), BERTH_EINVALID);
    ck_assert_msg(strstr(err.text, row->told) != NULL, "%s", err.text);
    ck_assert_uint_eq(value, 99);
}
END_TEST

START_TEST(an_error_shows_foreign_text_harmlessly_and_briefly)
{
    struct err err = {0};
    uint64_t value = 0;
    (void)parse_u64("1\n\x1b[31m\xff", &value, &err);
    ck_assert_ptr_nonnull(strstr(err.text, "\"1??[31m?\""));
    char text[500];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    (void)parse_u64(text, &value, &err);
    ck_assert_uint_lt(strlen(err.text), 160);
    ck_assert_ptr_nonnull(strstr(err.text, "xxx...\""));
}
END_TEST

static const struct good_row format_rows[] = {
    {BYTES, "0B", 0},
    {BYTES, "4GiB", UINT64_C(4) << 30},
    {BYTES, "1536MiB", UINT64_C(3) << 29},
    {BYTES, "1MB", 1000000},
    {BYTES, "1001B", 1001},
    {RATE, "400MiB/s", UINT64_C(400) << 20},
    {RATE, "1Gbit/s", 125000000},
    {RATE, "100MB/s", 100000000},
    {CPU, "0", 0},
    {CPU, "2", 2000},
    {CPU, "1500m", 1500},
    {DURATION, "0s", 0},
    {DURATION, "90s", 90000},
    {DURATION, "1d", 86400000},
    {DURATION, "250ms", 250},
    {DURATION, "1h", 3600000},
    {PERCENT, "60%", 600},
    {PERCENT, "12.5%", 125},
    {PERCENT, "0%", 0},
    {PERCENT, "0.1%", 1},
};

START_TEST(numbers_print_as_the_shortest_exact_text)
{
    char text[NUMBER_TEXT_SIZE];
    format(format_rows[_i].kind, format_rows[_i].value, text);
    ck_assert_str_eq(text, format_rows[_i].text);
}
END_TEST

START_TEST(every_print_leads_back_to_its_number)
{
    struct random random;
    random_seed(&random, 11);
    for (int i = 0; i < 20000; i++) {
        enum kind kind =
            (enum kind)(BYTES + (int)random_below(&random, KIND_COUNT - BYTES));
        uint64_t value = random_u64(&random) >> random_below(&random, 64);
        value = random_below(&random, 2) == 0 ? value : value / 1000 * 1000;
        if (kind == CPU || kind == PERCENT) {
            value &= UINT32_MAX;
        }
        char text[NUMBER_TEXT_SIZE];
        uint64_t again = value + 1;
        format(kind, value, text);
        ck_assert_int_eq(parse(kind, text, &again, NULL), 0);
        ck_assert_uint_eq(again, value);
    }
}
END_TEST

struct human_row {
    uint64_t bytes;
    const char *text;
    const char *floor; /* NULL: as text */
    const char *ceiling;
};

static const struct human_row human_rows[] = {
    {0, "0B", NULL, NULL},
    {1023, "1023B", NULL, NULL},
    {1024, "1KiB", NULL, NULL},
    {1025, "1KiB", NULL, "1.1KiB"},
    {1536, "1.5KiB", NULL, NULL},
    {UINT64_C(3435973837), "3.2GiB", "3.1GiB", NULL}, /* just below */
    {UINT64_C(24421940) << 10, "23.3GiB", "23.2GiB", "23.3GiB"},
    {(1 << 20) - 1, "1MiB", "1023.9KiB", "1MiB"},
    {1023 * 1024, "1023KiB", NULL, NULL},
    {UINT64_MAX, "16EiB", "15.9EiB", "16EiB"},
};

START_TEST(sizes_for_people_have_a_decimal_at_most)
{
    char text[NUMBER_TEXT_SIZE];
    format_bytes_human(human_rows[_i].bytes, text);
    ck_assert_str_eq(text, human_rows[_i].text);
    format_bytes_floor(human_rows[_i].bytes, text);
    ck_assert_str_eq(text, human_rows[_i].floor != NULL ? human_rows[_i].floor
                                                        : human_rows[_i].text);
    format_bytes_ceiling(human_rows[_i].bytes, text);
    ck_assert_str_eq(text, human_rows[_i].ceiling != NULL ? human_rows[_i].ceiling
                                                          : human_rows[_i].text);
}
END_TEST

START_TEST(addresses_are_read_and_printed)
{
    char text[CIDR_TEXT_SIZE];
    uint32_t address = 0;
    uint32_t bits = 0;
    uint64_t mac = 0;
    ck_assert_int_eq(parse_ipv4("10.0.255.7", &address, NULL), 0);
    ck_assert_uint_eq(address, 0x0a00ff07);
    format_ipv4(address, text);
    ck_assert_str_eq(text, "10.0.255.7");
    ck_assert_int_eq(parse_cidr("255.255.255.255/32", &address, &bits, NULL), 0);
    format_cidr(address, bits, text);
    ck_assert_str_eq(text, "255.255.255.255/32");
    ck_assert_int_eq(parse_cidr("0.0.0.0/0", &address, &bits, NULL), 0);
    ck_assert_uint_eq(bits, 0);
    ck_assert_int_eq(parse_mac("52:54:00:aB:cd:Ef", &mac, NULL), 0);
    ck_assert_uint_eq(mac, UINT64_C(0x525400abcdef));
    format_mac(mac, text);
    ck_assert_str_eq(text, "52:54:00:ab:cd:ef");
}
END_TEST

START_TEST(ranges_overlap_when_one_holds_the_other)
{
    static const struct {
        uint32_t a, a_bits, b, b_bits;
        bool overlap;
    } rows[] = {
        {0x0a000000, 8, 0x0a010200, 24, true},   {0x0a010200, 24, 0x0a000000, 8, true},
        {0x0a010200, 24, 0x0a010300, 24, false}, {0x0a010203, 24, 0x0a010209, 32, true},
        {0x0a010200, 32, 0x0a010201, 32, false}, {0x0a010200, 31, 0x0a010201, 32, true},
        {0xffffffff, 32, 0x00000000, 0, true},   {0x0a000000, 9, 0x0a800000, 9, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ck_assert_msg(ipv4_ranges_overlap(rows[i].a, rows[i].a_bits, rows[i].b,
                                          rows[i].b_bits) == rows[i].overlap,
                      "row %zu", i);
    }
}
END_TEST

static const char *const bad_addresses[] = {
    "",
    "10.0.0",
    "10.0.0.0.1",
    "256.0.0.1",
    "01.2.3.4",
    "1.2.3.4 ",
    "1..2.3",
    "-1.2.3.4",
    "10.0.0.0/",
    "10.0.0.0/33",
    "10.0.0.0/024",
    "10.0.0.0/-1",
    "10.0.0.0/8x",
    "52:54:00:12:34",
    "52-54-00-12-34-56",
    "52:54:00:12:34:5",
    "52:54:00:12:34:567",
    "52:54:00:12:34:5g",
    "5254:00:12:34:56:",
    "4294967306.0.0.1",
};

START_TEST(bad_addresses_are_refused)
{
    const char *text = bad_addresses[_i];
    uint32_t address = 99;
    uint32_t bits = 99;
    uint64_t mac = 99;
    struct err err = {0};
    ck_assert_int_eq(parse_ipv4(text, &address, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "such as 10.0.0.7"));
    ck_assert_int_eq(parse_cidr(text, &address, &bits, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "such as 10.0.0.0/24"));
    ck_assert_int_eq(parse_mac(text, &mac, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "such as 52:54:00"));
    ck_assert_uint_eq(address, 99);
    ck_assert_uint_eq(bits, 99);
    ck_assert_uint_eq(mac, 99);
}
END_TEST

START_TEST(a_host_given_as_a_network_is_told_the_network)
{
    uint32_t address = 0;
    uint32_t bits = 0;
    struct err err = {0};
    ck_assert_int_eq(parse_cidr("10.0.0.7/24", &address, &bits, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "expected 10.0.0.0/24"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("parse_number");
    TCase *tcase = tcase_create("parse_number");
    tcase_add_loop_test(tcase, good_numbers_are_read, 0, ARRAY_COUNT(good_rows));
    tcase_add_loop_test(tcase, bad_numbers_are_refused_with_what_was_expected, 0,
                        ARRAY_COUNT(bad_rows));
    tcase_add_test(tcase, an_error_shows_foreign_text_harmlessly_and_briefly);
    tcase_add_loop_test(tcase, numbers_print_as_the_shortest_exact_text, 0,
                        ARRAY_COUNT(format_rows));
    tcase_add_test(tcase, every_print_leads_back_to_its_number);
    tcase_add_loop_test(tcase, sizes_for_people_have_a_decimal_at_most, 0,
                        ARRAY_COUNT(human_rows));
    tcase_add_test(tcase, addresses_are_read_and_printed);
    tcase_add_test(tcase, ranges_overlap_when_one_holds_the_other);
    tcase_add_loop_test(tcase, bad_addresses_are_refused, 0, ARRAY_COUNT(bad_addresses));
    tcase_add_test(tcase, a_host_given_as_a_network_is_told_the_network);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
