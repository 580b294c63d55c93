/* Goal: hosts come in, get their orders and leases, and leave, as the log says. Method:
 * real logs, leaders and links of up to four hosts in this process; what the hosts say of
 * themselves is the test's. */
#include "agent/leader_internal.h"
#include "base/cleanup.h"
#include "consensus/raft_channel.h"
#include "plane_fixture.h"

/* ---- joining ---- */

static uint64_t proposals(void)
{
    struct consensus_counters counters;
    consensus_counters(control_consensus(plane.hosts[0].control), &counters);
    return counters.proposals;
}

static uint64_t uid_of(const struct plane *self)
{
    const struct digest key = identity_key_digest(&self->host->identity.key);
    const struct host *host = state_host_by_key(plane_state(0), &key);
    return host != NULL ? host->meta.uid : 0;
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

static uint32_t level(void)
{
    return state_level(plane_state(0));
}

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

/* What a plan says of the only host for a VM in network 10.0.0.0/24. */
static bool is_foretold(const char *text)
{
    struct machine_spec machine;
    record_init(&machine_spec_record, &machine);
    struct nic_spec *nic =
        record_list_add(&nic_spec_record, (struct record_list *)&machine.nics);
    (void)snprintf(nic->name, sizeof(nic->name), "eth0");
    (void)snprintf(nic->network, sizeof(nic->network), "front");
    machine.engine = ENGINE_FAKE;
    json_t *forecast =
        scheduler_forecast(leader_scheduler(plane.hosts[0].leader), plane_state(0),
                           DEFAULT_TENANT, NULL, &machine, 1, 0);
    char *said = json_text(forecast);
    bool found = said != NULL && strstr(said, text) != NULL;
    free(said);
    json_decref(forecast);
    record_fini(&machine_spec_record, &machine);
    return found;
}

/* What people are told of the address of the host; "": nothing. */
static const char *clash_of(const struct host *host)
{
    static char text[512];
    json_t *live = leader_host_live(plane.hosts[0].leader, host);
    (void)snprintf(text, sizeof(text), "%s", json_member_text(live, "clash", ""));
    json_decref(live);
    return text;
}

static const struct host *first_host(void)
{
    return state_host(plane_state(0), uid_of(&plane.hosts[0]));
}

/* Networks that cover a host are refused by the API; the host came back with another
 * address. */
START_TEST(a_host_that_is_in_with_an_address_in_a_network_is_told_of)
{
    plane_start();
    struct identity *identity = &plane.hosts[0].host->identity;
    uint32_t address = identity->address;
    uint64_t wall_ms;
    struct host_load load;
    RACK_WAIT(plane.hosts[0].leader != NULL &&
              scheduler_host_seen(leader_scheduler(plane.hosts[0].leader), identity->uid,
                                  &wall_ms, &load));
    struct network *network = object_new(KIND_NETWORK);
    (void)snprintf(network->meta.name, NAME_SIZE, "front");
    (void)snprintf(network->meta.tenant, NAME_SIZE, DEFAULT_TENANT);
    network->spec.ipv4.cidr = ((uint64_t)(10U << 24) << 8) | 24;
    ck_assert_int_eq(plane_put(KIND_NETWORK, network), 0);
    ck_assert_str_eq(clash_of(first_host()), "");

    identity->address = (10U << 24) + 5;
    RACK_WAIT(first_host()->status.address == identity->address);
    ck_assert_ptr_nonnull(
        strstr(clash_of(first_host()), "the address 10.0.0.5 of host "));
    ck_assert_ptr_nonnull(strstr(
        clash_of(first_host()),
        " is in the range 10.0.0.0/24 of network front of tenant " DEFAULT_TENANT ": "));
    identity->address = address;
    plane_stop();
}
END_TEST

START_TEST(a_host_takes_no_vm_of_a_network_whose_range_it_needs)
{
    plane_start();
    struct network *network = object_new(KIND_NETWORK);
    (void)snprintf(network->meta.name, NAME_SIZE, "front");
    (void)snprintf(network->meta.tenant, NAME_SIZE, DEFAULT_TENANT);
    network->spec.ipv4.cidr = ((uint64_t)(10U << 24) << 8) | 24;
    ck_assert_int_eq(plane_put(KIND_NETWORK, network), 0);
    RACK_WAIT(is_foretold("\"unplaced\":0") || is_foretold("\"unplaced\": 0"));
    plane.hosts[0].range = "10.0.0.0/16, its own";
    RACK_WAIT(is_foretold("range: front (10.0.0.0/24) overlaps 10.0.0.0/16, its own"));
    plane.hosts[0].carried = 1; /* of the first network that there is */
    RACK_WAIT(is_foretold("\"unplaced\":0") || is_foretold("\"unplaced\": 0"));
    plane.hosts[0].carried = 0;
    RACK_WAIT(is_foretold("range: front (10.0.0.0/24) overlaps 10.0.0.0/16, its own"));
    plane.hosts[0].range = NULL; /* taken away */
    RACK_WAIT(is_foretold("\"unplaced\":0") || is_foretold("\"unplaced\": 0"));
    plane_stop();
}
END_TEST

/* ---- orders that are large ---- */

#define LARGE_VMS 100 /* of twelve KiB: above a MiB */

static void set_long(char **text)
{
    char address[1024] = "";
    memset(address, 'x', sizeof(address) - 1);
    memcpy(address, "http://", 7);
    ck_assert_int_eq(record_set_text(text, address), 0);
}

/* VMs of it are ordered in many words. */
static void put_wordy_template(void)
{
    struct image *image = object_new(KIND_IMAGE);
    (void)snprintf(image->meta.name, NAME_SIZE, "wordy");
    struct artifact *artifact =
        record_list_add(&artifact_record, (struct record_list *)&image->spec.artifacts);
    ck_assert_ptr_nonnull(artifact);
    memset(artifact->sha256.bytes, 7, DIGEST_SIZE);
    set_long(&artifact->url);
    set_long(&image->spec.cmdline);
    int r = plane_put(KIND_IMAGE, image);
    ck_assert_msg(r == 0, "%s", plane.answer.result.text);
    struct template *template = object_new(KIND_TEMPLATE);
    (void)snprintf(template->meta.name, NAME_SIZE, "wordy");
    (void)snprintf(template->meta.tenant, NAME_SIZE, DEFAULT_TENANT);
    (void)snprintf(template->spec.image, NAME_SIZE, "wordy");
    template->spec.engine = ENGINE_FAKE;
    template->spec.memory.size_bytes = 32 * MIB;
    set_long(&template->spec.cmdline);
    char rule[400];
    (void)snprintf(rule, sizeof(rule), "%-390s", "host.cpu.cores >= 1");
    for (unsigned i = 0; i < RULES_MAX; i++) {
        ck_assert_int_eq(text_list_add(&template->spec.placement.require, rule), 0);
    }
    ck_assert_int_eq(plane_put(KIND_TEMPLATE, template), 0);
}

static void admit_wordy(unsigned number)
{
    struct command command;
    command_init(&command, COMMAND_ADMIT_VM);
    (void)snprintf(command.body.admit_vm.tenant, NAME_SIZE, DEFAULT_TENANT);
    (void)snprintf(command.body.admit_vm.name, NAME_SIZE, "vm-%u", number);
    (void)snprintf(command.body.admit_vm.template_name, NAME_SIZE, "wordy");
    ck_assert_int_eq(plane_propose(&command), 0);
}

static bool are_too_large_for_a_frame(const struct msg_vm_list *ordered)
{
    struct msg_orders orders = {.vms = *ordered}; /* shallow */
    uint8_t *data = NULL;
    size_t size = 0;
    int r = message_encode(&msg_orders_record, &orders, &data, &size);
    free(data);
    return r == BERTH_ETOOLARGE;
}

START_TEST(what_changes_in_large_orders_is_sent_and_taken)
{
    plane_start();
    struct plane *host = &plane.hosts[0];
    host->cpu_mcpu = 64000; /* room for all of them */
    put_wordy_template();
    for (unsigned i = 0; i < LARGE_VMS; i++) {
        admit_wordy(i);
    }
    RACK_WAIT(host->ordered.count == LARGE_VMS);
    ck_assert(are_too_large_for_a_frame(&host->ordered));
    uint64_t taken = host->taken;

    admit_wordy(LARGE_VMS);

    RACK_WAIT(host->ordered.count == LARGE_VMS + 1);
    ck_assert_uint_ne(host->taken, taken);
    plane_stop();
}
END_TEST

/* ---- orders that wait ---- */

static struct heard *heard_of(const struct plane *self)
{
    return u64_map_get(plane.hosts[0].leader->hosts, self->host->identity.uid);
}

static bool has_orders(const struct plane *self)
{
    const struct heard *heard = heard_of(self);
    return heard != NULL && leader_has_orders(plane.hosts[0].leader, heard);
}

/* The loop keeps leases and the log in between. */
START_TEST(who_is_behind_large_orders_is_told_in_another_turn)
{
    plane_start();
    struct plane *host = &plane.hosts[0];
    struct orders_book *book = host->leader->book;
    host->cpu_mcpu = 64000;
    struct plane *other = plane_member("second", 2);
    other->cpu_mcpu = 1; /* no room: it has small ones */
    uint64_t uids[] = {host->host->identity.uid, other->host->identity.uid};
    RACK_WAIT(state_host(plane_state(0), uids[1])->status.cpu_mcpu == 1);
    put_wordy_template();
    for (unsigned i = 0; i < LARGE_VMS; i++) {
        admit_wordy(i);
    }
    RACK_WAIT(host->ordered.count == LARGE_VMS && has_orders(host) && has_orders(other));
    ck_assert(are_too_large_for_a_frame(&host->ordered));

    orders_book_touch(book, uids[1]);
    orders_book_touch(book, uids[0]);
    leader_give_orders(host->leader); /* small ones first, and all is done */
    ck_assert(!orders_book_pending(book));
    orders_book_touch(book, uids[0]);
    orders_book_touch(book, uids[1]);
    leader_give_orders(host->leader);

    ck_assert(orders_book_settled(book, uids[0]));
    ck_assert(!orders_book_settled(book, uids[1]));
    RACK_WAIT(orders_book_settled(book, uids[1]));
    plane_stop();
}
END_TEST

/* Else it would have its lease again, and start what runs elsewhere by now. */
START_TEST(a_host_whose_orders_wait_for_what_it_has_counts_as_without_them)
{
    plane_start();
    struct plane *host = &plane.hosts[0];
    RACK_WAIT(has_orders(host));
    struct heard *heard = heard_of(host);

    heard->finds = true; /* until its next heartbeat */
    orders_book_touch(host->leader->book, heard->uid);
    leader_give_orders(host->leader);

    ck_assert(!leader_has_orders(host->leader, heard));
    RACK_WAIT(has_orders(host));
    plane_stop();
}
END_TEST

/* All hosts are told of it. */
static void put_image(const char *name)
{
    struct image *image = object_new(KIND_IMAGE);
    (void)snprintf(image->meta.name, NAME_SIZE, "%s", name);
    struct artifact *artifact =
        record_list_add(&artifact_record, (struct record_list *)&image->spec.artifacts);
    memset(artifact->sha256.bytes, 7, DIGEST_SIZE);
    ck_assert_int_eq(plane_put(KIND_IMAGE, image), 0);
}

/* They would only be dropped on the way, and written again as often. */
START_TEST(no_orders_are_written_for_a_host_that_is_away)
{
    plane_start();
    struct plane *other = plane_member("second", 2);
    const struct link *link = plane.hosts[0].host->link;
    uint64_t uid = other->host->identity.uid;
    RACK_WAIT(has_orders(other));
    uint64_t hash = heard_of(other)->orders_hash;
    host_down(other->host);
    RACK_WAIT(!link_is_up(link, uid));

    put_image("linux");
    RACK_WAIT(heard_of(other)->orders_owed);

    ck_assert(!has_orders(other));
    ck_assert_uint_eq(heard_of(other)->orders_hash, hash);
    host_up(other->host);
    RACK_WAIT(has_orders(other));
    ck_assert_uint_ne(heard_of(other)->orders_hash, hash);
    plane_stop();
}
END_TEST

START_TEST(the_link_of_a_host_that_is_owed_its_orders_asks_for_them)
{
    plane_start();
    struct plane *host = &plane.hosts[0];
    RACK_WAIT(has_orders(host));
    uint64_t uid = heard_of(host)->uid;
    leader_on_peer(host->leader, uid, true);
    ck_assert(orders_book_settled(host->leader->book, uid)); /* nothing is owed */

    heard_of(host)->orders_owed = true;
    leader_on_peer(host->leader, uid, false);
    ck_assert(orders_book_settled(host->leader->book, uid));
    leader_on_peer(host->leader, uid, true);

    ck_assert(!orders_book_settled(host->leader->book, uid));
    plane_stop();
}
END_TEST

/* ---- what hosts say of pauses and snapshots ---- */

static const struct vm *the_vm(void)
{
    return state_get(plane_state(0), KIND_VM, DEFAULT_TENANT, "db");
}

static const struct snapshot *the_snapshot(void)
{
    return state_get(plane_state(0), KIND_SNAPSHOT, DEFAULT_TENANT, "before");
}

/* A VM that runs on the only host, at the level of snapshots. */
static void vm_runs(void)
{
    plane.hosts[0].level_max = LEVEL_SNAPSHOTS;
    RACK_WAIT(level() == LEVEL_SNAPSHOTS);
    put_image("linux");
    struct template *template = object_new(KIND_TEMPLATE);
    (void)snprintf(template->meta.name, NAME_SIZE, "saved");
    (void)snprintf(template->meta.tenant, NAME_SIZE, DEFAULT_TENANT);
    (void)snprintf(template->spec.image, NAME_SIZE, "linux");
    template->spec.engine = ENGINE_FAKE;
    template->spec.memory.size_bytes = 64 * MIB;
    ck_assert_int_eq(plane_put(KIND_TEMPLATE, template), 0);
    struct command command;
    command_init(&command, COMMAND_ADMIT_VM);
    (void)snprintf(command.body.admit_vm.tenant, NAME_SIZE, DEFAULT_TENANT);
    (void)snprintf(command.body.admit_vm.name, NAME_SIZE, "db");
    (void)snprintf(command.body.admit_vm.template_name, NAME_SIZE, "saved");
    ck_assert_int_eq(plane_propose(&command), 0);
    RACK_WAIT(the_vm()->status.phase == PHASE_PLACED);
    plane.hosts[0].vm = the_vm()->meta.uid;
    plane.hosts[0].epoch = the_vm()->status.epoch;
    plane.hosts[0].phase = PHASE_READY;
    RACK_WAIT(the_vm()->status.phase == PHASE_READY);
}

static int pause_the_vm(bool paused)
{
    struct command command;
    command_init(&command, COMMAND_PAUSE_VM);
    command.body.pause_vm.vm = the_vm()->meta.uid;
    command.body.pause_vm.paused = paused;
    return plane_propose(&command);
}

static bool is_ordered_paused(bool paused)
{
    const struct msg_vm_list *ordered = &plane.hosts[0].ordered;
    return ordered->count == 1 && ordered->items[0].paused == paused;
}

/* By what people are told of the VM; -1: nothing. */
static int64_t reads_a_second(void)
{
    json_t *live = leader_vm_live(plane.hosts[0].leader, the_vm());
    const json_t *reads =
        json_object_get(json_object_get(live, "disk"), "readsPerSecond");
    const int64_t told = reads != NULL ? json_integer_value(reads) : -1;
    json_decref(live);
    return told;
}

/* A VM without disks has read nothing, which is no news: its host counts none. */
START_TEST(of_no_disks_no_rate_is_told)
{
    plane_start();
    vm_runs();
    for (unsigned i = 0; i < 2; i++) {
        plane.hosts[0].counted_ms = 70000 + 2000 * i;
        const uint64_t next = plane.hosts[0].sequence + 2; /* one of them has it */
        RACK_WAIT(plane.hosts[0].acked >= next);
    }

    ck_assert_int_eq(reads_a_second(), -1);
    plane_stop();
}
END_TEST

/* Its host counts them: its template names none, and it boots the image's. */
START_TEST(what_a_vm_does_a_second_is_told_of_two_totals)
{
    plane_start();
    vm_runs();
    plane.hosts[0].disks_counted = true;
    plane.hosts[0].counted_ms = 70000;
    plane.hosts[0].disk_reads = 100;
    const uint64_t first = plane.hosts[0].sequence + 2; /* one of them has it */
    RACK_WAIT(plane.hosts[0].acked >= first);
    ck_assert_int_eq(reads_a_second(), -1);

    plane.hosts[0].counted_ms = 72000;
    plane.hosts[0].disk_reads = 112;
    RACK_WAIT(reads_a_second() == 6);
    plane.hosts[0].counted_ms = 0; /* most heartbeats say nothing */
    const uint64_t last = plane.hosts[0].sequence + 2;
    RACK_WAIT(plane.hosts[0].acked >= last);
    ck_assert_int_eq(reads_a_second(), 6);
    plane_stop();
}
END_TEST

START_TEST(a_pause_is_ordered_and_taken_as_the_host_says)
{
    plane_start();
    vm_runs();
    ck_assert_uint_eq(the_vm()->status.engine, ENGINE_FAKE);

    ck_assert_int_eq(pause_the_vm(true), 0);
    RACK_WAIT(is_ordered_paused(true));
    plane.hosts[0].phase = PHASE_RUNNING;
    plane.hosts[0].paused = true;
    RACK_WAIT(the_vm()->status.paused);

    ck_assert_int_eq(pause_the_vm(false), 0);
    RACK_WAIT(is_ordered_paused(false));
    plane.hosts[0].phase = PHASE_READY;
    plane.hosts[0].paused = false;
    RACK_WAIT(!the_vm()->status.paused && the_vm()->status.phase == PHASE_READY);
    plane_stop();
}
END_TEST

static void have_it_saved(void)
{
    struct command command;
    command_init(&command, COMMAND_SNAPSHOT_MAKE);
    command.body.snapshot_make.vm = the_vm()->meta.uid;
    (void)snprintf(command.body.snapshot_make.name, NAME_SIZE, "before");
    ck_assert_int_eq(plane_propose(&command), 0);
    RACK_WAIT(plane.hosts[0].made == the_snapshot()->meta.uid);
}

START_TEST(a_snapshot_is_what_its_host_says)
{
    struct msg_snapshot_seen *seen = &plane.hosts[0].snapshot;
    plane_start();
    vm_runs();
    have_it_saved();

    *seen = (struct msg_snapshot_seen){.snapshot = the_snapshot()->meta.uid,
                                       .vm = the_vm()->meta.uid,
                                       .epoch = the_vm()->status.epoch,
                                       .permille = 420};
    RACK_WAIT(the_snapshot()->status.permille == 420);
    seen->epoch++; /* of another run: it is not this one */
    seen->phase = SNAPSHOT_READY;
    seen->bytes = 5 * MIB;
    uint64_t beats = plane.hosts[0].acked;
    RACK_WAIT(plane.hosts[0].acked > beats + 2);
    ck_assert_uint_eq(the_snapshot()->status.phase, SNAPSHOT_MAKING);
    seen->epoch--;
    RACK_WAIT(the_snapshot()->status.phase == SNAPSHOT_READY);
    ck_assert_uint_eq(the_snapshot()->status.bytes, 5 * MIB);

    seen->phase = SNAPSHOT_LOST;
    RACK_WAIT(the_snapshot()->status.phase == SNAPSHOT_LOST);
    plane_stop();
}
END_TEST

static void goes_back(void)
{
    struct command command;
    struct plane *host = &plane.hosts[0];
    host->snapshot = (struct msg_snapshot_seen){.snapshot = the_snapshot()->meta.uid,
                                                .vm = the_vm()->meta.uid,
                                                .epoch = the_vm()->status.epoch,
                                                .phase = SNAPSHOT_READY};
    RACK_WAIT(the_snapshot()->status.phase == SNAPSHOT_READY);
    command_init(&command, COMMAND_RESTORE_VM);
    command.body.restore_vm.vm = the_vm()->meta.uid;
    command.body.restore_vm.snapshot = the_snapshot()->meta.uid;
    ck_assert_int_eq(plane_propose(&command), 0);
    host->phase = PHASE_STOPPED;
    RACK_WAIT(the_vm()->status.phase == PHASE_PLACED &&
              the_vm()->status.epoch == host->epoch + 1);
    ck_assert_uint_eq(the_vm()->status.restore, the_snapshot()->meta.uid);
}

START_TEST(a_run_that_has_begun_unseen_is_told_of_when_it_has_ended)
{
    struct command command;
    plane_start();
    vm_runs();
    have_it_saved();
    goes_back();
    command_init(&command, COMMAND_EVICT_VM);
    command.body.evict_vm.vm = the_vm()->meta.uid;
    command.body.evict_vm.epoch = the_vm()->status.epoch;
    command.body.evict_vm.intent = STOP_INTENT_RESTART;
    ck_assert_int_eq(plane_propose(&command), 0);
    ck_assert_uint_eq(the_vm()->status.restore, the_snapshot()->meta.uid);

    plane.hosts[0].has_run = true;
    plane.hosts[0].epoch = the_vm()->status.epoch;
    RACK_WAIT(the_vm()->status.epoch == plane.hosts[0].epoch + 1);

    ck_assert_uint_eq(the_vm()->status.restore, 0);
    plane_stop();
}
END_TEST

START_TEST(cpu_is_shown_of_a_vm_that_runs_and_of_this_run_only)
{
    struct vm vm = {.status = {.running_wall_ms = 100000}};
    static const enum phase idle[] = {PHASE_PENDING, PHASE_PLACED,   PHASE_STARTING,
                                      PHASE_STOPPED, PHASE_STOPPING, PHASE_FAILED,
                                      PHASE_LOST};
    for (size_t i = 0; i < ARRAY_COUNT(idle); i++) {
        vm.status.phase = idle[i];
        ck_assert_uint_eq(leader_cpu_window_ns(&vm, 200000), 0);
    }
    vm.status.phase = PHASE_RUNNING;
    ck_assert_uint_eq(leader_cpu_window_ns(&vm, 99999),
                      0); /* the host's clock is ahead */
    ck_assert_uint_eq(leader_cpu_window_ns(&vm, 102000), 2000 * NS_PER_MS);
    vm.status.phase = PHASE_READY;
    ck_assert_uint_eq(leader_cpu_window_ns(&vm, 200000), 5000 * NS_PER_MS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("leader");
    TCase *tests = tcase_create("leader");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, cpu_is_shown_of_a_vm_that_runs_and_of_this_run_only);
    tcase_add_test(tests, a_host_that_is_in_with_an_address_in_a_network_is_told_of);
    tcase_add_test(tests, a_host_takes_no_vm_of_a_network_whose_range_it_needs);
    tcase_add_test(tests, what_changes_in_large_orders_is_sent_and_taken);
    tcase_add_test(tests,
                   a_host_whose_orders_wait_for_what_it_has_counts_as_without_them);
    tcase_add_test(tests, no_orders_are_written_for_a_host_that_is_away);
    tcase_add_test(tests, the_link_of_a_host_that_is_owed_its_orders_asks_for_them);
    tcase_add_test(tests, who_is_behind_large_orders_is_told_in_another_turn);
    tcase_add_test(tests, of_no_disks_no_rate_is_told);
    tcase_add_test(tests, what_a_vm_does_a_second_is_told_of_two_totals);
    tcase_add_test(tests, a_pause_is_ordered_and_taken_as_the_host_says);
    tcase_add_test(tests, who_is_heard_is_told_of_the_newest_revision);
    tcase_add_test(tests, a_snapshot_is_what_its_host_says);
    tcase_add_test(tests, a_run_that_has_begun_unseen_is_told_of_when_it_has_ended);
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
