/* Goal: whoever asks why a VM is not placed is told, host by host, which rule refuses it
 * and what the nearest fix is. Method: one case per filter on a host of its own, the
 * whole text compared; each fix that can be carried out is, and the host then fits. */
#include "explain_fixture.h"
#include "model/state_rebirth.h"

static void put_rule(const char *name, const char *rule)
{
    struct template *template = make_template(DEFAULT_TENANT, name, NULL);
    template->spec.placement.require.items = calloc(1, sizeof(char *));
    template->spec.placement.require.items[0] = strdup(rule);
    template->spec.placement.require.count = 1;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
}

static void put_engine(enum engine engine)
{
    struct template *template = make_template(DEFAULT_TENANT, "e", NULL);
    template->spec.engine = engine;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    (void)admit_one("a", "e");
}

static void put_baseline(enum cpu_baseline baseline)
{
    struct template *template = make_template(DEFAULT_TENANT, "b", NULL);
    ck_assert_int_eq(level_at_least(LEVEL_MACHINES), 0);
    template->spec.cpu.baseline = baseline;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    (void)admit_one("a", "b");
}

static void make_no_baseline(void)
{
    put_baseline(CPU_BASELINE_V2);
}

static void make_older_cpus(void)
{
    set_host_baseline(h1, CPU_BASELINE_V2);
    put_baseline(CPU_BASELINE_V3);
}

static void mend_baseline(void)
{
    set_host_baseline(h1, CPU_BASELINE_V4); /* more is as good */
}

static void make_no_pool(void)
{
    put_machine_huge("huge", 256 * MIB);
    (void)admit_one("a", "huge");
}

static void make_small_pool(void)
{
    set_host_special(h1, CPU_BASELINE_V2, 384 * MIB);
    put_machine_huge("huge", 256 * MIB);
    (void)admit_one("other", "huge");
    settle_all();
    (void)admit_one("a", "huge");
}

static void make_wide(void)
{
    struct template *template = make_template(DEFAULT_TENANT, "wide", NULL);
    ck_assert_int_eq(level_at_least(LEVEL_MACHINES), 0);
    template->spec.cpu.count = 1;
    template->spec.cpu.max = 32;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    (void)admit_one("a", "wide");
}

static void mend_pool(void)
{
    set_host_special(h1, CPU_BASELINE_V2, 512 * MIB);
}

static void make_suspect(void)
{
    (void)admit_plain("a");
    silent_host = h1;
    time_passes(1600);
    settle();
}

static void mend_silence(void)
{
    hear(h1);
}

static void mend_suspect(void)
{
    hear(h1);
    (void)step_and_apply(); /* that it is back is decided alone */
}

static void make_lost(void)
{
    (void)admit_plain("a");
    silent_host = h1;
    time_passes(1600);
    settle();
    time_passes(5000);
    settle();
}

static void make_left_out(void)
{
    struct err err;
    const struct rebirth rebirth = {.wall_ms = fixture_wall_ms,
                                    .reason = "the cluster was recovered on host h9"};
    (void)admit_plain("a");
    ck_assert_int_eq(state_rebirth(state, &rebirth, &err), 0);
}

static void make_given_up(void)
{
    make_lost();
    hear(h1);
    (void)step_and_apply(); /* it is back in the log, with no word of its orders */
}

static void mend_given_up(void)
{
    ck_assert(scheduler_may_renew(scheduler, state_host(state, h1), true));
}

static void mend_lost(void)
{
    hear(h1);
    (void)step_and_apply();
    mend_given_up();
}

static void make_unheard(void)
{
    (void)admit_plain("a");
    scheduler_lead(scheduler, now_ns);
}

static void make_drained(void)
{
    (void)admit_plain("a");
    ck_assert_int_eq(host_drain(h1, true), 0);
}

static void mend_drained(void)
{
    ck_assert_int_eq(host_drain(h1, false), 0);
}

static void make_no_qemu(void)
{
    set_host(h1, 4000, 1 * GIB, ENGINE_BIT(ENGINE_FAKE), KVM_NONE);
    (void)admit_plain("a");
}

static void mend_qemu(void)
{
    set_host(h1, 4000, 1 * GIB, ENGINE_BIT(ENGINE_QEMU), KVM_NATIVE);
}

static void make_no_kvm(void)
{
    set_host(h1, 4000, 1 * GIB, ENGINE_BIT(ENGINE_QEMU) | ENGINE_BIT(ENGINE_KVM),
             KVM_EMULATED);
    put_engine(ENGINE_KVM);
}

static void mend_kvm(void)
{
    set_host(h1, 4000, 1 * GIB, ENGINE_BIT(ENGINE_QEMU) | ENGINE_BIT(ENGINE_KVM),
             KVM_NATIVE);
}

static void make_no_fake(void)
{
    put_engine(ENGINE_FAKE);
}

static void mend_fake(void)
{
    set_host(h1, 4000, 1 * GIB, ENGINE_BIT(ENGINE_FAKE), KVM_NONE);
}

static void make_zone(void)
{
    put_rule("z", "host.zone == r2");
    (void)admit_one("a", "z");
}

static void make_cores(void)
{
    put_rule("c", "host.cpu.cores >= 1000");
    (void)admit_one("a", "c");
}

static void make_quotes(void)
{
    put_rule("q", "host.label.disk == \"ssd\"");
    (void)admit_one("a", "q");
}

static void make_all_too_large(void)
{
    struct template *template = make_template(DEFAULT_TENANT, "huge", NULL);
    struct record_list disks = {0};
    struct disk_spec *disk = record_list_add(&disk_spec_record, &disks);
    ck_assert_ptr_nonnull(disk);
    set_name(disk->name, "data");
    disk->size_bytes = 60 * GIB;
    template->spec.disks.items = disks.items;
    template->spec.disks.count = disks.count;
    template->spec.cpu.count = 64;
    template->spec.memory.size_bytes = 2 * TIB;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    (void)admit_one("a", "huge");
}

/* Of what there is no more is said than there is, of what is needed no less. */
static void make_just_too_large(void)
{
    set_host(h1, 4000, 1 * GIB + 280 * MIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    put_machine("large", 1, 1 * GIB + 290 * MIB, NULL);
    (void)admit_one("a", "large");
}

static void make_spread(void)
{
    struct template *template = make_template(DEFAULT_TENANT, "apart", NULL);
    template->spec.placement.spread.by = SPREAD_HOST;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    put_group("web", "apart", 2);
    settle();
    ck_assert_int_eq(reports(vm_named("web-1")->meta.uid, PHASE_READY), 0);
}

static void put_tiny(void)
{
    ck_assert_int_eq(put(KIND_NETWORK, make_network(DEFAULT_TENANT, "tiny",
                                                    ((uint64_t)0x0a010000 << 8) | 29)),
                     0);
    put_machine("small", 1, 32 * MIB, "tiny");
}

static void make_addresses(void)
{
    put_tiny();
    for (unsigned i = 0; i < 4; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "t-%u", i);
        (void)admit_one(name, "small");
    }
    settle_all();
    (void)admit_one("a", "small");
}

static void mend_addresses(void)
{
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "t-0"), 0);
    hosts_work();
}

static void take_range(const char *host)
{
    const struct host_range range = {0, 0, "0.0.0.0/0, all of it"};
    const struct host *taker = FIND(KIND_HOST, "", host);
    ck_assert_int_eq(scheduler_host_ranges(scheduler, taker->meta.uid, &range, 1), 0);
}

static void make_range(void)
{
    put_tiny();
    take_range("h1");
    (void)admit_one("a", "small");
}

static void mend_range(void)
{
    ck_assert_int_eq(scheduler_host_ranges(scheduler, h1, NULL, 0), 0);
}

static void make_site(void)
{
    uint64_t h2 = make_host("h2", 2, 4000, 1 * GIB);
    hear_all();
    ck_assert_int_eq(host_drain(h1, true), 0);
    put_tiny();
    for (unsigned i = 0; i < 3; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "t-%u", i);
        (void)admit_one(name, "small");
    }
    settle_all();
    ck_assert_uint_eq(vms_on(h2), 3);
    ck_assert_int_eq(host_drain(h2, true), 0);
    ck_assert_int_eq(host_drain(h1, false), 0);
    (void)admit_one("a", "small");
}

static void make_many(void)
{
    set_host(h1, 4000000, 1024 * GIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    for (unsigned i = 0; i < PLACE_VMS_PER_HOST_MAX; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "m-%u", i);
        (void)admit_plain(name);
    }
    settle();
    (void)admit_plain("a");
}

static void make_memory(void)
{
    for (unsigned i = 0; i < 7; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "m-%u", i);
        (void)ready_vm(name, h1);
    }
    put_machine("large", 1, 256 * MIB, NULL);
    (void)admit_one("a", "large");
}

static void mend_memory(void)
{
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "m-0"), 0);
    hosts_work();
}

static void make_too_large(void)
{
    put_machine("large", 1, 2 * GIB, NULL);
    (void)admit_one("a", "large");
}

static void make_cpu(void)
{
    put_machine("busy", 15, 64 * MIB, NULL);
    put_machine("wide", 4, 64 * MIB, NULL);
    (void)ready_vm("m", h1);
    (void)admit_one("b", "busy");
    settle();
    (void)admit_one("a", "wide");
}

static void make_too_wide(void)
{
    put_machine("wide", 32, 64 * MIB, NULL);
    (void)admit_one("a", "wide");
}

static void make_disk(void)
{
    put_machine_disk("large", 7 * GIB);
    (void)admit_one("m-0", "large");
    settle();
    (void)admit_one("a", "large");
}

static void make_too_large_disk(void)
{
    put_machine_disk("large", 20 * GIB);
    (void)admit_one("a", "large");
}

static void make_full_disk(void)
{
    put_machine_disk("small-disk", 1 * GIB);
    disk_free_bytes = 0;
    hear_all();
    (void)admit_one("a", "small-disk");
}

static void mend_full_disk(void)
{
    disk_free_bytes = 1;
    hear_all();
}

static const struct {
    void (*make)(void);
    void (*mend)(void);
    const char *rule;
    const char *reason;
    const char *fix;
    const char *waits;
} cases[] = {
    {make_suspect, mend_suspect, "up",
     "host is suspect: no heartbeat for 1.6 s (last heartbeat 00:16:40.000)",
     "look after berthd and the network of h1", "no host: 1 of 1 is not up"},
    {make_lost, mend_lost, "up",
     "host is lost: its lease is over: silent for 6.6 s (last heartbeat 00:16:40.000)",
     "bring h1 back, or berth rm host/h1 once it is surely off",
     "no host: 1 of 1 is not up"},
    {make_left_out, NULL, "up",
     "host is lost: it was left out: the cluster was recovered on host h9",
     "berth down --forget on h1, then berth join; or berth rm host/h1 once it is surely "
     "off",
     "no host: 1 of 1 is not up"},
    {make_given_up, mend_given_up, "up",
     "host is back, and has not taken its orders over",
     "wait a moment, or look after the disk of h1: its berthd cannot write them down",
     "no host: 1 of 1 is not up"},
    {make_unheard, mend_silence, "up", "host was not heard by this leader yet",
     "wait a moment, or look after berthd on h1", "no host: 1 of 1 is not up"},
    {make_drained, mend_drained, "drain", "drained: \"maintenance\"", "berth undrain h1",
     "no host: 1 of 1 is drained"},
    {make_no_qemu, mend_qemu, "engine", "engine: qemu is not installed here",
     "install qemu-system-x86 on h1", "no host: 1 of 1 lacks the engine"},
    {make_no_kvm, mend_kvm, "engine",
     "engine: kvm needs native KVM, here it is: emulated",
     "switch virtualisation on in the firmware of h1, or engine: qemu",
     "no host: 1 of 1 lacks the engine"},
    {make_no_fake, mend_fake, "engine", "engine: fake is not installed here",
     "engine: auto, or a berthd with this engine on h1",
     "no host: 1 of 1 lacks the engine"},
    {make_no_baseline, mend_baseline, "baseline",
     "baseline: x86-64-v2 is engine kvm's, which has none here",
     "cpu.baseline: host, or native KVM and berth-vmm on h1",
     "no host: 1 of 1 lacks the CPU's baseline"},
    {make_older_cpus, mend_baseline, "baseline",
     "baseline: its CPUs give x86-64-v2, not x86-64-v3",
     "cpu.baseline: x86-64-v2, or add a host with newer CPUs",
     "no host: 1 of 1 lacks the CPU's baseline"},
    {make_wide, NULL, "cpu", "cpu: 16.0 of 32 vCPUs free",
     "a machine of at most 16.0 vCPUs on h1, or a larger host",
     "no host: 1 of 1 lacks CPU"},
    {make_no_pool, mend_pool, "pages", "huge pages: the host has none that VMs may have",
     "memory.pages: normal, or reserve pages of 2MiB on h1, which needs engine kvm",
     "no host: 1 of 1 lacks huge pages"},
    {make_small_pool, mend_pool, "pages", "huge pages: 128MiB free of 256MiB",
     "free 128MiB on h1, or add a host", "no host: 1 of 1 lacks huge pages"},
    {make_zone, NULL, "require", "require: host.zone == r2 (is not set)",
     "berth host label h1 zone=r2 where that is so, drop the rule host.zone == r2 from "
     "placement.require, or add a host that meets it",
     "no host: 1 of 1 fails placement.require"},
    {make_cores, NULL, "require", "require: host.cpu.cores >= 1000 (is 0)",
     "drop the rule host.cpu.cores >= 1000 from placement.require, or add a host that "
     "meets it",
     "no host: 1 of 1 fails placement.require"},
    {make_quotes, NULL, "require", "require: host.label.disk == \"ssd\" (is not set)",
     "berth host label h1 disk=ssd where that is so, drop the rule host.label.disk == "
     "\"ssd\" from placement.require, or add a host that meets it",
     "no host: 1 of 1 fails placement.require"},
    {make_all_too_large, NULL, "memory",
     "memory: 1GiB free of 2TiB; cpu: 16.0 of 64 vCPUs free; disk: 10GiB free of 60GiB",
     "a machine of at most 1GiB on h1, or a larger host; and a machine of at most 16.0 "
     "vCPUs on h1, or a larger host; and disks of at most 10GiB on h1, or a larger "
     "--disk-overcommit",
     "no host: 1 of 1 lacks memory"},
    {make_just_too_large, NULL, "memory", "memory: 1.2GiB free of 1.3GiB",
     "a machine of at most 1.2GiB on h1, or a larger host",
     "no host: 1 of 1 lacks memory"},
    {make_spread, NULL, "spread", "spread: 1 of the group is already there",
     "spread.max: 2, or add a host", "no host: 1 of 1 has enough of the group"},
    {make_range, mend_range, "range",
     "range: tiny (10.1.0.0/29) overlaps 0.0.0.0/0, all of it",
     "take that away from h1, or a network of another range",
     "no host: 1 of 1 uses its network's range itself"},
    {make_addresses, mend_addresses, "network", "network: tiny has no free address",
     "remove VMs from tiny, or make a network with a larger cidr",
     "no host: 1 of 1 gets no address"},
    {make_site, mend_addresses, "network",
     "network: tiny has no free address for a further host",
     "remove VMs from tiny, or make a network with a larger cidr",
     "no host: 1 of 2 gets no address, 1 of 2 is drained"},
    {make_many, mend_memory, "vms", "vms: 600 are there, the most one host takes",
     "add a host", "no host: 1 of 1 is full of VMs"},
    {make_memory, mend_memory, "memory", "memory: 128MiB free of 256MiB",
     "free 128MiB on h1, or add a host", "no host: 1 of 1 lacks memory"},
    {make_too_large, NULL, "memory", "memory: 1GiB free of 2GiB",
     "a machine of at most 1GiB on h1, or a larger host", "no host: 1 of 1 lacks memory"},
    {make_cpu, NULL, "cpu", "cpu: 0.0 of 4 vCPUs free",
     "free 4.0 vCPUs on h1, or add a host", "no host: 1 of 1 lacks CPU"},
    {make_too_wide, NULL, "cpu", "cpu: 16.0 of 32 vCPUs free",
     "a machine of at most 16.0 vCPUs on h1, or a larger host",
     "no host: 1 of 1 lacks CPU"},
    {make_disk, mend_memory, "disk", "disk: 3GiB free of 7GiB",
     "free 4GiB on h1, a larger --disk-overcommit, or add a host",
     "no host: 1 of 1 lacks disk"},
    {make_too_large_disk, NULL, "disk", "disk: 10GiB free of 20GiB",
     "disks of at most 10GiB on h1, or a larger --disk-overcommit",
     "no host: 1 of 1 lacks disk"},
    {make_full_disk, mend_full_disk, "disk",
     "disk: the disk of the host is full, what is kept free aside",
     "make room on the disk of h1", "no host: 1 of 1 lacks disk"},
};

START_TEST(a_vm_that_cannot_leave_a_drained_host_says_why)
{
    put_rule("here", "host.name == h1");
    (void)admit_one("a", "here");
    settle_all();
    ck_assert_uint_eq(host_of_vm("a"), h1);
    (void)make_host("h2", 2, 4000, 1 * GIB);
    (void)make_host("h3", 3, 4000, 1 * GIB);
    hear_all();
    ck_assert_str_eq(waits("a"), "");

    ck_assert_int_eq(host_drain(h1, true), 0);
    settle();
    explain("a");

    ck_assert_uint_eq(host_of_vm("a"), h1);
    ck_assert_str_eq(said("h1", "verdict"), "here");
    ck_assert_str_eq(said("h1", "reason"),
                     "it is there, and is to leave: the host is drained");
    ck_assert_ptr_nonnull(strstr(
        text("summary"), "; it is to leave h1, which is drained, and no other "
                         "host takes it: 2 of 2 fail placement.require. It needs"));
    ck_assert_str_eq(waits("a"), "is to leave h1, which is drained; no host: 1 of 3 is "
                                 "drained, 2 of 3 fail placement.require");
    ck_assert_int_eq(host_drain(h1, false), 0);
    explain("a");
    ck_assert_str_eq(said("h1", "reason"), "it is there");
    ck_assert_str_eq(waits("a"), "");
}
END_TEST

START_TEST(every_rule_says_why_and_what_helps)
{
    cases[_i].make();
    const char *name = cases[_i].make == make_spread ? "web-2" : "a";
    explain(name);

    ck_assert_str_eq(said("h1", "verdict"), "no");
    ck_assert_str_eq(said("h1", "rule"), cases[_i].rule);
    ck_assert_str_eq(said("h1", "reason"), cases[_i].reason);
    ck_assert_str_eq(said("h1", "fix"), cases[_i].fix);
    ck_assert_uint_ge(
        json_member_u64(json_object_get(answered, "refused"), cases[_i].rule, 0), 1);
    ck_assert_uint_eq(json_member_u64(answered, "fits", 9), 0);
    ck_assert_ptr_nonnull(strstr(text("summary"), "no host takes it ("));
    ck_assert_ptr_nonnull(strstr(text("summary"), cases[_i].rule));
    ck_assert_str_eq(waits(name), cases[_i].waits);
    (void)step_once(); /* and the scheduler agrees */
    ck_assert_uint_eq(commands_of(COMMAND_PLACE_VM), 0);
    if (cases[_i].mend != NULL) {
        cases[_i].mend();
        explain(name);
        ck_assert_str_eq(said("h1", "verdict"), "fits");
        ck_assert_uint_eq(json_member_u64(answered, "fits", 0), 1);
        settle();
        ck_assert_uint_eq(host_of_vm(name), h1);
    }
}
END_TEST

START_TEST(a_taken_range_and_used_up_addresses_are_told_apart)
{
    make_addresses();
    (void)make_host("h2", 2, 4000, 1 * GIB);
    (void)make_host("h3", 3, 4000, 1 * GIB);
    hear_all();
    (void)step_and_apply(); /* that they are there */
    take_range("h2");
    take_range("h3");
    explain("a");

    ck_assert_str_eq(said("h1", "rule"), "network");
    ck_assert_str_eq(said("h2", "rule"), "range");
    const json_t *refused = json_object_get(answered, "refused");
    ck_assert_uint_eq(json_member_u64(refused, "network", 0), 1);
    ck_assert_uint_eq(json_member_u64(refused, "range", 0), 2);
    ck_assert_str_eq(waits("a"), "no host: 1 of 3 gets no address, 2 of 3 use their "
                                 "network's range themselves");
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("explain_rules");
    Suite *suite = suite_create("explain_rules");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 100);
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, a_taken_range_and_used_up_addresses_are_told_apart);
    tcase_add_test(tests, a_vm_that_cannot_leave_a_drained_host_says_why);
    tcase_add_loop_test(tests, every_rule_says_why_and_what_helps, 0,
                        sizeof(cases) / sizeof(cases[0]));
    return test_main_run(suite);
}
