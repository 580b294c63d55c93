/* The control plane of a small rack inside a test: hosts with real links, logs and
 * leaders, as berthd ties them together; what the hosts do as workers is the test's.
 *
 * `plane_start()` in the test: host 0 founds. `plane_guest` makes one more host, which
 * knows nobody yet; `plane_join` lets it ask with a token's secret and waits for the
 * answer. While the loop turns, every host that `beats` sends heartbeats to all it knows
 * and obeys orders as far as the control plane goes: it takes the members, and opens its
 * log when it is told to. `plane_stop()` at the end. Include after "link_fixture.h".
 */
#pragma once

#include "agent/leader.h"
#include "agent/orders.h"
#include "link_fixture.h"
#include "model/join_token.h"

#include <signal.h>

#define PLANE_BEAT_MS 50

struct plane {
    struct rack_host *host;
    struct control *control; /* NULL: no part in the log */
    struct leader *leader;
    bool beats;
    bool deaf; /* takes no orders, and so keeps the members it was given */
    uint64_t sequence;
    uint64_t acked;      /* newest heartbeat that was acknowledged */
    uint64_t acked_at;   /* revision that was said with it */
    uint32_t level_told; /* by the leader */
    uint32_t outdated;   /* told that the cluster is at this level; 0: was not */
    uint32_t level_max;  /* that it says it knows; 0: says nothing */
    uint64_t taken;      /* hash of the orders it follows */
    uint64_t vm;         /* one that it says it has; 0: none */
    uint64_t epoch;      /* of that one */
    enum phase phase;    /* likewise */
    bool paused;         /* likewise; it is of the fake engine */
    bool has_run;        /* likewise: it was up, whatever it is now */
    uint64_t counted_ms; /* likewise: when it was asked; 0: not since the last */
    bool disks_counted;
    uint64_t disk_reads;               /* until then */
    struct msg_snapshot_seen snapshot; /* one that it says it has; uid 0: none */
    const char *range;          /* 10.0.0.0/16 that it needs for itself; NULL: none */
    uint32_t cpu_mcpu;          /* that it says it has; 0: 4000 */
    uint32_t carried;           /* a network that it carries all the same, or 0 */
    struct msg_vm_list ordered; /* VMs; owned */
    uint64_t made;              /* the first snapshot that it was ordered to make */
    struct {
        unsigned count;
        int code;
        char text[256];
        uint64_t uid;
        struct msg_member leader; /* who is to be asked instead */
    } reply;
};

static struct {
    struct plane hosts[RACK_HOSTS_MAX];
    uv_timer_t beat;
    struct {
        unsigned count;
        int code;
        struct apply_result result;
    } answer;
    unsigned requests;
} plane;

static inline const struct state *plane_state(unsigned index)
{
    return control_state(plane.hosts[index].control);
}

/* ---- the log ---- */

static inline void plane_on_leadership(void *context, bool is_leader, uint64_t term)
{
    struct plane *self = context;
    if (self->leader != NULL) {
        leader_on_leadership(self->leader, is_leader, term);
    }
}

static inline void plane_on_change(void *context, const struct change *change)
{
    struct plane *self = context;
    if (self->leader != NULL) {
        leader_on_change(self->leader, change);
    }
}

static inline void plane_on_restored(void *context)
{
    struct plane *self = context;
    if (self->leader != NULL) {
        leader_on_restored(self->leader);
    }
}

static inline void plane_on_fatal(void *context, const struct err *why)
{
    (void)context;
    ck_abort_msg("the log stopped: %s", why->text);
}

static inline void plane_open_log(struct plane *self, bool bootstrap)
{
    struct err err = {0};
    char address[MESH_ADDRESS_SIZE];
    struct rack_host *host = self->host;
    char *folder = temp_dir_path(&host->dir, "raft");
    identity_address_text(host->identity.address, host->identity.raft_port, address);
    const struct control_events events = {.context = self,
                                          .on_leadership = plane_on_leadership,
                                          .on_change = plane_on_change,
                                          .on_restored = plane_on_restored,
                                          .on_fatal = plane_on_fatal};
    const struct control_config config = {
        .loop = &rack.loop,
        .clock = clock_system(),
        .folder = folder,
        .raft_id = identity_raft_id(&host->identity.key),
        .cluster_id = host->identity.cluster_id,
        .address = address,
        .secret_key = host->identity.secret.bytes,
        .levels = level_range_up_to(0),
        .members = &host->members,
    };
    int r = control_open(&config, &events, bootstrap, &self->control, &err);
    ck_assert_msg(r == 0, "%s", err.text);
    free(folder);
    const struct leader_config leader_config = {.loop = &rack.loop,
                                                .clock = clock_system(),
                                                .identity = &host->identity,
                                                .control = self->control,
                                                .link = host->link};
    self->leader = leader_new(&leader_config);
    ck_assert_ptr_nonnull(self->leader);
    if (consensus_is_leader(control_consensus(self->control))) {
        leader_on_leadership(self->leader, true,
                             consensus_term(control_consensus(self->control)));
    }
}

/* The leader goes with its log: it may look at it until then. */
static inline void plane_log_closed(void *context)
{
    struct plane *self = context;
    self->leader = leader_free(self->leader);
    self->control = NULL;
}

static inline void plane_close_log(struct plane *self)
{
    if (self->control != NULL) {
        leader_end(self->leader);
        control_close(self->control, false, plane_log_closed, self);
        RACK_WAIT(self->control == NULL);
    }
}

/* The host that leads, or NULL. */
static inline struct plane *plane_leader(void)
{
    for (unsigned i = 0; i < rack.count; i++) {
        struct plane *self = &plane.hosts[i];
        if (self->leader != NULL && leader_leads(self->leader) &&
            consensus_is_leader(control_consensus(self->control))) {
            return self;
        }
    }
    return NULL;
}

static inline void
plane_answered(void *context, int code, const struct apply_result *result)
{
    (void)context;
    plane.answer.count++;
    plane.answer.code = code;
    plane.answer.result = result != NULL ? *result : (struct apply_result){0};
}

/* Proposes where the leader is, waits, and returns what apply said; frees the command. A
 * leader that steps down meanwhile, which a busy machine can bring about, does not take
 * it or cannot say what became of it: as by every client it is asked again, with the same
 * request id. */
static inline int plane_propose(struct command *command)
{
    unsigned id = ++plane.requests;
    memcpy(command->request_id, &id, sizeof(id));
    (void)snprintf(command->subject, sizeof(command->subject), "system");
    do {
        unsigned before = plane.answer.count;
        RACK_WAIT(plane_leader() != NULL);
        plane.answer.code =
            control_propose(plane_leader()->control, command, plane_answered, NULL);
        RACK_WAIT(plane.answer.code < 0 || plane.answer.count > before);
    } while (plane.answer.code == BERTH_EUNKNOWN ||
             plane.answer.code == BERTH_ENOTLEADER);
    command_fini(command);
    ck_assert_int_eq(plane.answer.code, 0);
    return plane.answer.result.code;
}

static inline int plane_put(enum kind kind, void *take_object)
{
    struct command command;
    command_init(&command, COMMAND_PUT);
    ck_assert_int_eq(command_set_put(&command, kind, take_object, REVISION_ANY), 0);
    object_free(kind, take_object);
    return plane_propose(&command);
}

/* A join token whose secret is that byte, over and over. */
static inline void plane_token(const char *name, uint8_t secret, uint64_t expires_wall_ms)
{
    uint8_t bytes[JOIN_SECRET_SIZE];
    struct token *token = object_new(KIND_TOKEN);
    memset(bytes, secret, sizeof(bytes));
    (void)snprintf(token->meta.name, sizeof(token->meta.name), "%s", name);
    token->spec.role = ROLE_JOIN;
    token->spec.expires_wall_ms = expires_wall_ms;
    token->spec.uses_left = 1;
    token->spec.hash = join_secret_hash(bytes);
    ck_assert_int_eq(plane_put(KIND_TOKEN, token), 0);
}

/* ---- hosts ---- */

static inline void plane_status(const struct plane *self, struct host_status *status)
{
    const struct identity *identity = &self->host->identity;
    status->address = identity->address;
    status->mesh_port = identity->mesh_port;
    status->raft_port = identity->raft_port;
    status->public_key = identity_key_digest(&identity->key);
    status->cpu_mcpu = self->cpu_mcpu != 0 ? self->cpu_mcpu : 4000;
    status->cpu_overcommit = 4;
    status->memory_bytes = 4 * GIB;
    status->cores = 4;
    status->disk_bytes = 100 * GIB;
    status->engines = ENGINE_BIT(ENGINE_FAKE);
}

static inline void plane_take_orders(struct plane *self, struct msg_orders *orders)
{
    bool changed = false;
    const struct msg_member *own;
    if (self->deaf) {
        return;
    }
    ck_assert_int_eq(members_set(&self->host->members, &orders->members, &changed, NULL),
                     0);
    self->taken = orders_hash(orders);
    struct msg_orders old = {.vms = self->ordered};
    self->ordered = orders->vms;
    orders->vms = (struct msg_vm_list){0};
    bool makes = orders->snapshots.count > 0 &&
                 orders->snapshots.items[0].order == SNAPSHOT_ORDER_MAKE;
    self->made = makes ? orders->snapshots.items[0].snapshot : 0;
    record_fini(&msg_orders_record, &old);
    if (!changed) {
        return;
    }
    link_members_changed(self->host->link);
    own = members_by_uid(&self->host->members, self->host->identity.uid);
    if (own != NULL && own->voter != VOTER_NONE && self->control == NULL) {
        plane_open_log(self, false);
    }
}

static inline void plane_hear(struct rack_host *host,
                              const struct msg_member *from,
                              enum message_type type,
                              void *message)
{
    struct plane *self = host->context;
    const struct msg_confirm *question = message;
    const struct msg_ack *ack = message;
    const struct msg_outdated *outdated = message;
    if (type == MESSAGE_HEARTBEAT && self->leader != NULL) {
        leader_on_heartbeat(self->leader, from, message);
    } else if (type == MESSAGE_CONFIRM && self->control != NULL) {
        const struct msg_confirmed answer = {
            .term = consensus_term(control_consensus(self->control)),
            .round = question->round};
        (void)link_send(host->link, from->uid, MESSAGE_CONFIRMED, &answer);
    } else if (type == MESSAGE_CONFIRMED && self->leader != NULL) {
        leader_on_confirmed(self->leader, from, message);
    } else if (type == MESSAGE_ORDERS) {
        plane_take_orders(self, message);
    } else if (type == MESSAGE_ACK) {
        self->acked = ack->sequence;
        self->acked_at = ack->revision;
        self->level_told = ack->level;
    } else if (type == MESSAGE_OUTDATED) {
        self->outdated = outdated->level;
    }
}

static inline void plane_see_peer(struct rack_host *host, uint64_t uid, bool up)
{
    struct plane *self = host->context;
    if (self->leader != NULL) {
        leader_on_peer(self->leader, uid, up);
    }
}

static inline void plane_hear_join(struct rack_host *host,
                                   const struct mesh_key *guest,
                                   struct msg_join *join)
{
    struct plane *self = host->context;
    if (self->leader != NULL) {
        leader_on_join(self->leader, guest, join);
    }
}

static inline void plane_hear_reply(struct rack_host *host, struct msg_join_reply *reply)
{
    struct plane *self = host->context;
    bool changed = false;
    self->reply.count++;
    self->reply.code = -(int)reply->code;
    self->reply.uid = reply->uid;
    self->reply.leader = reply->leader;
    (void)snprintf(self->reply.text, sizeof(self->reply.text), "%s",
                   reply->text != NULL ? reply->text : "");
    if (reply->code == 0) {
        host->identity.uid = reply->uid;
        host->identity.cluster_id = reply->cluster_id;
        ck_assert_int_eq(members_set(&host->members, &reply->members, &changed, NULL), 0);
    }
}

/* Says what the test has set; to everybody, for whoever leads takes it. */
static inline void plane_beat(struct plane *self)
{
    struct msg_heartbeat heartbeat;
    struct msg_vm_seen seen = {.vm = self->vm, .epoch = self->epoch};
    record_init(&msg_heartbeat_record, &heartbeat);
    heartbeat.host = self->host->identity.uid;
    heartbeat.sequence = ++self->sequence;
    heartbeat.boot = 1;
    heartbeat.desired_hash = self->taken;
    if (self->level_max != 0) {
        heartbeat.level_max = self->level_max;
    }
    heartbeat.disk_free_bytes = 90 * GIB;
    plane_status(self, &heartbeat.status);
    if (self->vm != 0) {
        seen.phase = self->phase;
        seen.paused = self->paused;
        seen.running_wall_ms = self->has_run ? 1 : 0;
        seen.engine = ENGINE_FAKE;
        seen.counted_ms = self->counted_ms;
        seen.disks_counted = self->disks_counted;
        seen.disk_reads = self->disk_reads;
        seen.at_wall_ms = clock_wall_ms(clock_system());
        heartbeat.vms = (struct msg_vm_seen_list){.items = &seen, .count = 1};
    }
    if (self->snapshot.snapshot != 0) {
        heartbeat.snapshots =
            (struct msg_snapshot_seen_list){.items = &self->snapshot, .count = 1};
    }
    if (self->range != NULL) {
        struct msg_taken *taken =
            record_list_add(&msg_taken_record, (struct record_list *)&heartbeat.taken);
        taken->ipv4 = 10U << 24;
        taken->prefix_bits = 16;
        ck_assert_int_eq(record_set_text(&taken->text, self->range), 0);
        struct msg_carried *carried = record_list_add(
            &msg_carried_record, (struct record_list *)&heartbeat.carried);
        carried->vni = self->carried;
    }
    for (uint32_t i = 0; i < self->host->members.list.count; i++) {
        (void)link_send(self->host->link, self->host->members.list.items[i].uid,
                        MESSAGE_HEARTBEAT, &heartbeat); /* not all are up */
    }
    heartbeat.vms = (struct msg_vm_seen_list){0};
    heartbeat.snapshots = (struct msg_snapshot_seen_list){0};
    record_fini(&msg_heartbeat_record, &heartbeat);
}

static inline void plane_on_beat(uv_timer_t *timer)
{
    (void)timer;
    for (unsigned i = 0; i < rack.count; i++) {
        if (plane.hosts[i].beats && plane.hosts[i].host->link != NULL) {
            plane_beat(&plane.hosts[i]);
        }
    }
}

static inline struct plane *plane_adopt(unsigned index)
{
    struct plane *self = &plane.hosts[index];
    self->host = &rack.hosts[index];
    self->host->context = self;
    self->host->hear = plane_hear;
    self->host->see_peer = plane_see_peer;
    self->host->hear_join = plane_hear_join;
    self->host->hear_join_reply = plane_hear_reply;
    return self;
}

/* ---- life ---- */

static inline void plane_found(struct plane *self)
{
    struct command command;
    struct msg_member_list members = {0};
    bool changed = false;
    struct identity *identity = &self->host->identity;
    plane_open_log(self, true);
    command_init(&command, COMMAND_HOST_JOIN);
    command.request_id[0] = 1;
    memcpy(command.body.host_join.name, identity->name, NAME_SIZE);
    plane_status(self, &command.body.host_join.status);
    ck_assert_int_eq(plane_propose(&command), 0);
    const struct digest key = identity_key_digest(&identity->key);
    identity->uid = state_host_by_key(plane_state(0), &key)->meta.uid;
    ck_assert_int_eq(orders_members(plane_state(0), &members), 0);
    ck_assert_int_eq(members_set(&self->host->members, &members, &changed, NULL), 0);
    free(members.items);
    link_members_changed(self->host->link);
    self->beats = true;
}

static inline void plane_start(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    memset(&plane, 0, sizeof(plane));
    rack_start(1);
    ck_assert_int_eq(uv_timer_init(&rack.loop, &plane.beat), 0);
    ck_assert_int_eq(
        uv_timer_start(&plane.beat, plane_on_beat, PLANE_BEAT_MS, PLANE_BEAT_MS), 0);
    plane_found(plane_adopt(0));
}

static inline void plane_stop(void)
{
    for (unsigned i = 0; i < rack.count; i++) {
        plane_close_log(&plane.hosts[i]);
        struct msg_orders old = {.vms = plane.hosts[i].ordered};
        record_fini(&msg_orders_record, &old);
    }
    uv_close((uv_handle_t *)&plane.beat, NULL);
    rack_stop();
}

/* One more host that belongs to nobody yet. */
static inline struct plane *plane_guest(void)
{
    unsigned index = rack.count++;
    ck_assert_uint_lt(index, RACK_HOSTS_MAX);
    host_init(&rack.hosts[index], index + 1);
    rack.hosts[index].identity.uid = 0;
    host_up(&rack.hosts[index]);
    return plane_adopt(index);
}

static inline void plane_ask_at(struct plane *guest,
                                const struct plane *host,
                                const uint8_t secret[JOIN_SECRET_SIZE])
{
    struct msg_join join;
    struct err err = {0};
    const struct identity *to = &host->host->identity;
    record_init(&msg_join_record, &join);
    memcpy(join.name, guest->host->identity.name, NAME_SIZE);
    memcpy(join.secret.bytes, secret, JOIN_SECRET_SIZE);
    if (guest->level_max != 0) {
        join.level_max = guest->level_max;
    }
    plane_status(guest, &join.status);
    int r = link_join(guest->host->link, &to->key, to->address,
                      to->mesh_port + LINK_JOIN_PORT_OFFSET, &join, &err);
    ck_assert_msg(r == 0, "%s", err.text);
    record_fini(&msg_join_record, &join);
}

static inline void plane_ask(struct plane *guest, const uint8_t secret[JOIN_SECRET_SIZE])
{
    plane_ask_at(guest, &plane.hosts[0], secret);
}

/* Asks and waits for the answer: 0 or why not. */
static inline int plane_join_with(struct plane *guest,
                                  const uint8_t secret[JOIN_SECRET_SIZE])
{
    unsigned before = guest->reply.count;
    plane_ask(guest, secret);
    RACK_WAIT(guest->reply.count > before);
    return guest->reply.code;
}

static inline int plane_join(struct plane *guest, uint8_t secret)
{
    uint8_t bytes[JOIN_SECRET_SIZE];
    memset(bytes, secret, sizeof(bytes));
    return plane_join_with(guest, bytes);
}

/* A member: joined, known to the others, heard of. */
static inline struct plane *plane_member(const char *token, uint8_t secret)
{
    struct plane *guest = plane_guest();
    plane_token(token, secret, 0);
    ck_assert_msg(plane_join(guest, secret) == 0, "%s", guest->reply.text);
    link_join_end(guest->host->link, &plane.hosts[0].host->identity.key);
    link_members_changed(guest->host->link);
    guest->beats = true;
    return guest;
}
