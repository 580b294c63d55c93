/* Goal: VMs follow the rate limits of their template, and nothing else of it; under the
 * level before nobody has any. Method: commands on a small cluster, and a replica. */
#include "base/cleanup.h"
#include "support/corpus_seed.h"
#include "support/state_fixture.h"

#define LIMITED_IOPS 500

static void add_disk(struct template *template, const char *name, uint64_t iops)
{
    struct disk_spec *disk = record_list_add(
        &disk_spec_record, (struct record_list *)(void *)&template->spec.disks);
    ck_assert_ptr_nonnull(disk);
    set_name(disk->name, name);
    disk->size_bytes = 8 * MIB;
    disk->limit.operations = iops;
}

static void add_nic(struct template *template, const char *name, uint64_t bytes)
{
    struct nic_spec *nic = record_list_add(
        &nic_spec_record, (struct record_list *)(void *)&template->spec.nics);
    ck_assert_ptr_nonnull(nic);
    set_name(nic->name, name);
    set_name(nic->network, "front");
    nic->limit.bytes = bytes;
}

/* Disks root and data, a NIC wan. */
static struct template *make_limited(const char *tenant, uint64_t iops, uint64_t bytes)
{
    struct template *template = make_template(tenant, "fast", NULL);
    add_disk(template, "root", iops);
    add_disk(template, "data", 0);
    add_nic(template, "wan", bytes);
    return template;
}

static const struct vm *vm_now(const char *name)
{
    const struct vm *vm = FIND(KIND_VM, DEFAULT_TENANT, name);
    ck_assert_ptr_nonnull(vm);
    return vm;
}

static uint64_t iops_of(const char *name, uint32_t disk)
{
    ck_assert_uint_lt(disk, vm_now(name)->spec.machine.disks.count);
    return vm_now(name)->spec.machine.disks.items[disk].limit.operations;
}

static uint64_t rate_of(const char *name)
{
    return vm_now(name)->spec.machine.nics.items[0].limit.bytes;
}

static void put_limited(uint64_t iops, uint64_t bytes)
{
    ck_assert_int_eq(level_at_least(LEVEL_LIMITS), 0);
    ck_assert_int_eq(put(KIND_TEMPLATE, make_limited(DEFAULT_TENANT, iops, bytes)), 0);
}

START_TEST(vms_of_a_template_follow_its_limits)
{
    put_limited(0, 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "a", "fast", ""), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "b", "fast", ""), 0);
    uint32_t version = vm_now("a")->status.template_version;
    uint64_t revision = vm_now("a")->meta.modify_revision;
    uint64_t hash = state_hash(state);
    fixture_trail[0] = '\0';

    put_limited(LIMITED_IOPS, MIB);

    ck_assert_str_eq(fixture_trail, "a:pending b:pending ");
    ck_assert_uint_eq(iops_of("a", 0), LIMITED_IOPS);
    ck_assert_uint_eq(iops_of("b", 0), LIMITED_IOPS);
    ck_assert_uint_eq(iops_of("a", 1), 0);
    ck_assert_uint_eq(rate_of("b"), MIB);
    ck_assert_uint_eq(vm_now("a")->status.template_version, version + 1);
    ck_assert_uint_gt(vm_now("a")->meta.modify_revision, revision);
    ck_assert(state_hash(state) != hash);

    put_limited(0, 0); /* and away again */
    ck_assert_uint_eq(iops_of("a", 0), 0);
    ck_assert_uint_eq(rate_of("a"), 0);
}
END_TEST

START_TEST(a_running_vm_keeps_its_run)
{
    put_limited(0, 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "a", "fast", ""), 0);
    uint64_t vm = answer.uid;
    ck_assert_int_eq(place(vm, h1, 1, ADDRESS(10)), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);

    put_limited(LIMITED_IOPS, 0);

    ck_assert_uint_eq(iops_of("a", 0), LIMITED_IOPS);
    ck_assert_uint_eq(vm_now("a")->status.phase, PHASE_READY);
    ck_assert_uint_eq(vm_now("a")->status.epoch, 1);
    ck_assert_uint_eq(vm_now("a")->status.intent, STOP_INTENT_NONE);
}
END_TEST

START_TEST(all_else_stays_as_the_vm_was_made)
{
    put_limited(0, 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "a", "fast", ""), 0);
    uint32_t version = vm_now("a")->status.template_version;
    struct template *template = make_template(DEFAULT_TENANT, "fast", NULL);
    template->spec.memory.size_bytes *= 2;
    add_disk(template, "new", 77);
    add_disk(template, "data", LIMITED_IOPS); /* no root any more */
    add_nic(template, "lan", MIB);

    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);

    ck_assert_uint_eq(vm_now("a")->spec.machine.disks.count, 2);
    ck_assert_uint_eq(iops_of("a", 0), 0);
    ck_assert_uint_eq(iops_of("a", 1), LIMITED_IOPS);
    ck_assert_uint_eq(rate_of("a"), 0);
    ck_assert_uint_lt(
        vm_now("a")->spec.machine.memory.size_bytes,
        ((const struct template *)FIND(KIND_TEMPLATE, DEFAULT_TENANT, "fast"))
            ->spec.memory.size_bytes);
    ck_assert_uint_eq(vm_now("a")->status.template_version, version);
}
END_TEST

START_TEST(vms_of_others_and_of_the_same_limits_are_left_alone)
{
    put_limited(LIMITED_IOPS, 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "a", "fast", ""), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "plain", "web", ""), 0);
    fixture_trail[0] = '\0';

    struct template *template = make_limited(DEFAULT_TENANT, LIMITED_IOPS, 0);
    template->spec.memory.size_bytes *= 2;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    ck_assert_str_eq(fixture_trail, "");

    put_limited(LIMITED_IOPS * 2, 0);
    ck_assert_str_eq(fixture_trail, "a:pending ");
}
END_TEST

static void put_cpus(uint32_t count, uint32_t max)
{
    struct template *template = make_template(DEFAULT_TENANT, "wide", NULL);
    ck_assert_int_eq(level_at_least(LEVEL_MACHINES), 0);
    template->spec.cpu.count = count;
    template->spec.cpu.max = max;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
}

START_TEST(vms_follow_the_cpus_up_to_the_maximum_they_were_made_with)
{
    put_cpus(1, 4);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "a", "wide", ""), 0);
    const uint64_t vm = answer.uid;
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    const struct tenant *tenant = FIND(KIND_TENANT, "", DEFAULT_TENANT);
    ck_assert_uint_eq(tenant->status.used.cpu_mcpu, 4000); /* all that may come */
    ck_assert_uint_eq(state_host_use(state, h1).cpu_mcpu, 4000);
    fixture_trail[0] = '\0';

    put_cpus(3, 4);
    ck_assert_uint_eq(vm_now("a")->spec.machine.cpu.count, 3);
    ck_assert_uint_eq(vm_now("a")->status.epoch, 1);
    ck_assert_str_eq(fixture_trail, "a:ready ");
    put_cpus(9, 16);
    ck_assert_uint_eq(vm_now("a")->spec.machine.cpu.count, 4);
    ck_assert_uint_eq(vm_now("a")->spec.machine.cpu.max, 4);
    put_cpus(2, 0);
    ck_assert_uint_eq(vm_now("a")->spec.machine.cpu.count, 2);

    ck_assert_uint_eq(state_host_use(state, h1).cpu_mcpu, 4000);
    tenant = FIND(KIND_TENANT, "", DEFAULT_TENANT);
    ck_assert_uint_eq(tenant->status.used.cpu_mcpu, 4000);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "b", "wide", ""), 0); /* without a maximum */
    put_cpus(3, 4);
    ck_assert_uint_eq(vm_now("b")->spec.machine.cpu.count, 2);
}
END_TEST

START_TEST(before_its_level_there_is_no_limit)
{
    struct err err = {0};
    struct command command;
    struct template *template = make_limited(DEFAULT_TENANT, LIMITED_IOPS, 0);
    command_init(&command, COMMAND_PUT);
    ck_assert_int_eq(command_set_put(&command, KIND_TEMPLATE, template, REVISION_ANY), 0);
    object_free(KIND_TEMPLATE, template);
    ck_assert_int_eq(command_check_level(&command, LEVEL_FIRST, &err), BERTH_ELEVEL);
    ck_assert_str_eq(err.text, "template: limit needs level 2, the cluster is at 1");
    ck_assert_int_eq(command_check_level(&command, LEVEL_LIMITS, &err), 0);
    ck_assert_int_eq(send_command(&command), BERTH_EINVALID);
    template = make_limited(DEFAULT_TENANT, 0, 0); /* says nothing of limits */
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
}
END_TEST

START_TEST(a_put_of_limits_is_among_what_fuzzing_begins_with)
{
    struct template *template = make_limited(DEFAULT_TENANT, LIMITED_IOPS, MIB);
    struct command command;
    struct bytes_writer writer;
    struct bytes_reader reader;
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    void *back = NULL;
    template->spec.disks.items[0].limit.operations_burst = 2 * LIMITED_IOPS;
    template->spec.nics.items[0].limit.bytes_burst = 2 * MIB;
    command_init(&command, COMMAND_PUT);
    command.level = LEVEL_LIMITS;
    ck_assert_int_eq(command_set_put(&command, KIND_TEMPLATE, template, REVISION_ANY), 0);
    bytes_writer_init(&writer, COMMAND_SIZE_MAX);
    command_encode(&command, &writer);
    command_fini(&command);

    corpus_seed("model_command", "put_limits", writer.data, writer.size, &data, &size);

    bytes_reader_init(&reader, data, size);
    ck_assert_int_eq(command_decode(&reader, &command), 0);
    ck_assert_int_eq(command_put_object(&command.body.put, LEVEL_LIMITS, &back), 0);
    ck_assert(record_equal(&template_record, template, back));
    object_free(KIND_TEMPLATE, template);
    object_free(KIND_TEMPLATE, back);
    command_fini(&command);
    bytes_writer_fini(&writer);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = fixture_suite("template_limits", &tests);
    tcase_add_test(tests, vms_of_a_template_follow_its_limits);
    tcase_add_test(tests, a_running_vm_keeps_its_run);
    tcase_add_test(tests, all_else_stays_as_the_vm_was_made);
    tcase_add_test(tests, vms_of_others_and_of_the_same_limits_are_left_alone);
    tcase_add_test(tests, vms_follow_the_cpus_up_to_the_maximum_they_were_made_with);
    tcase_add_test(tests, before_its_level_there_is_no_limit);
    tcase_add_test(tests, a_put_of_limits_is_among_what_fuzzing_begins_with);
    return test_main_run(suite);
}
