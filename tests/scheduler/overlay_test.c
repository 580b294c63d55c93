/* Goal: a step sees what the log has promised and what it has itself decided, and can
 * take the latter back. Method: a real state beside sums done here. */
#include "scheduler/overlay.h"
#include "scheduler_fixture.h"

static struct overlay overlay;
static uint64_t h2;

static void setup(void)
{
    cluster_start();
    h2 = make_host("h2", 2, 2000, 512 * MIB);
    ck_assert_int_eq(network_host(front, h1, ADDRESS(2)), 0);
    overlay_init(&overlay);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
}

static void teardown(void)
{
    overlay_fini(&overlay);
    cluster_stop();
}

static const struct machine_spec *plain(void)
{
    const struct template *template = FIND(KIND_TEMPLATE, DEFAULT_TENANT, "plain");
    return &template->spec;
}

static const struct network *net_front(void)
{
    return state_network(state, front);
}

static uint32_t at(uint64_t host)
{
    int64_t index = overlay_index(&overlay, host);
    ck_assert_int_ge(index, 0);
    return (uint32_t)index;
}

static void ck_free(uint64_t host, int64_t mcpu, uint64_t bytes, uint32_t vms)
{
    ck_assert_int_eq(overlay.free_mcpu[at(host)], mcpu);
    ck_assert_int_eq(overlay.free_bytes[at(host)], (int64_t)bytes);
    ck_assert_uint_eq(overlay.vms[at(host)], vms);
}

START_TEST(hosts_are_there_by_rising_uid_with_their_capacity)
{
    ck_assert_uint_eq(overlay.count, 2);
    ck_assert_uint_lt(overlay.hosts[0]->meta.uid, overlay.hosts[1]->meta.uid);
    ck_free(h1, INT64_C(4000) * HOST_OVERCOMMIT, 1 * GIB, 0);
    ck_free(h2, INT64_C(2000) * HOST_OVERCOMMIT, 512 * MIB, 0);
    ck_assert_int_eq(overlay_index(&overlay, 999), -1);
    ck_assert_int_eq(overlay_index(&overlay, 0), -1);
}
END_TEST

static int64_t free_disk(uint64_t host)
{
    return overlay.free_disk[at(host)];
}

START_TEST(disks_count_at_full_size_in_the_log_and_in_this_step)
{
    put_machine_disk("disky", 3 * GIB);
    uint64_t vm = admit_one("d", "disky");
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_STARTING), 0);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_assert_int_eq(free_disk(h1), (int64_t)(7 * GIB));
    ck_assert_int_eq(free_disk(h2), (int64_t)(10 * GIB));

    const struct template *template = FIND(KIND_TEMPLATE, DEFAULT_TENANT, "disky");
    ck_assert_int_eq(overlay_take(&overlay, at(h1), &template->spec, 0), 0);
    ck_assert_int_eq(free_disk(h1), (int64_t)(4 * GIB));
    overlay_undo(&overlay, 0);
    ck_assert_int_eq(free_disk(h1), (int64_t)(7 * GIB));

    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_assert_int_eq(free_disk(h1), (int64_t)(10 * GIB));
}
END_TEST

START_TEST(huge_pages_count_in_the_pool_alone)
{
    set_host_special(h1, CPU_BASELINE_V2, 1 * GIB);
    put_machine_huge("huge", 256 * MIB);
    uint64_t vm = admit_one("d", "huge");
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    const int64_t memory = overlay.free_bytes[at(h1)];
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_assert_int_eq(overlay.free_pool[at(h1)], (int64_t)(768 * MIB));
    ck_assert_int_eq(overlay.free_bytes[at(h1)], memory);

    const struct template *template = FIND(KIND_TEMPLATE, DEFAULT_TENANT, "huge");
    ck_assert_int_eq(overlay_take(&overlay, at(h1), &template->spec, 0), 0);
    ck_assert_int_eq(overlay.free_pool[at(h1)], (int64_t)(512 * MIB));
    overlay_undo(&overlay, 0);
    ck_assert_int_eq(overlay.free_pool[at(h1)], (int64_t)(768 * MIB));

    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_assert_int_eq(overlay.free_pool[at(h1)], (int64_t)(1 * GIB));
}
END_TEST

START_TEST(a_disk_of_unknown_size_is_never_too_small)
{
    struct command command;
    command_init(&command, COMMAND_HOST_UPDATE);
    command.body.host_update.host = h1;
    command.body.host_update.status.address = 1;
    command.body.host_update.status.memory_bytes = 1 * GIB;
    ck_assert_int_eq(send_command(&command), 0);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    put_machine_disk("disky", 60 * TIB);
    const struct template *template = FIND(KIND_TEMPLATE, DEFAULT_TENANT, "disky");

    ck_assert_int_eq(overlay_take(&overlay, at(h1), &template->spec, 0), 0);

    ck_assert_int_eq(free_disk(h1), INT64_MAX);
}
END_TEST

START_TEST(committed_vms_are_counted_wherever_they_are)
{
    uint64_t a = ready_vm("a", h1);
    (void)ready_vm("b", h1);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_free(h1, 16000 - 2000, 1 * GIB - 256 * MIB, 2);

    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, a, 1, h2), 0);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_free(h1, 16000 - 2000, 1 * GIB - 256 * MIB, 2);
    ck_free(h2, 8000 - 1000, 512 * MIB - 128 * MIB, 1); /* it is promised to both */
}
END_TEST

START_TEST(a_lost_vm_that_waits_keeps_its_room)
{
    struct template *waits = make_template(DEFAULT_TENANT, "waits", NULL);
    waits->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, waits), 0);
    uint64_t vm = admit_one("a", "waits");
    ck_assert_int_eq(place(vm, h2, 1, 0), 0);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);

    ck_free(h2, 8000 - 1000, 512 * MIB - 128 * MIB, 1);
}
END_TEST

START_TEST(hosts_come_and_go)
{
    uint64_t h3 = make_host("h3", 3, 1000, 64 * MIB);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_assert_uint_eq(overlay.count, 3);
    ck_free(h3, 4000, 64 * MIB, 0);

    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_REMOVED), 0);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_assert_uint_eq(overlay.count, 2);
    ck_assert_int_eq(overlay_index(&overlay, h2), -1);
    ck_free(h3, 4000, 64 * MIB, 0);
}
END_TEST

START_TEST(an_overbooked_host_has_less_than_nothing)
{
    (void)ready_vm("a", h2);
    set_host(h2, 0, 64 * MIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);

    ck_assert_int_eq(overlay.free_mcpu[at(h2)], -1000);
    ck_assert_int_eq(overlay.free_bytes[at(h2)],
                     (int64_t)(64 * MIB) - (int64_t)(128 * MIB));
}
END_TEST

START_TEST(what_is_taken_can_be_taken_back_to_any_mark)
{
    uint32_t marks[8];
    for (unsigned i = 0; i < 8; i++) {
        marks[i] = overlay_mark(&overlay);
        ck_assert_int_eq(overlay_take(&overlay, at(i % 2 ? h2 : h1), plain(), 0), 0);
    }
    ck_free(h1, 16000 - 4000, 1 * GIB - 512 * MIB, 4);
    ck_free(h2, 8000 - 4000, 0, 4);
    for (unsigned i = 8; i > 0; i--) {
        overlay_undo(&overlay, marks[i - 1]);
        ck_assert_uint_eq(overlay.vms[at(h1)], i / 2);
        ck_assert_uint_eq(overlay.vms[at(h2)], (i - 1) / 2);
    }
    ck_free(h1, 16000, 1 * GIB, 0);
    ck_free(h2, 8000, 512 * MIB, 0);
}
END_TEST

START_TEST(a_sync_drops_what_was_only_thought_of)
{
    ck_assert_int_eq(overlay_take(&overlay, at(h1), plain(), 0), 0);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0); /* nothing was applied */
    ck_free(h1, 16000, 1 * GIB, 0);

    ck_assert_int_eq(overlay_take(&overlay, at(h1), plain(), 0), 0);
    (void)ready_vm("a", h2);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    ck_free(h1, 16000, 1 * GIB, 0);
    ck_free(h2, 8000 - 1000, 512 * MIB - 128 * MIB, 1);
}
END_TEST

/* A follower that got a snapshot may meet the revision it has built from with another
 * content. */
START_TEST(another_state_of_the_same_revision_is_built_anew)
{
    struct state *old = state;
    ck_assert_int_eq(overlay_take(&overlay, at(h1), plain(), 0), 0);
    uint8_t *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(state_encode(state, &data, &size), 0);
    struct state *copy = state_new(NULL, NULL);
    ck_assert_int_eq(state_decode(copy, data, size, NULL), 0);
    free(data);
    ck_assert_int_eq(overlay_sync(&overlay, copy), 0);
    ck_assert_ptr_eq(overlay.hosts[at(h1)], state_host(copy, h1));
    ck_free(h1, 16000, 1 * GIB, 0);

    overlay_forget(&overlay);
    ck_assert_int_eq(overlay_sync(&overlay, old), 0);
    ck_assert_ptr_eq(overlay.hosts[at(h1)], state_host(old, h1));
    state_free(copy);
}
END_TEST

START_TEST(an_address_is_given_once)
{
    uint32_t given[300] = {0};
    uint32_t count = 0;
    uint32_t ipv4;
    uint32_t mark = overlay_mark(&overlay);
    ck_assert_int_eq(overlay_address(&overlay, net_front(), &ipv4), 0);
    while (ipv4 != 0) {
        ck_assert(!state_address_used(state, net_front(), ipv4));
        for (uint32_t i = 0; i < count; i++) {
            ck_assert_uint_ne(given[i], ipv4);
        }
        given[count++] = ipv4;
        ck_assert_int_eq(overlay_address(&overlay, net_front(), &ipv4), 0);
    }
    ck_assert_uint_eq(count, 252); /* of 256: network, gateway, broadcast, h1 */
    ck_assert_uint_eq(overlay_addresses_left(&overlay, net_front(), 10), 0);

    overlay_undo(&overlay, mark);
    ck_assert_uint_eq(overlay_addresses_left(&overlay, net_front(), 10), 10);
    ck_assert_uint_eq(overlay_addresses_left(&overlay, net_front(), 1000), 252);
    ck_assert_int_eq(overlay_address(&overlay, net_front(), &ipv4), 0);
    ck_assert_uint_eq(ipv4, given[0]);
}
END_TEST

START_TEST(networks_do_not_share_addresses)
{
    ck_assert_int_eq(put(KIND_NETWORK, make_network(DEFAULT_TENANT, "back",
                                                    ((uint64_t)0x0a000100 << 8) | 24)),
                     0);
    const struct network *back = FIND(KIND_NETWORK, DEFAULT_TENANT, "back");
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    uint32_t one;
    uint32_t other;
    uint32_t next;
    ck_assert_int_eq(overlay_address(&overlay, net_front(), &one), 0);
    ck_assert_int_eq(overlay_address(&overlay, back, &other), 0);
    ck_assert_int_eq(overlay_address(&overlay, net_front(), &next), 0);

    ck_assert_uint_eq(one, ADDRESS(3));
    ck_assert_uint_eq(other, 0x0a000102);
    ck_assert_uint_eq(next, ADDRESS(4));
}
END_TEST

START_TEST(hosts_of_a_network_are_known_in_state_and_step)
{
    uint8_t marks[8] = {0};
    ck_assert(overlay_has_network_host(&overlay, net_front(), h1));
    ck_assert(!overlay_has_network_host(&overlay, net_front(), h2));
    ck_assert_uint_eq(overlay_network_hosts(&overlay, net_front()), 1);
    uint32_t mark = overlay_mark(&overlay);
    ck_assert_int_eq(overlay_add_network_host(&overlay, net_front(), h2), 0);

    ck_assert(overlay_has_network_host(&overlay, net_front(), h2));
    ck_assert_uint_eq(overlay_network_hosts(&overlay, net_front()), 2);
    overlay_mark_network_hosts(&overlay, net_front(), 4, marks);
    ck_assert_uint_eq(marks[at(h1)], 4);
    ck_assert_uint_eq(marks[at(h2)], 4);
    overlay_undo(&overlay, mark);
    ck_assert(!overlay_has_network_host(&overlay, net_front(), h2));
    ck_assert_uint_eq(overlay_network_hosts(&overlay, net_front()), 1);
}
END_TEST

START_TEST(the_group_is_counted_per_host_in_state_and_step)
{
    uint32_t counts[8];
    put_group("web", "plain", 4);
    for (unsigned i = 1; i <= 3; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "web-%u", i);
        ck_assert_int_eq(admit(DEFAULT_TENANT, name, "plain", "web"), 0);
        if (i < 3) {
            ck_assert_int_eq(place(answer.uid, h2, 1, 0), 0);
        }
    }
    (void)ready_vm("stranger", h1);
    ck_assert_int_eq(overlay_sync(&overlay, state), 0);
    uint64_t web = group_named("web")->meta.uid;
    ck_assert_int_eq(overlay_take(&overlay, at(h1), plain(), web), 0);
    ck_assert_int_eq(overlay_take(&overlay, at(h1), plain(), 0), 0);

    overlay_group_counts(&overlay, group_named("web"), counts);

    ck_assert_uint_eq(counts[at(h1)], 1);
    ck_assert_uint_eq(counts[at(h2)], 2);
}
END_TEST

START_TEST(an_overlay_without_hosts_is_empty_not_wrong)
{
    struct state *empty = state_new(NULL, NULL);
    ck_assert_int_eq(overlay_sync(&overlay, empty), 0);
    ck_assert_uint_eq(overlay.count, 0);
    ck_assert_int_eq(overlay_index(&overlay, h1), -1);
    state_free(empty);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("overlay");
    Suite *suite = suite_create("overlay");
    tcase_add_checked_fixture(tests, setup, teardown);
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, hosts_are_there_by_rising_uid_with_their_capacity);
    tcase_add_test(tests, disks_count_at_full_size_in_the_log_and_in_this_step);
    tcase_add_test(tests, huge_pages_count_in_the_pool_alone);
    tcase_add_test(tests, a_disk_of_unknown_size_is_never_too_small);
    tcase_add_test(tests, committed_vms_are_counted_wherever_they_are);
    tcase_add_test(tests, a_lost_vm_that_waits_keeps_its_room);
    tcase_add_test(tests, hosts_come_and_go);
    tcase_add_test(tests, an_overbooked_host_has_less_than_nothing);
    tcase_add_test(tests, what_is_taken_can_be_taken_back_to_any_mark);
    tcase_add_test(tests, a_sync_drops_what_was_only_thought_of);
    tcase_add_test(tests, another_state_of_the_same_revision_is_built_anew);
    tcase_add_test(tests, an_address_is_given_once);
    tcase_add_test(tests, networks_do_not_share_addresses);
    tcase_add_test(tests, hosts_of_a_network_are_known_in_state_and_step);
    tcase_add_test(tests, the_group_is_counted_per_host_in_state_and_step);
    tcase_add_test(tests, an_overlay_without_hosts_is_empty_not_wrong);
    return test_main_run(suite);
}
