/* Goal: each scalar has one spelling, and parsing it gives the value back.
 * Method: tables of texts per field; documents test the rest in place. */
#include "base/cleanup.h"
#include "base/err.h"
#include "model/field.h"
#include "model/objects.h"
#include "record_fixture.h"
#include "support/test_main.h"

struct spelling {
    const struct record *record;
    const char *field;
    const char *text;
    uint64_t value;
    const char *shown; /* NULL: as text */
};

static const struct spelling spellings[] = {
    {&memory_spec_record, "size", "128MiB", 128 * MIB, NULL},
    {&memory_spec_record, "size", "131072KiB", 128 * MIB, "128MiB"},
    {&quota_record, "memory", "unlimited", UNLIMITED, NULL},
    {&quota_record, "memory", "0B", 0, NULL},
    {&disk_limit_record, "bandwidth", "400MiB/s", 400 * MIB, NULL},
    {&nic_limit_record, "bandwidth", "5Gbit/s", UINT64_C(625000000), NULL},
    {&nic_limit_record, "bandwidth", "8kbit/s", 1000, "1kB/s"},
    {&quota_record, "cpu", "1500m", 1500, NULL},
    {&quota_record, "cpu", "0.5", 500, "500m"},
    {&quota_record, "cpu", "2", 2000, NULL},
    {&quota_record, "vms", "unlimited", UNLIMITED32, NULL},
    {&quota_record, "vms", "12", 12, NULL},
    {&lifecycle_spec_record, "stopGrace", "90s", 90000, NULL},
    {&scale_target_record, "target", "60%", 600, NULL},
    {&scale_target_record, "target", "60.5%", 605, NULL},
    {&ipv4_spec_record, "cidr", "10.20.0.0/24", UINT64_C(0x0a140000) << 8 | 24, NULL},
    {&ipv4_spec_record, "gateway", "10.20.0.1", 0x0a140001, NULL},
    {&vm_nic_record, "mac", "52:54:00:00:00:01", UINT64_C(0x525400000001), NULL},
    {&host_spec_record, "drain", "true", 1, NULL},
    {&host_spec_record, "drain", "false", 0, NULL},
    {&machine_spec_record, "engine", "kvm", ENGINE_KVM, NULL},
    {&lifecycle_spec_record, "hostFailure", "wait", HOST_FAILURE_WAIT, NULL},
    {&token_spec_record, "expires", "2023-11-14T22:13:20.123Z", UINT64_C(1700000000123),
     NULL},
    {&token_spec_record, "expires", "2023-11-14T22:13:20Z", UINT64_C(1700000000000),
     "2023-11-14T22:13:20.000Z"},
    {&token_spec_record, "expires", "2023-11-15T00:13:20.5+02:00",
     UINT64_C(1700000000500), "2023-11-14T22:13:20.500Z"},
    {&token_spec_record, "expires", "2023-11-14 16:43:20.123456789-05:30",
     UINT64_C(1700000000123), "2023-11-14T22:13:20.123Z"},
    {&token_spec_record, "expires", "2024-02-29t00:00:00z", UINT64_C(1709164800000),
     "2024-02-29T00:00:00.000Z"},
    {&token_spec_record, "expires", "9999-12-31T23:59:59.999Z", UINT64_C(253402300799999),
     NULL},
};

static const struct field *field_of(const struct record *record, const char *name)
{
    const struct field *field = record_field(record, name);
    REQUIRE(field != NULL);
    return field;
}

START_TEST(a_number_is_read_and_shown)
{
    const struct spelling *row = &spellings[_i];
    const struct field *field = field_of(row->record, row->field);
    struct err err = {0};
    uint64_t member = 0;
    int r = field_parse(field, row->text, &member, &err);
    ck_assert_msg(r == 0, "%s: %s", row->text, err.text);
    ck_assert_uint_eq(field_number(field, &member), row->value);
    CLEANUP_FREE char *shown = field_format(field, &member);
    ck_assert_str_eq(shown, row->shown != NULL ? row->shown : row->text);
}
END_TEST

struct refusal {
    const struct record *record;
    const char *field;
    const char *text;
};

static const struct refusal refusals[] = {
    {&memory_spec_record, "size", "unlimited"},
    {&memory_spec_record, "size", "128"},
    {&memory_spec_record, "size", "1MiB"},
    {&disk_limit_record, "bandwidth", "400MiB"},
    {&disk_limit_record, "bandwidth", "257TiB/s"},
    {&disk_limit_record, "iops", "1k"},
    {&quota_record, "vms", "4294967296"},
    {&quota_record, "vms", "-1"},
    {&quota_record, "vms", "1.0"},
    {&quota_record, "vms", ""},
    {&host_spec_record, "drain", "yes"},
    {&host_spec_record, "drain", "True"},
    {&machine_spec_record, "engine", "KVM"},
    {&machine_spec_record, "disks", "x"},
    {&token_spec_record, "role", ""},
    {&token_spec_record, "hash", "5a"},
    {&token_spec_record, "expires", ""},
    {&token_spec_record, "expires", "2023-11-14"},
    {&token_spec_record, "expires", "2023-11-14T22:13:20"},
    {&token_spec_record, "expires", "2023-11-14T22:13:20.Z"},
    {&token_spec_record, "expires", "2023-11-14T22:13:20Zx"},
    {&token_spec_record, "expires", "2023-02-29T00:00:00Z"},
    {&token_spec_record, "expires", "2023-13-01T00:00:00Z"},
    {&token_spec_record, "expires", "2023-00-01T00:00:00Z"},
    {&token_spec_record, "expires", "2023-01-01T24:00:00Z"},
    {&token_spec_record, "expires", "2023-01-01T00:60:00Z"},
    {&token_spec_record, "expires", "2023-01-01T00:00:00+2:00"},
    {&token_spec_record, "expires", "2023-01-01T00:00:00+24:00"},
    {&token_spec_record, "expires", "1969-12-31T23:59:59Z"},
    {&token_spec_record, "expires", "1970-01-01T00:00:00+01:00"},
};

START_TEST(what_is_no_such_value_changes_nothing)
{
    const struct refusal *row = &refusals[_i];
    struct err err = {0};
    uint64_t member[8];
    uint64_t before[8];
    memset(member, 0x77, sizeof(member));
    memcpy(before, member, sizeof(member));
    ck_assert_int_eq(
        field_parse(field_of(row->record, row->field), row->text, member, &err),
        BERTH_EINVALID);
    ck_assert_uint_gt(strlen(err.text), 5);
    ck_assert_mem_eq(member, before, sizeof(member));
}
END_TEST

START_TEST(texts_and_names_replace_what_was_there)
{
    char *text = NULL;
    char name[NAME_SIZE] = "a-longer-name";
    const struct field *field = field_of(&machine_spec_record, "cmdline");
    ck_assert_int_eq(field_parse(field, "one", &text, NULL), 0);
    ck_assert_int_eq(field_parse(field, "two", &text, NULL), 0);
    CLEANUP_FREE char *shown = field_format(field, &text);
    ck_assert_str_eq(shown, "two");
    free(text);

    field = field_of(&machine_spec_record, "image");
    ck_assert_int_eq(field_parse(field, "web", name, NULL), 0);
    ck_assert_str_eq(name, "web");
    ck_assert_int_eq(name[4], '\0'); /* nothing of the old one: encodings stay equal */
}
END_TEST

START_TEST(a_digest_is_64_hex_digits)
{
    const struct field *field = field_of(&artifact_record, "sha256");
    const char *text = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct digest digest = {{0}};
    ck_assert_int_eq(field_parse(field, text, &digest, NULL), 0);
    CLEANUP_FREE char *shown = field_format(field, &digest);
    ck_assert_str_eq(shown, text);
}
END_TEST

START_TEST(values_nobody_could_write_are_still_shown)
{
    uint64_t instant = UINT64_MAX;
    uint32_t engine = 77;
    CLEANUP_FREE char *late =
        field_format(field_of(&token_spec_record, "expires"), &instant);
    CLEANUP_FREE char *odd =
        field_format(field_of(&machine_spec_record, "engine"), &engine);
    ck_assert_str_eq(late, "18446744073709551615");
    ck_assert_str_eq(odd, "?");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("field");
    TCase *tcase = tcase_create("field");
    tcase_add_loop_test(tcase, a_number_is_read_and_shown, 0,
                        (int)ARRAY_COUNT(spellings));
    tcase_add_loop_test(tcase, what_is_no_such_value_changes_nothing, 0,
                        (int)ARRAY_COUNT(refusals));
    tcase_add_test(tcase, texts_and_names_replace_what_was_there);
    tcase_add_test(tcase, a_digest_is_64_hex_digits);
    tcase_add_test(tcase, values_nobody_could_write_are_still_shown);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
