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

static void set_read_only(struct machine_spec *machine)
{
    struct disk_spec *disk =
        record_list_add(&disk_spec_record, (struct record_list *)(void *)&machine->disks);
    ck_assert_ptr_nonnull(disk);
    set_name(disk->name, "root");
    disk->from = DISK_FROM_IMAGE;
    disk->size_bytes = 8 * MIB;
    disk->read_only = true;
}

static bool has_read_only(const struct machine_spec *machine)
{
    return machine->disks.count == 1 && machine->disks.items[0].read_only;
}

static void set_max(struct machine_spec *machine)
{
    machine->cpu.max = 4;
}

static bool has_max(const struct machine_spec *machine)
{
    return machine->cpu.max == 4;
}

static void set_huge(struct machine_spec *machine)
{
    machine->memory.pages = MEMORY_PAGES_HUGE;
}

static bool has_huge(const struct machine_spec *machine)
{
    return machine->memory.pages == MEMORY_PAGES_HUGE;
}

static const struct machine_field fields[] = {
    {set_baseline, has_baseline, "template: baseline needs level 4, the cluster is at 3"},
    {set_max, has_max, "template: max needs level 4, the cluster is at 3"},
    {set_huge, has_huge, "template: pages needs level 4, the cluster is at 3"},
    {set_read_only, has_read_only,
     "template: readOnly needs level 4, the cluster is at 3"},
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

/* So what says nothing of them is as many bytes as it always was. */
START_TEST(cut_to_the_level_before_it_is_gone)
{
    struct template *template = make_special(fields[_i].set);
    const struct field *asks = NULL;
    ck_assert_uint_eq(record_level(&template_record, template, &asks), LEVEL_MACHINES);

    record_limit(&template_record, template, LEVEL_MACHINES - 1);

    ck_assert(!fields[_i].is_set(&template->spec));
    ck_assert_uint_lt(record_level(&template_record, template, &asks), LEVEL_MACHINES);
    object_free(KIND_TEMPLATE, template);
}
END_TEST

START_TEST(a_disk_that_is_only_read_counts_nothing)
{
    struct template *template = make_special(set_read_only);
    ck_assert_uint_eq(machine_disk_bytes(&template->spec), 0);
    ck_assert_uint_eq(machine_snapshot_bytes(&template->spec),
                      template->spec.memory.size_bytes);
    template->spec.disks.items[0].read_only = false;
    ck_assert_uint_eq(machine_disk_bytes(&template->spec), 8 * MIB);
    object_free(KIND_TEMPLATE, template);
}
END_TEST

static void set_pool(uint64_t pool_bytes)
{
    struct command command;
    command_init(&command, COMMAND_HOST_UPDATE);
    command.body.host_update.host = h1;
    command.body.host_update.status.address = 1;
    command.body.host_update.status.memory_bytes = 1 * GIB;
    command.body.host_update.status.pool_bytes = pool_bytes;
    ck_assert_int_eq(send_command(&command), 0);
}

START_TEST(a_host_promises_no_more_huge_pages_than_it_has)
{
    ck_assert_int_eq(level_at_least(LEVEL_MACHINES), 0);
    ck_assert_int_eq(put(KIND_TEMPLATE, make_special(set_huge)), 0);
    const struct template *template = FIND(KIND_TEMPLATE, DEFAULT_TENANT, "special");
    const uint64_t bytes = template->spec.memory.size_bytes;
    set_pool(2 * bytes - 1);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "a", "special", ""), 0);
    const uint64_t a = answer.uid;
    ck_assert_int_eq(admit(DEFAULT_TENANT, "b", "special", ""), 0);
    const uint64_t b = answer.uid;
    ck_assert_int_eq(place(a, h1, 1, 0), 0);
    ck_assert_uint_eq(state_host_use(state, h1).pool_bytes, bytes);
    ck_assert_uint_eq(state_host_use(state, h1).memory_bytes, 0);

    ck_assert_int_eq(place(b, h1, 1, 0), BERTH_ENOCAPACITY);

    ck_assert_ptr_nonnull(strstr(answer.text, "host h1: huge pages "));
    set_pool(2 * bytes);
    ck_assert_int_eq(place(b, h1, 1, 0), 0);
    ck_assert_int_eq(reports(a, PHASE_FAILED), 0);
    ck_assert_uint_eq(state_host_use(state, h1).pool_bytes, bytes);
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
    tcase_add_loop_test(tests, cut_to_the_level_before_it_is_gone, 0, count);
    tcase_add_test(tests, a_host_promises_no_more_huge_pages_than_it_has);
    tcase_add_test(tests, a_disk_that_is_only_read_counts_nothing);
    return test_main_run(suite);
}
