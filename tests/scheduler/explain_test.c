/* Goal: whoever asks why a VM is not placed is told, host by host, which rule refuses it
 * and what the nearest fix is. Method: one case per filter on a host of its own, the
 * whole text compared; each fix that can be carried out is, and the host then fits. */
#include "base/json.h"
#include "model/state_rebirth.h"
#include "scheduler_fixture.h"

static json_t *answered;
static const char *known_wait; /* what the caller knows */

static void setup(void)
{
    cluster_start();
    answered = NULL;
    known_wait = NULL;
}

static void teardown(void)
{
    json_decref(answered);
    cluster_stop();
}

static void explain(const char *vm)
{
    json_decref(answered);
    answered = scheduler_explain_vm(scheduler, state, vm_named(vm), known_wait);
    ck_assert_ptr_nonnull(answered);
}

static void explain_group(const char *group)
{
    json_decref(answered);
    answered =
        scheduler_explain_group(scheduler, state, group_named(group), known_wait, now_ns);
    ck_assert_ptr_nonnull(answered);
}

static const char *text(const char *key)
{
    return json_member_text(answered, key, "(absent)");
}

static const json_t *row_of(const char *host)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(answered, "hosts"), i, row)
    {
        if (strcmp(json_member_text(row, "host", ""), host) == 0) {
            return row;
        }
    }
    ck_abort_msg("no row for %s", host);
    return NULL;
}

static const char *said(const char *host, const char *key)
{
    return json_member_text(row_of(host), key, "(absent)");
}

/* ---- one case per filter ---- */

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

static const char *waits(const char *vm)
{
    static char words[256];
    unsigned looks = 1;
    (void)scheduler_pending_reason(scheduler, state, vm_named(vm), &looks, words,
                                   sizeof(words));
    return words;
}

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

/* Placements that were worked out to say why `vm` waits. */
static unsigned looks_for(const char *vm, bool *ret_waits, char *ret_text, size_t size)
{
    unsigned looks = 5;
    *ret_waits =
        scheduler_pending_reason(scheduler, state, vm_named(vm), &looks, ret_text, size);
    return 5 - looks;
}

START_TEST(vms_of_one_kind_share_a_look_until_something_changes)
{
    char text[256];
    bool none = false;
    put_machine("huge", 1, 2 * GIB, NULL);
    (void)admit_one("a", "huge");
    (void)admit_one("b", "huge");
    ck_assert_uint_eq(looks_for("a", &none, text, sizeof(text)), 1);
    ck_assert_uint_eq(looks_for("b", &none, text, sizeof(text)), 0);
    ck_assert(none);
    ck_assert_str_eq(text, "no host: 1 of 1 lacks memory");
    hear(h1); /* its disk may be full now */
    ck_assert_uint_eq(looks_for("b", &none, text, sizeof(text)), 1);
    ck_assert_uint_eq(looks_for("a", &none, text, sizeof(text)), 0);
    (void)make_host("h2", 2, 4000, 4 * GIB);
    hear_all();
    ck_assert_uint_eq(looks_for("a", &none, text, sizeof(text)), 1);
    ck_assert_uint_eq(looks_for("b", &none, text, sizeof(text)), 0);
    ck_assert(!none); /* they go there next */
    ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(with_no_look_left_it_says_who_knows)
{
    char text[256];
    unsigned looks = 0;
    put_machine("huge", 1, 2 * GIB, NULL);
    (void)admit_one("a", "huge");
    (void)admit_plain("c");
    ck_assert(scheduler_pending_reason(scheduler, state, vm_named("a"), &looks, text,
                                       sizeof(text)));
    ck_assert_str_eq(text, "berth explain vm/a says why");
    ck_assert_uint_eq(looks, 0);
    settle();
    ck_assert(!scheduler_pending_reason(scheduler, state, vm_named("c"), &looks, text,
                                        sizeof(text))); /* it does not wait */
    ck_assert_str_eq(text, "");
}
END_TEST

/* The change feed tells of VMs by copies, which go. */
START_TEST(an_older_copy_of_a_vm_is_looked_at_as_it_is_now)
{
    char text[256];
    unsigned looks = 5;
    put_machine("huge", 1, 2 * GIB, NULL);
    (void)admit_one("a", "huge");
    (void)admit_plain("c");
    struct vm *old = object_new(KIND_VM);
    old->meta.uid = vm_named("a")->meta.uid;
    ck_assert(
        scheduler_pending_reason(scheduler, state, old, &looks, text, sizeof(text)));
    ck_assert_str_eq(text, "no host: 1 of 1 lacks memory");
    old->meta.uid = vm_named("c")->meta.uid;
    settle();
    ck_assert(
        !scheduler_pending_reason(scheduler, state, old, &looks, text, sizeof(text)));
    old->meta.uid = 4711;
    ck_assert(
        !scheduler_pending_reason(scheduler, state, old, &looks, text, sizeof(text)));
    object_free(KIND_VM, old);
}
END_TEST

/* ---- VMs ---- */

START_TEST(a_pending_vm_is_told_where_it_goes)
{
    (void)make_host("h2", 2, 4000, 4 * GIB);
    hear_all();
    (void)admit_plain("a");
    explain("a");

    ck_assert_str_eq(text("subject"), "vm/a");
    ck_assert_str_eq(text("summary"),
                     "a is pending: it goes to h1 next. It needs cpu 1, memory 128MiB.");
    ck_assert_str_eq(said("h1", "reason"), "best place for the next one");
    ck_assert_str_eq(said("h2", "verdict"), "fits");
    ck_assert_str_eq(said("h2", "reason"), "");
    ck_assert_uint_eq(json_member_u64(answered, "revision", 0), state_revision(state));
}
END_TEST

START_TEST(a_pending_vm_counts_its_refusals_by_rule)
{
    uint64_t h2 = make_host("h2", 2, 4000, 4 * GIB);
    (void)make_host("h3", 3, 4000, 64 * MIB);
    ck_assert_int_eq(host_drain(h2, true), 0);
    hear_all();
    put_machine("large", 1, 2 * GIB, NULL);
    (void)admit_one("a", "large");
    explain("a");

    ck_assert_str_eq(text("summary"),
                     "a is pending: no host takes it (3 hosts: 2 memory, 1 "
                     "drain). It needs cpu 1, memory 2GiB.");
}
END_TEST

START_TEST(a_pending_vm_says_in_a_few_words_what_it_lacks)
{
    uint64_t h2 = make_host("h2", 2, 4000, 4 * GIB);
    (void)make_host("h3", 3, 4000, 64 * MIB);
    hear_all();
    put_machine("large", 1, 200 * GIB, NULL);
    (void)admit_one("a", "large");
    (void)admit_plain("b");
    ck_assert_str_eq(waits("a"), "no host: 3 of 3 lack memory");
    ck_assert_str_eq(waits("b"), ""); /* it goes somewhere */

    ck_assert_int_eq(host_drain(h2, true), 0);
    ck_assert_str_eq(waits("a"), "no host: 2 of 3 lack memory, 1 of 3 is drained");
}
END_TEST

START_TEST(a_vm_that_runs_is_shown_on_its_host)
{
    (void)make_host("h2", 2, 4000, 4 * GIB);
    hear_all();
    (void)ready_vm("a", h1);
    explain("a");

    ck_assert_str_eq(text("summary"),
                     "a is ready on h1 (epoch 1): seen. It needs cpu 1, memory 128MiB.");
    ck_assert_str_eq(said("h1", "verdict"), "here");
    ck_assert_str_eq(said("h2", "verdict"), "fits");

    known_wait = "image linux is nowhere";
    explain("a");
    ck_assert_str_eq(text("summary"),
                     "a is ready on h1 (epoch 1): image linux is nowhere. "
                     "It needs cpu 1, memory 128MiB.");
}
END_TEST

static void put_restart(enum restart_policy policy, uint32_t attempts)
{
    struct template *template = make_template(DEFAULT_TENANT, "r", NULL);
    template->spec.lifecycle.restart.policy = policy;
    template->spec.lifecycle.restart.attempts = attempts;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
}

static const struct {
    enum restart_policy policy;
    uint32_t attempts;
    enum phase end;
    bool off;
    const char *said;
} ended[] = {
    {RESTART_ON_FAILURE, 10, PHASE_FAILED, false, "restart 1 of 10 is due at 00:16:45"},
    {RESTART_ON_FAILURE, 0, PHASE_FAILED, false,
     "0 restarts in a row are over: berth start a"},
    {RESTART_ON_FAILURE, 10, PHASE_STOPPED, false,
     "restart.policy on-failure leaves it so: berth start a"},
    {RESTART_NEVER, 10, PHASE_FAILED, false,
     "restart.policy never leaves it so: berth start a"},
    {RESTART_ALWAYS, 10, PHASE_STOPPED, true, "it is switched off: berth start a"},
};

START_TEST(a_vm_that_has_ended_says_what_comes_next)
{
    put_restart(ended[_i].policy, ended[_i].attempts);
    uint64_t vm = admit_one("a", "r");
    settle_all();
    ck_assert_int_eq(reports(vm, ended[_i].end), 0);
    if (ended[_i].off) {
        ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    }
    explain("a");
    ck_assert_contains(text("summary"), ended[_i].said);
}
END_TEST

/* ---- groups ---- */

START_TEST(a_group_says_what_it_lacks_and_why)
{
    put_group("web", "plain", 10);
    settle_all();
    explain_group("web");
    ck_assert_str_eq(text("subject"), "group/web");
    ck_assert_str_eq(
        text("summary"),
        "web needs 2 more VMs (8 of 10 placed), each cpu 1, memory 128MiB: no "
        "host takes it (1 host: 1 memory).");

    ck_assert_int_eq(scale("web", 8, true), 0);
    settle_all();
    explain_group("web");
    ck_assert_str_eq(text("summary"),
                     "web has all its VMs (8 of 8 placed, 8 ready); each "
                     "needs cpu 1, memory 128MiB.");

    known_wait = "image linux is nowhere";
    explain_group("web");
    ck_assert_str_eq(text("summary"),
                     "web has all its VMs (8 of 8 placed, 8 ready); each needs cpu 1, "
                     "memory 128MiB. None can start: image linux is nowhere.");
}
END_TEST

START_TEST(a_group_at_its_quota_is_told_so)
{
    struct tenant *tenant = make_tenant(DEFAULT_TENANT);
    tenant->spec.quota.vms = 3;
    ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
    put_group("web", "plain", 4);
    settle_all();
    explain_group("web");

    ck_assert_contains(text("summary"),
                       "quota of tenant default: vms 3 of 3 in use, 1 more asked");
}
END_TEST

START_TEST(a_group_says_of_which_vms_it_is_not_known_where_they_are)
{
    struct err err;
    struct template *template = make_template(DEFAULT_TENANT, "patient", NULL);
    const struct rebirth rebirth = {.wall_ms = fixture_wall_ms, .reason = "restored"};
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(level_at_least(LEVEL_PLACE_UNKNOWN), 0);
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    put_group("db", "patient", 2);
    settle_all();
    ck_assert_int_eq(state_rebirth(state, &rebirth, &err), 0);
    explain_group("db");
    ck_assert_str_eq(
        text("summary"),
        "db: since the cluster began again it is not known where 2 of its 2 VMs are (0 "
        "ready, 2 wanted); it starts and gives up none of those by itself: berth explain "
        "vm/db-1.");
}
END_TEST

START_TEST(a_group_says_which_vms_wait_for_a_lost_host)
{
    struct template *template = make_template(DEFAULT_TENANT, "patient", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    put_group("db", "patient", 2);
    settle_all();
    const uint64_t host = vm_named("db-1")->status.host;
    ck_assert_uint_eq(vm_named("db-2")->status.host, host);
    ck_assert_int_eq(host_phase(host, HOST_PHASE_LOST), 0);
    ck_assert_int_eq(scale("db", 1, true), 0);
    settle_all();
    explain_group("db");
    ck_assert_str_eq(text("summary"),
                     "db: 2 of its 2 VMs wait for a lost host, where they may still run "
                     "(0 ready, 1 wanted); it starts and gives up none of those by "
                     "itself: berth explain vm/db-1.");
}
END_TEST

/* That one is lost says nothing of why another is nowhere. */
START_TEST(a_group_with_a_lost_vm_says_what_the_others_wait_for)
{
    struct template *template = make_template(DEFAULT_TENANT, "patient", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    put_group("db", "patient", 1);
    settle_all();
    ck_assert_int_eq(host_phase(vm_named("db-1")->status.host, HOST_PHASE_LOST), 0);
    struct tenant *tenant = make_tenant(DEFAULT_TENANT);
    tenant->spec.quota.vms = 1;
    ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
    ck_assert_int_eq(scale("db", 3, true), 0);
    settle_all();
    explain_group("db");
    ck_assert_str_eq(
        text("summary"),
        "db: 1 of its 1 VMs waits for a lost host, where it may still run "
        "(0 ready, 3 wanted); it starts and gives up none of those by "
        "itself: berth explain vm/db-1. db needs 2 more VMs (0 of 3 placed), "
        "each cpu 1, memory 128MiB: quota of tenant default: vms 1 of 1 in "
        "use, 1 more asked.");
}
END_TEST

START_TEST(a_group_on_its_way_out_says_so)
{
    put_group("web", "plain", 2);
    settle_all();
    ck_assert_int_eq(delete_object(KIND_GROUP, DEFAULT_TENANT, "web"), 0);
    settle();
    explain_group("web");
    ck_assert_str_eq(text("summary"), "web is being deleted: 2 VMs are still to go.");
}
END_TEST

START_TEST(a_group_that_scales_by_load_shows_its_numbers)
{
    struct group *group = make_group(DEFAULT_TENANT, "web", "plain", 0);
    struct record_list list = {0};
    struct scale_target *target = record_list_add(&scale_target_record, &list);
    target->target_permille = 500;
    target->window_ms = 5000;
    group->spec.autoscale.min = 2;
    group->spec.autoscale.max = 6;
    group->spec.autoscale.targets.items = list.items;
    group->spec.autoscale.targets.count = list.count;
    ck_assert_int_eq(put(KIND_GROUP, group), 0);
    settle_all();
    for (unsigned i = 0; i < 2; i++) { /* ready, and ready for its window */
        now_ns += i * 5 * NS_PER_S;
        scheduler_vm_load(scheduler, vm_named("web-1")->meta.uid, 900, true, now_ns);
        scheduler_vm_load(scheduler, vm_named("web-2")->meta.uid, 700, true, now_ns);
    }
    explain_group("web");

    const json_t *scale = json_object_get(answered, "autoscale");
    ck_assert_uint_eq(json_member_u64(scale, "cpuPermille", 0), 800);
    ck_assert_uint_eq(json_member_u64(scale, "targetPermille", 0), 500);
    ck_assert_uint_eq(json_member_u64(scale, "measuredVms", 0), 2);
    ck_assert_uint_eq(json_member_u64(scale, "wish", 0), 4);
    ck_assert_uint_eq(json_member_u64(scale, "desired", 0), 2);
}
END_TEST

/* ---- texts that are no UTF-8, or are cut within a character ---- */

START_TEST(foreign_bytes_do_not_cost_a_row)
{
    char long_reason[240];
    for (size_t i = 0; i + 2 < sizeof(long_reason); i += 2) {
        memcpy(long_reason + i, "\xc3\xa4", 2); /* ä; "drained: \"" shifts the cut */
    }
    long_reason[sizeof(long_reason) - 2] = '\0';
    struct command command;
    command_init(&command, COMMAND_HOST_DRAIN);
    command.body.host_drain.host = h1;
    command.body.host_drain.drain = true;
    char odd[256];
    (void)snprintf(odd, sizeof(odd), "x%s", long_reason);
    set_text(&command.body.host_drain.reason, odd);
    ck_assert_int_eq(send_command(&command), 0);
    uint64_t vm = admit_plain("a");
    explain("a");
    ck_assert_ptr_nonnull(strstr(said("h1", "reason"), "drained: \"x\xc3\xa4"));

    ck_assert_int_eq(host_drain(h1, false), 0);
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    command_init(&command, COMMAND_VM_PHASE);
    command.body.vm_phase.vm = vm;
    command.body.vm_phase.host = h1;
    command.body.vm_phase.epoch = 1;
    command.body.vm_phase.phase = PHASE_FAILED;
    set_text(&command.body.vm_phase.reason, "panic: \xff\xfe at boot");
    ck_assert_int_eq(send_command(&command), 0);
    explain("a");
    ck_assert_contains(text("summary"), "panic: ?? at boot");
}
END_TEST

/* ---- plans ---- */

static void forecast(const char *group, const char *template, uint32_t count)
{
    const struct template *found = FIND(KIND_TEMPLATE, DEFAULT_TENANT, template);
    json_decref(answered);
    answered = scheduler_forecast(scheduler, state, DEFAULT_TENANT, group, &found->spec,
                                  count, now_ns);
    ck_assert_ptr_nonnull(answered);
}

START_TEST(a_plan_says_where_new_vms_would_go_and_what_is_missing)
{
    (void)make_host("h2", 2, 4000, 256 * MIB);
    hear_all();
    forecast(NULL, "plain", 12);

    ck_assert_uint_eq(json_array_size(json_object_get(answered, "placed")), 10);
    ck_assert_uint_eq(json_member_u64(answered, "unplaced", 0), 2);
    ck_assert_str_eq(said("h1", "rule"), "memory");
    ck_assert_str_eq(said("h2", "rule"), "memory");
    ck_assert_uint_eq(step_once(), 0); /* nothing was really taken */
    forecast(NULL, "plain", 10);
    ck_assert_ptr_null(json_object_get(answered, "hosts"));
}
END_TEST

START_TEST(a_plan_of_a_new_group_obeys_its_spread)
{
    struct template *template = make_template(DEFAULT_TENANT, "apart", NULL);
    template->spec.placement.spread.by = SPREAD_HOST;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    (void)make_host("h2", 2, 4000, 1 * GIB);
    hear_all();
    forecast(NULL, "apart", 3);
    ck_assert_uint_eq(json_array_size(json_object_get(answered, "placed")), 2);
    ck_assert_str_eq(said("h1", "rule"), "spread");

    put_group("web", "apart", 1);
    settle_all();
    forecast("web", "apart", 3);
    ck_assert_uint_eq(json_array_size(json_object_get(answered, "placed")), 1);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("explain");
    Suite *suite = suite_create("explain");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 100);
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, a_taken_range_and_used_up_addresses_are_told_apart);
    tcase_add_test(tests, vms_of_one_kind_share_a_look_until_something_changes);
    tcase_add_test(tests, with_no_look_left_it_says_who_knows);
    tcase_add_test(tests, an_older_copy_of_a_vm_is_looked_at_as_it_is_now);
    tcase_add_test(tests, a_vm_that_cannot_leave_a_drained_host_says_why);
    tcase_add_loop_test(tests, every_rule_says_why_and_what_helps, 0,
                        sizeof(cases) / sizeof(cases[0]));
    tcase_add_test(tests, a_pending_vm_is_told_where_it_goes);
    tcase_add_test(tests, a_pending_vm_counts_its_refusals_by_rule);
    tcase_add_test(tests, a_pending_vm_says_in_a_few_words_what_it_lacks);
    tcase_add_test(tests, a_vm_that_runs_is_shown_on_its_host);
    tcase_add_loop_test(tests, a_vm_that_has_ended_says_what_comes_next, 0,
                        sizeof(ended) / sizeof(ended[0]));
    tcase_add_test(tests, a_group_says_what_it_lacks_and_why);
    tcase_add_test(tests, a_group_at_its_quota_is_told_so);
    tcase_add_test(tests, a_group_says_of_which_vms_it_is_not_known_where_they_are);
    tcase_add_test(tests, a_group_says_which_vms_wait_for_a_lost_host);
    tcase_add_test(tests, a_group_with_a_lost_vm_says_what_the_others_wait_for);
    tcase_add_test(tests, a_group_on_its_way_out_says_so);
    tcase_add_test(tests, a_group_that_scales_by_load_shows_its_numbers);
    tcase_add_test(tests, foreign_bytes_do_not_cost_a_row);
    tcase_add_test(tests, a_plan_says_where_new_vms_would_go_and_what_is_missing);
    tcase_add_test(tests, a_plan_of_a_new_group_obeys_its_spread);
    return test_main_run(suite);
}
