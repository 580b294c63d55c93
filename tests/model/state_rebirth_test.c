/* Goal: nothing that was given out after a backup can be given out again, hosts that do
 * not go on are shut out, and no VM is forgotten. */
#include "rebirth_fixture.h"

static uint64_t h2;
static uint64_t web;
static uint64_t patient; /* waits for its host, h2 */

static struct template *make_patient_template(void)
{
    struct template *template = make_template(DEFAULT_TENANT, "patient", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    return template;
}

static void setup(void)
{
    fixture_start();
    h2 = add_host("h2", 2);
    web = ready_vm("web", h1);
    ck_assert_int_eq(put(KIND_TEMPLATE, make_patient_template()), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "patient", "patient", ""), 0);
    patient = answer.uid;
    ck_assert_int_eq(place(patient, h2, 1, 0), 0);
    ck_assert_int_eq(reports(patient, PHASE_RUNNING), 0);
    ck_assert_int_eq(put(KIND_TOKEN, make_join_token("spare", 77)), 0);
}

static void recovered(void)
{
    recovered_with(is_h1);
}

static struct digest key_of(uint64_t host)
{
    return state_host(state, host)->status.public_key;
}

START_TEST(counters_jump_over_all_that_can_have_been)
{
    uint64_t revision = state_revision(state);
    restored();
    ck_assert_uint_ge(state_revision(state), revision + REBIRTH_STEP);
    ck_assert_uint_lt(state_revision(state), UINT64_C(1) << 53);
    ck_assert_uint_ge(state_vm(state, web)->status.epoch, 1 + REBIRTH_STEP);
    ck_assert_uint_lt(state_vm(state, web)->status.epoch, UINT64_C(1) << 53);
    ck_assert_uint_ge(admit_plain("new"), patient + REBIRTH_UID_STEP);
    ck_assert_int_eq(
        put(KIND_NETWORK, make_network(DEFAULT_TENANT, "back", FIXTURE_CIDR + (1 << 16))),
        0);
    const struct network *back = FIND(KIND_NETWORK, DEFAULT_TENANT, "back");
    ck_assert_uint_ge(back->status.vni, REBIRTH_VNI_STEP);
}
END_TEST

/* The second restore of one backup knows nothing of the first one: only the clock does.
 */
START_TEST(two_rebirths_of_one_state_do_not_meet)
{
    ck_assert_uint_eq(rebirth_jump(5, 0), 5 + REBIRTH_STEP);
    ck_assert_uint_gt(rebirth_jump(5, NOW_MS + 1000), rebirth_jump(5, NOW_MS) + 1000000);
    ck_assert_uint_gt(rebirth_jump(rebirth_jump(5, NOW_MS), NOW_MS - 86400000),
                      rebirth_jump(5, NOW_MS)); /* a clock that was set back */
}
END_TEST

START_TEST(a_restored_clusters_hosts_are_shut_out_and_their_vms_start_anew)
{
    struct digest old = key_of(h1);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0); /* before that already */
    ck_assert(!state_host_left_out(state_host(state, h2)));
    restored();
    for (unsigned i = 0; i < 2; i++) {
        const struct host *host = state_host(state, i == 0 ? h1 : h2);
        ck_assert_int_eq(host->status.phase, HOST_PHASE_LOST);
        ck_assert_int_eq(host->status.voter, VOTER_NONE);
        ck_assert(state_host_left_out(host));
    }
    ck_assert_ptr_null(state_host_by_key(state, &old));
    struct digest keys[2] = {key_of(h1), key_of(h2)};
    ck_assert(!digest_equal(&keys[0], &keys[1]));
    ck_assert_int_eq(state_vm(state, web)->status.phase, PHASE_PENDING);
    ck_assert_uint_eq(state_vm(state, web)->status.host, 0);
    ck_assert_int_eq(state_vm(state, patient)->status.phase, PHASE_LOST);
    ck_assert_uint_eq(state_vm(state, patient)->status.host, h2);
    ck_assert_ptr_null(FIND(KIND_TOKEN, "", "spare"));
    /* An old run of it is nobody's any more. */
    ck_assert_int_eq(report(web, h1, 1, PHASE_RUNNING, 0), BERTH_ESTALE);
}
END_TEST

START_TEST(the_first_host_of_a_restored_cluster_joins_without_a_token_and_no_other)
{
    uint8_t before[REQUEST_ID_SIZE];
    uint8_t after[REQUEST_ID_SIZE];
    state_cluster_id(state, before);
    restored();
    next_request(7);
    ck_assert_int_eq(join("n1", 9, 0), 0);
    uint64_t n1 = answer.uid;
    ck_assert_int_eq(state_host(state, n1)->status.voter, VOTER_VOTER);
    state_cluster_id(state, after);
    ck_assert_mem_ne(before, after, REQUEST_ID_SIZE);
    next_request(8);
    ck_assert_int_eq(join("n2", 10, 0), BERTH_EAUTH);
    ck_assert_int_eq(place(web, n1, state_vm(state, web)->status.epoch + 1, 0), 0);
}
END_TEST

/* Whoever takes the name of a lost host says that it is off for good. */
START_TEST(a_vm_that_waits_goes_on_when_its_host_joins_again)
{
    restored();
    next_request(7);
    ck_assert_int_eq(join("h2", 9, 0), 0);
    ck_assert_uint_ne(answer.uid, h2);
    ck_assert_int_eq(state_vm(state, patient)->status.phase, PHASE_PENDING);
}
END_TEST

START_TEST(the_survivor_of_a_majority_keeps_its_place_and_votes_alone)
{
    struct digest old[2] = {key_of(h1), key_of(h2)};
    uint8_t before[REQUEST_ID_SIZE];
    uint8_t after[REQUEST_ID_SIZE];
    state_cluster_id(state, before);
    recovered();
    state_cluster_id(state, after);
    ck_assert_mem_eq(before, after, REQUEST_ID_SIZE);
    ck_assert_int_eq(state_host(state, h1)->status.phase, HOST_PHASE_READY);
    ck_assert_int_eq(state_host(state, h1)->status.voter, VOTER_VOTER);
    ck_assert_ptr_eq(state_host_by_key(state, &old[0]), state_host(state, h1));
    ck_assert_int_eq(state_host(state, h2)->status.phase, HOST_PHASE_LOST);
    ck_assert(state_host_left_out(state_host(state, h2)));
    ck_assert(!state_host_left_out(state_host(state, h1)));
    ck_assert_ptr_null(state_host_by_key(state, &old[1]));
    ck_assert_int_eq(state_vm(state, web)->status.phase, PHASE_PENDING);
    ck_assert_int_eq(place(web, h1, state_vm(state, web)->status.epoch + 1, 0), 0);
}
END_TEST

START_TEST(a_vm_that_waits_on_the_survivor_is_found_there_under_its_new_epoch)
{
    ck_assert_int_eq(admit(DEFAULT_TENANT, "stay", "patient", ""), 0);
    uint64_t stay = answer.uid;
    ck_assert_int_eq(place(stay, h1, 1, 0), 0);
    ck_assert_int_eq(reports(stay, PHASE_READY), 0);
    recovered();
    ck_assert_int_eq(state_vm(state, stay)->status.phase, PHASE_LOST);
    ck_assert_uint_eq(state_vm(state, stay)->status.host, h1);
    ck_assert_uint_eq(state_vm(state, stay)->status.disk_epoch, 1); /* if it has ended */
    ck_assert_int_eq(report(stay, h1, 1, PHASE_RUNNING, 0), BERTH_ESTALE);
    ck_assert_int_eq(reports(stay, PHASE_RUNNING), 0);
    ck_assert_int_eq(state_vm(state, stay)->status.phase, PHASE_RUNNING);
}
END_TEST

/* Migrations, ways out and deletions under way end as the loss of their hosts ends them.
 */
START_TEST(what_was_under_way_comes_to_an_end)
{
    uint64_t moving = ready_vm("moving", h1);
    uint64_t going = ready_vm("going", h2);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, moving, 1, h2), 0);
    ck_assert_int_eq(evict(going, 1, STOP_INTENT_DELETE), 0);
    restored();
    ck_assert_int_eq(state_vm(state, moving)->status.phase, PHASE_PENDING);
    ck_assert_ptr_null(state_vm(state, going));
    ck_assert_uint_eq(state_count(state, KIND_VM), 3);
}
END_TEST

START_TEST(what_comes_out_is_a_state_that_snapshots_accept)
{
    uint8_t *data = NULL;
    size_t size = 0;
    struct state *copy = state_new(NULL, NULL);
    restored();
    ck_assert_int_eq(state_encode(state, &data, &size), 0);
    ck_assert_msg(state_decode(copy, data, size, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(state_hash(copy), state_hash(state));
    free(data);
    state_free(copy);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("state_rebirth");
    TCase *tests = tcase_create("state_rebirth");
    tcase_add_checked_fixture(tests, setup, fixture_stop);
    tcase_add_test(tests, counters_jump_over_all_that_can_have_been);
    tcase_add_test(tests, two_rebirths_of_one_state_do_not_meet);
    tcase_add_test(tests,
                   a_restored_clusters_hosts_are_shut_out_and_their_vms_start_anew);
    tcase_add_test(
        tests, the_first_host_of_a_restored_cluster_joins_without_a_token_and_no_other);
    tcase_add_test(tests, a_vm_that_waits_goes_on_when_its_host_joins_again);
    tcase_add_test(tests, the_survivor_of_a_majority_keeps_its_place_and_votes_alone);
    tcase_add_test(tests,
                   a_vm_that_waits_on_the_survivor_is_found_there_under_its_new_epoch);
    tcase_add_test(tests, what_was_under_way_comes_to_an_end);
    tcase_add_test(tests, what_comes_out_is_a_state_that_snapshots_accept);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
