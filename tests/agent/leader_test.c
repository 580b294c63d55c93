/* Goal: hosts come in, take part at a level, vote, and leave, as the log says. Method:
 * real logs, leaders and links of up to four hosts in this process; what the hosts say of
 * themselves is the test's. */
#include "consensus/raft_channel.h"
#include "leader_fixture.h"

/* ---- joining ---- */

static uint64_t proposals(void)
{
    struct consensus_counters counters;
    consensus_counters(control_consensus(plane.hosts[0].control), &counters);
    return counters.proposals;
}

START_TEST(a_stranger_without_a_good_token_costs_the_log_nothing)
{
    plane_start();
    struct plane *guest = plane_guest();
    plane_token("old", 5, clock_wall_ms(clock_system()) - 1);
    plane_token("other", 8, 0); /* keeps the door open */
    uint64_t before = proposals();

    ck_assert_int_eq(plane_join(guest, 7), BERTH_EAUTH);
    ck_assert_ptr_nonnull(strstr(guest->reply.text, "not known"));
    ck_assert_int_eq(plane_join(guest, 5), BERTH_EAUTH);
    ck_assert_ptr_nonnull(strstr(guest->reply.text, "token old has expired"));

    ck_assert_uint_eq(proposals(), before);
    ck_assert_uint_eq(uid_of(guest), 0);
    plane_stop();
}
END_TEST

static bool has_token(const char *name)
{
    return state_get(plane_state(0), KIND_TOKEN, "", name) != NULL;
}

START_TEST(a_token_of_a_host_that_never_came_goes_in_its_time)
{
    plane_start();
    plane_token("lately", 5, clock_wall_ms(clock_system()) - 1000);
    plane_token("long-ago", 6, 1);
    plane_token("longer-ago", 7, 1);

    RACK_WAIT(!has_token("long-ago") && !has_token("longer-ago"));

    ck_assert(has_token("lately"));
    plane_stop();
}
END_TEST

START_TEST(a_refused_host_comes_in_with_a_new_token)
{
    plane_start();
    struct plane *guest = plane_guest();
    plane_token("good", 6, 0);
    ck_assert_int_eq(plane_join(guest, 7), BERTH_EAUTH);

    ck_assert_msg(plane_join(guest, 6) == 0, "%s", guest->reply.text);

    ck_assert_uint_ne(guest->reply.uid, 0);
    RACK_WAIT(uid_of(guest) == guest->reply.uid);
    plane_stop();
}
END_TEST

START_TEST(a_host_whose_answer_was_lost_is_let_in_by_its_key)
{
    plane_start();
    struct plane *guest = plane_guest();
    plane_token("good", 6, 0);
    plane_token("other", 8, 0); /* keeps the door open */
    ck_assert_int_eq(plane_join(guest, 6), 0);
    uint64_t uid = guest->reply.uid;
    uint64_t before = proposals();

    ck_assert_int_eq(plane_join(guest, 6), 0); /* used up by itself */

    ck_assert_uint_eq(guest->reply.uid, uid);
    ck_assert_uint_eq(proposals(), before);
    ck_assert_uint_eq(state_count(plane_state(0), KIND_HOST), 2);
    plane_stop();
}
END_TEST

static int drain_and_remove(const struct plane *self)
{
    struct command command;
    command_init(&command, COMMAND_HOST_DRAIN);
    command.body.host_drain.host = uid_of(self);
    command.body.host_drain.drain = true;
    ck_assert_int_eq(plane_propose(&command), 0);
    command_init(&command, COMMAND_HOST_PHASE);
    command.body.host_phase.host = uid_of(self);
    command.body.host_phase.phase = HOST_PHASE_REMOVED;
    ck_assert_int_eq(record_set_text(&command.body.host_phase.reason, "removed"), 0);
    return plane_propose(&command);
}

START_TEST(a_refusal_is_not_held_against_who_asks_again)
{
    plane_start();
    struct plane *first = plane_guest();
    struct plane *second = plane_guest();
    memcpy(second->host->identity.name, first->host->identity.name, NAME_SIZE);
    plane_token("one", 6, 0);
    plane_token("two", 7, 0);
    ck_assert_int_eq(plane_join(first, 6), 0);
    ck_assert_int_eq(plane_join(second, 7), BERTH_EEXISTS);
    ck_assert_ptr_nonnull(strstr(second->reply.text, "another key"));

    ck_assert_int_eq(drain_and_remove(first), 0);

    ck_assert_msg(plane_join(second, 7) == 0, "%s", second->reply.text);
    plane_stop();
}
END_TEST

/* As a daemon ends: its link is gone at once, its log when it is handed over. */
START_TEST(a_leader_that_ends_uses_its_link_no_more)
{
    plane_start();
    struct plane *self = &plane.hosts[0];
    bool closed = false;
    plane_token("one", 6, 0); /* the door is looked at again */
    leader_end(self->leader);
    host_down(self->host);
    uint64_t until_ms = uv_now(&rack.loop) + 3 * LEADER_TICK_MS;
    RACK_WAIT(uv_now(&rack.loop) >= until_ms);

    control_close(self->control, true, rack_closed, &closed);
    RACK_WAIT(closed);

    self->control = NULL;
    self->leader = leader_free(self->leader);
    plane_stop();
}
END_TEST

/* ---- levels ---- */

START_TEST(the_level_rises_when_every_host_knows_it)
{
    plane_start();
    struct plane *other = plane_member("one", 6);
    plane.hosts[0].level_max = 2;
    RACK_WAIT(plane.hosts[0].level_told != 0 && other->level_told != 0);
    json_t *says = leader_level(plane.hosts[0].leader);
    RACK_WAIT(
        (json_decref(says), says = leader_level(plane.hosts[0].leader),
         strstr(json_string_value(json_object_get(says, "waits")), "up to level 1")));
    ck_assert_int_eq(json_integer_value(json_object_get(says, "next")), 2);
    ck_assert_uint_eq(level(), 1);
    json_decref(says);

    other->level_max = 2;

    RACK_WAIT(level() == 2);
    RACK_WAIT(plane.hosts[0].level_told == 2 && other->level_told == 2);
    plane_stop();
}
END_TEST

START_TEST(who_does_not_know_the_level_takes_no_part)
{
    plane_start();
    struct plane *other = plane_guest();
    struct plane *late = plane_guest();
    plane.hosts[0].level_max = 2;
    RACK_WAIT(level() == 2);
    plane_token("one", 6, 0);
    uint64_t before = proposals();
    ck_assert_int_eq(plane_join(late, 6), BERTH_ELEVEL);
    ck_assert_ptr_nonnull(strstr(late->reply.text,
                                 "at level 2, this berthd takes part up "
                                 "to level 1: install the release"));
    ck_assert_uint_eq(proposals(), before);

    other->level_max = 2;
    ck_assert_msg(plane_join(other, 6) == 0, "%s", other->reply.text);
    link_join_end(other->host->link, &plane.hosts[0].host->identity.key);
    link_members_changed(other->host->link);
    other->beats = true;
    RACK_WAIT(other->acked != 0);
    other->level_max = 0; /* as after a restart as the release before */
    RACK_WAIT(other->outdated == 2);
    uint64_t acked = other->acked;
    uint64_t sequence = other->sequence;
    RACK_WAIT(other->sequence > sequence + 4);
    ck_assert_uint_le(other->acked, sequence);
    ck_assert_uint_ge(other->acked, acked);
    plane_stop();
}
END_TEST

START_TEST(who_is_heard_is_told_of_the_newest_revision)
{
    plane_start();
    const struct plane *worker = plane_member("second", 2);
    for (unsigned i = 0; i < 2; i++) { /* nothing of it is an order for that host */
        struct tenant *tenant = object_new(KIND_TENANT);
        (void)snprintf(tenant->meta.name, NAME_SIZE, "t%u", i);
        ck_assert_int_eq(plane_put(KIND_TENANT, tenant), 0);
        RACK_WAIT(worker->acked_at == state_revision(plane_state(0)));
    }
    plane_stop();
}
END_TEST

/* ---- who votes ---- */

static unsigned voters_of(const struct plane *self)
{
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
    size_t count = consensus_members(control_consensus(self->control), members,
                                     CONSENSUS_MEMBERS_MAX);
    unsigned voters = 0;
    for (size_t i = 0; i < count; i++) {
        voters += members[i].role == CONSENSUS_ROLE_VOTER ? 1U : 0U;
    }
    return voters;
}

static bool is_in_log_of(const struct plane *self, const struct plane *other)
{
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
    uint64_t id = identity_raft_id(&other->host->identity.key);
    size_t count = consensus_members(control_consensus(self->control), members,
                                     CONSENSUS_MEMBERS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (members[i].id == id) {
            return true;
        }
    }
    return false;
}

static bool all_recorded(unsigned voters)
{
    const struct plane *leader = plane_leader();
    size_t cursor = 0;
    unsigned recorded = 0;
    const struct host *host;
    if (leader == NULL || voters_of(leader) != voters) {
        return false;
    }
    while ((host = state_next(control_state(leader->control), KIND_HOST, &cursor)) !=
           NULL) {
        recorded += host->status.voter == VOTER_VOTER ? 1U : 0U;
    }
    return recorded == voters;
}

/* ---- who may speak the log's protocol ---- */

static uint64_t refused_by(const struct plane *self)
{
    struct consensus_counters counters;
    consensus_counters(control_consensus(self->control), &counters);
    return counters.channels_refused;
}

static bool no_peer(void *context, const uint8_t key[CHANNEL_KEY_SIZE], uint64_t *ret_id)
{
    (void)context;
    (void)key;
    (void)ret_id;
    return false;
}

static bool founders_key(void *context, uint64_t id, uint8_t ret_key[CHANNEL_KEY_SIZE])
{
    (void)context;
    (void)id;
    memcpy(ret_key, plane.hosts[0].host->identity.key.bytes, CHANNEL_KEY_SIZE);
    return true;
}

struct call {
    bool answered;
    int fd;
};

static void called(void *context, int fd, int status)
{
    struct call *call = context;
    ck_assert((fd >= 0) == (status == 0));
    call->answered = true;
    call->fd = fd;
}

/* Does the founder's log let this host speak, key and all in order? */
static bool may_speak(struct plane *self)
{
    char address[MESH_ADDRESS_SIZE];
    struct channel_hub *hub = NULL;
    struct call call = {0};
    bool closed = false;
    struct err err = {0};
    const struct identity *to = &plane.hosts[0].host->identity;
    const struct identity *from = &self->host->identity;
    const struct channel_hub_config config = {.loop = &rack.loop,
                                              .id = identity_raft_id(&from->key),
                                              .cluster_id = to->cluster_id,
                                              .address = "127.0.0.1:9",
                                              .secret_key = from->secret.bytes,
                                              .stall_ms = 10000,
                                              .peer_of = no_peer,
                                              .key_of = founders_key};
    identity_address_text(to->address, to->raft_port, address);
    ck_assert_msg(channel_hub_open(&config, &hub, &err) == 0, "%s", err.text);
    ck_assert_int_eq(
        channel_hub_connect(hub, identity_raft_id(&to->key), address, called, &call), 0);
    RACK_WAIT(call.answered);
    channel_hub_close(hub, rack_closed, &closed);
    RACK_WAIT(closed);
    if (call.fd >= 0) {
        close(call.fd);
    }
    return call.fd >= 0;
}

START_TEST(a_host_without_a_part_in_the_log_may_not_speak_to_it)
{
    struct command command;
    plane_start();
    struct plane *worker = plane_member("second", 2); /* two hosts keep one voter */
    worker->beats = false;                            /* it opens no log of its own */

    ck_assert(!may_speak(worker));
    ck_assert_uint_gt(refused_by(&plane.hosts[0]), 0);

    command_init(&command, COMMAND_HOST_VOTER);
    command.body.host_voter.host = uid_of(worker);
    command.body.host_voter.voter = VOTER_STANDBY;
    ck_assert_int_eq(plane_propose(&command), 0);
    RACK_WAIT(may_speak(worker)); /* its log hears of it a turn later */
    plane_stop();
}
END_TEST

static void three_voters(void)
{
    plane_start();
    plane_member("second", 2);
    plane_member("third", 3);
    RACK_WAIT(all_recorded(3));
}

static struct plane *plane_of(uint64_t uid)
{
    for (unsigned i = 0; i < rack.count; i++) {
        if (uid != 0 && plane.hosts[i].host->identity.uid == uid) {
            return &plane.hosts[i];
        }
    }
    return NULL;
}

/* A token names the host that led when it was made; any voter knows who leads now. */
START_TEST(a_guest_of_another_voter_is_referred_to_the_leader)
{
    uint8_t secret[JOIN_SECRET_SIZE];
    memset(secret, 9, sizeof(secret));
    three_voters();
    plane_token("more", 9, 0);
    const struct digest hash = join_secret_hash(secret);
    RACK_WAIT(plane_leader() != NULL);
    struct plane *asked = &plane.hosts[plane_leader() == &plane.hosts[1] ? 2 : 1];
    RACK_WAIT(state_token_by_hash(control_state(asked->control), &hash) != NULL);
    struct plane *guest = plane_guest();
    unsigned referred = 0;

    do { /* a busy machine may change the leader meanwhile */
        unsigned before = guest->reply.count;
        plane_ask_at(guest, asked, secret);
        RACK_WAIT(guest->reply.count > before);
        if (guest->reply.code == BERTH_ENOTLEADER) {
            link_join_end(guest->host->link, &asked->host->identity.key);
            asked = plane_of(guest->reply.leader.uid);
            ck_assert_ptr_nonnull(asked);
            referred++;
        } else if (guest->reply.code != 0) {
            ck_assert_int_eq(guest->reply.code, BERTH_ENOLEADER);
        }
    } while (guest->reply.code != 0);
    ck_assert(referred > 0 || leader_leads(asked->leader));
    RACK_WAIT(uid_of(guest) == guest->reply.uid);
    plane_stop();
}
END_TEST

START_TEST(a_removed_host_leaves_the_log)
{
    three_voters();
    RACK_WAIT(plane_leader() != NULL);
    /* 0: the one that leads, which on a busy machine need not be the founder. */
    struct plane *gone = &plane.hosts[(plane_leader() - plane.hosts + _i) % 3];

    ck_assert_int_eq(drain_and_remove(gone), 0);

    RACK_WAIT(plane_leader() != NULL && plane_leader() != gone && all_recorded(2));
    for (unsigned i = 0; i < 3; i++) {
        const struct plane *stays = &plane.hosts[i];
        if (stays != gone) {
            RACK_WAIT(!is_in_log_of(stays, gone));
            RACK_WAIT(refused_by(stays) > 0); /* its channel was cut, and it calls */
        }
    }
    host_down(gone->host); /* the two that are left need it for nothing */
    plane_close_log(gone);
    plane_token("more", 9, 0);
    plane_stop();
}
END_TEST

static int check_removal(const struct plane *self, struct err *err)
{
    const struct plane *leader = plane_leader();
    struct command command;
    command_init(&command, COMMAND_DELETE);
    command.body.delete.kind = KIND_HOST;
    memcpy(command.body.delete.name, self->host->identity.name, NAME_SIZE);
    int r =
        leader != NULL ? leader_check_command(leader->leader, &command, err) : -EAGAIN;
    command_fini(&command);
    return r;
}

/* Apply would let it go, when the drain is in the log before its removal. */
START_TEST(a_host_whose_drain_may_be_on_its_way_stays_while_a_voter_is_away)
{
    struct err err = {0};
    three_voters();
    RACK_WAIT(plane_leader() != NULL);
    unsigned leads = (unsigned)(plane_leader() - plane.hosts);
    struct plane *away = &plane.hosts[(leads + 1) % 3];
    struct plane *goes = &plane.hosts[(leads + 2) % 3];
    RACK_WAIT(check_removal(goes, &err) == 0);

    plane_close_log(away);
    host_down(away->host);

    RACK_WAIT(check_removal(goes, &err) == BERTH_EINUSE);
    ck_assert_ptr_nonnull(strstr(err.text, " is in service: drain it first"));
    plane_stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("leader");
    TCase *tests = tcase_create("leader");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, who_is_heard_is_told_of_the_newest_revision);
    tcase_add_test(tests, a_stranger_without_a_good_token_costs_the_log_nothing);
    tcase_add_test(tests, a_token_of_a_host_that_never_came_goes_in_its_time);
    tcase_add_test(tests, a_refused_host_comes_in_with_a_new_token);
    tcase_add_test(tests, a_host_whose_answer_was_lost_is_let_in_by_its_key);
    tcase_add_test(tests, a_refusal_is_not_held_against_who_asks_again);
    tcase_add_test(tests, a_leader_that_ends_uses_its_link_no_more);
    tcase_add_test(tests, the_level_rises_when_every_host_knows_it);
    tcase_add_test(tests, who_does_not_know_the_level_takes_no_part);
    tcase_add_test(tests, a_host_without_a_part_in_the_log_may_not_speak_to_it);
    tcase_add_test(tests, a_guest_of_another_voter_is_referred_to_the_leader);
    tcase_add_loop_test(tests, a_removed_host_leaves_the_log, 0, 3);
    tcase_add_test(tests,
                   a_host_whose_drain_may_be_on_its_way_stays_while_a_voter_is_away);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
