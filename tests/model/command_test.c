/* Goal: commands survive the wire, old ones for ever.
 * Method: random content of every type; golden files of the first level under golden/. */
#include "base/cleanup.h"
#include "base/err.h"
#include "base/fd.h"
#include "model/command.h"
#include "record_fixture.h"
#include "support/corpus_seed.h"
#include "support/test_main.h"

#include <fcntl.h>

#define GOLDEN        BERTH_SOURCE_DIR "/tests/model/golden/"
#define SEEDS         40
#define LEVEL_UNKNOWN (level_range_up_to(0).max + 1)
/* Where the body begins after level, type, request id and time: the subject. */
#define SUBJECT_OFFSET (1 + 2 + REQUEST_ID_SIZE + 8)

/* A number that was never given stands for the first one. */
static void command_fill(struct command *command, int number, uint64_t seed)
{
    struct random random;
    enum command_type type = (enum command_type)number;
    random_seed(&random, seed);
    command_init(command, command_record(type) != NULL ? type : COMMAND_NOOP);
    fixture_fill(command_record(command->type), &command->body, &random, 0);
    command->level = level_range_up_to(0).max; /* which has every command */
    if (type == COMMAND_SET_LEVEL) {           /* others are refused */
        command->body.set_level.level = level_range_up_to(0).max;
    }
    for (size_t i = 0; i < REQUEST_ID_SIZE; i++) {
        command->request_id[i] = (uint8_t)random_u64(&random);
    }
    command->wall_ms = random_u64(&random);
    strcpy(command->subject, "token:ci");
}

static size_t encode(const struct command *command, uint8_t **ret_data)
{
    struct bytes_writer writer;
    size_t size = 0;
    bytes_writer_init(&writer, COMMAND_SIZE_MAX);
    command_encode(command, &writer);
    ck_assert_int_eq(bytes_writer_take(&writer, ret_data, &size), 0);
    return size;
}

static int decode(const void *data, size_t size, struct command *ret_command)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, size);
    return command_decode(&reader, ret_command);
}

static bool command_equal(const struct command *a, const struct command *b)
{
    return a->type == b->type && a->wall_ms == b->wall_ms &&
           memcmp(a->request_id, b->request_id, REQUEST_ID_SIZE) == 0 &&
           strcmp(a->subject, b->subject) == 0 &&
           record_equal(command_record(a->type), &a->body, &b->body);
}

START_TEST(every_command_comes_back_equal)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct command command;
        struct command back;
        CLEANUP_FREE uint8_t *data = NULL;
        CLEANUP_FREE uint8_t *again = NULL;
        command_fill(&command, _i, seed);
        size_t size = encode(&command, &data);
        ck_assert_int_eq(decode(data, size, &back), 0);
        ck_assert(command_equal(&command, &back));
        ck_assert_uint_eq(encode(&back, &again), size);
        ck_assert_mem_eq(data, again, size);
        command_fini(&command);
        command_fini(&back);
    }
}
END_TEST

START_TEST(every_command_is_among_what_fuzzing_begins_with)
{
    struct command command;
    struct command seed;
    CLEANUP_FREE uint8_t *made = NULL;
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    if (command_record((enum command_type)_i) == NULL) {
        return; /* a number that was never given */
    }
    command_fill(&command, _i, 1);
    size_t made_size = encode(&command, &made);

    corpus_seed("model_command", command_name(command.type), made, made_size, &data,
                &size);
    ck_assert_int_eq(decode(data, size, &seed), 0);
    ck_assert_int_eq(seed.type, _i);
    command_fini(&command);
    command_fini(&seed);
}
END_TEST

START_TEST(a_cut_command_is_refused_or_says_less)
{
    struct command command;
    CLEANUP_FREE uint8_t *data = NULL;
    command_fill(&command, _i, 1);
    size_t size = encode(&command, &data);
    for (size_t cut = 0; cut < size; cut++) {
        struct command back;
        CLEANUP_FREE uint8_t *exact = malloc(cut > 0 ? cut : 1);
        memcpy(exact, data, cut);
        int r = decode(exact, cut, &back);
        ck_assert(r == 0 || r == BERTH_EPROTO);
        ck_assert_int_eq(back.type, r == 0 ? command.type : COMMAND_NONE);
        ck_assert(r < 0 || !command_equal(&command, &back));
        command_fini(&back);
    }
    command_fini(&command);
}
END_TEST

START_TEST(fields_that_are_not_of_its_level_are_refused)
{
    struct command command;
    struct command back;
    struct bytes_writer writer;
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    command_fill(&command, _i, 2);
    bytes_writer_init(&writer, COMMAND_SIZE_MAX);
    command_encode(&command, &writer);
    bytes_write_u16(&writer, 500);
    bytes_write_block(&writer, "new", 3);
    ck_assert_int_eq(bytes_writer_take(&writer, &data, &size), 0);
    ck_assert_int_eq(decode(data, size, &back), BERTH_EPROTO);
    ck_assert_int_eq(back.type, COMMAND_NONE);
    command_fini(&command);
}
END_TEST

START_TEST(unknown_types_and_levels_are_refused_as_such)
{
    struct command command;
    struct command back;
    CLEANUP_FREE uint8_t *data = NULL;
    command_fill(&command, COMMAND_NOOP, 3);
    size_t size = encode(&command, &data);
    data[0] = (uint8_t)LEVEL_UNKNOWN;
    ck_assert_int_eq(decode(data, size, &back), BERTH_ELEVEL);
    ck_assert_uint_eq(back.level, LEVEL_UNKNOWN);
    data[0] = LEVEL_FIRST - 1;
    ck_assert_int_eq(decode(data, size, &back), BERTH_ELEVEL);
    data[0] = LEVEL_FIRST;
    data[1] = COMMAND_COUNT;
    ck_assert_int_eq(decode(data, size, &back), BERTH_EUNSUPPORTED);
    data[1] = COMMAND_NONE;
    ck_assert_int_eq(decode(data, size, &back), BERTH_EUNSUPPORTED);
    data[1] = COMMAND_NOOP;
    ck_assert_int_eq(decode(data, size, &back), 0);
    command_fini(&back);
}
END_TEST

START_TEST(a_level_to_come_is_not_taken_for_one_that_is_known)
{
    struct command command;
    struct command back;
    CLEANUP_FREE uint8_t *data = NULL;
    command_init(&command, COMMAND_SET_LEVEL);
    command.body.set_level.level = LEVEL_UNKNOWN;
    size_t size = encode(&command, &data);
    ck_assert_int_eq(decode(data, size, &back), BERTH_ELEVEL);
    ck_assert_uint_eq(back.level, LEVEL_UNKNOWN);
    ck_assert_int_eq(back.type, COMMAND_NONE);
}
END_TEST

START_TEST(a_subject_that_does_not_fit_is_refused)
{
    struct command command;
    struct command back;
    CLEANUP_FREE uint8_t *data = NULL;
    command_init(&command, COMMAND_NOOP);
    memset(command.subject, 's', SUBJECT_SIZE - 1);
    size_t size = encode(&command, &data);
    ck_assert_int_eq(decode(data, size, &back), 0);
    ck_assert_str_eq(back.subject, command.subject);

    CLEANUP_FREE uint8_t *longer = malloc(size + 1);
    memcpy(longer, data, size);
    longer[size] = 's';
    longer[SUBJECT_OFFSET]++;
    ck_assert_int_eq(decode(longer, size + 1, &back), BERTH_EPROTO);
}
END_TEST

START_TEST(a_command_over_the_limit_is_neither_written_nor_read)
{
    struct command command;
    struct command back;
    struct bytes_writer writer;
    command_init(&command, COMMAND_PUT);
    command.body.put.kind = KIND_DISK;
    command.body.put.document.size = RECORD_TEXT_MAX;
    command.body.put.document.data = calloc(1, RECORD_TEXT_MAX);
    bytes_writer_init(&writer, 2 * RECORD_TEXT_MAX);
    command_encode(&command, &writer);
    ck_assert_int_eq(writer.error, BERTH_ETOOLARGE);
    ck_assert_int_eq(decode(writer.data, writer.size, &back), BERTH_EPROTO);
    bytes_writer_fini(&writer);
    command_fini(&command);
}
END_TEST

START_TEST(a_put_carries_its_object)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        const struct record *record = kind_info((enum kind)_i)->record;
        struct command command;
        struct random random;
        void *back = NULL;
        CLEANUP_FREE void *object = malloc(record->size_bytes);
        random_seed(&random, seed);
        fixture_fill(record, object, &random, 0);
        command_init(&command, COMMAND_PUT);
        ck_assert_int_eq(command_set_put(&command, (enum kind)_i, object, 7), 0);
        ck_assert_uint_eq(command.body.put.expected_revision, 7);
        ck_assert_int_eq(
            command_put_object(&command.body.put, level_range_up_to(0).max, &back), 0);
        ck_assert(record_equal(record, object, back));
        object_free((enum kind)_i, back);
        command_fini(&command);
        record_fini(record, object);
    }
}
END_TEST

START_TEST(a_put_that_fits_itself_fits_a_command)
{
    struct command command;
    struct tenant *tenant = object_new(KIND_TENANT);
    char text[LABEL_VALUE_MAX + 1] = "";
    char key[NAME_SIZE];
    int r = 0;
    memset(text, 'x', LABEL_VALUE_MAX);
    command_init(&command, COMMAND_PUT);
    memset(command.subject, 's', SUBJECT_SIZE - 1);
    for (int i = 0; i < 64 && r == 0; i++) {
        CLEANUP_FREE uint8_t *data = NULL;
        (void)snprintf(key, sizeof(key), "k%d", i);
        ck_assert_int_eq(label_set(&tenant->meta.labels, key, text), 0);
        r = command_set_put(&command, KIND_TENANT, tenant, 1);
        ck_assert_uint_gt(encode(&command, &data), 0);
    }
    ck_assert_int_eq(r, BERTH_ETOOLARGE); /* at last, and the put before it stayed */
    command_fini(&command);
    object_free(KIND_TENANT, tenant);
}
END_TEST

START_TEST(a_put_of_rubbish_has_no_object)
{
    uint8_t rubbish[] = {1, 0, 9, 0, 0, 0};
    void *object = NULL;
    struct cmd_put put = {.kind = KIND_VM, .document = {rubbish, sizeof(rubbish)}};
    ck_assert_int_eq(command_put_object(&put, LEVEL_FIRST, &object), BERTH_EPROTO);
    put.kind = KIND_COUNT;
    ck_assert_int_eq(command_put_object(&put, LEVEL_FIRST, &object), BERTH_EPROTO);
    ck_assert_ptr_null(object);
}
END_TEST

static char *print(const struct command *command)
{
    struct bytes_writer writer;
    char *text = NULL;
    bytes_writer_init(&writer, COMMAND_SIZE_MAX);
    command_print(command, &writer);
    ck_assert_int_eq(bytes_writer_take_text(&writer, &text), 0);
    return text;
}

START_TEST(a_printed_command_stays_one_line)
{
    struct command command;
    command_init(&command, COMMAND_ADMIT_VM);
    strcpy(command.subject, "token:\n\"x");
    strcpy(command.body.admit_vm.name, "a\nb");
    CLEANUP_FREE char *text = print(&command);
    ck_assert_str_eq(text, "admit_vm by token:\\x0a\\\"x at 0 {name=a\\x0ab}");
    command_fini(&command);
}
END_TEST

/* ---- golden files: what the first level wrote, byte for byte ---- */

static void golden_place_vm(struct command *command)
{
    command_init(command, COMMAND_PLACE_VM);
    struct cmd_place_vm *place = &command->body.place_vm;
    place->vm = 7;
    place->host = 3;
    place->epoch = 12;
    struct cmd_address *address =
        record_list_add(&cmd_address_record, (struct record_list *)&place->addresses);
    address->ipv4 = 0x0a140005;
    REQUIRE(record_set_text(&place->reason, "most room") == 0);
    strcpy(command->subject, "system");
}

static void golden_host_join(struct command *command)
{
    command_init(command, COMMAND_HOST_JOIN);
    struct cmd_host_join *join = &command->body.host_join;
    strcpy(join->name, "h1");
    memset(&join->token_hash, 0x5a, sizeof(join->token_hash));
    join->status.address = 0xc0a80001;
    join->status.mesh_port = 7601;
    join->status.cpu_mcpu = 8000;
    join->status.memory_bytes = 16 * GIB;
    join->status.engines = ENGINE_BIT(ENGINE_QEMU) | ENGINE_BIT(ENGINE_KVM);
    join->status.kvm = KVM_NATIVE;
    REQUIRE(record_set_text(&join->status.kernel, "6.1.0") == 0);
    REQUIRE(label_set(&join->labels, "zone", "r1") == 0);
    strcpy(command->subject, "host:h1");
}

static void golden_put_template(struct command *command)
{
    struct template *template = object_new(KIND_TEMPLATE);
    REQUIRE(template != NULL);
    strcpy(template->meta.name, "web");
    strcpy(template->meta.tenant, "default");
    strcpy(template->spec.image, "debian-12");
    template->spec.cpu.count = 2;
    template->spec.memory.size_bytes = 512 * MIB;
    struct disk_spec *disk =
        record_list_add(&disk_spec_record, (struct record_list *)&template->spec.disks);
    strcpy(disk->name, "root");
    disk->from = DISK_FROM_IMAGE;
    disk->size_bytes = 4 * GIB;
    REQUIRE(text_list_add(&template->spec.placement.require, "host.zone == r1") == 0);
    template->spec.lifecycle.stop_grace_ms = 30000;
    command_init(command, COMMAND_PUT);
    REQUIRE(command_set_put(command, KIND_TEMPLATE, template, REVISION_NONE) == 0);
    strcpy(command->subject, "token:ci");
    object_free(KIND_TEMPLATE, template);
}

static void golden_vm_phase_kept(struct command *command)
{
    command_init(command, COMMAND_VM_PHASE);
    struct cmd_vm_phase *report = &command->body.vm_phase;
    report->vm = 7;
    report->host = 3;
    report->epoch = 12;
    report->phase = PHASE_STOPPED;
    report->disk_epoch = 12;
    strcpy(command->subject, "system");
}

static void golden_set_power_anywhere(struct command *command)
{
    command_init(command, COMMAND_SET_POWER);
    command->body.set_power.vm = 7;
    command->body.set_power.anywhere = true;
    strcpy(command->subject, "root");
}

struct golden {
    const char *file;
    void (*build)(struct command *command);
    const char *printed;
};

static const struct golden goldens[] = {
    {"place_vm.hex", golden_place_vm,
     "place_vm by system at 1700000000123 {vm=7 host=3 epoch=12 "
     "addresses=[{address=10.20.0.5}] reason=\"most room\"}"},
    {"host_join.hex", golden_host_join,
     "host_join by host:h1 at 1700000000123 {name=h1 "
     "token=5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a "
     "status={address=192.168.0.1 meshPort=7601 cpu=8 memory=16GiB engines=6 kvm=native "
     "kernel=\"6.1.0\"} labels={\"zone\"=\"r1\"}}"},
    {"put_template.hex", golden_put_template,
     "put by token:ci at 1700000000123 {kind=2 expectedRevision=0 document=(188 bytes)} "
     "Template {metadata={name=web tenant=default} spec={image=debian-12 cpu={count=2} "
     "memory={size=512MiB} disks=[{name=root from=image size=4GiB}] "
     "placement={require=[\"host.zone == r1\"]} lifecycle={stopGrace=30s}}}"},
    {"vm_phase_kept.hex", golden_vm_phase_kept,
     "vm_phase by system at 1700000000123 {vm=7 host=3 epoch=12 phase=stopped "
     "diskEpoch=12}"},
    {"set_power_anywhere.hex", golden_set_power_anywhere,
     "set_power by root at 1700000000123 {vm=7 anywhere=true}"},
};

/* The file's bytes; 32 to a line. */
static size_t golden_read(const char *name, uint8_t *data, size_t capacity)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    size_t count = 0;
    ck_assert_int_gt(asprintf(&path, "%s%s", GOLDEN, name), 0);
    ck_assert_int_eq(fd_read_file(AT_FDCWD, path, COMMAND_SIZE_MAX, &text, &size, NULL),
                     0);
    for (size_t i = 0; i + 1 < size && count < capacity; i += 2) {
        char digits[3] = {(char)text[i], (char)text[i + 1], '\0'};
        ck_assert_int_eq(hex_parse(digits, &data[count++], 1), 0);
        i += i + 2 < size && text[i + 2] == '\n' ? 1 : 0;
    }
    return count;
}

START_TEST(the_first_level_reads_and_writes_as_it_always_did)
{
    const struct golden *row = &goldens[_i];
    uint8_t wanted[1024];
    struct command command;
    struct command back;
    CLEANUP_FREE uint8_t *data = NULL;
    row->build(&command);
    command.wall_ms = UINT64_C(1700000000123);
    memset(command.request_id, 0x11, REQUEST_ID_SIZE);

    size_t size = encode(&command, &data);
    size_t wanted_size = golden_read(row->file, wanted, sizeof(wanted));

    char hex[2 * sizeof(wanted) + 1];
    hex_format(data, size, hex);
    ck_assert_msg(size == wanted_size && memcmp(data, wanted, size) == 0,
                  "%s: written is %s", row->file, hex);
    ck_assert_int_eq(decode(wanted, wanted_size, &back), 0);
    ck_assert(command_equal(&command, &back));
    CLEANUP_FREE char *text = print(&back);
    ck_assert_str_eq(text, row->printed);
    command_fini(&command);
    command_fini(&back);
}
END_TEST

START_TEST(every_type_has_a_name)
{
    ck_assert_str_eq(command_name(COMMAND_PLACE_VM), "place_vm");
    ck_assert_str_eq(command_name(COMMAND_NONE), "unknown");
    ck_assert_ptr_null(command_record(COMMAND_COUNT));
    unsigned given = 0;
    unsigned named = 0;
#define COUNT(NAME, number, member, record, FIELDS) given++;
    COMMANDS(COUNT)
#undef COUNT
    for (int i = COMMAND_NONE + 1; i < COMMAND_COUNT; i++) {
        named += strcmp(command_name((enum command_type)i), "unknown") != 0 ? 1U : 0U;
    }
    ck_assert_uint_eq(named, given);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("command");
    TCase *tcase = tcase_create("codec");
    tcase_add_loop_test(tcase, every_command_comes_back_equal, 1, COMMAND_COUNT);
    tcase_add_loop_test(tcase, every_command_is_among_what_fuzzing_begins_with, 1,
                        COMMAND_COUNT);
    tcase_add_loop_test(tcase, a_cut_command_is_refused_or_says_less, 1, COMMAND_COUNT);
    tcase_add_loop_test(tcase, fields_that_are_not_of_its_level_are_refused, 1,
                        COMMAND_COUNT);
    tcase_add_test(tcase, unknown_types_and_levels_are_refused_as_such);
    tcase_add_test(tcase, a_level_to_come_is_not_taken_for_one_that_is_known);
    tcase_add_test(tcase, a_subject_that_does_not_fit_is_refused);
    tcase_add_test(tcase, a_command_over_the_limit_is_neither_written_nor_read);
    tcase_add_loop_test(tcase, the_first_level_reads_and_writes_as_it_always_did, 0,
                        (int)ARRAY_COUNT(goldens));
    tcase_add_test(tcase, every_type_has_a_name);
    tcase_add_test(tcase, a_printed_command_stays_one_line);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("put");
    tcase_add_loop_test(tcase, a_put_carries_its_object, 1, KIND_COUNT);
    tcase_add_test(tcase, a_put_that_fits_itself_fits_a_command);
    tcase_add_test(tcase, a_put_of_rubbish_has_no_object);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
