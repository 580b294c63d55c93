/* A small cluster for the tests of the replicated state, and one short call per command.
 *
 * Every call makes the command, sends it through its codec (so a test sees what a replica
 * sees), applies it and leaves the answer in `answer`; it returns the answer's code.
 * fixture_start makes the first host, an image and a network; the tests go on from there.
 * The clock is `fixture_wall_ms`, which moves only when a test moves it.
 */
#pragma once

#include "model/state.h"
#include "support/test_main.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE_CIDR  (((uint64_t)0x0a000000 << 8) | 24) /* 10.0.0.0/24 */
#define ADDRESS(last) (0x0a000000u + (last))

static struct state *state;
static struct state *fixture_replica; /* gets every command too, when there is one */
static struct apply_result answer;
static uint64_t fixture_wall_ms;
static state_observer *fixture_also; /* is told of every change, when there is one */
static unsigned fixture_changes;     /* the observer was called so often */
static struct change fixture_last;   /* texts of it must not be used */
static char fixture_trail[4096];     /* "web:placed " for each change of a VM */
static uint8_t fixture_request[REQUEST_ID_SIZE]; /* of the next command, then zero */
static const char *fixture_subject;

static inline void fixture_observe(void *context, const struct change *change)
{
    (void)context;
    fixture_changes++;
    fixture_last = *change;
    if (fixture_also != NULL) {
        fixture_also(NULL, change);
    }
    if (change->kind == KIND_VM) {
        size_t used = strlen(fixture_trail);
        snprintf(fixture_trail + used, sizeof(fixture_trail) - used, "%s:%s ",
                 change->name,
                 change->object == NULL ? "deleted" : phase_names[change->phase_to]);
    }
}

static inline int send_command(struct command *command)
{
    command->level = state_level(state);
    command->wall_ms = fixture_wall_ms;
    memcpy(command->request_id, fixture_request, REQUEST_ID_SIZE);
    memset(fixture_request, 0, sizeof(fixture_request));
    snprintf(command->subject, sizeof(command->subject), "%s", fixture_subject);
    struct bytes_writer writer;
    bytes_writer_init(&writer, COMMAND_SIZE_MAX);
    command_encode(command, &writer);
    command_fini(command);
    ck_assert_int_eq(writer.error, 0);
    struct bytes_reader reader;
    bytes_reader_init(&reader, writer.data, writer.size);
    struct command received;
    ck_assert_int_eq(command_decode(&reader, &received), 0);
    bytes_writer_fini(&writer);
    state_apply(state, &received, &answer);
    if (fixture_replica != NULL) {
        struct apply_result other;
        state_apply(fixture_replica, &received, &other);
        ck_assert_int_eq(other.code, answer.code);
        ck_assert_uint_eq(other.revision, answer.revision);
        ck_assert_uint_eq(other.uid, answer.uid);
        ck_assert_str_eq(other.text, answer.text);
    }
    command_fini(&received);
    return answer.code;
}

static inline void next_request(uint8_t number)
{
    memset(fixture_request, 0, sizeof(fixture_request));
    fixture_request[0] = 0xaa;
    fixture_request[1] = number;
}

static inline void set_text(char **member, const char *text)
{
    ck_assert_int_eq(record_set_text(member, text), 0);
}

static inline void set_name(char member[NAME_SIZE], const char *name)
{
    snprintf(member, NAME_SIZE, "%s", name);
}

#define FIND(kind, tenant, name) state_get(state, kind, tenant, name)

static inline int raise_level(uint32_t level)
{
    struct command command;
    command_init(&command, COMMAND_SET_LEVEL);
    command.body.set_level.level = level;
    return send_command(&command);
}

/* To that level at least. */
static inline int level_at_least(uint32_t level)
{
    return state_level(state) < level ? raise_level(level) : 0;
}

/* ---- objects ---- */

/* Frees the object. */
static inline int put_at(enum kind kind, void *object, uint64_t revision)
{
    struct command command;
    command_init(&command, COMMAND_PUT);
    ck_assert_int_eq(command_set_put(&command, kind, object, revision), 0);
    object_free(kind, object);
    return send_command(&command);
}

static inline int put(enum kind kind, void *object)
{
    return put_at(kind, object, REVISION_ANY);
}

static inline void *make(enum kind kind, const char *tenant, const char *name)
{
    void *object = object_new(kind);
    ck_assert_ptr_nonnull(object);
    set_name(object_meta(object)->tenant, tenant);
    set_name(object_meta(object)->name, name);
    return object;
}

static inline struct tenant *make_tenant(const char *name)
{
    return make(KIND_TENANT, "", name);
}

static inline struct image *make_image(const char *tenant, const char *name)
{
    struct image *image = make(KIND_IMAGE, tenant, name);
    struct record_list list = {0};
    struct artifact *artifact = record_list_add(&artifact_record, &list);
    ck_assert_ptr_nonnull(artifact);
    artifact->role = ARTIFACT_KERNEL;
    memset(artifact->sha256.bytes, 7, DIGEST_SIZE);
    image->spec.artifacts.items = list.items;
    image->spec.artifacts.count = list.count;
    return image;
}

static inline struct network *
make_network(const char *tenant, const char *name, uint64_t cidr)
{
    struct network *network = make(KIND_NETWORK, tenant, name);
    network->spec.ipv4.cidr = cidr;
    return network;
}

/* 128 MiB, one CPU, a NIC in `network` unless that is NULL. */
static inline struct template *
make_template(const char *tenant, const char *name, const char *network)
{
    struct template *template = make(KIND_TEMPLATE, tenant, name);
    set_name(template->spec.image, "linux");
    template->spec.memory.size_bytes = 128 * MIB;
    if (network != NULL) {
        struct record_list list = {0};
        struct nic_spec *nic = record_list_add(&nic_spec_record, &list);
        ck_assert_ptr_nonnull(nic);
        set_name(nic->name, "eth0");
        set_name(nic->network, network);
        template->spec.nics.items = list.items;
        template->spec.nics.count = list.count;
    }
    return template;
}

static inline struct group *
make_group(const char *tenant, const char *name, const char *template, uint32_t replicas)
{
    struct group *group = make(KIND_GROUP, tenant, name);
    set_name(group->spec.template_ref.name, template);
    group->spec.replicas = replicas;
    return group;
}

static inline struct token *make_join_token(const char *name, uint8_t hash)
{
    struct token *token = make(KIND_TOKEN, "", name);
    token->spec.role = ROLE_JOIN;
    memset(token->spec.hash.bytes, hash, DIGEST_SIZE);
    token->spec.uses_left = 1;
    return token;
}

static inline int
delete_at(enum kind kind, const char *tenant, const char *name, uint64_t revision)
{
    struct command command;
    command_init(&command, COMMAND_DELETE);
    command.body.delete.kind = kind;
    set_name(command.body.delete.tenant, tenant);
    set_name(command.body.delete.name, name);
    command.body.delete.expected_revision = revision;
    return send_command(&command);
}

static inline int delete_host_by_force(const char *name)
{
    struct command command;
    command_init(&command, COMMAND_DELETE);
    command.body.delete.kind = KIND_HOST;
    set_name(command.body.delete.name, name);
    command.body.delete.force = true;
    return send_command(&command);
}

/* Its user says that what waits for it runs there no more. */
static inline int delete_host_surely_off_at(const char *name, bool force)
{
    struct command command;
    command_init(&command, COMMAND_DELETE);
    command.body.delete.kind = KIND_HOST;
    set_name(command.body.delete.name, name);
    command.body.delete.force = force;
    command.body.delete.surely_off = true;
    return send_command(&command);
}

static inline int delete_host_surely_off(const char *name)
{
    return delete_host_surely_off_at(name, false);
}

static inline int delete_object(enum kind kind, const char *tenant, const char *name)
{
    return delete_at(kind, tenant, name, REVISION_ANY);
}

/* ---- hosts ---- */

/* A host with 1 GiB for VMs, key made of `key` bytes and a token of `token` bytes (0:
 * none), and the label it says of itself (or NULL). */
static inline int join_labelled(const char *name,
                                uint8_t key,
                                uint8_t token,
                                const char *label,
                                const char *value)
{
    struct command command;
    command_init(&command, COMMAND_HOST_JOIN);
    struct cmd_host_join *body = &command.body.host_join;
    set_name(body->name, name);
    memset(body->token_hash.bytes, token, DIGEST_SIZE);
    memset(body->status.public_key.bytes, key, DIGEST_SIZE);
    body->status.cpu_mcpu = 4000;
    body->status.memory_bytes = 1 * GIB;
    body->status.disk_bytes = 10 * GIB;
    if (label != NULL) {
        ck_assert_int_eq(label_set(&body->labels, label, value), 0);
    }
    return send_command(&command);
}

static inline int join(const char *name, uint8_t key, uint8_t token)
{
    return join_labelled(name, key, token, NULL, NULL);
}

/* A further host, let in by a token of its own. */
static inline uint64_t add_host(const char *name, uint8_t key)
{
    char token[NAME_SIZE];
    snprintf(token, sizeof(token), "join-%.50s", name);
    ck_assert_int_eq(put(KIND_TOKEN, make_join_token(token, key)), 0);
    ck_assert_int_eq(join(name, key, key), 0);
    return answer.uid;
}

static inline int host_phase(uint64_t host, enum host_phase phase)
{
    struct command command;
    command_init(&command, COMMAND_HOST_PHASE);
    command.body.host_phase.host = host;
    command.body.host_phase.phase = phase;
    set_text(&command.body.host_phase.reason, "heartbeats stopped");
    return send_command(&command);
}

/* "KEY" alone takes that label away. */
static inline int
label_host_at(uint64_t host, const char *key, const char *value, uint64_t revision)
{
    struct command command;
    ck_assert_int_eq(level_at_least(LEVEL_HOST_LABELS), 0);
    command_init(&command, COMMAND_LABEL_HOST);
    struct cmd_label_host *body = &command.body.label_host;
    body->host = host;
    body->expected_revision = revision;
    ck_assert_int_eq(label_set(value != NULL ? &body->labels : &body->removed, key,
                               value != NULL ? value : ""),
                     0);
    return send_command(&command);
}

static inline int label_host(uint64_t host, const char *key, const char *value)
{
    return label_host_at(host, key, value, REVISION_ANY);
}

static inline int host_drain(uint64_t host, bool drain)
{
    struct command command;
    command_init(&command, COMMAND_HOST_DRAIN);
    command.body.host_drain.host = host;
    command.body.host_drain.drain = drain;
    set_text(&command.body.host_drain.reason, "maintenance");
    return send_command(&command);
}

static inline int network_host(uint64_t network, uint64_t host, uint32_t ipv4)
{
    struct command command;
    command_init(&command, COMMAND_NETWORK_HOST);
    command.body.network_host.network = network;
    command.body.network_host.host = host;
    command.body.network_host.ipv4 = ipv4;
    return send_command(&command);
}

/* ---- VMs ---- */

static inline int
admit(const char *tenant, const char *name, const char *template, const char *group)
{
    struct command command;
    command_init(&command, COMMAND_ADMIT_VM);
    set_name(command.body.admit_vm.tenant, tenant);
    set_name(command.body.admit_vm.name, name);
    set_name(command.body.admit_vm.template_name, template);
    set_name(command.body.admit_vm.group, group);
    return send_command(&command);
}

static inline int place(uint64_t vm, uint64_t host, uint64_t epoch, uint32_t ipv4)
{
    struct command command;
    command_init(&command, COMMAND_PLACE_VM);
    command.body.place_vm.vm = vm;
    command.body.place_vm.host = host;
    command.body.place_vm.epoch = epoch;
    if (ipv4 != 0) {
        struct record_list list = {0};
        struct cmd_address *address = record_list_add(&cmd_address_record, &list);
        ck_assert_ptr_nonnull(address);
        address->ipv4 = ipv4;
        command.body.place_vm.addresses.items = list.items;
        command.body.place_vm.addresses.count = list.count;
    }
    set_text(&command.body.place_vm.reason, "most room");
    return send_command(&command);
}

/* disk_epoch: the run whose disks the host keeps, 0: none. */
static inline int report_disks(uint64_t vm,
                               uint64_t host,
                               uint64_t epoch,
                               enum phase phase,
                               uint64_t at_wall_ms,
                               uint64_t disk_epoch)
{
    struct command command;
    command_init(&command, COMMAND_VM_PHASE);
    command.body.vm_phase.vm = vm;
    command.body.vm_phase.host = host;
    command.body.vm_phase.epoch = epoch;
    command.body.vm_phase.phase = phase;
    command.body.vm_phase.at_wall_ms = at_wall_ms;
    command.body.vm_phase.disk_epoch = disk_epoch;
    set_text(&command.body.vm_phase.reason, "seen");
    return send_command(&command);
}

static inline int
report(uint64_t vm, uint64_t host, uint64_t epoch, enum phase phase, uint64_t at_wall_ms)
{
    return report_disks(vm, host, epoch, phase, at_wall_ms, 0);
}

/* As its owner in its present epoch. */
static inline int reports(uint64_t vm, enum phase phase)
{
    const struct vm *now = state_vm(state, vm);
    ck_assert_ptr_nonnull(now);
    return report(vm, now->status.host, now->status.epoch, phase, fixture_wall_ms);
}

/* It has ended, and its host has the disks of this run. */
static inline int reports_kept(uint64_t vm, enum phase phase)
{
    const struct vm *now = state_vm(state, vm);
    ck_assert_ptr_nonnull(now);
    return report_disks(vm, now->status.host, now->status.epoch, phase, fixture_wall_ms,
                        now->status.epoch);
}

static inline int evict(uint64_t vm, uint64_t epoch, enum stop_intent intent)
{
    struct command command;
    command_init(&command, COMMAND_EVICT_VM);
    command.body.evict_vm.vm = vm;
    command.body.evict_vm.epoch = epoch;
    command.body.evict_vm.intent = intent;
    set_text(&command.body.evict_vm.reason, "asked to go");
    return send_command(&command);
}

static inline int retry(uint64_t vm, uint64_t epoch)
{
    struct command command;
    command_init(&command, COMMAND_RETRY_VM);
    command.body.retry_vm.vm = vm;
    command.body.retry_vm.epoch = epoch;
    set_text(&command.body.retry_vm.reason, "back-off is over");
    return send_command(&command);
}

static inline int set_power_at(uint64_t vm, enum power power, bool anywhere)
{
    struct command command;
    command_init(&command, COMMAND_SET_POWER);
    command.body.set_power.vm = vm;
    command.body.set_power.power = power;
    command.body.set_power.anywhere = anywhere;
    return send_command(&command);
}

/* Its user says that it runs nowhere. */
static inline int start_surely_off(uint64_t vm, bool anywhere)
{
    struct command command;
    command_init(&command, COMMAND_SET_POWER);
    command.body.set_power.vm = vm;
    command.body.set_power.power = POWER_ON;
    command.body.set_power.anywhere = anywhere;
    command.body.set_power.surely_off = true;
    return send_command(&command);
}

/* A key without a value takes that label away. */
static inline int
change_vm(uint64_t vm, enum power power, const char *key, const char *value)
{
    struct command command;
    ck_assert_int_eq(level_at_least(LEVEL_VM_LABELS), 0);
    command_init(&command, COMMAND_CHANGE_VM);
    command.body.change_vm.vm = vm;
    command.body.change_vm.power = power;
    struct cmd_change_vm *body = &command.body.change_vm;
    ck_assert(key == NULL || label_set(value != NULL ? &body->labels : &body->removed,
                                       key, value != NULL ? value : "") == 0);
    return send_command(&command);
}

static inline int pause_vm(uint64_t vm, bool paused)
{
    struct command command;
    ck_assert_int_eq(level_at_least(LEVEL_SNAPSHOTS), 0);
    command_init(&command, COMMAND_PAUSE_VM);
    command.body.pause_vm.vm = vm;
    command.body.pause_vm.paused = paused;
    return send_command(&command);
}

/* As its owner in its present epoch: of a run of that engine, that stands still or not.
 */
static inline int reports_run(uint64_t vm,
                              enum phase phase,
                              enum engine engine,
                              bool paused,
                              const char *why)
{
    const struct vm *now = state_vm(state, vm);
    struct command command;
    ck_assert_ptr_nonnull(now);
    ck_assert_int_eq(level_at_least(LEVEL_SNAPSHOTS), 0);
    command_init(&command, COMMAND_VM_PHASE);
    struct cmd_vm_phase *body = &command.body.vm_phase;
    body->vm = vm;
    body->host = now->status.host;
    body->epoch = now->status.epoch;
    body->phase = phase;
    body->engine = engine;
    body->paused = paused;
    set_text(&body->reason, why);
    return send_command(&command);
}

/* name "": the cluster chooses. */
static inline int make_snapshot(uint64_t vm, const char *name)
{
    struct command command;
    ck_assert_int_eq(level_at_least(LEVEL_SNAPSHOTS), 0);
    command_init(&command, COMMAND_SNAPSHOT_MAKE);
    command.body.snapshot_make.vm = vm;
    set_name(command.body.snapshot_make.name, name);
    return send_command(&command);
}

static inline int step_snapshot_as(uint64_t snapshot,
                                   uint64_t host,
                                   uint64_t epoch,
                                   enum snapshot_phase phase,
                                   uint64_t bytes)
{
    struct command command;
    ck_assert_int_eq(level_at_least(LEVEL_SNAPSHOTS), 0);
    command_init(&command, COMMAND_SNAPSHOT_STEP);
    struct cmd_snapshot_step *body = &command.body.snapshot_step;
    body->snapshot = snapshot;
    body->host = host;
    body->epoch = epoch;
    body->phase = phase;
    body->bytes = bytes;
    set_text(&body->reason, phase == SNAPSHOT_READY ? NULL : "the host says why");
    return send_command(&command);
}

/* As its host says, of the run that is in it. */
static inline int
step_snapshot(uint64_t snapshot, enum snapshot_phase phase, uint64_t bytes)
{
    const struct snapshot *now = state_snapshot(state, snapshot);
    ck_assert_ptr_nonnull(now);
    return step_snapshot_as(snapshot, now->status.host, now->status.epoch, phase, bytes);
}

static inline int restore_vm_how(uint64_t vm, uint64_t snapshot, bool lazy)
{
    struct command command;
    ck_assert_int_eq(level_at_least(lazy ? LEVEL_MACHINES : LEVEL_SNAPSHOTS), 0);
    command_init(&command, COMMAND_RESTORE_VM);
    command.body.restore_vm.lazy = lazy;
    command.body.restore_vm.vm = vm;
    command.body.restore_vm.snapshot = snapshot;
    set_text(&command.body.restore_vm.reason, "restored by its user");
    return send_command(&command);
}

static inline int restore_vm(uint64_t vm, uint64_t snapshot)
{
    return restore_vm_how(vm, snapshot, false);
}

static inline int set_power(uint64_t vm, enum power power)
{
    return set_power_at(vm, power, false);
}

static inline int
migrate(enum command_type step, uint64_t vm, uint64_t epoch, uint64_t target)
{
    struct command command;
    command_init(&command, step);
    struct cmd_migrate_prepare *body = &command.body.migrate_prepare;
    if (step == COMMAND_MIGRATE_PREPARE) {
        body->vm = vm;
        body->epoch = epoch;
        body->target = target;
        set_text(&body->reason, "balance");
    } else { /* the four bodies have one field list */
        command.body.migrate_switch.vm = vm;
        command.body.migrate_switch.epoch = epoch;
    }
    return send_command(&command);
}

static inline int scale(const char *group, uint32_t desired, bool by_user)
{
    struct command command;
    command_init(&command, COMMAND_GROUP_SCALE);
    set_name(command.body.group_scale.tenant, DEFAULT_TENANT);
    set_name(command.body.group_scale.group, group);
    command.body.group_scale.desired = desired;
    command.body.group_scale.by_user = by_user;
    set_text(&command.body.group_scale.reason, "load");
    return send_command(&command);
}

/* ---- the cluster the tests begin with ---- */

/* Host h1, tenant default, image linux, network front, templates plain (no NIC) and web
 * (one NIC in front). */
static uint64_t h1;
static uint64_t front;

/* As if the process had just begun: tests may follow one another in one. */
static inline void fixture_start(void)
{
    fixture_wall_ms = 1000000;
    fixture_subject = "system";
    memset(fixture_request, 0, sizeof(fixture_request));
    state = state_new(fixture_observe, NULL);
    ck_assert_ptr_nonnull(state);
    next_request(255);
    ck_assert_int_eq(join("h1", 1, 0), 0);
    h1 = answer.uid;
    ck_assert_int_eq(put(KIND_IMAGE, make_image("", "linux")), 0);
    ck_assert_int_eq(
        put(KIND_NETWORK, make_network(DEFAULT_TENANT, "front", FIXTURE_CIDR)), 0);
    front = answer.uid;
    ck_assert_int_eq(put(KIND_TEMPLATE, make_template(DEFAULT_TENANT, "plain", NULL)), 0);
    ck_assert_int_eq(put(KIND_TEMPLATE, make_template(DEFAULT_TENANT, "web", "front")),
                     0);
    ck_assert_int_eq(network_host(front, h1, ADDRESS(2)), 0);
    fixture_changes = 0;
    fixture_trail[0] = '\0';
}

static inline void fixture_stop(void)
{
    state = state_free(state);
}

static inline const struct vm *vm_named(const char *name)
{
    return FIND(KIND_VM, DEFAULT_TENANT, name);
}

/* A VM without NICs, admitted and pending. */
static inline uint64_t admit_plain(const char *name)
{
    ck_assert_int_eq(admit(DEFAULT_TENANT, name, "plain", ""), 0);
    return answer.uid;
}

/* A VM without NICs that is ready on this host. */
static inline uint64_t ready_vm(const char *name, uint64_t host)
{
    uint64_t vm = admit_plain(name);
    ck_assert_int_eq(place(vm, host, state_vm(state, vm)->status.epoch + 1, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_STARTING), 0);
    ck_assert_int_eq(reports(vm, PHASE_RUNNING), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    fixture_trail[0] = '\0';
    return vm;
}

static inline Suite *fixture_suite(const char *name, TCase **ret_case)
{
    Suite *suite = suite_create(name);
    *ret_case = tcase_create(name);
    tcase_add_checked_fixture(*ret_case, fixture_start, fixture_stop);
    tcase_set_timeout(*ret_case, 60);
    suite_add_tcase(suite, *ret_case);
    return suite;
}

#define ck_assert_contains(text, part) \
    ck_assert_msg(strstr(text, part) != NULL, "\"%s\" is not in \"%s\"", part, text)
