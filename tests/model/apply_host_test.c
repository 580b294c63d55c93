#include "support/state_fixture.h"

static const struct host *host_named(const char *name)
{
    return FIND(KIND_HOST, "", name);
}

static int update(uint64_t host, uint64_t memory_bytes)
{
    struct command command;
    command_init(&command, COMMAND_HOST_UPDATE);
    command.body.host_update.host = host;
    command.body.host_update.status.memory_bytes = memory_bytes;
    command.body.host_update.status.phase = HOST_PHASE_LOST; /* not its to say */
    command.body.host_update.status.voter = VOTER_STANDBY;
    memset(command.body.host_update.status.public_key.bytes, 9, DIGEST_SIZE);
    return send_command(&command);
}

static int vote(uint64_t host, enum voter_role voter)
{
    struct command command;
    command_init(&command, COMMAND_HOST_VOTER);
    command.body.host_voter.host = host;
    command.body.host_voter.voter = voter;
    return send_command(&command);
}

/* ---- join ---- */

START_TEST(the_first_host_makes_cluster_and_default_tenant)
{
    uint8_t id[REQUEST_ID_SIZE];
    state_cluster_id(state, id);
    ck_assert_uint_eq(id[0], 0xaa);
    ck_assert_uint_eq(id[1], 255);
    ck_assert_ptr_nonnull(FIND(KIND_TENANT, "", DEFAULT_TENANT));
    ck_assert_uint_eq(host_named("h1")->status.phase, HOST_PHASE_READY);
    ck_assert_uint_eq(host_named("h1")->status.memory_bytes, 1 * GIB);
}
END_TEST

START_TEST(the_first_join_needs_a_request_id_and_the_clusters_word)
{
    fixture_stop();
    state = state_new(NULL, NULL);
    ck_assert_int_eq(join("h1", 1, 0), BERTH_EINVALID);
    next_request(1);
    fixture_subject = "token:ci";
    ck_assert_int_eq(join("h1", 1, 0), BERTH_EAUTH);
    next_request(2);
    fixture_subject = "system";
    ck_assert_int_eq(join("h1", 0, 0), BERTH_EINVALID); /* no key */
    next_request(3);
    ck_assert_int_eq(join("h1", 1, 0), 0);
    next_request(4);
    ck_assert_int_eq(join("h2", 2, 0), BERTH_EAUTH); /* the second needs a token */
    ck_assert_contains(answer.text, "join token");
}
END_TEST

START_TEST(a_join_token_lets_in_once)
{
    ck_assert_int_eq(put(KIND_TOKEN, make_join_token("t", 5)), 0);
    ck_assert_int_eq(join("h2", 2, 6), BERTH_EAUTH);
    ck_assert_int_eq(join("h2", 2, 5), 0);
    ck_assert_ptr_null(FIND(KIND_TOKEN, "", "t"));
    ck_assert_int_eq(join("h3", 3, 5), BERTH_EAUTH);
    ck_assert_uint_eq(state_count(state, KIND_HOST), 2);
}
END_TEST

START_TEST(a_token_with_more_uses_counts_down)
{
    struct token *token = make_join_token("t", 5);
    token->spec.uses_left = 2;
    ck_assert_int_eq(put(KIND_TOKEN, token), 0);
    ck_assert_int_eq(join("h2", 2, 5), 0);
    const struct token *now = FIND(KIND_TOKEN, "", "t");
    ck_assert_uint_eq(now->spec.uses_left, 1);
    ck_assert_int_eq(join("h3", 3, 5), 0);
    ck_assert_ptr_null(FIND(KIND_TOKEN, "", "t"));
}
END_TEST

START_TEST(a_token_of_another_role_or_time_lets_nobody_in)
{
    struct token *token = make_join_token("admin", 5);
    token->spec.role = ROLE_ADMIN;
    ck_assert_int_eq(put(KIND_TOKEN, token), 0);
    ck_assert_int_eq(join("h2", 2, 5), BERTH_EAUTH);
    token = make_join_token("old", 6);
    token->spec.expires_wall_ms = fixture_wall_ms;
    ck_assert_int_eq(put(KIND_TOKEN, token), 0);
    ck_assert_int_eq(join("h2", 2, 6), BERTH_EAUTH);
    ck_assert_contains(answer.text, "expired");
    fixture_wall_ms--;
    ck_assert_int_eq(join("h2", 2, 6), 0);
}
END_TEST

START_TEST(a_known_host_comes_back_with_its_uid_and_news)
{
    uint64_t h2 = add_host("h2", 2);
    ck_assert_int_eq(vote(h2, VOTER_STANDBY), 0);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_SUSPECT), 0);
    fixture_subject = "host:h2";
    ck_assert_int_eq(join("h2", 2, 0), 0);
    ck_assert_uint_eq(answer.uid, h2);
    ck_assert_uint_eq(host_named("h2")->status.phase, HOST_PHASE_READY);
    ck_assert_uint_eq(host_named("h2")->status.voter, VOTER_STANDBY);
}
END_TEST

START_TEST(nobody_else_comes_back_as_a_known_host)
{
    add_host("h2", 2);
    fixture_subject = "host:h3";
    ck_assert_int_eq(join("h2", 2, 0), BERTH_EAUTH);
    ck_assert_int_eq(join("h2", 2, 7), BERTH_EAUTH);
}
END_TEST

START_TEST(a_name_with_another_key_is_refused_until_the_host_is_lost)
{
    uint64_t h2 = add_host("h2", 2);
    uint64_t vm = ready_vm("a", h2);
    ck_assert_int_eq(put(KIND_TOKEN, make_join_token("t", 5)), 0);
    ck_assert_int_eq(join("h2", 3, 5), BERTH_EEXISTS);
    ck_assert_int_eq(join("h3", 2, 5), BERTH_EEXISTS); /* the key has a name */
    ck_assert_contains(answer.text, "host h2");
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_int_eq(join("h2", 3, 5), 0);
    ck_assert_uint_ne(answer.uid, h2);
    ck_assert_ptr_null(state_host(state, h2));
    ck_assert_uint_eq(state_vm(state, vm)->status.phase, PHASE_PENDING);
    struct digest key;
    memset(key.bytes, 3, DIGEST_SIZE);
    ck_assert_str_eq(state_host_by_key(state, &key)->meta.name, "h2");
    memset(key.bytes, 2, DIGEST_SIZE);
    ck_assert_ptr_null(state_host_by_key(state, &key));
}
END_TEST

/* ---- news ---- */

START_TEST(an_update_takes_the_inventory_and_nothing_else)
{
    ck_assert_int_eq(update(h1, 2 * GIB), 0);
    ck_assert_uint_eq(host_named("h1")->status.memory_bytes, 2 * GIB);
    ck_assert_uint_eq(host_named("h1")->status.phase, HOST_PHASE_READY);
    ck_assert_uint_eq(host_named("h1")->status.voter, VOTER_VOTER); /* the founder's */
    ck_assert_uint_eq(host_named("h1")->status.public_key.bytes[0], 1);
    uint64_t revision = state_revision(state);
    ck_assert_int_eq(update(h1, 2 * GIB), 0); /* no news */
    ck_assert_uint_eq(state_revision(state), revision);
    size_t cursor = 0;
    ck_assert_ptr_null(state_event_next(state, revision - 1, &cursor));
}
END_TEST

START_TEST(a_voter_is_noted)
{
    ck_assert_int_eq(vote(h1, VOTER_STANDBY), 0);
    ck_assert_uint_eq(host_named("h1")->status.voter, VOTER_STANDBY);
    ck_assert_int_eq(vote(99, VOTER_VOTER), BERTH_ENOTFOUND);
}
END_TEST

START_TEST(a_drain_has_a_reason_until_it_ends)
{
    ck_assert_int_eq(host_drain(h1, true), 0);
    ck_assert(host_named("h1")->spec.drain);
    ck_assert_str_eq(host_named("h1")->spec.drain_reason, "maintenance");
    ck_assert_int_eq(host_drain(h1, false), 0);
    ck_assert(!host_named("h1")->spec.drain);
    ck_assert_ptr_null(host_named("h1")->spec.drain_reason);
}
END_TEST

/* ---- phases ---- */

START_TEST(labels_of_a_host_change_one_by_one_and_outlive_its_return)
{
    uint64_t h2 = add_host("h2", 2);
    ck_assert_int_eq(label_host(h2, "rack", "r1"), 0);
    ck_assert_int_eq(label_host(h2, "zone", "a"), 0); /* beside the first */
    ck_assert_int_eq(label_host(h2, "rack", "r2"), 0);
    const struct label_list *labels = &host_named("h2")->meta.labels;
    ck_assert_str_eq(label_value(labels, "rack"), "r2");
    ck_assert_str_eq(label_value(labels, "zone"), "a");
    uint64_t revision = state_revision(state);
    ck_assert_int_eq(label_host(h2, "rack", "r2"), 0);
    ck_assert_int_eq(label_host(h2, "none", NULL), 0);
    ck_assert_uint_eq(state_revision(state), revision); /* nothing has changed */
    ck_assert_int_eq(label_host(h2, "zone", NULL), 0);
    ck_assert_ptr_null(label_value(&host_named("h2")->meta.labels, "zone"));

    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    fixture_subject = "host:h2";
    ck_assert_int_eq(join("h2", 2, 0), 0); /* says those of its first start */
    ck_assert_str_eq(label_value(&host_named("h2")->meta.labels, "rack"), "r2");
}
END_TEST

/* Below the level at which they can be changed, a host that comes back says them. */
START_TEST(labels_of_a_host_that_comes_back_are_its_joins_below_their_level)
{
    uint64_t h2 = add_host("h2", 2);
    ck_assert_uint_lt(state_level(state), LEVEL_HOST_LABELS);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    fixture_subject = "host:h2";
    ck_assert_int_eq(join_labelled("h2", 2, 0, "rack", "r7"), 0);
    ck_assert_str_eq(label_value(&host_named("h2")->meta.labels, "rack"), "r7");
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_int_eq(level_at_least(LEVEL_HOST_LABELS), 0);
    ck_assert_int_eq(join_labelled("h2", 2, 0, "rack", "r8"), 0);
    ck_assert_str_eq(label_value(&host_named("h2")->meta.labels, "rack"), "r7");
}
END_TEST

START_TEST(labels_of_a_host_are_changed_only_at_the_revision_that_was_seen)
{
    uint64_t h2 = add_host("h2", 2);
    uint64_t seen = host_named("h2")->meta.modify_revision;
    ck_assert_int_eq(label_host_at(h2, "rack", "r1", seen), 0);
    ck_assert_int_eq(label_host_at(h2, "rack", "r2", seen), BERTH_ECONFLICT);
    ck_assert_contains(answer.text, "host h2 has changed");
    ck_assert_str_eq(label_value(&host_named("h2")->meta.labels, "rack"), "r1");
    ck_assert_int_eq(
        label_host_at(h2, "rack", "r2", host_named("h2")->meta.modify_revision), 0);
}
END_TEST

START_TEST(labels_of_a_host_that_cannot_be_are_refused)
{
    char key[NAME_SIZE];
    ck_assert_int_eq(label_host(4711, "rack", "r1"), BERTH_ENOTFOUND);
    ck_assert_int_eq(label_host(h1, "rack-", "r1"), BERTH_EINVALID);
    ck_assert_contains(answer.text, "rack-");
    for (unsigned i = 0; i < LABELS_MAX; i++) {
        (void)snprintf(key, sizeof(key), "k%u", i);
        ck_assert_int_eq(label_host(h1, key, "v"), 0);
    }
    ck_assert_int_eq(label_host(h1, "more", "v"), BERTH_ETOOLARGE);
    ck_assert_uint_eq(host_named("h1")->meta.labels.count, LABELS_MAX);
}
END_TEST

START_TEST(a_host_moves_by_its_own_table)
{
    ck_assert_int_eq(host_phase(h1, HOST_PHASE_SUSPECT), 0);
    ck_assert_str_eq(host_named("h1")->status.reason, "heartbeats stopped");
    ck_assert_int_eq(host_phase(h1, HOST_PHASE_READY), 0);
    ck_assert_int_eq(host_phase(h1, HOST_PHASE_LOST), 0); /* fenced */
    ck_assert_int_eq(host_phase(h1, HOST_PHASE_SUSPECT), BERTH_EPHASE);
    ck_assert_contains(answer.text, "host h1 is lost");
    ck_assert_int_eq(host_phase(h1, HOST_PHASE_READY), 0);
}
END_TEST

START_TEST(a_host_is_removed_when_lost_or_drained_and_empty)
{
    uint64_t h2 = add_host("h2", 2);
    ready_vm("a", h2);
    ck_assert_int_eq(network_host(front, h2, ADDRESS(3)), 0);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_REMOVED), BERTH_EINUSE);
    ck_assert_contains(answer.text, "drain it first");
    ck_assert_int_eq(host_drain(h2, true), 0);
    ck_assert_int_eq(delete_object(KIND_HOST, "", "h2"), BERTH_EINUSE);
    ck_assert_contains(answer.text, "1 VM:");
    ck_assert_int_eq(set_power(vm_named("a")->meta.uid, POWER_OFF), 0);
    ck_assert_int_eq(reports(vm_named("a")->meta.uid, PHASE_STOPPED), 0);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_REMOVED), 0);
    ck_assert_ptr_null(state_host(state, h2));
    ck_assert_uint_eq(state_network(state, front)->status.hosts.count, 1);
    ck_assert(!state_address_used(state, state_network(state, front), ADDRESS(3)));
    ck_assert_int_eq(delete_object(KIND_HOST, "", "h2"), BERTH_ENOTFOUND);
}
END_TEST

/* With the record goes the key: what only that host acknowledges would wait for ever. */
START_TEST(a_host_that_the_log_needs_is_not_removed)
{
    uint64_t h2 = add_host("h2", 2);
    uint64_t h3 = add_host("h3", 3);
    ck_assert_int_eq(host_drain(h1, true), 0);
    ck_assert_int_eq(delete_object(KIND_HOST, "", "h1"), BERTH_EINUSE);
    ck_assert_contains(answer.text, "alone carries the log");
    ck_assert_int_eq(vote(h2, VOTER_VOTER), 0);
    ck_assert_int_eq(vote(h3, VOTER_STANDBY), 0);
    ck_assert_int_eq(delete_object(KIND_HOST, "", "h1"), BERTH_EINUSE);
    ck_assert_contains(answer.text, "one of two voters");
    ck_assert_int_eq(host_phase(h1, HOST_PHASE_LOST), 0);
    ck_assert_int_eq(host_phase(h1, HOST_PHASE_REMOVED), BERTH_EINUSE);
    ck_assert_int_eq(put(KIND_TOKEN, make_join_token("t", 5)), 0);
    ck_assert_int_eq(join("h1", 4, 5), BERTH_EINUSE); /* nor by another machine */
    ck_assert_int_eq(vote(h3, VOTER_VOTER), 0);
    ck_assert_int_eq(delete_object(KIND_HOST, "", "h1"), 0);
    ck_assert_int_eq(host_drain(h3, true), 0);
    ck_assert_int_eq(vote(h3, VOTER_NONE), 0); /* it has left the log */
    ck_assert_int_eq(delete_object(KIND_HOST, "", "h3"), 0);
}
END_TEST

/* ---- VMs that wait for a lost host ---- */

/* One that waits, on h2, which votes no more and is lost. */
static uint64_t vm_on_lost_h2(void)
{
    struct template *template = make_template(DEFAULT_TENANT, "patient", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    uint64_t h2 = add_host("h2", 2);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "db", "patient", ""), 0);
    uint64_t db = answer.uid;
    ck_assert_int_eq(place(db, h2, 1, 0), 0);
    ck_assert_int_eq(reports(db, PHASE_RUNNING), 0);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    return db;
}

/* No lease has ended it: the removal is the only guard against a second run. */
START_TEST(a_lost_host_where_a_vm_may_still_run_goes_by_its_users_word_only)
{
    const struct vm *one = NULL;
    ck_assert_int_eq(level_at_least(LEVEL_SURELY_OFF), 0);
    uint64_t db = vm_on_lost_h2();
    uint64_t h2 = host_named("h2")->meta.uid;
    ck_assert_uint_eq(state_vms_in_doubt(state, h2, &one), 1);
    ck_assert_ptr_eq(one, state_vm(state, db));
    ck_assert_int_eq(delete_object(KIND_HOST, "", "h2"), BERTH_EPHASE);
    ck_assert_contains(answer.text, "vm db of tenant default may still run on lost host");
    ck_assert_contains(answer.text, "surelyOff");
    ck_assert_int_eq(delete_host_by_force("h2"), BERTH_EPHASE); /* says it of disks */
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_REMOVED), BERTH_EPHASE);
    ck_assert_int_eq(state_vm(state, db)->status.phase, PHASE_LOST);
    ck_assert_int_eq(delete_host_surely_off("h2"), 0);
    ck_assert_int_eq(state_vm(state, db)->status.phase, PHASE_PENDING);
}
END_TEST

START_TEST(nor_does_another_machine_take_its_name_before)
{
    ck_assert_int_eq(level_at_least(LEVEL_SURELY_OFF), 0);
    uint64_t db = vm_on_lost_h2();
    ck_assert_int_eq(put(KIND_TOKEN, make_join_token("t", 5)), 0);
    ck_assert_int_eq(join("h2", 9, 5), BERTH_EPHASE);
    ck_assert_contains(answer.text, "remove that first");
    ck_assert_int_eq(state_vm(state, db)->status.phase, PHASE_LOST);
    ck_assert_int_eq(delete_host_surely_off("h2"), 0);
    ck_assert_int_eq(join("h2", 9, 5), 0); /* the token was not used up */
}
END_TEST

START_TEST(before_its_level_a_removal_is_that_word)
{
    ck_assert_int_lt(state_level(state), LEVEL_SURELY_OFF);
    uint64_t db = vm_on_lost_h2();
    ck_assert_int_eq(delete_object(KIND_HOST, "", "h2"), 0);
    ck_assert_int_eq(state_vm(state, db)->status.phase, PHASE_PENDING);
}
END_TEST

/* ---- networks ---- */

START_TEST(a_host_has_one_address_in_a_network)
{
    ck_assert_int_eq(network_host(front, h1, ADDRESS(2)), 0); /* as it is */
    ck_assert_int_eq(network_host(front, h1, ADDRESS(3)), BERTH_EEXISTS);
    uint64_t h2 = add_host("h2", 2);
    ck_assert_int_eq(network_host(front, h2, ADDRESS(2)), BERTH_ECONFLICT);
    ck_assert_int_eq(network_host(front, h2, ADDRESS(1)), BERTH_ECONFLICT);
    ck_assert_int_eq(network_host(front, h2, 0x0b000001), BERTH_EINVALID);
    ck_assert_int_eq(network_host(front, h2, ADDRESS(3)), 0);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_int_eq(network_host(front, h2, 0), 0);
    ck_assert_int_eq(network_host(front, h2, ADDRESS(3)), BERTH_EPHASE);
}
END_TEST

START_TEST(a_host_leaves_a_network_when_no_vm_there_uses_it)
{
    ck_assert_int_eq(admit(DEFAULT_TENANT, "w", "web", ""), 0);
    uint64_t vm = answer.uid;
    ck_assert_int_eq(place(vm, h1, 1, ADDRESS(10)), 0);
    ck_assert_int_eq(network_host(front, h1, 0), BERTH_EINUSE);
    ck_assert_contains(answer.text, "vm w");
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);
    ck_assert_int_eq(network_host(front, h1, 0), 0);
    ck_assert_int_eq(network_host(front, h1, 0), 0);
}
END_TEST

START_TEST(a_migration_needs_the_network_on_its_target)
{
    uint64_t h2 = add_host("h2", 2);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "w", "web", ""), 0);
    uint64_t vm = answer.uid;
    ck_assert_int_eq(place(vm, h1, 1, ADDRESS(10)), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm, 1, h2), BERTH_ECONFLICT);
    ck_assert_int_eq(network_host(front, h2, ADDRESS(3)), 0);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm, 1, h2), 0);
    ck_assert_int_eq(network_host(front, h2, 0), BERTH_EINUSE); /* it is on its way */
}
END_TEST

int main(void)
{
    TCase *tests = NULL;
    Suite *suite = fixture_suite("apply_host", &tests);
    tcase_add_test(tests, the_first_host_makes_cluster_and_default_tenant);
    tcase_add_test(tests, the_first_join_needs_a_request_id_and_the_clusters_word);
    tcase_add_test(tests, a_join_token_lets_in_once);
    tcase_add_test(tests, a_token_with_more_uses_counts_down);
    tcase_add_test(tests, a_token_of_another_role_or_time_lets_nobody_in);
    tcase_add_test(tests, a_known_host_comes_back_with_its_uid_and_news);
    tcase_add_test(tests, nobody_else_comes_back_as_a_known_host);
    tcase_add_test(tests, a_name_with_another_key_is_refused_until_the_host_is_lost);
    tcase_add_test(tests, an_update_takes_the_inventory_and_nothing_else);
    tcase_add_test(tests, a_voter_is_noted);
    tcase_add_test(tests, a_drain_has_a_reason_until_it_ends);
    tcase_add_test(tests, a_host_moves_by_its_own_table);
    tcase_add_test(tests, labels_of_a_host_change_one_by_one_and_outlive_its_return);
    tcase_add_test(tests,
                   labels_of_a_host_that_comes_back_are_its_joins_below_their_level);
    tcase_add_test(tests,
                   labels_of_a_host_are_changed_only_at_the_revision_that_was_seen);
    tcase_add_test(tests, labels_of_a_host_that_cannot_be_are_refused);
    tcase_add_test(tests, a_host_is_removed_when_lost_or_drained_and_empty);
    tcase_add_test(tests, a_host_that_the_log_needs_is_not_removed);
    tcase_add_test(tests,
                   a_lost_host_where_a_vm_may_still_run_goes_by_its_users_word_only);
    tcase_add_test(tests, nor_does_another_machine_take_its_name_before);
    tcase_add_test(tests, before_its_level_a_removal_is_that_word);
    tcase_add_test(tests, a_host_has_one_address_in_a_network);
    tcase_add_test(tests, a_host_leaves_a_network_when_no_vm_there_uses_it);
    tcase_add_test(tests, a_migration_needs_the_network_on_its_target);
    return test_main_run(suite);
}
