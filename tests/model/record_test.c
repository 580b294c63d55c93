/* Goal: what the generic walk promises of every record, and what it refuses.
 * Method: all tables of objects and commands with random content; bytes written by hand
 * for the refusals. */
#include "base/cleanup.h"
#include "base/err.h"
#include "model/command.h"
#include "model/record.h"
#include "record_fixture.h"
#include "support/fault_heap.h"
#include "support/test_main.h"

#include <errno.h>
#include <malloc.h>

#define SIZE_MAX_TEST (1u << 20)
#define SEEDS         60
/* The C library keeps up to seven freed pieces per size as if in use; then the number of
 * used bytes is steady. */
#define HEAP_CACHE_RUNS 10

/* Record number `index` of all kinds and commands; a command's number that was never
 * given stands for the first one. */
#define RECORD_ROWS (KIND_COUNT - 1 + COMMAND_COUNT - 1)
static const struct record *record_row(int index)
{
    const struct record *command =
        command_record((enum command_type)(index - KIND_COUNT + 2));
    return index < KIND_COUNT - 1 ? kind_info((enum kind)(index + 1))->record
           : command != NULL      ? command
                                  : command_record(COMMAND_NOOP);
}

static size_t encode(const struct record *record, const void *object, uint8_t **ret_data)
{
    struct bytes_writer writer;
    size_t size = 0;
    bytes_writer_init(&writer, SIZE_MAX_TEST);
    record_encode(record, object, &writer);
    ck_assert_int_eq(bytes_writer_take(&writer, ret_data, &size), 0);
    return size;
}

static int
decode(const struct record *record, const void *data, size_t size, void *ret_object)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, size);
    return record_decode(record, &reader, ret_object);
}

static bool is_zero(const struct record *record, const void *object)
{
    const uint8_t *bytes = object;
    for (size_t i = 0; i < record->size_bytes; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

START_TEST(any_content_comes_back_equal_and_as_the_same_bytes)
{
    const struct record *record = record_row(_i);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct random random;
        random_seed(&random, seed);
        CLEANUP_FREE void *object = malloc(record->size_bytes);
        CLEANUP_FREE void *back = malloc(record->size_bytes);
        CLEANUP_FREE void *copy = malloc(record->size_bytes);
        CLEANUP_FREE uint8_t *data = NULL;
        CLEANUP_FREE uint8_t *again = NULL;
        fixture_fill(record, object, &random, 0);

        size_t size = encode(record, object, &data);
        ck_assert_int_eq(decode(record, data, size, back), 0);
        ck_assert_int_eq(record_copy(record, object, copy), 0);

        ck_assert(record_equal(record, object, back));
        ck_assert(record_equal(record, copy, back));
        record_fini(record, object); /* the copy owns its own */
        ck_assert_uint_eq(encode(record, copy, &again), size);
        ck_assert(size == 0 || memcmp(data, again, size) == 0);
        record_fini(record, back);
        record_fini(record, copy);
    }
}
END_TEST

START_TEST(a_change_of_any_one_field_is_seen)
{
    const struct record *record = record_row(_i);
    CLEANUP_FREE void *fresh = malloc(record->size_bytes);
    record_init(record, fresh);
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        CLEANUP_FREE void *object = malloc(record->size_bytes);
        struct random random;
        random_seed(&random, i);
        record_init(record, object);
        for (int tries = 0;
             tries < 100 && field_is_fallback(field, field_at(field, object)); tries++) {
            record_fini(record, object);
            record_init(record, object);
            fixture_member(field, field_at(field, object), &random, 0);
        }
        bool same = field_is_fallback(field, field_at(field, object));
        ck_assert_int_eq(record_equal(record, fresh, object), same);
        /* An enum of one word cannot differ. */
        ck_assert_msg(!same || field->min == field->max, "%s.%s never differs",
                      record->name, field->name);
        record_fini(record, object);
    }
    record_fini(record, fresh);
}
END_TEST

START_TEST(fallbacks_take_no_bytes)
{
    const struct record *record = record_row(_i);
    CLEANUP_FREE void *object = malloc(record->size_bytes);
    CLEANUP_FREE uint8_t *data = NULL;
    record_init(record, object);
    ck_assert_uint_eq(encode(record, object, &data), 0);
    record_fini(record, object);
}
END_TEST

START_TEST(a_cut_message_is_refused_or_holds_less)
{
    const struct record *record = record_row(_i);
    struct random random;
    random_seed(&random, 7);
    CLEANUP_FREE void *object = malloc(record->size_bytes);
    CLEANUP_FREE uint8_t *data = NULL;
    fixture_fill(record, object, &random, 0);
    size_t size = encode(record, object, &data);
    for (size_t cut = 0; cut < size; cut++) {
        CLEANUP_FREE void *back = malloc(record->size_bytes);
        CLEANUP_FREE uint8_t *exact = malloc(cut > 0 ? cut : 1);
        memcpy(exact, data, cut);
        int r = decode(record, exact, cut, back);
        if (r < 0) {
            ck_assert_int_eq(r, BERTH_EPROTO);
            ck_assert(is_zero(record, back));
        } else {
            ck_assert(!record_equal(record, object, back));
            record_fini(record, back);
        }
    }
    record_fini(record, object);
}
END_TEST

START_TEST(damaged_bytes_never_do_harm)
{
    const struct record *record = record_row(_i);
    struct random random;
    random_seed(&random, 11);
    for (int round = 0; round < 300; round++) {
        CLEANUP_FREE void *object = malloc(record->size_bytes);
        CLEANUP_FREE uint8_t *data = NULL;
        fixture_fill(record, object, &random, 0);
        size_t size = encode(record, object, &data);
        record_fini(record, object);
        for (int i = 0; i < 3 && size > 0; i++) {
            data[random_below(&random, size)] = (uint8_t)random_u64(&random);
        }
        if (decode(record, data, size, object) == 0) {
            record_fini(record, object);
        } else {
            ck_assert(is_zero(record, object));
        }
    }
}
END_TEST

START_TEST(fields_of_a_later_release_are_skipped)
{
    const struct record *record = record_row(_i);
    struct random random;
    random_seed(&random, 3);
    CLEANUP_FREE void *object = malloc(record->size_bytes);
    CLEANUP_FREE void *back = malloc(record->size_bytes);
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    fixture_fill(record, object, &random, 0);
    struct bytes_writer writer;
    bytes_writer_init(&writer, SIZE_MAX_TEST);
    record_encode(record, object, &writer);
    bytes_write_u16(&writer, 60000);
    bytes_write_block(&writer, "from tomorrow", 13);
    ck_assert_int_eq(bytes_writer_take(&writer, &data, &size), 0);

    ck_assert_int_eq(decode(record, data, size, back), 0);

    ck_assert(record_equal(record, object, back));
    record_fini(record, object);
    record_fini(record, back);
}
END_TEST

struct refusal {
    const char *what;
    const struct record *record;
    const char *hex;
    int result;
};

static const struct refusal refusals[] = {
    {"an accepted number", &cpu_spec_record, "0100 04000000 02000000", 0},
    {"a number under its minimum", &cpu_spec_record, "0100 04000000 00000000",
     BERTH_EPROTO},
    {"a number over its maximum", &cpu_spec_record, "0100 04000000 41000000",
     BERTH_EPROTO},
    {"a number of three bytes", &cpu_spec_record, "0100 03000000 020000", BERTH_EPROTO},
    {"a number of five bytes", &cpu_spec_record, "0100 05000000 0200000000",
     BERTH_EPROTO},
    {"a field that comes twice", &cpu_spec_record,
     "0100 04000000 02000000 0100 04000000 02000000", BERTH_EPROTO},
    {"fields out of order", &cpu_spec_record,
     "0200 04000000 02000000 0100 04000000 02000000", BERTH_EPROTO},
    {"a length beyond the end", &cpu_spec_record, "0100 ffffffff 02000000", BERTH_EPROTO},
    {"half a field header", &cpu_spec_record, "0100 04", BERTH_EPROTO},
    {"an accepted word", &host_spec_record, "0100 01000000 01", 0},
    {"a truth value of 2", &host_spec_record, "0100 01000000 02", BERTH_EPROTO},
    {"an enum without that word", &vm_spec_record, "0200 04000000 02000000",
     BERTH_EPROTO},
    {"an accepted name", &nic_spec_record, "0100 02000000 6131", 0},
    {"a NUL inside a name", &nic_spec_record, "0100 03000000 610031", BERTH_EPROTO},
    {"a name that is too long", &nic_spec_record,
     "0100 40000000"
     "61616161616161616161616161616161616161616161616161616161616161616161616161616161"
     "616161616161616161616161616161616161616161616161",
     BERTH_EPROTO},
    {"an empty text", &host_spec_record, "0200 00000000", 0},
    {"a NUL inside a text", &host_spec_record, "0200 03000000 610062", BERTH_EPROTO},
    {"a short digest", &cmd_host_join_record, "0200 02000000 aabb", BERTH_EPROTO},
    {"an accepted list", &cmd_place_vm_record, "0400 0c000000 02000000 00000000 00000000",
     0},
    {"a list over its maximum", &cmd_place_vm_record,
     "0400 28000000 09000000 00000000 00000000 00000000 00000000 00000000 00000000"
     "00000000 00000000 00000000",
     BERTH_EPROTO},
    {"a list that promises more", &cmd_place_vm_record,
     "0400 0c000000 03000000 00000000 00000000", BERTH_EPROTO},
    {"a list with bytes left over", &cmd_place_vm_record,
     "0400 0c000000 01000000 00000000 00000000", BERTH_EPROTO},
    {"a broken item behind a good one", &cmd_place_vm_record,
     "0400 0d000000 02000000 00000000 01000000 01", BERTH_EPROTO},
    {"accepted texts", &placement_spec_record, "0100 09000000 01000000 01000000 61", 0},
    {"a text of a list beyond the end", &placement_spec_record,
     "0100 09000000 01000000 02000000 61", BERTH_EPROTO},
    {"a good text, then a broken one", &placement_spec_record,
     "0100 0e000000 02000000 01000000 61 01000000 00", BERTH_EPROTO},
    {"an accepted label", &metadata_record,
     "0300 0e000000 01000000 01000000 61 01000000 62", 0},
    {"a label without its value", &metadata_record, "0300 09000000 01000000 01000000 61",
     BERTH_EPROTO},
};

/* Hex digits with spaces between. */
static size_t from_hex(const char *hex, uint8_t *data)
{
    size_t size = 0;
    unsigned digits = 0;
    unsigned byte = 0;
    for (; *hex != '\0'; hex++) {
        if (*hex == ' ') {
            continue;
        }
        byte = byte << 4 | (unsigned)(*hex <= '9' ? *hex - '0' : *hex - 'a' + 10);
        if (++digits % 2 == 0) {
            data[size++] = (uint8_t)byte;
        }
    }
    return size;
}

START_TEST(malformed_fields_are_refused)
{
    const struct refusal *row = &refusals[_i];
    uint8_t data[256];
    size_t size = from_hex(row->hex, data);
    CLEANUP_FREE uint8_t *exact = malloc(size);
    CLEANUP_FREE void *object = malloc(row->record->size_bytes);
    memcpy(exact, data, size);

    int r = decode(row->record, exact, size, object);

    ck_assert_msg(r == row->result, "%s: %d", row->what, r);
    if (r < 0) {
        ck_assert(is_zero(row->record, object));
    }
    record_fini(row->record, object);
}
END_TEST

START_TEST(nothing_is_written_that_could_not_be_read)
{
    struct cpu_spec cpu;
    struct host_spec host;
    struct cmd_place_vm place;
    struct bytes_writer writer;
    char long_text[400];
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';

    record_init(&cpu_spec_record, &cpu);
    cpu.count = VM_CPU_MAX + 1;
    bytes_writer_init(&writer, SIZE_MAX_TEST);
    record_encode(&cpu_spec_record, &cpu, &writer);
    ck_assert_int_eq(writer.error, BERTH_EINVALID);
    bytes_writer_fini(&writer);

    record_init(&host_spec_record, &host);
    ck_assert_int_eq(record_set_text(&host.drain_reason, long_text), 0);
    bytes_writer_init(&writer, SIZE_MAX_TEST);
    record_encode(&host_spec_record, &host, &writer);
    ck_assert_int_eq(writer.error, BERTH_ETOOLARGE);
    bytes_writer_fini(&writer);
    record_fini(&host_spec_record, &host);

    record_init(&cmd_place_vm_record, &place);
    for (int i = 0; i <= NICS_MAX; i++) {
        ck_assert_ptr_nonnull(
            record_list_add(&cmd_address_record, (struct record_list *)&place.addresses));
    }
    bytes_writer_init(&writer, SIZE_MAX_TEST);
    record_encode(&cmd_place_vm_record, &place, &writer);
    ck_assert_int_eq(writer.error, BERTH_ETOOLARGE);
    bytes_writer_fini(&writer);
    record_fini(&cmd_place_vm_record, &place);
}
END_TEST

/* Decodes and copies with memory for n allocations only, and releases what came of it.
 * True when there was enough. */
static bool run_out_after(long n,
                          const struct record *record,
                          const void *object,
                          const void *data,
                          size_t size,
                          void *back)
{
    fault_heap_after(n);
    int decoded = decode(record, data, size, back);
    fault_heap_off();
    ck_assert(decoded == 0 || (decoded == -ENOMEM && is_zero(record, back)));
    record_fini(record, back);
    fault_heap_after(n);
    int copied = record_copy(record, object, back);
    fault_heap_off();
    ck_assert(copied == 0 || (copied == -ENOMEM && is_zero(record, back)));
    record_fini(record, back);
    return decoded == 0 && copied == 0;
}

static void check_out_of_memory(const struct record *record, uint64_t seed)
{
    struct random random;
    random_seed(&random, seed);
    CLEANUP_FREE void *object = malloc(record->size_bytes);
    CLEANUP_FREE void *back = malloc(record->size_bytes);
    CLEANUP_FREE uint8_t *data = NULL;
    fixture_fill(record, object, &random, 0);
    size_t size = encode(record, object, &data);
    bool enough = !FAULT_HEAP_WORKS;
    for (long n = 0; !enough; n++) {
        for (int i = 0; i < HEAP_CACHE_RUNS; i++) {
            (void)run_out_after(n, record, object, data, size, back);
        }
        size_t used = mallinfo2().uordblks;
        enough = run_out_after(n, record, object, data, size, back);
        ck_assert_uint_eq(mallinfo2().uordblks, used);
    }
    record_fini(record, object);
}

START_TEST(running_out_of_memory_leaves_nothing_behind)
{
    for (uint64_t seed = 0; seed < 6; seed++) {
        check_out_of_memory(record_row(_i), seed);
    }
}
END_TEST

static char *print(const struct record *record, const void *object)
{
    struct bytes_writer writer;
    char *text = NULL;
    bytes_writer_init(&writer, SIZE_MAX_TEST);
    record_print(record, object, &writer);
    ck_assert_int_eq(bytes_writer_take_text(&writer, &text), 0);
    return text;
}

START_TEST(a_printed_line_says_what_differs_from_the_fallbacks)
{
    struct machine_spec machine;
    record_init(&machine_spec_record, &machine);
    strcpy(machine.image, "debian");
    machine.cpu.count = 2;
    machine.memory.size_bytes = 128 * MIB;
    machine.lifecycle.host_failure = HOST_FAILURE_WAIT;
    struct nic_spec *nic =
        record_list_add(&nic_spec_record, (struct record_list *)&machine.nics);
    strcpy(nic->name, "eth0");
    strcpy(nic->network, "lan");
    ck_assert_int_eq(record_set_text(&machine.cmdline, "a \"b\"\n"), 0);
    ck_assert_int_eq(text_list_add(&machine.placement.require, "host.kvm == native"), 0);

    CLEANUP_FREE char *text = print(&machine_spec_record, &machine);

    ck_assert_str_eq(text, "{image=debian cpu={count=2} memory={size=128MiB} "
                           "nics=[{name=eth0 network=lan}] cmdline=\"a \\\"b\\\"\\x0a\" "
                           "placement={require=[\"host.kvm == native\"]} "
                           "lifecycle={hostFailure=wait}}");
    record_fini(&machine_spec_record, &machine);
}
END_TEST

START_TEST(a_printed_line_keeps_secrets)
{
    struct token_spec token;
    record_init(&token_spec_record, &token);
    token.role = ROLE_ADMIN;
    token.hash.bytes[0] = 0xab;
    CLEANUP_FREE char *text = print(&token_spec_record, &token);
    ck_assert_str_eq(text, "{role=admin hash=***}");
}
END_TEST

START_TEST(labels_are_set_replaced_and_bounded)
{
    struct label_list labels = {0};
    char long_text[LABEL_VALUE_MAX + 2];
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    ck_assert_int_eq(label_set(&labels, "zone", "r1"), 0);
    ck_assert_int_eq(label_set(&labels, "rack", "7"), 0);
    ck_assert_int_eq(label_set(&labels, "zone", "r2"), 0);
    ck_assert_int_eq(label_set(&labels, long_text, "x"), BERTH_ETOOLARGE);
    ck_assert_int_eq(label_set(&labels, "x", long_text), BERTH_ETOOLARGE);
    ck_assert_uint_eq(labels.count, 2);
    ck_assert_str_eq(label_value(&labels, "zone"), "r2");
    ck_assert_str_eq(label_value(&labels, "rack"), "7");
    ck_assert_ptr_null(label_value(&labels, "Zone"));
    struct metadata meta = {.labels = labels};
    record_fini(&metadata_record, &meta);
}
END_TEST

START_TEST(lists_end_at_their_limit)
{
    struct cmd_address_list list = {0};
    for (int i = 0; i < RECORD_LIST_MAX; i++) {
        ck_assert_ptr_nonnull(
            record_list_add(&cmd_address_record, (struct record_list *)&list));
    }
    ck_assert_ptr_null(record_list_add(&cmd_address_record, (struct record_list *)&list));
    ck_assert_uint_eq(list.count, RECORD_LIST_MAX);
    free(list.items);
}
END_TEST

START_TEST(a_text_is_replaced_and_cleared)
{
    char *text = NULL;
    ck_assert_int_eq(record_set_text(&text, "one"), 0);
    ck_assert_int_eq(record_set_text(&text, "two"), 0);
    ck_assert_str_eq(text, "two");
    ck_assert_int_eq(record_set_text(&text, NULL), 0);
    ck_assert_ptr_null(text);
}
END_TEST

/* ---- the tables themselves ---- */

static void check_field(const struct record *record, const struct field *field)
{
    unsigned words = 0;
    ck_assert_msg(field->doc[0] != '\0', "%s.%s: no sentence", record->name, field->name);
    ck_assert_ptr_eq(record_field(record, field->name), field); /* one of that name */
    if (field->type > FIELD_ENUM) {
        return;
    }
    ck_assert_uint_le(field->min, field->max);
    while (field->type == FIELD_ENUM && field->names[words] != NULL) {
        words++;
    }
    if (field->type == FIELD_ENUM) {
        ck_assert_msg(field->max < words && field->fallback <= field->max,
                      "%s.%s: a value without a word", record->name, field->name);
    }
}

static void check_table(const struct record *record, unsigned depth)
{
    int last = 0;
    ck_assert_uint_lt(depth, RECORD_DEPTH_MAX);
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        ck_assert_msg(field->number > last, "%s.%s: numbers rise", record->name,
                      field->name);
        last = field->number;
        check_field(record, field);
        if (field->record != NULL) {
            check_table(field->record, depth + 1);
        }
    }
}

START_TEST(tables_are_sound)
{
    check_table(record_row(_i), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("record");
    TCase *tcase = tcase_create("codec");
    tcase_add_loop_test(tcase, any_content_comes_back_equal_and_as_the_same_bytes, 0,
                        RECORD_ROWS);
    tcase_add_loop_test(tcase, a_change_of_any_one_field_is_seen, 0, RECORD_ROWS);
    tcase_add_loop_test(tcase, fallbacks_take_no_bytes, 0, RECORD_ROWS);
    tcase_add_loop_test(tcase, a_cut_message_is_refused_or_holds_less, 0, RECORD_ROWS);
    tcase_add_loop_test(tcase, damaged_bytes_never_do_harm, 0, RECORD_ROWS);
    tcase_add_loop_test(tcase, fields_of_a_later_release_are_skipped, 0, RECORD_ROWS);
    tcase_add_loop_test(tcase, malformed_fields_are_refused, 0,
                        (int)ARRAY_COUNT(refusals));
    tcase_add_test(tcase, nothing_is_written_that_could_not_be_read);
    tcase_add_loop_test(tcase, running_out_of_memory_leaves_nothing_behind, 0,
                        RECORD_ROWS);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("values");
    tcase_add_test(tcase, a_printed_line_says_what_differs_from_the_fallbacks);
    tcase_add_test(tcase, a_printed_line_keeps_secrets);
    tcase_add_test(tcase, labels_are_set_replaced_and_bounded);
    tcase_add_test(tcase, lists_end_at_their_limit);
    tcase_add_test(tcase, a_text_is_replaced_and_cleared);
    tcase_add_loop_test(tcase, tables_are_sound, 0, RECORD_ROWS);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
