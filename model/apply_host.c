#include "base/parse_number.h"
#include "base/plural.h"
#include "base/require.h"
#include "model/apply_vm.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define REASON_SIZE    256
#define BIT(phase)     (UINT32_C(1) << (phase))
#define SUBJECT_SYSTEM "system"

/* ---- common ---- */

static int find_host(struct apply *apply, uint64_t uid, struct entry **ret_host)
{
    struct entry *host = state_entry(apply->state, KIND_HOST, uid);
    if (host == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND, "there is no host with uid %" PRIu64,
                            uid);
    }
    *ret_host = host;
    apply->result->uid = uid;
    return 0;
}

static void set_host_reason(struct host *host, const char *reason)
{
    int r = record_set_text(&host->status.reason, reason);
    REQUIRE(r == 0);
}

static void host_move(struct apply *apply,
                      struct entry *entry,
                      enum host_phase phase,
                      const char *reason)
{
    struct host *host = host_of(entry);
    uint32_t from = host->status.phase;
    host->status.phase = phase;
    set_host_reason(host, reason);
    apply_changed(apply, entry,
                  &(struct change_note){.verb = host_phase_names[phase],
                                        .reason = reason,
                                        .phase_from = from,
                                        .phase_to = phase});
}

/* ---- the ends of a host ---- */

void host_lose_vms(struct apply *apply, struct entry *entry, const char *text)
{
    struct entry_set incoming = entry_set_sorted(&entry->owner.incoming);
    for (uint32_t i = 0; i < incoming.count; i++) {
        vm_migration_end(apply, incoming.items[i], text);
    }
    entry_set_fini(&incoming);
    struct entry_set vms = entry_set_sorted(&entry->owner.vms);
    for (uint32_t i = 0; i < vms.count; i++) {
        REQUIRE(vm_phase_on_host(vm_of(vms.items[i])->status.phase) ||
                vm_of(vms.items[i])->status.phase == PHASE_LOST);
        if (vm_of(vms.items[i])->status.phase != PHASE_LOST) {
            vm_lose(apply, vms.items[i], text);
        }
    }
    entry_set_fini(&vms);
}

/* Its lease is over (or it was fenced): nothing it owned under a lease runs there now. */
void host_lose(struct apply *apply, struct entry *entry, const char *reason)
{
    char text[REASON_SIZE];
    (void)snprintf(text, sizeof(text), "host %s was lost", meta_of(entry)->name);
    host_move(apply, entry, HOST_PHASE_LOST, reason);
    host_lose_vms(apply, entry, text);
    snapshots_lose(apply, entry, text);
}

static void leave_networks(struct apply *apply, const struct entry *host)
{
    struct entry_set networks = {0};
    const struct table *table = &apply->state->tables[KIND_NETWORK];
    for (uint32_t i = 0; i < table->count; i++) {
        if (network_entry_host_index(table->items[i], meta_of(host)->uid) >= 0) {
            entry_set_add(&networks, table->items[i]);
        }
    }
    struct entry_set sorted = entry_set_sorted(&networks);
    for (uint32_t i = 0; i < sorted.count; i++) {
        int index = network_entry_host_index(sorted.items[i], meta_of(host)->uid);
        network_entry_remove_host(sorted.items[i], (unsigned)index);
        apply_changed(apply, sorted.items[i], &(struct change_note){0});
    }
    entry_set_fini(&sorted);
    entry_set_fini(&networks);
}

/* The log outlives the host when two others vote in it. Otherwise the host has to leave
 * it first: with its record goes its key, and what only it acknowledges would wait for
 * ever. */
static int check_log_outlives(struct apply *apply, const struct entry *entry)
{
    const struct host *host = host_of(entry);
    const struct table *table = &apply->state->tables[KIND_HOST];
    unsigned others = 0;
    if (host->status.voter != VOTER_VOTER) {
        return 0;
    }
    for (uint32_t i = 0; i < table->count; i++) {
        bool votes = host_of(table->items[i])->status.voter == VOTER_VOTER;
        others += votes && table->items[i] != entry ? 1U : 0U;
    }
    if (others == 0) {
        return apply_refuse(apply, BERTH_EINUSE,
                            "host %s alone carries the log: it cannot be removed before "
                            "other hosts vote (a rack of three has three voters)",
                            host->meta.name);
    }
    return others >= 2 ? 0
                       : apply_refuse(apply, BERTH_EINUSE,
                                      "host %s is one of two voters: drain it, and wait "
                                      "until it has left the log",
                                      host->meta.name);
}

/* Whoever removes a lost host says that it is off for good (check_no_doubt): VMs that
 * waited for it go on. */
static void host_forget(struct apply *apply, struct entry *host, const char *reason)
{
    char text[REASON_SIZE];
    (void)snprintf(text, sizeof(text), "host %s was removed", meta_of(host)->name);
    struct entry_set vms = entry_set_sorted(&host->owner.vms);
    for (uint32_t i = 0; i < vms.count; i++) {
        vm_release(apply, vms.items[i], text);
    }
    entry_set_fini(&vms);
    struct entry_set kept = entry_set_sorted(&host->owner.kept);
    for (uint32_t i = 0; i < kept.count; i++) {
        vm_disks_lose(apply, kept.items[i], text);
    }
    entry_set_fini(&kept);
    snapshots_forget(apply, host, text);
    leave_networks(apply, host);
    uint32_t from = host_of(host)->status.phase;
    apply_removed(apply, host,
                  &(struct change_note){.verb = host_phase_names[HOST_PHASE_REMOVED],
                                        .reason = reason,
                                        .phase_from = from,
                                        .phase_to = HOST_PHASE_REMOVED});
}

static int check_disks_go(struct apply *apply, const struct entry *host)
{
    uint32_t kept = host->owner.kept.count;
    uint32_t snapshots = snapshots_kept(host);
    if (kept == 0 && snapshots > 0) {
        return apply_refuse(apply, BERTH_EINUSE,
                            "host %s has %" PRIu32 " snapshot%s of VMs: remove %s (berth "
                            "ls snapshot), or remove the host with --force, which gives "
                            "%s up",
                            meta_of(host)->name, snapshots, plural_s(snapshots),
                            snapshots == 1 ? "it" : "them",
                            snapshots == 1 ? "it" : "them");
    }
    if (kept == 0) {
        return 0;
    }
    struct entry_set sorted = entry_set_sorted(&host->owner.kept);
    const struct metadata *first = meta_of(sorted.items[0]);
    entry_set_fini(&sorted);
    return apply_refuse(apply, BERTH_EINUSE,
                        "host %s keeps the disks of %" PRIu32 " VM%s that %s not running "
                        "(vm %s of tenant %s%s): start elsewhere with berth start "
                        "--anywhere, or remove with --force; either gives the disks up",
                        meta_of(host)->name, kept, plural_s(kept),
                        kept == 1 ? "is" : "are", first->name, first->tenant,
                        kept == 1 ? "" : ", ...");
}

uint32_t state_vms_in_doubt(const struct state *state,
                            uint64_t host_uid,
                            const struct vm **ret_one)
{
    const struct entry *host = state_entry(state, KIND_HOST, host_uid);
    uint32_t count = 0;
    *ret_one = NULL;
    for (uint32_t i = 0; host != NULL && i < host->owner.vms.count; i++) {
        const struct vm *vm = vm_of(host->owner.vms.items[i]);
        if (vm->status.phase == PHASE_LOST && !state_place_unknown(state, vm)) {
            count++;
            *ret_one =
                *ret_one == NULL || vm->meta.uid < (*ret_one)->meta.uid ? vm : *ret_one;
        }
    }
    return count;
}

/* No lease says that they have ended: they start elsewhere by their user's word only. */
static int check_no_doubt(struct apply *apply, const struct entry *host, const char *way)
{
    const struct vm *one = NULL;
    uint32_t count = state_level(apply->state) < LEVEL_SURELY_OFF
                         ? 0
                         : state_vms_in_doubt(apply->state, meta_of(host)->uid, &one);
    return count == 0
               ? 0
               : apply_refuse(apply, BERTH_EPHASE,
                              "vm %s of tenant %s%s may still run on lost host %s, and "
                              "would run twice: %s",
                              one->meta.name, one->meta.tenant,
                              count == 1 ? "" : " and others", meta_of(host)->name, way);
}

int host_remove(struct apply *apply,
                struct entry *host,
                struct host_removal removal,
                const char *reason)
{
    const char *name = meta_of(host)->name;
    if (host_of(host)->status.phase != HOST_PHASE_LOST) {
        uint32_t vms = host->owner.vms.count + host->owner.incoming.count;
        if (!host_of(host)->spec.drain) {
            return apply_refuse(
                apply, BERTH_EINUSE,
                state_count(apply->state, KIND_HOST) == 1
                    ? "host %s is in service, and the only one: remove its groups and "
                      "VMs instead, or end the cluster with berth down --forget there"
                    : "host %s is in service: drain it first",
                name);
        }
        if (vms > 0) {
            return apply_refuse(apply, BERTH_EINUSE,
                                "host %s still has %" PRIu32 " VM%s: wait for its drain",
                                name, vms, plural_s(vms));
        }
    }
    int r = removal.surely_off ? 0
                               : check_no_doubt(apply, host,
                                                "once that is surely off, ask with "
                                                "surelyOff (berth rm asks, or --yes)");
    r = r != 0 || removal.force ? r : check_disks_go(apply, host);
    r = r == 0 ? check_log_outlives(apply, host) : r;
    if (r != 0) {
        return r;
    }
    host_forget(apply, host, reason);
    return 0;
}

/* ---- join ---- */

static bool subject_is_host(const struct command *command, const char *name)
{
    char subject[NAME_SIZE + 8];
    (void)snprintf(subject, sizeof(subject), "host:%s", name);
    /* A subject is cut at NAME_SIZE - 1. */
    return strncmp(command->subject, subject, NAME_SIZE - 1) == 0;
}

int state_join_token(const struct state *state,
                     const struct digest *hash,
                     uint64_t wall_ms,
                     const struct token **ret_token,
                     struct err *err)
{
    const struct token *token = state_token_by_hash(state, hash);
    if (token == NULL || token->spec.role != ROLE_JOIN) {
        return err_set(err, BERTH_EAUTH, "the join token is not known, or was used up");
    }
    if (token->spec.expires_wall_ms != 0 && wall_ms >= token->spec.expires_wall_ms) {
        return err_set(err, BERTH_EAUTH, "join token %s has expired: make another",
                       token->meta.name);
    }
    if (token->spec.uses_left == 0) {
        return err_set(err, BERTH_EAUTH, "join token %s was used up", token->meta.name);
    }
    *ret_token = token;
    return 0;
}

static int check_token(struct apply *apply,
                       const struct cmd_host_join *join,
                       struct entry **ret_token)
{
    const struct token *token = NULL;
    struct err err;
    int r = state_join_token(apply->state, &join->token_hash, apply->command->wall_ms,
                             &token, &err);
    if (r < 0) {
        return apply_refuse(apply, r, "%s", err.text);
    }
    REQUIRE(token != NULL);
    *ret_token = state_entry(apply->state, KIND_TOKEN, token->meta.uid);
    return 0;
}

static void use_token(struct apply *apply, struct entry *entry)
{
    struct token *token = entry->object;
    if (token->spec.uses_left == UNLIMITED32) {
        return;
    }
    token->spec.uses_left--;
    if (token->spec.uses_left > 0) {
        apply_changed(apply, entry, &(struct change_note){0});
    } else {
        apply_removed(apply, entry,
                      &(struct change_note){.verb = "deleted", .reason = "used up"});
    }
}

static bool cluster_is_new(const struct state *state)
{
    return request_id_is_zero(state->cluster_id);
}

/* Who may join without being known: the first host of all, or the bearer of a token.
 * *ret_token is NULL for the first. */
static int check_admission(struct apply *apply,
                           const struct cmd_host_join *join,
                           struct entry **ret_token)
{
    if (!digest_is_zero(&join->token_hash)) {
        return check_token(apply, join, ret_token);
    }
    if (!cluster_is_new(apply->state) ||
        strcmp(apply->command->subject, SUBJECT_SYSTEM) != 0) {
        return apply_refuse(apply, BERTH_EAUTH, "host %s needs a join token", join->name);
    }
    if (request_id_is_zero(apply->command->request_id)) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "the first join needs a request id: it becomes the "
                            "cluster's identity");
    }
    return 0;
}

/* Name and key against the hosts there are. *ret_known is the host that comes back,
 * *ret_replaced a lost one whose name goes to another machine. */
static int check_identity(struct apply *apply,
                          const struct cmd_host_join *join,
                          struct entry **ret_known,
                          struct entry **ret_replaced)
{
    const struct digest *key = &join->status.public_key;
    if (digest_is_zero(key)) {
        return apply_refuse(apply, BERTH_EINVALID, "host %s needs its public key",
                            join->name);
    }
    struct entry *named = state_entry_named(apply->state, KIND_HOST, "", join->name);
    if (named != NULL && digest_equal(&host_of(named)->status.public_key, key)) {
        *ret_known = named;
        return 0;
    }
    const struct host *same_key = state_host_by_key(apply->state, key);
    if (same_key != NULL) {
        return apply_refuse(apply, BERTH_EEXISTS, "the key of host %s is that of host %s",
                            join->name, same_key->meta.name);
    }
    if (named != NULL && host_of(named)->status.phase != HOST_PHASE_LOST) {
        return apply_refuse(apply, BERTH_EEXISTS,
                            "host %s exists with another key: choose another name, or "
                            "remove the old host first",
                            join->name);
    }
    *ret_replaced = named;
    return 0;
}

/* What the host says of itself; what the cluster decided about it stays. */
static void take_status(struct host *host, const struct host_status *news)
{
    struct host_status status;
    int r = record_copy(&host_status_record, news, &status);
    REQUIRE(r == 0);
    status.phase = host->status.phase;
    status.voter = host->status.voter;
    status.public_key = host->status.public_key;
    r = record_set_text(&status.reason, host->status.reason);
    REQUIRE(r == 0);
    record_fini(&host_status_record, &host->status);
    host->status = status;
}

/* The host itself, known by its key on the wire, needs no token. */
static int check_return(struct apply *apply,
                        const struct cmd_host_join *join,
                        struct entry **ret_token)
{
    if (strcmp(apply->command->subject, SUBJECT_SYSTEM) == 0 ||
        subject_is_host(apply->command, join->name)) {
        return 0;
    }
    return check_admission(apply, join, ret_token);
}

static int
host_return(struct apply *apply, const struct cmd_host_join *join, struct entry *known)
{
    struct entry *token = NULL;
    int r = check_return(apply, join, &token);
    if (r != 0) {
        return r;
    }
    if (token != NULL) {
        use_token(apply, token);
    }
    apply->result->uid = meta_of(known)->uid;
    take_status(host_of(known), &join->status);
    if (state_level(apply->state) < LEVEL_HOST_LABELS) { /* they were for ever then */
        apply_take_labels(meta_of(known), &join->labels);
    }
    host_move(apply, known, HOST_PHASE_READY, "joined");
    return 0;
}

static void create_default_tenant(struct apply *apply)
{
    if (state_entry_named(apply->state, KIND_TENANT, "", DEFAULT_TENANT) != NULL) {
        return;
    }
    struct tenant *tenant = object_new(KIND_TENANT);
    REQUIRE(tenant != NULL);
    (void)snprintf(tenant->meta.name, sizeof(tenant->meta.name), "%s", DEFAULT_TENANT);
    struct entry *entry = apply_create(apply, KIND_TENANT, tenant);
    apply_changed(apply, entry,
                  &(struct change_note){.verb = "created", .created = true});
}

static void host_create(struct apply *apply, struct host *take_host)
{
    struct entry *entry = apply_create(apply, KIND_HOST, take_host);
    apply->result->uid = meta_of(entry)->uid;
    apply_changed(apply, entry,
                  &(struct change_note){.verb = "joined",
                                        .phase_from = HOST_PHASE_READY,
                                        .phase_to = HOST_PHASE_READY,
                                        .created = true});
}

static struct host *host_build(const struct cmd_host_join *join)
{
    struct host *host = object_new(KIND_HOST);
    REQUIRE(host != NULL);
    (void)snprintf(host->meta.name, sizeof(host->meta.name), "%s", join->name);
    take_status(host, &join->status);
    apply_take_labels(&host->meta, &join->labels);
    host->status.public_key = join->status.public_key;
    return host;
}

/* Takes the host on success. */
static int host_enter(struct apply *apply,
                      const struct cmd_host_join *join,
                      struct entry *replaced,
                      struct host *take_host)
{
    struct entry *token = NULL;
    int r = check_admission(apply, join, &token);
    if (r == 0 && replaced != NULL) {
        r = check_no_doubt(apply, replaced,
                           "remove that first (berth rm host/NAME, which asks), or join "
                           "by another name");
        r = r == 0 ? check_log_outlives(apply, replaced) : r;
    }
    if (r != 0) {
        return r;
    }
    if (replaced == NULL && state_count(apply->state, KIND_HOST) >= STATE_HOSTS_MAX) {
        return apply_refuse(apply, BERTH_EFULL, "the cluster has %d hosts already",
                            STATE_HOSTS_MAX);
    }
    if (token != NULL) {
        use_token(apply, token);
    } else {
        memcpy(apply->state->cluster_id, apply->command->request_id, REQUEST_ID_SIZE);
        create_default_tenant(apply);
        take_host->status.voter = VOTER_VOTER; /* its log is the cluster's, so far */
    }
    if (replaced != NULL) {
        host_forget(apply, replaced, "another machine took its name");
    }
    host_create(apply, take_host);
    return 0;
}

int apply_host_join(struct apply *apply, const struct command *command)
{
    const struct cmd_host_join *join = &command->body.host_join;
    struct entry *known = NULL;
    struct entry *replaced = NULL;
    struct host *host = host_build(join);
    int r = apply_check_object(apply, KIND_HOST, host);
    if (r == 0) {
        r = check_identity(apply, join, &known, &replaced);
    }
    if (r == 0 && known == NULL) {
        r = host_enter(apply, join, replaced, host);
        host = r == 0 ? NULL : host;
    } else if (r == 0) {
        r = host_return(apply, join, known);
    }
    object_free(KIND_HOST, host);
    return r;
}

/* ---- news of a host ---- */

int apply_host_update(struct apply *apply, const struct command *command)
{
    const struct cmd_host_update *update = &command->body.host_update;
    struct entry *entry = NULL;
    int r = find_host(apply, update->host, &entry);
    if (r != 0) {
        return r;
    }
    struct host_status before;
    r = record_copy(&host_status_record, &host_of(entry)->status, &before);
    REQUIRE(r == 0);
    take_status(host_of(entry), &update->status);
    if (!record_equal(&host_status_record, &before, &host_of(entry)->status)) {
        uint32_t phase = before.phase;
        apply_changed(apply, entry,
                      &(struct change_note){.phase_from = phase, .phase_to = phase});
    }
    record_fini(&host_status_record, &before);
    return 0;
}

/* Moves that HOST_PHASE may make; a removed host has no record any more. */
static const uint32_t host_moves[HOST_PHASE_COUNT] = {
    [HOST_PHASE_READY] =
        BIT(HOST_PHASE_SUSPECT) | BIT(HOST_PHASE_LOST) | BIT(HOST_PHASE_REMOVED),
    [HOST_PHASE_SUSPECT] =
        BIT(HOST_PHASE_READY) | BIT(HOST_PHASE_LOST) | BIT(HOST_PHASE_REMOVED),
    [HOST_PHASE_LOST] = BIT(HOST_PHASE_READY) | BIT(HOST_PHASE_REMOVED),
};

int apply_host_phase(struct apply *apply, const struct command *command)
{
    const struct cmd_host_phase *move = &command->body.host_phase;
    struct entry *entry = NULL;
    int r = find_host(apply, move->host, &entry);
    if (r != 0) {
        return r;
    }
    uint32_t from = host_of(entry)->status.phase;
    if (move->phase == from) {
        return 0;
    }
    if (move->phase >= HOST_PHASE_COUNT || (host_moves[from] & BIT(move->phase)) == 0) {
        return apply_refuse(apply, BERTH_EPHASE, "host %s is %s: it cannot become %s",
                            meta_of(entry)->name, host_phase_names[from],
                            move->phase < HOST_PHASE_COUNT ? host_phase_names[move->phase]
                                                           : "that");
    }
    if (move->phase == HOST_PHASE_REMOVED) {
        return host_remove(apply, entry, (struct host_removal){0}, move->reason);
    }
    if (move->phase == HOST_PHASE_LOST) {
        host_lose(apply, entry, move->reason);
    } else {
        host_move(apply, entry, move->phase, move->reason);
    }
    return 0;
}

int apply_host_drain(struct apply *apply, const struct command *command)
{
    const struct cmd_host_drain *drain = &command->body.host_drain;
    struct entry *entry = NULL;
    int r = find_host(apply, drain->host, &entry);
    if (r != 0) {
        return r;
    }
    struct host *host = host_of(entry);
    if (host->spec.drain == drain->drain) {
        return 0;
    }
    host->spec.drain = drain->drain;
    r = record_set_text(&host->spec.drain_reason, drain->drain ? drain->reason : NULL);
    REQUIRE(r == 0);
    uint32_t phase = host->status.phase;
    apply_changed(apply, entry,
                  &(struct change_note){.verb = drain->drain ? "drained" : "undrained",
                                        .reason = drain->reason,
                                        .phase_from = phase,
                                        .phase_to = phase});
    return 0;
}

int apply_label_host(struct apply *apply, const struct command *command)
{
    const struct cmd_label_host *change = &command->body.label_host;
    struct entry *entry = NULL;
    char what[NAME_SIZE + 8];
    int r = find_host(apply, change->host, &entry);
    if (r == 0) {
        (void)snprintf(what, sizeof(what), "host %s", meta_of(entry)->name);
        r = apply_check_revision(apply, entry, what, change->expected_revision);
    }
    if (r != 0) {
        return r;
    }
    struct host *named = object_new(KIND_HOST);
    REQUIRE(named != NULL);
    memcpy(named->meta.name, meta_of(entry)->name, NAME_SIZE);
    apply_take_labels(&named->meta, &change->labels);
    r = apply_check_object(apply, KIND_HOST, named); /* the form of what is new */
    object_free(KIND_HOST, named);
    uint32_t phase = host_of(entry)->status.phase;
    return r != 0 ? r
                  : apply_relabel(apply, entry, &change->labels, &change->removed,
                                  &(struct change_note){.verb = "labelled",
                                                        .reason = command->subject,
                                                        .phase_from = phase,
                                                        .phase_to = phase});
}

int apply_host_voter(struct apply *apply, const struct command *command)
{
    const struct cmd_host_voter *change = &command->body.host_voter;
    struct entry *entry = NULL;
    int r = find_host(apply, change->host, &entry);
    if (r != 0) {
        return r;
    }
    struct host *host = host_of(entry);
    if (host->status.voter == change->voter) {
        return 0;
    }
    host->status.voter = change->voter;
    uint32_t phase = host->status.phase;
    apply_changed(apply, entry,
                  &(struct change_note){.verb = "changed",
                                        .reason = voter_role_names[change->voter],
                                        .phase_from = phase,
                                        .phase_to = phase});
    return 0;
}

/* ---- hosts in tenant networks ---- */

/* A VM that is on the host, or on its way there, with a NIC in the network; or NULL. */
static const struct entry *vm_in_network(const struct entry_set *vms,
                                         const struct entry *network)
{
    const struct entry *first = NULL;
    for (uint32_t i = 0; i < vms->count; i++) {
        const struct vm *vm = vm_of(vms->items[i]);
        bool uses = false;
        for (uint32_t nic = 0; nic < vm->status.nics.count; nic++) {
            uses = uses || strcmp(vm->status.nics.items[nic].network,
                                  meta_of(network)->name) == 0;
        }
        if (uses && strcmp(vm->meta.tenant, meta_of(network)->tenant) == 0 &&
            (first == NULL || vm->meta.uid < meta_of(first)->uid)) {
            first = vms->items[i];
        }
    }
    return first;
}

static int
network_leave(struct apply *apply, struct entry *network, const struct entry *host)
{
    int index = network_entry_host_index(network, meta_of(host)->uid);
    if (index < 0) {
        return 0;
    }
    const struct entry *vm = vm_in_network(&host->owner.vms, network);
    if (vm == NULL) {
        vm = vm_in_network(&host->owner.incoming, network);
    }
    if (vm != NULL) {
        return apply_refuse(apply, BERTH_EINUSE,
                            "network %s is used on host %s by vm %s of tenant %s",
                            meta_of(network)->name, meta_of(host)->name,
                            meta_of(vm)->name, meta_of(vm)->tenant);
    }
    network_entry_remove_host(network, (unsigned)index);
    apply_changed(apply, network, &(struct change_note){0});
    return 0;
}

static int network_enter(struct apply *apply,
                         struct entry *entry,
                         const struct entry *host,
                         uint32_t ipv4)
{
    const struct network *network = network_of(entry);
    char text[IPV4_TEXT_SIZE];
    format_ipv4(ipv4, text);
    int index = network_entry_host_index(entry, meta_of(host)->uid);
    if (index >= 0) {
        if (network->status.hosts.items[index].ipv4 == ipv4) {
            return 0;
        }
        return apply_refuse(apply, BERTH_EEXISTS,
                            "host %s has another address in network %s already",
                            meta_of(host)->name, network->meta.name);
    }
    if (host_of(host)->status.phase == HOST_PHASE_LOST) {
        return apply_refuse(apply, BERTH_EPHASE, "host %s is lost", meta_of(host)->name);
    }
    if (network->status.hosts.count >= NETWORK_HOSTS_MAX) {
        return apply_refuse(apply, BERTH_EFULL, "network %s is on %d hosts already",
                            network->meta.name, NETWORK_HOSTS_MAX);
    }
    if (!cidr_contains(network->spec.ipv4.cidr, ipv4)) {
        return apply_refuse(apply, BERTH_EINVALID, "address %s is not in network %s",
                            text, network->meta.name);
    }
    if (state_address_count(apply->state, network) >= NETWORK_ADDRESSES_MAX) {
        return apply_refuse(apply, BERTH_EFULL,
                            "network %s has given away its %d addresses",
                            network->meta.name, NETWORK_ADDRESSES_MAX);
    }
    if (state_address_used(apply->state, network, ipv4)) {
        return apply_refuse(apply, BERTH_ECONFLICT, "address %s of network %s is taken",
                            text, network->meta.name);
    }
    network_entry_add_host(entry, meta_of(host)->uid, ipv4);
    apply_changed(apply, entry, &(struct change_note){0});
    return 0;
}

int apply_network_host(struct apply *apply, const struct command *command)
{
    const struct cmd_network_host *change = &command->body.network_host;
    struct entry *host = NULL;
    int r = find_host(apply, change->host, &host);
    if (r != 0) {
        return r;
    }
    struct entry *network = state_entry(apply->state, KIND_NETWORK, change->network);
    if (network == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND,
                            "there is no network with uid %" PRIu64, change->network);
    }
    apply->result->uid = change->network;
    return change->ipv4 == 0 ? network_leave(apply, network, host)
                             : network_enter(apply, network, host, change->ipv4);
}
