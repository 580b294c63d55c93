#include "support/state_fixture.h"

static int noop(uint32_t cookie)
{
    struct command command;
    command_init(&command, COMMAND_NOOP);
    command.body.noop.cookie = cookie;
    return send_command(&command);
}

START_TEST(a_noop_changes_nothing)
{
    uint64_t revision = state_revision(state);
    uint64_t hash = state_hash(state);
    ck_assert_int_eq(noop(1), 0);
    ck_assert_uint_eq(answer.revision, revision);
    ck_assert_uint_eq(state_hash(state), hash);
}
END_TEST

START_TEST(the_revision_rises_by_one_per_command_that_changed_something)
{
    uint64_t revision = state_revision(state);
    ck_assert_int_eq(put(KIND_TENANT, make_tenant("shop")), 0);
    ck_assert_uint_eq(answer.revision, revision + 1);
    const struct tenant *tenant = FIND(KIND_TENANT, "", "shop");
    ck_assert_uint_eq(tenant->meta.create_revision, revision + 1);
    ck_assert_uint_eq(tenant->meta.modify_revision, revision + 1);
    ck_assert_int_eq(put(KIND_TENANT, make_tenant("shop")), 0); /* as it is */
    ck_assert_uint_eq(answer.revision, revision + 1);
    ck_assert_int_eq(delete_object(KIND_TENANT, "", "nobody"), BERTH_ENOTFOUND);
    ck_assert_uint_eq(answer.revision, revision + 1);
}
END_TEST

START_TEST(a_retry_is_answered_and_not_done_twice)
{
    next_request(1);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "a", "plain", ""), 0);
    struct apply_result first = answer;
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "a"), 0);

    fixture_wall_ms += 1000; /* another time is not another request */
    next_request(1);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "a", "plain", ""), 0);

    ck_assert_uint_eq(answer.uid, first.uid);
    ck_assert_uint_eq(answer.revision, first.revision);
    ck_assert_uint_eq(state_count(state, KIND_VM), 0);
}
END_TEST

START_TEST(a_refusal_is_remembered_too)
{
    next_request(1);
    ck_assert_int_eq(admit("shop", "a", "plain", ""), BERTH_ENOTFOUND);
    char text[256];
    snprintf(text, sizeof(text), "%s", answer.text);
    ck_assert_int_eq(put(KIND_TENANT, make_tenant("shop")), 0);
    next_request(1);
    ck_assert_int_eq(admit("shop", "a", "plain", ""), BERTH_ENOTFOUND);
    ck_assert_str_eq(answer.text, text);
}
END_TEST

START_TEST(a_request_id_for_something_else_is_refused)
{
    next_request(1);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "a", "plain", ""), 0);
    uint64_t revision = state_revision(state);
    next_request(1);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "b", "plain", ""), BERTH_EREUSED);
    next_request(1);
    fixture_subject = "token:other";
    ck_assert_int_eq(admit(DEFAULT_TENANT, "a", "plain", ""), BERTH_EREUSED);
    ck_assert_uint_eq(state_revision(state), revision);
    ck_assert_uint_eq(state_count(state, KIND_VM), 1);
}
END_TEST

static void ask_often(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        next_request(1);
        memcpy(&fixture_request[4], &i, sizeof(i)); /* all of one owner */
        fixture_request[8] = 1;
        ck_assert_int_eq(noop(i), 0);
    }
}

START_TEST(the_first_level_knows_no_shares_of_the_memory)
{
    ck_assert_uint_eq(state_level(state), LEVEL_FIRST);
    next_request(2);
    ck_assert_int_eq(noop(1), 0);
    ask_often(STATE_REQUESTS_MAX);
    next_request(2);
    ck_assert_int_eq(noop(2), 0); /* forgotten, for who asked often had it all */
}
END_TEST

START_TEST(only_so_many_requests_are_remembered)
{
    ck_assert_int_eq(raise_level(LEVEL_REQUEST_SHARES), 0);
    next_request(1);
    ck_assert_int_eq(noop(1), 0);
    for (uint32_t i = 0; i < STATE_REQUESTS_MAX; i++) {
        next_request(2);
        memcpy(&fixture_request[0], &i, sizeof(i)); /* each of another owner */
        fixture_request[9] = 1;
        ck_assert_int_eq(noop(i), 0);
    }
    next_request(1);
    ck_assert_int_eq(noop(2), 0); /* forgotten, so not reused */
    ask_often(STATE_REQUESTS_MAX);
    next_request(2);
    const uint32_t last = STATE_REQUESTS_MAX - 1;
    memcpy(&fixture_request[0], &last, sizeof(last));
    fixture_request[9] = 1;
    ck_assert_int_eq(noop(last + 1), BERTH_EREUSED); /* another's is remembered still */
}
END_TEST

START_TEST(expected_revisions_compare_and_set)
{
    ck_assert_int_eq(put_at(KIND_TENANT, make_tenant("shop"), REVISION_NONE), 0);
    uint64_t revision = answer.revision;
    ck_assert_int_eq(put_at(KIND_TENANT, make_tenant("shop"), REVISION_NONE),
                     BERTH_EEXISTS);
    ck_assert_int_eq(put_at(KIND_TENANT, make_tenant("shop"), revision - 1),
                     BERTH_ECONFLICT);
    ck_assert_contains(answer.text, "tenant shop has changed");
    ck_assert_int_eq(put_at(KIND_TENANT, make_tenant("other"), 7), BERTH_ECONFLICT);
    struct tenant *tenant = make_tenant("shop");
    set_text(&tenant->spec.display_name, "The shop");
    ck_assert_int_eq(put_at(KIND_TENANT, tenant, revision), 0);
    ck_assert_int_eq(delete_at(KIND_TENANT, "", "shop", revision), BERTH_ECONFLICT);
    ck_assert_int_eq(delete_at(KIND_TENANT, "", "shop", answer.revision), 0);
}
END_TEST

START_TEST(use_does_not_move_a_tenants_revision)
{
    uint64_t revision =
        object_meta(FIND(KIND_TENANT, "", DEFAULT_TENANT))->modify_revision;
    uint64_t hash = state_hash(state);
    admit_plain("a");
    const struct tenant *tenant = FIND(KIND_TENANT, "", DEFAULT_TENANT);
    ck_assert_uint_eq(tenant->status.used.vms, 1);
    ck_assert_uint_eq(tenant->meta.modify_revision, revision);
    ck_assert_int_eq(fixture_last.kind, KIND_TENANT); /* but watchers are told */
    ck_assert(state_hash(state) != hash);
}
END_TEST

/* ---- quotas ---- */

static void put_quota(void (*limit)(struct quota *quota))
{
    struct tenant *tenant = make_tenant("shop");
    limit(&tenant->spec.quota);
    ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
}

static void limit_cpu(struct quota *quota)
{
    quota->cpu_mcpu = 1500;
}
static void limit_memory(struct quota *quota)
{
    quota->memory_bytes = 128 * MIB;
}
static void limit_disk(struct quota *quota)
{
    quota->disk_bytes = 3 * GIB;
}
static void limit_vms(struct quota *quota)
{
    quota->vms = 1;
}
static void limit_addresses(struct quota *quota)
{
    quota->addresses = 1;
}
static void limit_networks(struct quota *quota)
{
    quota->networks = 1;
}

static const struct {
    void (*limit)(struct quota *quota);
    const char *text;
} quotas[] = {
    {limit_cpu, "quota of tenant shop: cpu 1 of 1500m in use, 1 more asked"},
    {limit_memory,
     "quota of tenant shop: memory 128MiB of 128MiB in use, 128MiB more asked"},
    {limit_disk, "quota of tenant shop: disk 2GiB of 3GiB in use, 2GiB more asked"},
    {limit_vms, "quota of tenant shop: vms 1 of 1 in use, 1 more asked"},
    {limit_addresses, "quota of tenant shop: addresses 1 of 1 in use, 1 more asked"},
};

static struct template *make_full_template(void)
{
    struct template *template = make_template("shop", "web", "front");
    struct record_list list = {0};
    struct disk_spec *disk = record_list_add(&disk_spec_record, &list);
    ck_assert_ptr_nonnull(disk);
    set_name(disk->name, "root");
    disk->size_bytes = 2 * GIB;
    template->spec.disks.items = list.items;
    template->spec.disks.count = list.count;
    return template;
}

START_TEST(a_quota_refuses_the_vm_that_exceeds_it)
{
    put_quota(quotas[_i].limit);
    ck_assert_int_eq(put(KIND_NETWORK,
                         make_network("shop", "front", ((uint64_t)0x0b000000 << 8) | 24)),
                     0);
    ck_assert_int_eq(put(KIND_TEMPLATE, make_full_template()), 0);
    const struct template *web = FIND(KIND_TEMPLATE, "shop", "web");
    struct usage promised = {0};
    char text[256] = "";

    ck_assert_int_eq(state_quota_room(state, "shop", &web->spec, &promised, text), 0);
    ck_assert_uint_eq(promised.vms, 1);
    ck_assert_int_eq(state_quota_room(state, "shop", &web->spec, &promised, text),
                     BERTH_EQUOTA);
    ck_assert_str_eq(text, quotas[_i].text);
    ck_assert_uint_eq(promised.vms, 1);
    struct usage many = {0};
    char last[APPLY_TEXT_SIZE] = "";
    ck_assert_uint_eq(state_quota_fits(state, "shop", &web->spec, 0, &many, last), 0);
    ck_assert_str_eq(last, "");
    ck_assert_uint_eq(
        state_quota_fits(state, "shop", &web->spec, UINT32_MAX, &many, last), 1);
    ck_assert_str_eq(last, text);
    ck_assert_mem_eq(&many, &promised, sizeof(many));
    ck_assert_int_eq(admit("shop", "a", "web", ""), 0);
    ck_assert_int_eq(admit("shop", "b", "web", ""), BERTH_EQUOTA);

    ck_assert_str_eq(answer.text, quotas[_i].text);
    ck_assert_uint_eq(answer.uid, 0);
    ck_assert_int_eq(delete_object(KIND_VM, "shop", "a"), 0);
    ck_assert_int_eq(admit("shop", "b", "web", ""), 0);
}
END_TEST

START_TEST(networks_and_disks_count_too)
{
    put_quota(limit_networks);
    ck_assert_int_eq(
        put(KIND_NETWORK, make_network("shop", "a", ((uint64_t)0x0b000000 << 8) | 24)),
        0);
    ck_assert_int_eq(
        put(KIND_NETWORK, make_network("shop", "b", ((uint64_t)0x0b000100 << 8) | 24)),
        BERTH_EQUOTA);
    ck_assert_int_eq(delete_object(KIND_NETWORK, "shop", "a"), 0);
    put_quota(limit_disk);
    struct disk *disk = make(KIND_DISK, "shop", "data");
    disk->spec.size_bytes = 2 * GIB;
    ck_assert_int_eq(put(KIND_DISK, disk), 0);
    disk = make(KIND_DISK, "shop", "data");
    disk->spec.size_bytes = 4 * GIB;
    ck_assert_int_eq(put(KIND_DISK, disk), BERTH_EQUOTA);
    ck_assert_str_eq(answer.text,
                     "quota of tenant shop: disk 2GiB of 3GiB in use, 2GiB more asked");
    disk = make(KIND_DISK, "shop", "data");
    disk->spec.size_bytes = 3 * GIB;
    ck_assert_int_eq(put(KIND_DISK, disk), 0);
    const struct tenant *tenant = FIND(KIND_TENANT, "", "shop");
    ck_assert_uint_eq(tenant->status.used.disk_bytes, 3 * GIB);
    ck_assert_int_eq(delete_object(KIND_DISK, "shop", "data"), 0);
    tenant = FIND(KIND_TENANT, "", "shop");
    ck_assert_uint_eq(tenant->status.used.disk_bytes, 0);
}
END_TEST

START_TEST(a_quota_below_use_refuses_more_and_keeps_what_is_there)
{
    ck_assert_int_eq(put(KIND_TENANT, make_tenant("shop")), 0);
    ck_assert_int_eq(put(KIND_TEMPLATE, make_template("shop", "plain", NULL)), 0);
    ck_assert_int_eq(admit("shop", "a", "plain", ""), 0);
    ck_assert_int_eq(admit("shop", "b", "plain", ""), 0);
    put_quota(limit_vms);
    ck_assert_int_eq(admit("shop", "c", "plain", ""), BERTH_EQUOTA);
    ck_assert_str_eq(answer.text,
                     "quota of tenant shop: vms 2 of 1 in use, 1 more asked");
    ck_assert_uint_eq(state_count(state, KIND_VM), 2);
}
END_TEST

/* ---- events ---- */

START_TEST(events_tell_what_happened_and_why)
{
    uint64_t since = state_revision(state);
    uint64_t vm = admit_plain("a");
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    ck_assert_int_eq(host_drain(h1, true), 0);
    ck_assert_int_eq(put(KIND_GROUP, make_group(DEFAULT_TENANT, "g", "plain", 1)), 0);
    ck_assert_int_eq(scale("g", 2, true), 0);
    ck_assert_int_eq(delete_object(KIND_GROUP, DEFAULT_TENANT, "g"), 0);
    static const struct {
        const char *name;
        const char *verb;
        const char *reason;
    } expected[] = {
        {"a", "created", ""},
        {"a", "placed", "most room"},
        {"h1", "drained", "maintenance"},
        {"g", "created", ""},
        {"g", "scaled", "1 to 2 VMs: load"},
        {"g", "deleted", ""},
    };
    size_t cursor = 0;
    for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        const struct event *event = state_event_next(state, since, &cursor);
        ck_assert_ptr_nonnull(event);
        ck_assert_str_eq(event->name, expected[i].name);
        ck_assert_str_eq(event->verb, expected[i].verb);
        ck_assert_str_eq(event->reason, expected[i].reason);
        ck_assert_uint_eq(event->revision, since + 1 + i);
        ck_assert_uint_eq(event->wall_ms, fixture_wall_ms);
    }
    ck_assert_ptr_null(state_event_next(state, since, &cursor));
}
END_TEST

START_TEST(a_refused_command_leaves_no_trace)
{
    uint64_t hash = state_hash(state);
    uint64_t revision = state_revision(state);
    fixture_changes = 0;
    ck_assert_int_lt(admit("nobody", "a", "plain", ""), 0);
    ck_assert_int_lt(admit(DEFAULT_TENANT, "a", "nothing", ""), 0);
    ck_assert_int_lt(admit(DEFAULT_TENANT, "a", "plain", "no-group"), 0);
    ck_assert_int_lt(place(77, h1, 1, 0), 0);
    ck_assert_int_lt(evict(77, 1, STOP_INTENT_STOP), 0);
    ck_assert_int_lt(retry(77, 1), 0);
    ck_assert_int_lt(set_power(77, POWER_OFF), 0);
    ck_assert_int_lt(migrate(COMMAND_MIGRATE_PREPARE, 77, 1, h1), 0);
    ck_assert_int_lt(migrate(COMMAND_MIGRATE_COMMIT, 77, 1, 0), 0);
    ck_assert_int_lt(host_phase(77, HOST_PHASE_LOST), 0);
    ck_assert_int_lt(host_drain(77, true), 0);
    ck_assert_int_lt(network_host(77, h1, ADDRESS(9)), 0);
    ck_assert_int_lt(network_host(front, 77, ADDRESS(9)), 0);
    ck_assert_int_lt(scale("no-group", 1, true), 0);
    ck_assert_int_lt(join("h9", 9, 9), 0);
    ck_assert_uint_eq(state_hash(state), hash);
    ck_assert_uint_eq(state_revision(state), revision);
    ck_assert_uint_eq(fixture_changes, 0);
}
END_TEST

int main(void)
{
    TCase *tests = NULL;
    Suite *suite = fixture_suite("state_apply", &tests);
    tcase_add_test(tests, a_noop_changes_nothing);
    tcase_add_test(tests, the_revision_rises_by_one_per_command_that_changed_something);
    tcase_add_test(tests, a_retry_is_answered_and_not_done_twice);
    tcase_add_test(tests, a_refusal_is_remembered_too);
    tcase_add_test(tests, a_request_id_for_something_else_is_refused);
    tcase_add_test(tests, the_first_level_knows_no_shares_of_the_memory);
    tcase_add_test(tests, only_so_many_requests_are_remembered);
    tcase_add_test(tests, expected_revisions_compare_and_set);
    tcase_add_test(tests, use_does_not_move_a_tenants_revision);
    tcase_add_loop_test(tests, a_quota_refuses_the_vm_that_exceeds_it, 0,
                        (int)(sizeof(quotas) / sizeof(quotas[0])));
    tcase_add_test(tests, networks_and_disks_count_too);
    tcase_add_test(tests, a_quota_below_use_refuses_more_and_keeps_what_is_there);
    tcase_add_test(tests, events_tell_what_happened_and_why);
    tcase_add_test(tests, a_refused_command_leaves_no_trace);
    return test_main_run(suite);
}
