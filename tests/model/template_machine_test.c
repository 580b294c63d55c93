/* Goal: what a template says of its machine comes with its level: before, it is refused
 * in words; from then on a VM has it for life. Method: a row for each field, on a small
 * cluster. */
#include "base/cleanup.h"
#include "support/state_fixture.h"

struct machine_field {
    void (*set)(struct machine_spec *machine);
    bool (*is_set)(const struct machine_spec *machine);
    const char *refused;
};

static void set_baseline(struct machine_spec *machine)
{
    machine->cpu.baseline = CPU_BASELINE_V3;
}

static bool has_baseline(const struct machine_spec *machine)
{
    return machine->cpu.baseline == CPU_BASELINE_V3;
}

static const struct machine_field fields[] = {
    {set_baseline, has_baseline, "template: baseline needs level 4, the cluster is at 3"},
};

static struct template *make_special(void (*set)(struct machine_spec *machine))
{
    struct template *template = make_template(DEFAULT_TENANT, "special", NULL);
    set(&template->spec);
    return template;
}

START_TEST(before_its_level_it_is_refused)
{
    struct err err = {0};
    struct command command;
    struct template *template = make_special(fields[_i].set);
    command_init(&command, COMMAND_PUT);
    ck_assert_int_eq(command_set_put(&command, KIND_TEMPLATE, template, REVISION_ANY), 0);
    object_free(KIND_TEMPLATE, template);
    ck_assert_int_eq(level_at_least(LEVEL_MACHINES - 1), 0);

    ck_assert_int_eq(command_check_level(&command, LEVEL_MACHINES - 1, &err),
                     BERTH_ELEVEL);

    ck_assert_str_eq(err.text, fields[_i].refused);
    ck_assert_int_eq(command_check_level(&command, LEVEL_MACHINES, &err), 0);
    ck_assert_int_eq(send_command(&command), BERTH_EINVALID);
}
END_TEST

START_TEST(a_vm_has_what_its_template_said_when_it_was_made)
{
    ck_assert_int_eq(level_at_least(LEVEL_MACHINES), 0);
    ck_assert_int_eq(put(KIND_TEMPLATE, make_special(fields[_i].set)), 0);

    ck_assert_int_eq(admit(DEFAULT_TENANT, "a", "special", ""), 0);
    ck_assert_int_eq(put(KIND_TEMPLATE, make_template(DEFAULT_TENANT, "special", NULL)),
                     0);

    const struct vm *vm = FIND(KIND_VM, DEFAULT_TENANT, "a");
    ck_assert(fields[_i].is_set(&vm->spec.machine));
    ck_assert_int_eq(admit(DEFAULT_TENANT, "b", "special", ""), 0);
    vm = FIND(KIND_VM, DEFAULT_TENANT, "b");
    ck_assert(!fields[_i].is_set(&vm->spec.machine));
}
END_TEST

/* Equal bytes of what says nothing of them: see tests/model/golden, too. */
START_TEST(what_is_not_said_is_not_written)
{
    struct bytes_writer plain;
    struct bytes_writer special;
    struct template *template = make_template(DEFAULT_TENANT, "special", NULL);
    const struct field *asks = NULL;
    const unsigned before = record_level(&template_record, template, &asks);
    bytes_writer_init(&plain, COMMAND_SIZE_MAX);
    bytes_writer_init(&special, COMMAND_SIZE_MAX);
    record_encode(&template_record, template, &plain);
    fields[_i].set(&template->spec);
    ck_assert_uint_lt(before, LEVEL_MACHINES);
    ck_assert_uint_eq(record_level(&template_record, template, &asks), LEVEL_MACHINES);

    record_limit(&template_record, template, LEVEL_MACHINES - 1);

    record_encode(&template_record, template, &special);
    ck_assert_int_eq(plain.error, 0);
    ck_assert_uint_eq(plain.size, special.size);
    ck_assert_int_eq(memcmp(plain.data, special.data, plain.size), 0);
    bytes_writer_fini(&plain);
    bytes_writer_fini(&special);
    object_free(KIND_TEMPLATE, template);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = fixture_suite("template_machine", &tests);
    const int count = (int)ARRAY_COUNT(fields);
    tcase_add_loop_test(tests, before_its_level_it_is_refused, 0, count);
    tcase_add_loop_test(tests, a_vm_has_what_its_template_said_when_it_was_made, 0,
                        count);
    tcase_add_loop_test(tests, what_is_not_said_is_not_written, 0, count);
    return test_main_run(suite);
}
