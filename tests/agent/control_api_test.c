/* Goal: the API sees one control plane, on hosts that have all of it and on hosts that
 * have nothing but a link. Method: the adapter over real logs, leaders and links of a
 * small rack; the API is the test. */
#include "agent/control_api.h"
#include "plane_fixture.h"

#define TTL_MS 60000

static struct control_api api;

static struct {
    unsigned count;
    int code;
    char text[256]; /* of a refusal */
    uint32_t index;
    const struct state *state;
    char token[JOIN_TOKEN_TEXT_SIZE];
} got;

static void api_start(struct plane *self)
{
    memset(&got, 0, sizeof(got));
    api = (struct control_api){
        .loop = &rack.loop,
        .clock = clock_system(),
        .identity = &self->host->identity,
        .members = &self->host->members,
        .link = self->host->link,
        .control = self->control,
        .leader = self->leader,
    };
    ck_assert_int_eq(control_api_init(&api), 0);
}

static void api_stop(void)
{
    control_api_fini(&api);
    plane_stop();
}

/* ---- answers ---- */

static void
take_proposed(void *context, uint32_t index, int code, const struct apply_result *result)
{
    (void)context;
    got.count++;
    got.index = index;
    got.code = code < 0 ? code : result->code;
    (void)snprintf(got.text, sizeof(got.text), "%s", code < 0 ? "" : result->text);
}

static void take_readable(void *context, int code, const struct state *state)
{
    (void)context;
    got.count++;
    got.code = code;
    got.state = state;
}

static void take_token(void *context, int code, const char *token, const char *detail)
{
    (void)context;
    (void)detail;
    got.count++;
    got.code = code;
    (void)snprintf(got.token, sizeof(got.token), "%s", token != NULL ? token : "");
}

static void tenant_command(const char *name, struct command *ret_command)
{
    struct tenant *tenant = object_new(KIND_TENANT);
    (void)snprintf(tenant->meta.name, NAME_SIZE, "%s", name);
    command_init(ret_command, COMMAND_PUT);
    (void)snprintf(ret_command->subject, sizeof(ret_command->subject), "root");
    ck_assert_int_eq(command_set_put(ret_command, KIND_TENANT, tenant, REVISION_ANY), 0);
    object_free(KIND_TENANT, tenant);
}

static void put_tenant(const char *name)
{
    struct command command;
    unsigned before = got.count;
    tenant_command(name, &command);
    api.plane.propose(&api, &command, 1, take_proposed, NULL);
    ck_assert_uint_eq(got.count, before); /* never inside the call */
    command_fini(&command);
    RACK_WAIT(got.count > before);
}

/* ---- exchanges ---- */

static struct {
    int status;
    char body[4096];
    size_t size;
    size_t told; /* by the head, of the whole */
    bool ended;
    bool released;
} seen;

static void see_head(void *sink,
                     int status,
                     const char *content_type,
                     const struct exchange_header *headers,
                     unsigned header_count)
{
    (void)sink;
    (void)content_type;
    seen.status = status;
    seen.told = SIZE_MAX;
    for (unsigned i = 0; i < header_count; i++) {
        if (strcmp(headers[i].name, EXCHANGE_LENGTH) == 0) {
            seen.told = strtoul(headers[i].value, NULL, 10);
        }
    }
}

static int see_data(void *sink, const void *data, size_t size)
{
    (void)sink;
    ck_assert_uint_lt(seen.size + size, sizeof(seen.body));
    memcpy(seen.body + seen.size, data, size);
    seen.size += size;
    return 0;
}

static void see_end(void *sink)
{
    (void)sink;
    ck_assert_uint_eq(seen.told, seen.size); /* each of them is a whole answer */
    seen.ended = true;
}

static void see_released(void *sink)
{
    (void)sink;
    seen.released = true;
}

static struct exchange *exchange_from(uint64_t forwarder)
{
    static const struct exchange_sink sink = {
        .head = see_head, .data = see_data, .end = see_end, .released = see_released};
    struct exchange_request request = {.method = "GET",
                                       .path = strdup("/v1/vms"),
                                       .query = strdup(""),
                                       .credentials = {.forwarder = forwarder}};
    memset(&seen, 0, sizeof(seen));
    return exchange_new(&request, &sink, NULL);
}

/* ---- the host that leads ---- */

START_TEST(the_leader_writes_and_reads)
{
    struct control_role role;
    plane_start();
    api_start(&plane.hosts[0]);

    put_tenant("shop");
    ck_assert_int_eq(got.code, 0);
    ck_assert_uint_eq(got.index, 0);
    put_tenant("NOT A NAME");
    ck_assert_int_eq(got.code, BERTH_EINVALID); /* what apply says gets through */

    api.plane.read(&api, take_readable, NULL);
    RACK_WAIT(got.count == 3);
    ck_assert_int_eq(got.code, 0);
    ck_assert_ptr_nonnull(state_get(got.state, KIND_TENANT, "", "shop"));
    ck_assert_ptr_eq(api.plane.state(&api), got.state);
    ck_assert_ptr_nonnull(api.plane.feed(&api));
    api.plane.role(&api, &role);
    ck_assert(role.leader && role.voter);
    ck_assert_str_eq(role.leader_name, "h1");
    ck_assert_uint_eq(role.revision, state_revision(got.state));
    api_stop();
}
END_TEST

#define BULK      400 /* of them the log's queue holds fewer, in bytes */
#define BULK_SIZE 50000

static struct {
    unsigned count;
    int codes[BULK + 1];
} bulk;

static void
take_bulk(void *context, uint32_t index, int code, const struct apply_result *result)
{
    (void)context;
    ck_assert_uint_le(index, BULK);
    bulk.count++;
    bulk.codes[index] = code < 0 ? code : result->code;
}

/* The last one is small, and would have had room; it may count on those before it. */
START_TEST(what_the_log_has_no_room_for_keeps_out_those_behind_it)
{
    static struct command commands[BULK + 1];
    memset(&bulk, 0, sizeof(bulk));
    plane_start();
    api_start(&plane.hosts[0]);
    for (unsigned i = 0; i < BULK; i++) { /* the state refuses them */
        command_init(&commands[i], COMMAND_PUT);
        commands[i].body.put.kind = KIND_TENANT;
        commands[i].body.put.document =
            (struct blob){.data = calloc(1, BULK_SIZE), .size = BULK_SIZE};
    }
    tenant_command("shop", &commands[BULK]);

    api.plane.propose(&api, commands, BULK + 1, take_bulk, NULL);
    for (unsigned i = 0; i < BULK + 1; i++) {
        command_fini(&commands[i]);
    }
    RACK_WAIT(bulk.count == BULK + 1);

    ck_assert_int_ne(bulk.codes[0], BERTH_EFULL);
    ck_assert_int_eq(bulk.codes[BULK - 1], BERTH_EFULL);
    ck_assert_int_eq(bulk.codes[BULK], BERTH_EFULL);
    ck_assert_ptr_null(state_get(plane_state(0), KIND_TENANT, "", "shop"));
    api_stop();
}
END_TEST

START_TEST(a_join_token_lets_a_host_in)
{
    struct join_token token;
    struct err err = {0};
    plane_start();
    api_start(&plane.hosts[0]);
    struct plane *guest = plane_guest();

    api.plane.join_token(&api, TTL_MS, take_token, NULL);
    RACK_WAIT(got.count == 1);

    ck_assert_int_eq(got.code, 0);
    ck_assert_msg(join_token_parse(got.token, &token, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(token.address, api.identity->address);
    ck_assert_mem_eq(token.key.bytes, api.identity->key.bytes, sizeof(token.key.bytes));
    ck_assert_int_eq(plane_join_with(guest, token.secret), 0);
    api_stop();
}
END_TEST

/* ---- a host that goes ---- */

static bool find_in_log(const struct plane *self, struct consensus_member *ret_member)
{
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
    uint64_t id = identity_raft_id(&self->host->identity.key);
    size_t count = consensus_members(control_consensus(plane_leader()->control), members,
                                     CONSENSUS_MEMBERS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (members[i].id == id) {
            *ret_member = members[i];
            return true;
        }
    }
    return false;
}

static unsigned voters_recorded(void)
{
    size_t cursor = 0;
    unsigned recorded = 0;
    const struct host *host;
    while (plane_leader() != NULL &&
           (host = state_next(control_state(plane_leader()->control), KIND_HOST,
                              &cursor)) != NULL) {
        recorded += host->status.voter == VOTER_VOTER ? 1U : 0U;
    }
    return recorded;
}

static const struct host *record_of(const struct plane *self)
{
    const struct digest key = identity_key_digest(&self->host->identity.key);
    return state_host_by_key(control_state(plane_leader()->control), &key);
}

/* The first voter that does not lead, or the one after it. */
static struct plane *other_voter(unsigned after)
{
    for (unsigned i = 0; i < rack.count; i++) {
        struct plane *self = &plane.hosts[i];
        if (self != plane_leader() && record_of(self)->status.voter == VOTER_VOTER &&
            after-- == 0) {
            return self;
        }
    }
    ck_abort_msg("there is no such voter");
}

static void rack_of_voters(unsigned hosts)
{
    static const char *const tokens[] = {"second", "third", "fourth"};
    plane_start();
    for (unsigned i = 1; i < hosts; i++) {
        plane_member(tokens[i - 1], (uint8_t)(i + 1));
    }
    RACK_WAIT(voters_recorded() == 3);
    api_start(plane_leader());
}

static void drain(const struct plane *self)
{
    struct command command;
    command_init(&command, COMMAND_HOST_DRAIN);
    command.body.host_drain.host = record_of(self)->meta.uid;
    command.body.host_drain.drain = true;
    ck_assert_int_eq(plane_propose(&command), 0);
}

/* As `berth rm host` does; where the leader is, which a busy machine may change. */
static int remove_host(const struct plane *self)
{
    do {
        struct command command;
        unsigned before = got.count;
        RACK_WAIT(plane_leader() != NULL);
        api.control = plane_leader()->control;
        api.leader = plane_leader()->leader;
        command_init(&command, COMMAND_DELETE);
        (void)snprintf(command.subject, sizeof(command.subject), "root");
        command.body.delete.kind = KIND_HOST;
        memcpy(command.body.delete.name, self->host->identity.name, NAME_SIZE);
        command.body.delete.expected_revision = REVISION_ANY;
        api.plane.propose(&api, &command, 1, take_proposed, NULL);
        command_fini(&command);
        RACK_WAIT(got.count > before);
    } while (got.code == BERTH_ENOTLEADER);
    return got.code;
}

/* With its record goes its key. */
START_TEST(a_drained_voter_is_removed_when_another_votes_in_its_place)
{
    struct consensus_member member;
    rack_of_voters(4);
    struct plane *gone = other_voter(0);
    drain(gone);

    while (remove_host(gone) == BERTH_EINUSE) {
        ck_assert_ptr_nonnull(strstr(got.text, "place"));
    }

    ck_assert_msg(got.code == 0, "%s", got.text);
    RACK_WAIT(plane_leader() != NULL);
    ck_assert(!find_in_log(gone, &member));
    ck_assert_uint_eq(voters_recorded(), 3);
    api_stop();
}
END_TEST

START_TEST(a_drained_voter_is_kept_while_another_is_away)
{
    struct consensus_member member;
    rack_of_voters(3);
    struct plane *away = other_voter(0);
    struct plane *gone = other_voter(1);
    away->beats = false;
    plane_close_log(away);
    drain(gone);
    RACK_WAIT(plane_leader() != NULL && find_in_log(away, &member) && !member.recent);

    ck_assert_int_eq(remove_host(gone), BERTH_EINUSE);

    ck_assert_ptr_nonnull(strstr(got.text, "is in the log, and host "));
    ck_assert_ptr_nonnull(strstr(got.text, away->host->identity.name));
    api_stop();
}
END_TEST

START_TEST(metrics_tell_of_log_and_mesh)
{
    plane_start();
    api_start(&plane.hosts[0]);

    char *text = api.plane.metrics(&api);

    ck_assert_ptr_nonnull(strstr(text, "berth_raft_is_leader 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "berth_build_info{version=\""));
    ck_assert_ptr_nonnull(strstr(text, "# TYPE berth_mesh_"));
    for (const char *type = strstr(text, "# TYPE "); type != NULL;
         type = strstr(type + 1, "# TYPE ")) { /* each family says what it is */
        char help[96];
        (void)snprintf(help, sizeof(help), "# HELP %.*s ", (int)strcspn(type + 7, " "),
                       type + 7);
        ck_assert_msg(strstr(text, help) != NULL, "no line \"%s\"", help);
    }
    free(text);
    api_stop();
}
END_TEST

/* Which of the two knows of the other, as a voter, that it leads; NULL: neither, now. */
static struct plane *follower_of(struct plane *one, struct plane *other)
{
    const struct plane *leads =
        plane_leader(); /* the founder, unless the machine is busy */
    struct plane *follower = leads == one ? other : one;
    uint64_t raft_id = 0;
    if (leads == NULL || follower->control == NULL ||
        !consensus_leader(control_consensus(follower->control), &raft_id, NULL) ||
        raft_id != identity_raft_id(&leads->host->identity.key)) {
        return NULL;
    }
    const struct host *record =
        state_host(control_state(follower->control), leads->host->identity.uid);
    return record != NULL && record->status.voter == VOTER_VOTER ? follower : NULL;
}

/* A voter whose own members, from orders, may be as old as the asker's. */
START_TEST(a_voter_tells_who_leads_out_of_its_state)
{
    struct msg_not_leader answer;
    plane_start();
    struct plane *second = plane_member("second", 2);
    (void)plane_member("third", 3);
    RACK_WAIT(second->control != NULL);
    struct plane *follower = NULL;
    RACK_WAIT((follower = follower_of(&plane.hosts[0], second)) != NULL);
    const struct rack_host *leader = plane_leader()->host;
    api_start(follower);
    follower->deaf = true;
    host_knows(follower->host, 0);

    control_api_not_leader(&api, &answer);

    ck_assert_uint_eq(answer.leader, leader->identity.uid);
    ck_assert_uint_eq(answer.term, consensus_term(control_consensus(follower->control)));
    ck_assert_uint_eq(answer.member.uid, leader->identity.uid);
    const struct digest key = identity_key_digest(&leader->identity.key);
    ck_assert(digest_equal(&answer.member.key, &key));
    ck_assert_uint_eq(answer.member.mesh_port, leader->identity.mesh_port);
    ck_assert_int_eq(answer.member.voter, VOTER_VOTER);
    api_stop();
}
END_TEST

/* ---- a host that has no log ---- */

START_TEST(a_host_without_a_log_says_so_later_and_knows_nothing)
{
    struct msg_not_leader answer;
    struct control_role role;
    plane_start();
    struct plane *worker = plane_member("second", 2);
    api_start(worker);

    put_tenant("shop");
    ck_assert_int_eq(got.code, BERTH_ENOTLEADER);
    api.plane.read(&api, take_readable, NULL);
    ck_assert_uint_eq(got.count, 1);
    RACK_WAIT(got.count == 2);
    ck_assert_int_eq(got.code, BERTH_ENOTLEADER);
    ck_assert_ptr_null(got.state);
    ck_assert_ptr_null(api.plane.state(&api));
    ck_assert_ptr_null(api.plane.feed(&api));
    control_api_not_leader(&api, &answer);
    ck_assert(answer.leader == 0 && answer.term == 0 && answer.member.uid == 0);
    api.plane.role(&api, &role);
    ck_assert(!role.leader && !role.voter);
    ck_assert_str_eq(role.leader_name, ""); /* it has no worker that would know */
    api.plane.join_token(&api, TTL_MS, take_token, NULL);
    RACK_WAIT(got.count == 3);
    ck_assert_int_eq(got.code, BERTH_ENOTLEADER);
    ck_assert_str_eq(got.token, "");
    api_stop();
}
END_TEST

START_TEST(without_a_leader_a_request_is_refused_in_words)
{
    plane_start();
    struct plane *worker = plane_member("second", 2);
    RACK_WAIT(link_is_up(worker->host->link, plane.hosts[0].host->identity.uid));
    api_start(worker);
    struct exchange *exchange = exchange_from(0);

    api.plane.forward(&api, exchange);
    exchange_unref(exchange);

    ck_assert_int_eq(seen.status, 503);
    ck_assert(seen.ended && seen.released);
    ck_assert_ptr_nonnull(strstr(seen.body, "no leader"));
    api_stop();
}
END_TEST

START_TEST(a_host_that_is_turned_away_says_by_whom_and_tells_the_way_back)
{
    plane_start();
    struct plane *worker = plane_member("second", 2);
    plane.hosts[0].deaf = true; /* orders would make the two known to each other again */
    host_knows(plane.hosts[0].host, 1);
    host_down(worker->host);
    host_up(worker->host);
    RACK_WAIT(link_shut_out_by(worker->host->link) != NULL);
    api_start(worker);
    struct exchange *exchange = exchange_from(0);

    api.plane.forward(&api, exchange);
    exchange_unref(exchange);

    ck_assert_int_eq(seen.status, 403);
    ck_assert(seen.ended && seen.released);
    ck_assert_ptr_nonnull(strstr(seen.body, " turns this host's key away"));
    ck_assert_ptr_nonnull(strstr(seen.body, "which ends its VMs and their disks"));
    ck_assert_ptr_nonnull(strstr(seen.body, "berth down --forget"));
    ck_assert_ptr_null(strstr(seen.body, "done"));

    exchange = exchange_from(0); /* as when the leader was lost with it */
    exchange_set_in_doubt(exchange);
    api.plane.forward(&api, exchange);
    exchange_unref(exchange);
    ck_assert_int_eq(seen.status, 403);
    ck_assert_ptr_nonnull(
        strstr(seen.body, "connected; what was asked may still have been done\""));
    api_stop();
}
END_TEST

/* Whoever has the console of a VM is root there. */
START_TEST(consoles_are_given_only_on_the_word_of_hosts_that_judge)
{
    plane_start();
    struct plane *worker = plane_member("second", 2);
    struct plane *other = plane_member("third", 3);
    const uint64_t founder = plane.hosts[0].host->identity.uid;
    worker->deaf = true; /* the two become voters, and it would be told */
    other->host->voter = VOTER_NONE;
    host_knows(worker->host, rack.count);
    api_start(worker);

    struct exchange *exchange = exchange_from(other->host->identity.uid);
    control_api_console(&api, exchange, 7);
    exchange_unref(exchange);
    ck_assert_int_eq(seen.status, 403);

    exchange = exchange_from(4711); /* no host at all */
    control_api_console(&api, exchange, 7);
    exchange_unref(exchange);
    ck_assert_int_eq(seen.status, 403);

    exchange = exchange_from(founder);
    control_api_console(&api, exchange, 7);
    exchange_unref(exchange);
    ck_assert_int_eq(seen.status, 503); /* it would, but has no VMs yet */
    api_stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("control_api");
    TCase *tests = tcase_create("control_api");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, the_leader_writes_and_reads);
    tcase_add_test(tests, what_the_log_has_no_room_for_keeps_out_those_behind_it);
    tcase_add_test(tests, a_join_token_lets_a_host_in);
    tcase_add_test(tests, a_drained_voter_is_removed_when_another_votes_in_its_place);
    tcase_add_test(tests, a_drained_voter_is_kept_while_another_is_away);
    tcase_add_test(tests, metrics_tell_of_log_and_mesh);
    tcase_add_test(tests, a_voter_tells_who_leads_out_of_its_state);
    tcase_add_test(tests, a_host_without_a_log_says_so_later_and_knows_nothing);
    tcase_add_test(tests, without_a_leader_a_request_is_refused_in_words);
    tcase_add_test(tests, a_host_that_is_turned_away_says_by_whom_and_tells_the_way_back);
    tcase_add_test(tests, consoles_are_given_only_on_the_word_of_hosts_that_judge);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
