/* Goal: a VM goes to the best host that may have it, and to none that may not. Method:
 * small clusters where the best host is plain to see, and a seeded walk in which the
 * quick choice is compared with a slow one that asks every filter. */
#include "base/random.h"
#include "scheduler/place.h"
#include "scheduler_fixture.h"

static struct overlay overlay;
static struct placement placement;
static uint64_t h2;
static uint64_t h3;

static void setup(void)
{
    cluster_start();
    h2 = make_host("h2", 2, 4000, 2 * GIB);
    h3 = make_host("h3", 3, 4000, 4 * GIB);
    overlay_init(&overlay);
    placement = (struct placement){0};
}

static void teardown(void)
{
    placement_fini(&placement);
    overlay_fini(&overlay);
    cluster_stop();
}

static const struct machine_spec *machine_of(const char *template)
{
    const struct template *found = FIND(KIND_TEMPLATE, DEFAULT_TENANT, template);
    ck_assert_ptr_nonnull(found);
    return &found->spec;
}

static void ask(const char *template, const char *group)
{
    const struct place_request request = {.tenant = DEFAULT_TENANT,
                                          .machine = machine_of(template),
                                          .group =
                                              group != NULL ? group_named(group) : NULL};
    placement_fini(&placement);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_assert_int_eq(placement_init(&placement, &request, &overlay, NULL), 0);
}

static uint64_t best_host(void)
{
    int64_t best = placement_best(&placement);
    return best >= 0 ? overlay.hosts[best]->meta.uid : 0;
}

static void take_best(void)
{
    int64_t best = placement_best(&placement);
    ck_assert_int_ge(best, 0);
    const struct group *group = placement.request.group;
    ck_assert_int_eq(overlay_take(&overlay, (uint32_t)best, placement.request.machine,
                                  group != NULL ? group->meta.uid : 0),
                     0);
    placement_took(&placement, (uint32_t)best);
}

START_TEST(the_host_that_is_left_fullest_is_best)
{
    ask("plain", NULL);
    ck_assert_uint_eq(best_host(), h1); /* the smallest */

    put_machine("large", 1, 1 * GIB + 1 * MIB, NULL);
    ask("large", NULL);
    ck_assert_uint_eq(best_host(), h2);

    for (unsigned i = 0; i < 15; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "f-%u", i);
        (void)ready_vm(name, h3);
    }
    ask("plain", NULL);
    ck_assert_uint_eq(best_host(), h3); /* has the CPUs for one more */
    (void)ready_vm("g", h3);
    ask("plain", NULL);
    ck_assert_uint_eq(best_host(), h1);
}
END_TEST

START_TEST(equal_hosts_are_taken_by_age)
{
    set_host(h2, 4000, 1 * GIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    set_host(h3, 4000, 1 * GIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    ask("plain", NULL);
    ck_assert_uint_eq(best_host(), h1);
    ck_assert_int_eq(host_drain(h1, true), 0);
    ask("plain", NULL);
    ck_assert_uint_eq(best_host(), h2);
}
END_TEST

START_TEST(one_by_one_a_host_is_filled_and_never_beyond)
{
    unsigned on_h1 = 0;
    ask("plain", NULL);
    for (unsigned i = 0; i < 8 + 16 + 16; i++) { /* h3 has no CPU for more than 16 */
        on_h1 += best_host() == h1;
        take_best();
    }
    ck_assert_uint_eq(on_h1, 8);
    for (uint32_t i = 0; i < overlay.count; i++) {
        ck_assert_int_ge(overlay.free_bytes[i], 0);
        ck_assert_int_ge(overlay.free_mcpu[i], 0);
    }
    ck_assert_int_eq(placement_best(&placement), -1);
}
END_TEST

START_TEST(a_group_is_spread_before_hosts_are_filled)
{
    put_group("web", "plain", 6);
    ask("plain", "web");
    uint64_t seen[3];
    for (unsigned i = 0; i < 3; i++) {
        seen[i] = best_host();
        take_best();
    }
    ck_assert(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
    for (unsigned i = 0; i < 3; i++) {
        take_best();
    }
    for (uint32_t i = 0; i < overlay.count; i++) {
        ck_assert_uint_eq(overlay.vms[i], 2);
    }
}
END_TEST

START_TEST(what_is_there_of_the_group_counts_for_its_spread)
{
    put_group("web", "plain", 6);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "web-1", "plain", "web"), 0);
    ck_assert_int_eq(place(answer.uid, h1, 1, 0), 0);
    ask("plain", "web");
    ck_assert_uint_eq(best_host(), h2);
    ask("plain", NULL); /* no member: best fit alone */
    ck_assert_uint_eq(best_host(), h1);
}
END_TEST

START_TEST(spread_max_is_a_rule)
{
    struct template *template = make_template(DEFAULT_TENANT, "apart", NULL);
    template->spec.placement.spread.by = SPREAD_HOST;
    template->spec.placement.spread.max = (uint32_t)_i;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    put_group("web", "apart", 20);
    ask("apart", "web");
    for (int i = 0; i < 3 * _i; i++) {
        take_best();
    }
    ck_assert_int_eq(placement_best(&placement), -1);
    for (uint32_t i = 0; i < overlay.count; i++) {
        ck_assert_uint_eq(overlay.vms[i], (unsigned)_i);
    }
}
END_TEST

START_TEST(a_group_that_is_yet_to_be_made_is_spread_too)
{
    const struct place_request request = {
        .tenant = DEFAULT_TENANT, .machine = machine_of("plain"), .group_is_new = true};
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_assert_int_eq(placement_init(&placement, &request, &overlay, NULL), 0);
    for (unsigned i = 0; i < 3; i++) {
        take_best();
    }
    for (uint32_t i = 0; i < overlay.count; i++) {
        ck_assert_uint_eq(overlay.vms[i], 1);
    }
}
END_TEST

START_TEST(a_host_takes_no_more_vms_than_it_can_report)
{
    set_host(h1, 4000000, 1024 * GIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    ck_assert_int_eq(host_drain(h2, true), 0);
    ck_assert_int_eq(host_drain(h3, true), 0);
    ask("plain", NULL);
    for (unsigned i = 0; i < PLACE_VMS_PER_HOST_MAX; i++) {
        take_best();
    }
    ck_assert_int_eq(placement_best(&placement), -1);
}
END_TEST

START_TEST(a_vm_goes_where_its_baseline_is)
{
    struct template *template = make_template(DEFAULT_TENANT, "v3", NULL);
    set_host_baseline(h1, CPU_BASELINE_V2);
    set_host_baseline(h3, CPU_BASELINE_V4);
    template->spec.cpu.baseline = CPU_BASELINE_V3;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    ask("plain", NULL);
    ck_assert_uint_eq(best_host(), h1);

    ask("v3", NULL);

    ck_assert_uint_eq(best_host(), h3);
    set_host_baseline(h3, CPU_BASELINE_HOST);
    ask("v3", NULL);
    ck_assert_uint_eq(best_host(), 0);
}
END_TEST

/* What is in the pool is no memory for others, nor the other way round. */
START_TEST(a_vm_with_huge_pages_goes_where_the_pool_has_room)
{
    set_host_special(h3, CPU_BASELINE_V2, 512 * MIB);
    put_machine_huge("huge", 256 * MIB);
    ask("huge", NULL);
    const int64_t before = overlay.free_bytes[overlay_index(&overlay, h3)];
    ck_assert_uint_eq(best_host(), h3);
    take_best();
    ck_assert_uint_eq(best_host(), h3);
    take_best();

    ck_assert_uint_eq(best_host(), 0);

    ck_assert_int_eq(overlay.free_bytes[overlay_index(&overlay, h3)], before);
    ck_assert_int_eq(overlay.free_pool[overlay_index(&overlay, h3)], 0);
    ck_assert_int_eq(overlay.free_pool[overlay_index(&overlay, h1)], 0);
}
END_TEST

START_TEST(a_host_keeps_room_for_the_cpus_that_may_come)
{
    struct template *template = make_template(DEFAULT_TENANT, "wide", NULL);
    ck_assert_int_eq(level_at_least(LEVEL_MACHINES), 0);
    template->spec.cpu.count = 1;
    template->spec.cpu.max = 12;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    ask("wide", NULL);
    const int64_t before = overlay.free_mcpu[overlay_index(&overlay, h1)];
    ck_assert_uint_eq(best_host(), h1);
    take_best();

    ck_assert_uint_ne(best_host(), h1);

    ck_assert_int_eq(overlay.free_mcpu[overlay_index(&overlay, h1)], before - 12000);
}
END_TEST

START_TEST(a_host_without_capacity_takes_nothing)
{
    set_host(h1, 0, 0, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    set_host(h2, 4000, 0, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    set_host(h3, 0, 4 * GIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    ask("plain", NULL);
    ck_assert_uint_eq(best_host(), 0);
}
END_TEST

START_TEST(a_host_that_this_leader_has_not_heard_is_not_trusted)
{
    struct host_watch *watch = host_watch_new();
    const struct host_load load = {0};
    const struct place_request request = {.tenant = DEFAULT_TENANT,
                                          .machine = machine_of("plain")};
    ck_assert_int_eq(host_watch_heard(watch, h3, &load, now_ns, 1), 0);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_assert_int_eq(placement_init(&placement, &request, &overlay, watch), 0);

    ck_assert_uint_eq(best_host(), h3);
    host_watch_free(watch);
}
END_TEST

/* ---- networks ---- */

/* 10.1.0.0/29 has six addresses: the gateway, and five. */
static void put_tiny(void)
{
    ck_assert_int_eq(put(KIND_NETWORK, make_network(DEFAULT_TENANT, "tiny",
                                                    ((uint64_t)0x0a010000 << 8) | 29)),
                     0);
    put_machine("small", 1, 64 * MIB, "tiny");
}

static uint64_t tiny(void)
{
    const struct network *network = FIND(KIND_NETWORK, DEFAULT_TENANT, "tiny");
    return network->meta.uid;
}

static void vm_in_tiny(const char *name, uint64_t host, uint32_t last)
{
    ck_assert_int_eq(admit(DEFAULT_TENANT, name, "small", ""), 0);
    ck_assert_int_eq(place(answer.uid, host, 1, 0x0a010000 + last), 0);
}

START_TEST(a_host_that_needs_the_range_for_itself_does_not_carry_the_network)
{
    const struct host_range ranges[] = {
        {ADDRESS(0) - (1U << 16), 16, "10.255.0.0/16, elsewhere"},
        {ADDRESS(64), 26, "10.0.0.64/26, which this host reaches directly (link eth1)"},
    };
    const struct host_range all = {0, 0, "0.0.0.0/0"};
    struct host_watch *watch = host_watch_new();
    struct place_refusal refusal;
    for (uint32_t i = 0; i < 3; i++) {
        const uint64_t uids[] = {h1, h2, h3};
        ck_assert_int_eq(host_watch_heard(watch, uids[i], &(struct host_load){0}, 1, 1),
                         0);
    }
    ck_assert_int_eq(host_watch_set_ranges(watch, h1, ranges, 2), 0);
    ck_assert_int_eq(host_watch_set_ranges(watch, h2, &all, 1), 0);
    struct place_request request = {.tenant = DEFAULT_TENANT,
                                    .machine = machine_of("web")};
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_assert_int_eq(placement_init(&placement, &request, &overlay, watch), 0);
    ck_assert_uint_eq(best_host(), h3);
    int64_t index = overlay_index(&overlay, h1);
    ck_assert(!placement_fits(&placement, (uint32_t)index, &refusal));
    ck_assert_str_eq(refusal.rule, "range");
    ck_assert_str_eq(refusal.reason,
                     "range: front (10.0.0.0/24) overlaps 10.0.0.64/26, which this host "
                     "reaches directly (link eth1)");
    placement_fini(&placement);

    request.machine = machine_of("plain"); /* without a network */
    ck_assert_int_eq(placement_init(&placement, &request, &overlay, watch), 0);
    ck_assert_uint_eq(best_host(), h1);
    placement_fini(&placement);

    ck_assert_int_eq(host_watch_set_ranges(watch, h1, ranges, 1), 0); /* taken away */
    request.machine = machine_of("web");
    ck_assert_int_eq(placement_init(&placement, &request, &overlay, watch), 0);
    ck_assert_uint_eq(best_host(), h1);
    placement_fini(&placement);

    ck_assert_int_eq(host_watch_set_ranges(watch, h1, ranges, 2), 0);
    ck_assert_int_eq(network_host(front, h1, ADDRESS(9)), 0); /* a VM was placed there */
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_assert_int_eq(placement_init(&placement, &request, &overlay, watch), 0);
    ck_assert_uint_eq(best_host(), h3);
    placement_fini(&placement);

    const struct network *network = FIND(KIND_NETWORK, DEFAULT_TENANT, "front");
    const uint32_t vni = network->status.vni;
    ck_assert_int_eq(host_watch_set_carried(watch, h1, &vni, 1), 0); /* it is there */
    ck_assert_int_eq(placement_init(&placement, &request, &overlay, watch), 0);
    ck_assert_uint_eq(best_host(), h1);
    host_watch_free(watch);
}
END_TEST

START_TEST(the_last_address_goes_to_a_vm_not_to_another_host)
{
    put_tiny();
    ck_assert_int_eq(network_host(tiny(), h3, 0x0a010002), 0);
    vm_in_tiny("a", h3, 3);
    vm_in_tiny("b", h3, 4);
    ck_assert_int_eq(host_drain(h3, true), 0);
    ask("small", NULL);
    ck_assert_uint_eq(best_host(), h1); /* two are left: the VM's and the host's */

    ck_assert_int_eq(host_drain(h3, false), 0);
    vm_in_tiny("c", h3, 5);
    ask("small", NULL);
    ck_assert_uint_eq(best_host(), h3); /* no other has no address of its own there */

    vm_in_tiny("d", h3, 6);
    ask("small", NULL);
    ck_assert_uint_eq(best_host(), 0);
}
END_TEST

START_TEST(a_vm_that_keeps_its_address_needs_no_other)
{
    put_tiny();
    ck_assert_int_eq(network_host(tiny(), h3, 0x0a010002), 0);
    for (uint32_t last = 3; last <= 6; last++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "a-%u", last);
        vm_in_tiny(name, h3, last);
    }
    const struct vm *vm = vm_named("a-3");
    ck_assert_int_eq(evict(vm->meta.uid, 1, STOP_INTENT_MOVE), 0);
    ck_assert_int_eq(reports(vm->meta.uid, PHASE_STOPPED), 0);
    struct place_request request;
    place_request_of(state, vm_named("a-3"), &request);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_assert_int_eq(placement_init(&placement, &request, &overlay, NULL), 0);

    ck_assert(request.has_addresses);
    ck_assert_uint_eq(best_host(), h3);
}
END_TEST

START_TEST(addresses_given_in_this_step_count)
{
    uint32_t ipv4;
    put_tiny();
    ask("small", NULL);
    const struct network *network = state_network(state, tiny());
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(overlay_address(&overlay, network, &ipv4), 0);
    }
    ck_assert_uint_ne(best_host(), 0); /* two of five are left: a VM's and its host's */
    uint32_t mark = overlay_mark(&overlay);
    ck_assert_int_eq(overlay_address(&overlay, network, &ipv4), 0);
    ck_assert_uint_eq(best_host(), 0); /* no host is in it, and none can enter any more */
    overlay_undo(&overlay, mark);
    ck_assert_int_eq(overlay_add_network_host(&overlay, network, h2), 0);
    ck_assert_int_eq(overlay_address(&overlay, network, &ipv4), 0);
    ck_assert_uint_eq(best_host(), h2);
}
END_TEST

/* ---- many VMs of one kind ---- */

START_TEST(a_placement_knows_whether_it_answers_for_a_vm)
{
    struct place_request request;
    put_machine("other", 2, 128 * MIB, NULL);
    put_machine("copy", 1, 128 * MIB, NULL);
    put_group("web", "plain", 2);
    ask("plain", NULL);
    (void)admit_plain("a");
    place_request_of(state, vm_named("a"), &request);
    ck_assert(placement_is_for(&placement, &request));
    (void)admit_one("b", "other");
    place_request_of(state, vm_named("b"), &request);
    ck_assert(!placement_is_for(&placement, &request));
    (void)admit_one("c", "copy"); /* alike in all that matters */
    place_request_of(state, vm_named("c"), &request);
    ck_assert(placement_is_for(&placement, &request));
    ck_assert_int_eq(admit(DEFAULT_TENANT, "d", "plain", "web"), 0);
    place_request_of(state, vm_named("d"), &request);
    ck_assert(!placement_is_for(&placement, &request));
    placement_fini(&placement);
    ck_assert(!placement_is_for(&placement, &request));
}
END_TEST

/* ---- quick and slow agree ---- */

static double score_of(uint32_t index)
{
    const struct machine_spec *machine = placement.request.machine;
    double cpu = (double)(overlay.free_mcpu[index] - 1000 * (int64_t)machine->cpu.count) /
                 (double)overlay.cap_mcpu[index];
    double memory =
        (double)(overlay.free_bytes[index] - (int64_t)machine_plain_bytes(machine)) /
        (double)overlay.cap_bytes[index];
    return cpu * cpu + memory * memory;
}

/* No host that every filter passes is better than the one chosen. */
static void check_choice(int64_t best)
{
    struct place_refusal refusal;
    const uint32_t *counts = placement.group_counts;
    ck_assert(best < 0 || placement_fits(&placement, (uint32_t)best, &refusal));
    for (uint32_t i = 0; i < overlay.count; i++) {
        if (!placement_fits(&placement, i, &refusal)) {
            ck_assert_str_ne(refusal.reason, "");
            ck_assert_str_ne(refusal.fix, "");
            continue;
        }
        ck_assert_int_ge(best, 0);
        uint32_t own = counts != NULL ? counts[best] : 0;
        uint32_t other = counts != NULL ? counts[i] : 0;
        ck_assert_uint_le(own, other);
        if (own == other) {
            ck_assert(score_of((uint32_t)best) <= score_of(i) + 1e-12);
        }
    }
}

START_TEST(the_quick_choice_is_the_one_that_all_filters_make)
{
    struct random dice;
    random_seed(&dice, (uint64_t)_i);
    put_tiny();
    for (uint8_t i = 4; i < 20; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "h%u", i);
        (void)make_host(name, i, 1000 * (1 + (uint32_t)random_below(&dice, 8)),
                        MIB * (64 + random_below(&dice, 2000)));
        if (random_below(&dice, 6) == 0) {
            ck_assert_int_eq(host_drain(answer.uid, true), 0);
        }
        if (random_below(&dice, 6) == 0) {
            ck_assert_int_eq(host_phase(answer.uid, HOST_PHASE_SUSPECT), 0);
        }
    }
    struct template *apart = make_template(DEFAULT_TENANT, "apart", "tiny");
    apart->spec.placement.spread.by = SPREAD_HOST;
    apart->spec.placement.spread.max = 3;
    ck_assert_int_eq(put(KIND_TEMPLATE, apart), 0);
    put_group("web", "apart", 100);
    put_machine_disk("disky", 3 * GIB);
    static const char *const kinds[] = {"plain", "small", "apart", "disky"};
    ask(kinds[_i % 4], _i % 4 == 2 ? "web" : NULL);
    for (unsigned i = 0; i < 200; i++) {
        int64_t best = placement_best(&placement);
        check_choice(best);
        if (best < 0) {
            break;
        }
        if (_i % 3 > 0 && i < 3) {
            uint32_t ipv4;
            const struct network *network = state_network(state, tiny());
            ck_assert_int_eq(overlay_address(&overlay, network, &ipv4), 0);
            ck_assert_int_eq(overlay_add_network_host(&overlay, network,
                                                      overlay.hosts[best]->meta.uid),
                             0);
        }
        take_best();
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("place");
    Suite *suite = suite_create("place");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 100);
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, the_host_that_is_left_fullest_is_best);
    tcase_add_test(tests, equal_hosts_are_taken_by_age);
    tcase_add_test(tests, one_by_one_a_host_is_filled_and_never_beyond);
    tcase_add_test(tests, a_group_is_spread_before_hosts_are_filled);
    tcase_add_test(tests, what_is_there_of_the_group_counts_for_its_spread);
    tcase_add_loop_test(tests, spread_max_is_a_rule, 1, 4);
    tcase_add_test(tests, a_group_that_is_yet_to_be_made_is_spread_too);
    tcase_add_test(tests, a_host_takes_no_more_vms_than_it_can_report);
    tcase_add_test(tests, a_vm_goes_where_its_baseline_is);
    tcase_add_test(tests, a_vm_with_huge_pages_goes_where_the_pool_has_room);
    tcase_add_test(tests, a_host_keeps_room_for_the_cpus_that_may_come);
    tcase_add_test(tests, a_host_without_capacity_takes_nothing);
    tcase_add_test(tests, a_host_that_this_leader_has_not_heard_is_not_trusted);
    tcase_add_test(tests,
                   a_host_that_needs_the_range_for_itself_does_not_carry_the_network);
    tcase_add_test(tests, the_last_address_goes_to_a_vm_not_to_another_host);
    tcase_add_test(tests, a_vm_that_keeps_its_address_needs_no_other);
    tcase_add_test(tests, addresses_given_in_this_step_count);
    tcase_add_test(tests, a_placement_knows_whether_it_answers_for_a_vm);
    tcase_add_loop_test(tests, the_quick_choice_is_the_one_that_all_filters_make, 0, 30);
    return test_main_run(suite);
}
