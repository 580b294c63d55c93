#include "support/state_fixture.h"

START_TEST(a_new_state_is_empty_and_hashes_the_same_everywhere)
{
    struct state *a = state_new(NULL, NULL);
    struct state *b = state_new(NULL, NULL);
    ck_assert(a != NULL && b != NULL);
    ck_assert_uint_eq(state_revision(a), 0);
    ck_assert_uint_eq(state_hash(a), state_hash(b));
    for (unsigned kind = KIND_NONE + 1; kind < KIND_COUNT; kind++) {
        size_t cursor = 0;
        ck_assert_uint_eq(state_count(a, kind), 0);
        ck_assert_ptr_null(state_next(a, kind, &cursor));
    }
    state_free(a);
    state_free(b);
}
END_TEST

START_TEST(look_ups_find_what_is_there_and_nothing_else)
{
    const struct vm *vm = state_vm(state, admit_plain("a"));
    ck_assert_ptr_nonnull(vm);
    ck_assert_ptr_eq(FIND(KIND_VM, DEFAULT_TENANT, "a"), vm);
    ck_assert_ptr_null(FIND(KIND_VM, "", "a"));
    ck_assert_ptr_null(FIND(KIND_VM, "shop", "a"));
    ck_assert_ptr_null(FIND(KIND_GROUP, DEFAULT_TENANT, "a"));
    ck_assert_ptr_null(state_vm(state, h1)); /* a host's uid is no VM's */
    ck_assert_ptr_null(state_vm(state, 0));
    ck_assert_ptr_nonnull(state_host(state, h1));
    ck_assert_ptr_null(state_host(state, front));
    ck_assert_ptr_nonnull(state_network(state, front));
    char longer[2 * NAME_SIZE];
    memset(longer, 'a', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    ck_assert_ptr_null(FIND(KIND_VM, DEFAULT_TENANT, longer));
    ck_assert_ptr_null(FIND(KIND_VM, longer, "a"));
}
END_TEST

START_TEST(a_list_is_sorted_and_of_one_tenant_if_asked)
{
    ck_assert_int_eq(put(KIND_TENANT, make_tenant("aaa")), 0);
    ck_assert_int_eq(put(KIND_TEMPLATE, make_template("aaa", "plain", NULL)), 0);
    static const char *const names[] = {"c", "a", "d", "b"};
    for (unsigned i = 0; i < 4; i++) {
        admit_plain(names[i]);
    }
    ck_assert_int_eq(admit("aaa", "z", "plain", ""), 0);
    const void **objects = NULL;
    size_t count = 0;
    ck_assert_int_eq(state_list(state, KIND_VM, NULL, &objects, &count), 0);
    ck_assert_uint_eq(count, 5);
    static const char *const sorted[] = {"z", "a", "b", "c", "d"};
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_str_eq(object_meta(objects[i])->name, sorted[i]);
    }
    free(objects);
    ck_assert_int_eq(state_list(state, KIND_VM, "aaa", &objects, &count), 0);
    ck_assert_uint_eq(count, 1);
    free(objects);
    ck_assert_int_eq(state_list(state, KIND_VM, "nobody", &objects, &count), 0);
    ck_assert_uint_eq(count, 0);
    free(objects);
}
END_TEST

START_TEST(vms_are_listed_by_host_until_they_have_ended)
{
    uint64_t h2 = add_host("h2", 2);
    uint64_t a = ready_vm("a", h1);
    uint64_t b = ready_vm("b", h1);
    uint64_t c = ready_vm("c", h2);
    admit_plain("pending");
    ck_assert_int_eq(reports(a, PHASE_STOPPED), 0);
    size_t cursor = 0;
    ck_assert_uint_eq(state_vm_on_host(state, h1, &cursor)->meta.uid, b);
    ck_assert_ptr_null(state_vm_on_host(state, h1, &cursor));
    cursor = 0;
    ck_assert_ptr_null(state_vm_incoming(state, h1, &cursor));
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, c, 1, h1), 0);
    ck_assert_uint_eq(state_vm_incoming(state, h1, &cursor)->meta.uid, c);
    cursor = 0;
    ck_assert_uint_eq(state_vm_on_host(state, h2, &cursor)->meta.uid, c);
    cursor = 0;
    ck_assert_ptr_null(state_vm_on_host(state, 999, &cursor));
    ck_assert_uint_eq(state_host_use(state, h1).memory_bytes, 256 * MIB);
}
END_TEST

START_TEST(the_lowest_free_address_is_neither_gateway_nor_end)
{
    const struct network *network = state_network(state, front);
    ck_assert_uint_eq(state_address_free(state, network, 0), ADDRESS(3)); /* h1 has 2 */
    ck_assert_uint_eq(state_address_free(state, network, ADDRESS(100)), ADDRESS(100));
    ck_assert_uint_eq(state_address_free(state, network, ADDRESS(254)), ADDRESS(254));
    ck_assert_uint_eq(state_address_free(state, network, ADDRESS(255)), 0);
    ck_assert_uint_eq(state_address_free(state, network, ADDRESS(256)), 0);
    ck_assert(state_address_used(state, network, ADDRESS(0)));
    ck_assert(state_address_used(state, network, ADDRESS(1)));
    ck_assert(state_address_used(state, network, ADDRESS(255)));
    ck_assert(!state_address_used(state, network, ADDRESS(3)));
    ck_assert(state_address_used(state, network, 0x0b000005));
}
END_TEST

START_TEST(a_full_network_has_no_address_left)
{
    uint64_t cidr = ((uint64_t)0x0b000000 << 8) | 29; /* six, one of them the gateway */
    ck_assert_int_eq(put(KIND_NETWORK, make_network(DEFAULT_TENANT, "tiny", cidr)), 0);
    uint64_t tiny = answer.uid;
    for (uint8_t i = 0; i < 5; i++) {
        char name[8];
        snprintf(name, sizeof(name), "x%d", i);
        uint64_t host = add_host(name, (uint8_t)(10 + i));
        uint32_t address = state_address_free(state, state_network(state, tiny), 0);
        ck_assert_uint_eq(address, 0x0b000002u + i);
        ck_assert_int_eq(network_host(tiny, host, address), 0);
    }
    ck_assert_uint_eq(state_address_free(state, state_network(state, tiny), 0), 0);
}
END_TEST

START_TEST(every_change_of_content_changes_the_hash)
{
    uint64_t before = state_hash(state);
    uint64_t vm = admit_plain("a");
    uint64_t admitted = state_hash(state);
    ck_assert(admitted != before);
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    ck_assert(state_hash(state) != admitted);
}
END_TEST

START_TEST(the_observer_sees_each_change_with_the_object_as_it_is)
{
    uint64_t vm = admit_plain("a");
    fixture_changes = 0;
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    ck_assert_uint_eq(fixture_changes, 1);
    ck_assert_uint_eq(fixture_last.revision, state_revision(state));
    ck_assert_uint_eq(fixture_last.uid, vm);
    ck_assert_int_eq(fixture_last.kind, KIND_VM);
    ck_assert_uint_eq(fixture_last.phase_from, PHASE_PENDING);
    ck_assert_uint_eq(fixture_last.phase_to, PHASE_PLACED);
    ck_assert_ptr_eq(fixture_last.object, state_vm(state, vm));
    ck_assert_int_eq(delete_object(KIND_GROUP, DEFAULT_TENANT, "none"), BERTH_ENOTFOUND);
    ck_assert_uint_eq(fixture_changes, 1);
}
END_TEST

int main(void)
{
    TCase *tests = NULL;
    Suite *suite = fixture_suite("state", &tests);
    tcase_add_test(tests, a_new_state_is_empty_and_hashes_the_same_everywhere);
    tcase_add_test(tests, look_ups_find_what_is_there_and_nothing_else);
    tcase_add_test(tests, a_list_is_sorted_and_of_one_tenant_if_asked);
    tcase_add_test(tests, vms_are_listed_by_host_until_they_have_ended);
    tcase_add_test(tests, the_lowest_free_address_is_neither_gateway_nor_end);
    tcase_add_test(tests, a_full_network_has_no_address_left);
    tcase_add_test(tests, every_change_of_content_changes_the_hash);
    tcase_add_test(tests, the_observer_sees_each_change_with_the_object_as_it_is);
    return test_main_run(suite);
}
