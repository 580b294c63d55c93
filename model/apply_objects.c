#include "base/parse_number.h"
#include "base/plural.h"
#include "base/require.h"
#include "model/apply_vm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHAT_SIZE 160 /* "template NAME of tenant NAME" */
#define VNI_MAX   UINT32_C(0xffffff)
/* Finished operations beyond this many are dropped, oldest first. */
#define OPERATIONS_KEPT_MAX 1024

/* "template web of tenant shop" */
static const char *
what_is(enum kind kind, const char *tenant, const char *name, char text[WHAT_SIZE])
{
    if (tenant[0] != '\0') {
        (void)snprintf(text, WHAT_SIZE, "%s %s of tenant %s", kind_info(kind)->word, name,
                       tenant);
    } else {
        (void)snprintf(text, WHAT_SIZE, "%s %s", kind_info(kind)->word, name);
    }
    return text;
}

static const char *what_entry(const struct entry *entry, char text[WHAT_SIZE])
{
    return what_is(entry->kind, meta_of(entry)->tenant, meta_of(entry)->name, text);
}

/* ---- the status of what users write ---- */

static const struct field *status_field(enum kind kind)
{
    return record_field(kind_info(kind)->record, "status");
}

/* Whatever a user sent as status counts for nothing. */
static void status_reset(enum kind kind, void *object)
{
    const struct field *field = status_field(kind);
    if (field != NULL) {
        record_fini(field->record, field_at(field, object));
        record_init(field->record, field_at(field, object));
    }
}

static void status_copy(enum kind kind, const void *from, void *to)
{
    const struct field *field = status_field(kind);
    if (field != NULL) {
        record_fini(field->record, field_at(field, to));
        int r = record_copy(field->record, field_at(field, from), field_at(field, to));
        REQUIRE(r == 0);
    }
}

static bool spec_equal(enum kind kind, const void *a, const void *b)
{
    const struct field *field = record_field(kind_info(kind)->record, "spec");
    REQUIRE(field != NULL);
    return record_equal(field->record, field_at(field, a), field_at(field, b));
}

/* ---- one rule per kind: checks, status, users ---- */

/* What a put and a delete of a kind mean. `old` is what is there, or NULL. */
struct object_rule {
    bool putable; /* the others are written by commands of their own */
    /* Refuses what one object alone cannot show. */
    int (*check)(struct apply *apply, const struct entry *old, const void *object);
    /* Writes the status of the new object, whose status is that of the old (or fresh). */
    void (*settle)(struct apply *apply, const struct entry *old, void *object);
    /* Refuses a delete while somebody needs it. */
    int (*in_use)(struct apply *apply, const struct entry *entry);
    /* What it counts for in its tenant's quota. */
    struct usage (*usage)(const void *object);
};

static int
refuse_in_use(struct apply *apply, const struct entry *entry, const struct entry *user)
{
    char what[WHAT_SIZE];
    char by[WHAT_SIZE];
    return apply_refuse(apply, BERTH_EINUSE, "%s is used by %s", what_entry(entry, what),
                        what_entry(user, by));
}

/* The user with the lowest uid, so that every replica names the same. */
static const struct entry *
find_user(const struct apply *apply,
          enum kind kind,
          bool (*uses)(const struct state *, const struct entry *, const struct entry *),
          const struct entry *used)
{
    const struct table *table = &apply->state->tables[kind];
    const struct entry *first = NULL;
    for (uint32_t i = 0; i < table->count; i++) {
        const struct entry *entry = table->items[i];
        if (uses(apply->state, entry, used) &&
            (first == NULL || meta_of(entry)->uid < meta_of(first)->uid)) {
            first = entry;
        }
    }
    return first;
}

static bool same_tenant(const struct entry *a, const struct entry *b)
{
    return strcmp(meta_of(a)->tenant, meta_of(b)->tenant) == 0;
}

/* Tenant */

static bool is_of_tenant(const struct state *state,
                         const struct entry *user,
                         const struct entry *tenant)
{
    (void)state;
    const char *owner = user->kind == KIND_TOKEN
                            ? ((const struct token *)user->object)->spec.tenant
                            : meta_of(user)->tenant;
    return strcmp(owner, meta_of(tenant)->name) == 0;
}

static int tenant_in_use(struct apply *apply, const struct entry *entry)
{
    if (strcmp(meta_of(entry)->name, DEFAULT_TENANT) == 0) {
        return apply_refuse(apply, BERTH_EINUSE,
                            "tenant %s is the cluster's own: it stays", DEFAULT_TENANT);
    }
    static const enum kind kinds[] = {KIND_VM,    KIND_GROUP, KIND_TEMPLATE, KIND_NETWORK,
                                      KIND_IMAGE, KIND_DISK,  KIND_TOKEN};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const struct entry *user = find_user(apply, kinds[i], is_of_tenant, entry);
        if (user != NULL) {
            return refuse_in_use(apply, entry, user);
        }
    }
    return 0;
}

/* Template */

/* A disk that starts as the image's must hold all of it. Disk images are raw: the size of
 * the file is that of the disk; 0: an image whose size nobody has told. */
static int check_image_disks(struct apply *apply,
                             const struct image *image,
                             const struct machine_spec *machine)
{
    uint64_t needed_bytes = 0;
    for (uint32_t i = 0; i < image->spec.artifacts.count; i++) {
        const struct artifact *artifact = &image->spec.artifacts.items[i];
        needed_bytes =
            artifact->role == ARTIFACT_DISK ? artifact->size_bytes : needed_bytes;
    }
    for (uint32_t i = 0; i < machine->disks.count; i++) {
        const struct disk_spec *disk = &machine->disks.items[i];
        if (disk->from == DISK_FROM_IMAGE && disk->size_bytes < needed_bytes) {
            char size[NUMBER_TEXT_SIZE];
            char needed[NUMBER_TEXT_SIZE];
            format_bytes(disk->size_bytes, size);
            format_bytes(needed_bytes, needed);
            return apply_refuse(apply, BERTH_EINVALID,
                                "spec.disks[%" PRIu32 "].size: %s is less than the disk "
                                "of image %s, which is %s",
                                i, size, machine->image, needed);
        }
    }
    return 0;
}

static int
template_check(struct apply *apply, const struct entry *old, const void *object)
{
    (void)old;
    const struct template *template = object;
    const struct machine_spec *machine = &template->spec;
    const char *tenant = template->meta.tenant;
    char text[APPLY_TEXT_SIZE];
    uint32_t at = 0;
    if (state_template_lacks(apply->state, template, &at, text)) {
        return apply_refuse(apply, BERTH_ENOTFOUND, "%s", text);
    }
    const struct image *image = state_image_for(apply->state, tenant, machine->image);
    return check_image_disks(apply, image, machine);
}

static void template_settle(struct apply *apply, const struct entry *old, void *object)
{
    (void)apply;
    struct template *template = object;
    if (old == NULL || !spec_equal(KIND_TEMPLATE, old->object, object)) {
        template->status.version++;
    }
}

static bool uses_template(const struct state *state,
                          const struct entry *user,
                          const struct entry *template)
{
    (void)state;
    const char *name = user->kind == KIND_VM ? vm_of(user)->spec.template_ref.name
                                             : group_of(user)->spec.template_ref.name;
    return same_tenant(user, template) && strcmp(name, meta_of(template)->name) == 0;
}

static int template_in_use(struct apply *apply, const struct entry *entry)
{
    const struct entry *user = find_user(apply, KIND_GROUP, uses_template, entry);
    if (user == NULL) {
        user = find_user(apply, KIND_VM, uses_template, entry);
    }
    return user != NULL ? refuse_in_use(apply, entry, user) : 0;
}

/* Group */

static uint32_t clamp(uint32_t value, uint32_t low, uint32_t high)
{
    return value < low ? low : value > high ? high : value;
}

static int group_check(struct apply *apply, const struct entry *old, const void *object)
{
    const struct group *group = object;
    const char *name = group->spec.template_ref.name;
    if (state_entry_named(apply->state, KIND_TEMPLATE, group->meta.tenant, name) ==
        NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND,
                            "spec.template: template %s of tenant %s does not exist: "
                            "apply a Template first",
                            name, group->meta.tenant);
    }
    if (old != NULL && group_of(old)->status.deleting) {
        return apply_refuse(apply, BERTH_EPHASE,
                            "group %s is being deleted: wait until it is gone",
                            group->meta.name);
    }
    return 0;
}

static void group_settle(struct apply *apply, const struct entry *old, void *object)
{
    struct group *group = object;
    const struct autoscale *autoscale = &group->spec.autoscale;
    uint32_t desired = group->spec.replicas;
    if (autoscale->max > 0) {
        uint32_t now = old != NULL ? group->status.desired : autoscale->min;
        desired = clamp(now, autoscale->min, autoscale->max);
    }
    if (old == NULL || desired != group->status.desired) {
        char reason[96];
        if (autoscale->max > 0) {
            (void)snprintf(reason, sizeof(reason),
                           "its spec autoscales from %" PRIu32 " to %" PRIu32 " VMs",
                           autoscale->min, autoscale->max);
        } else {
            (void)snprintf(reason, sizeof(reason), "its spec asks for %" PRIu32 " VM%s",
                           desired, plural_s(desired));
        }
        group->status.desired = desired;
        group->status.scaled_wall_ms = apply->command->wall_ms;
        int r = record_set_text(&group->status.scale_reason, reason);
        REQUIRE(r == 0);
    }
}

/* Network */

/* May the asker hear of other tenants' objects? Root and the cluster itself, and tokens
 * with a role in the cluster. */
static bool asker_sees_all(const struct apply *apply)
{
    static const char by_token[] = "token:";
    const char *subject = apply->command->subject;
    if (strncmp(subject, by_token, sizeof(by_token) - 1) != 0) {
        return true;
    }
    const struct token *token =
        state_get(apply->state, KIND_TOKEN, "", subject + sizeof(by_token) - 1);
    return token != NULL && token->spec.tenant[0] == '\0';
}

static int network_check_overlap(struct apply *apply,
                                 const struct entry *old,
                                 const struct network *network)
{
    uint64_t cidr = network->spec.ipv4.cidr;
    const struct table *table = &apply->state->tables[KIND_NETWORK];
    const struct entry *clash = NULL;
    for (uint32_t i = 0; i < table->count; i++) {
        const struct entry *other = table->items[i];
        uint64_t other_cidr = network_of(other)->spec.ipv4.cidr;
        bool overlaps = cidr_contains(cidr, cidr_address(other_cidr)) ||
                        cidr_contains(other_cidr, cidr_address(cidr));
        if (other != old && overlaps &&
            (clash == NULL || meta_of(other)->uid < meta_of(clash)->uid)) {
            clash = other;
        }
    }
    if (clash == NULL) {
        return 0;
    }
    char cidr_text[CIDR_TEXT_SIZE];
    char other_text[CIDR_TEXT_SIZE];
    char what[WHAT_SIZE];
    uint64_t other_cidr = network_of(clash)->spec.ipv4.cidr;
    format_cidr(cidr_address(cidr), cidr_prefix(cidr), cidr_text);
    if (strcmp(meta_of(clash)->tenant, network->meta.tenant) != 0 &&
        !asker_sees_all(apply)) {
        return apply_refuse(apply, BERTH_EEXISTS,
                            "spec.ipv4.cidr: %s overlaps a network of another tenant: "
                            "choose another range",
                            cidr_text);
    }
    format_cidr(cidr_address(other_cidr), cidr_prefix(other_cidr), other_text);
    return apply_refuse(apply, BERTH_EEXISTS, "spec.ipv4.cidr: %s overlaps %s of %s",
                        cidr_text, other_text, what_entry(clash, what));
}

/* Cidr and gateway stay while anybody has an address. */
static int network_check_change(struct apply *apply,
                                const struct entry *old,
                                const struct network *network)
{
    if (old == NULL || old->addresses.count == 0) {
        return 0;
    }
    if (network->spec.ipv4.cidr != network_of(old)->spec.ipv4.cidr) {
        return apply_refuse(apply, BERTH_EINUSE,
                            "spec.ipv4.cidr: %" PRIu32 " addresses of network %s are in "
                            "use: make another network",
                            old->addresses.count, network->meta.name);
    }
    if (cidr_gateway(network) != cidr_gateway(network_of(old))) {
        return apply_refuse(apply, BERTH_EINUSE,
                            "spec.ipv4.gateway: VMs of network %s use the present one",
                            network->meta.name);
    }
    return 0;
}

static int network_check(struct apply *apply, const struct entry *old, const void *object)
{
    const struct network *network = object;
    int r = network_check_overlap(apply, old, network);
    if (r == 0) {
        r = network_check_change(apply, old, network);
    }
    if (r == 0 && old == NULL && apply->state->next_vni > VNI_MAX) {
        r = apply_refuse(apply, BERTH_EFULL, "no VXLAN identifier is left");
    }
    return r;
}

static void network_settle(struct apply *apply, const struct entry *old, void *object)
{
    if (old == NULL) {
        ((struct network *)object)->status.vni = apply->state->next_vni++;
    }
}

static bool has_nic_in(const struct machine_spec *machine, const char *network)
{
    for (uint32_t i = 0; i < machine->nics.count; i++) {
        if (strcmp(machine->nics.items[i].network, network) == 0) {
            return true;
        }
    }
    return false;
}

static const struct machine_spec *machine_of(const struct entry *entry)
{
    return entry->kind == KIND_VM ? &vm_of(entry)->spec.machine
                                  : &((const struct template *)entry->object)->spec;
}

static bool uses_network(const struct state *state,
                         const struct entry *user,
                         const struct entry *network)
{
    (void)state;
    return same_tenant(user, network) &&
           has_nic_in(machine_of(user), meta_of(network)->name);
}

static int network_in_use(struct apply *apply, const struct entry *entry)
{
    const struct entry *user = find_user(apply, KIND_TEMPLATE, uses_network, entry);
    if (user == NULL) {
        user = find_user(apply, KIND_VM, uses_network, entry);
    }
    return user != NULL ? refuse_in_use(apply, entry, user) : 0;
}

static struct usage network_usage(const void *object)
{
    (void)object;
    return (struct usage){.networks = 1};
}

/* Image */

static bool
uses_image(const struct state *state, const struct entry *user, const struct entry *image)
{
    const struct image *used =
        state_image_for(state, meta_of(user)->tenant, machine_of(user)->image);
    return used == image->object;
}

static int image_in_use(struct apply *apply, const struct entry *entry)
{
    const struct entry *user = find_user(apply, KIND_TEMPLATE, uses_image, entry);
    if (user == NULL) {
        user = find_user(apply, KIND_VM, uses_image, entry);
    }
    return user != NULL ? refuse_in_use(apply, entry, user) : 0;
}

/* Disk */

static int disk_check(struct apply *apply, const struct entry *old, const void *object)
{
    const struct disk *disk = object;
    if (old != NULL &&
        disk->spec.size_bytes < ((const struct disk *)old->object)->spec.size_bytes) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "spec.size: disk %s cannot shrink: its end would be lost",
                            disk->meta.name);
    }
    return 0;
}

static struct usage disk_usage(const void *object)
{
    return (struct usage){.disk_bytes = ((const struct disk *)object)->spec.size_bytes};
}

/* Token */

static int token_check(struct apply *apply, const struct entry *old, const void *object)
{
    const struct token *token = object;
    if (digest_is_zero(&token->spec.hash)) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "spec.hash: a token needs the hash of its secret");
    }
    const struct token *same = state_token_by_hash(apply->state, &token->spec.hash);
    if (same != NULL && (old == NULL || same != old->object)) {
        return apply_refuse(apply, BERTH_EEXISTS,
                            "spec.hash: token %s has the same secret", same->meta.name);
    }
    struct entry *tenant = NULL;
    return token->spec.tenant[0] != '\0'
               ? apply_find_tenant(apply, token->spec.tenant, &tenant)
               : 0;
}

/* Operation */

static int operation_in_use(struct apply *apply, const struct entry *entry)
{
    const struct operation *operation = entry->object;
    if (operation->status.phase == OPERATION_RUNNING) {
        return apply_refuse(apply, BERTH_EINUSE, "operation %s is still running",
                            operation->meta.name);
    }
    return 0;
}

static const struct object_rule rules[KIND_COUNT] = {
    [KIND_TENANT] = {.putable = true, .in_use = tenant_in_use},
    [KIND_TEMPLATE] = {.putable = true,
                       .check = template_check,
                       .settle = template_settle,
                       .in_use = template_in_use},
    [KIND_GROUP] = {.putable = true, .check = group_check, .settle = group_settle},
    [KIND_NETWORK] = {.putable = true,
                      .check = network_check,
                      .settle = network_settle,
                      .in_use = network_in_use,
                      .usage = network_usage},
    [KIND_IMAGE] = {.putable = true, .in_use = image_in_use},
    [KIND_DISK] = {.putable = true, .check = disk_check, .usage = disk_usage},
    [KIND_TOKEN] = {.putable = true, .check = token_check},
    [KIND_OPERATION] = {.in_use = operation_in_use},
};

/* ---- put ---- */

/* What a put counts for beyond what was there: only disks change in size, and they only
 * grow (disk_check). */
static struct usage
usage_growth(enum kind kind, const struct entry *old, const void *object)
{
    struct usage usage = {0};
    if (rules[kind].usage != NULL) {
        usage = rules[kind].usage(object);
        if (old != NULL) {
            struct usage before = rules[kind].usage(old->object);
            usage.disk_bytes -= before.disk_bytes;
            usage.networks -= before.networks;
        }
    }
    return usage;
}

static bool usage_is_zero(const struct usage *usage)
{
    return usage->disk_bytes == 0 && usage->networks == 0;
}

static int check_room(struct apply *apply, enum kind kind)
{
    if (state_count(apply->state, kind) >= STATE_OBJECTS_MAX) {
        return apply_refuse(apply, BERTH_EFULL, "the cluster has %d %s already",
                            STATE_OBJECTS_MAX, kind_info(kind)->plural);
    }
    return 0;
}

/* The user's part of the new object with the server's part of the old. */
static void inherit(enum kind kind, const struct entry *old, void *object)
{
    struct metadata *meta = object_meta(object);
    meta->uid = 0;
    meta->create_revision = 0;
    meta->modify_revision = 0;
    meta->created_wall_ms = 0;
    status_reset(kind, object);
    if (old != NULL) {
        const struct metadata *before = meta_of(old);
        meta->uid = before->uid;
        meta->create_revision = before->create_revision;
        meta->modify_revision = before->modify_revision;
        meta->created_wall_ms = before->created_wall_ms;
        status_copy(kind, old->object, object);
    }
}

/* Everything that may refuse; *ret_tenant is NULL for cluster-wide objects. */
static int put_check(struct apply *apply,
                     const struct cmd_put *put,
                     enum kind kind,
                     const struct entry *old,
                     const void *object,
                     struct entry **ret_tenant)
{
    const struct metadata *meta = object;
    char what[WHAT_SIZE];
    what_is(kind, meta->tenant, meta->name, what);
    int r = apply_check_revision(apply, old, what, put->expected_revision);
    if (r == 0 && old == NULL) {
        r = check_room(apply, kind);
    }
    if (r == 0 && meta->tenant[0] != '\0') {
        r = apply_find_tenant(apply, meta->tenant, ret_tenant);
    }
    if (r == 0 && rules[kind].check != NULL) {
        r = rules[kind].check(apply, old, object);
    }
    if (r == 0 && *ret_tenant != NULL) {
        struct usage more = usage_growth(kind, old, object);
        r = quota_check(apply, *ret_tenant, &more);
    }
    return r;
}

/* Nothing can go wrong any more; takes the object. */
static void put_store(struct apply *apply,
                      enum kind kind,
                      struct entry *old,
                      void *take_object,
                      struct entry *tenant)
{
    struct usage more = usage_growth(kind, old, take_object);
    if (rules[kind].settle != NULL) {
        rules[kind].settle(apply, old, take_object);
    }
    struct change_note note = {.verb = "changed"};
    struct entry *entry = old;
    if (old != NULL) {
        entry_replace(apply->state, old, take_object);
    } else {
        entry = apply_create(apply, kind, take_object);
        note = (struct change_note){.verb = "created", .created = true};
    }
    if (tenant != NULL && !usage_is_zero(&more)) {
        quota_take(apply, tenant, &more);
    }
    apply->result->uid = meta_of(entry)->uid;
    apply_changed(apply, entry, &note);
}

/* Frees the object unless it was stored. */
static int put_object(struct apply *apply, const struct cmd_put *put, void **object)
{
    enum kind kind = put->kind;
    const struct metadata *meta = *object;
    int r = apply_check_object(apply, kind, *object);
    if (r != 0) {
        return r;
    }
    struct entry *old = state_entry_named(apply->state, kind, meta->tenant, meta->name);
    inherit(kind, old, *object);
    struct entry *tenant = NULL;
    r = put_check(apply, put, kind, old, *object, &tenant);
    if (r != 0) {
        return r;
    }
    if (old != NULL) {
        apply->result->uid = meta->uid;
        if (spec_equal(kind, old->object, *object) &&
            record_equal(&metadata_record, old->object, *object)) {
            return 0; /* as it is already */
        }
    }
    put_store(apply, kind, old, *object, tenant);
    *object = NULL;
    return 0;
}

int apply_put(struct apply *apply, const struct command *command)
{
    const struct cmd_put *put = &command->body.put;
    if (put->kind == KIND_NONE || put->kind >= KIND_COUNT || !rules[put->kind].putable) {
        const struct kind_info *info = kind_info(put->kind);
        return apply_refuse(apply, BERTH_EINVALID, "%s cannot be written this way",
                            info != NULL ? info->plural : "objects of an unknown kind");
    }
    void *object = NULL;
    int r = command_put_object(put, command->level, &object);
    if (r != 0) {
        return apply_refuse(apply, BERTH_EINVALID, "the %s cannot be read: %s",
                            kind_info(put->kind)->word, err_sentence(r));
    }
    r = put_object(apply, put, &object);
    object_free(put->kind, object);
    return r;
}

/* ---- delete ---- */

static int delete_group(struct apply *apply, struct entry *entry)
{
    struct group *group = group_of(entry);
    if (entry->owner.vms.count == 0) {
        apply_removed(apply, entry, &(struct change_note){.verb = "deleted"});
    } else if (!group->status.deleting) {
        group->status.deleting = true;
        group->status.desired = 0;
        apply_changed(apply, entry, &(struct change_note){.verb = "deleting"});
    }
    return 0;
}

static int delete_plain(struct apply *apply, struct entry *entry)
{
    const struct object_rule *rule = &rules[entry->kind];
    int r = rule->in_use != NULL ? rule->in_use(apply, entry) : 0;
    if (r != 0) {
        return r;
    }
    if (rule->usage != NULL) {
        struct usage less = rule->usage(entry->object);
        struct entry *tenant =
            state_entry_named(apply->state, KIND_TENANT, "", meta_of(entry)->tenant);
        REQUIRE(tenant != NULL);
        quota_give(apply, tenant, &less);
    }
    apply_removed(apply, entry, &(struct change_note){.verb = "deleted"});
    return 0;
}

int apply_delete(struct apply *apply, const struct command *command)
{
    const struct cmd_delete *delete = &command->body.delete;
    if (delete->kind == KIND_NONE || delete->kind >= KIND_COUNT) {
        return apply_refuse(apply, BERTH_EINVALID, "there is no such kind of object");
    }
    enum kind kind = delete->kind;
    char what[WHAT_SIZE];
    what_is(kind, delete->tenant, delete->name, what);
    struct entry *entry =
        state_entry_named(apply->state, kind, delete->tenant, delete->name);
    if (entry == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND, "%s does not exist", what);
    }
    int r = apply_check_revision(apply, entry, what, delete->expected_revision);
    if (r != 0) {
        return r;
    }
    apply->result->uid = meta_of(entry)->uid;
    switch (kind) {
    case KIND_GROUP:
        r = delete_group(apply, entry);
        break;
    case KIND_VM:
        r = vm_evict(apply, entry, STOP_INTENT_DELETE, "deleted by its user");
        break;
    case KIND_HOST:
        r = host_remove(apply, entry, delete->force, "removed");
        break;
    default:
        r = delete_plain(apply, entry);
        break;
    }
    return r;
}

/* ---- admit ---- */

static int admit_check_group(struct apply *apply,
                             const struct cmd_admit_vm *admit,
                             const struct entry *group)
{
    if (group == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND,
                            "group %s of tenant %s does not exist", admit->group,
                            admit->tenant);
    }
    const struct group *owner = group_of(group);
    if (owner->status.deleting) {
        return apply_refuse(apply, BERTH_EPHASE, "group %s is being deleted",
                            admit->group);
    }
    if (strcmp(owner->spec.template_ref.name, admit->template_name) != 0) {
        return apply_refuse(
            apply, BERTH_EINVALID, "VMs of group %s are made from template %s, not %s",
            admit->group, owner->spec.template_ref.name, admit->template_name);
    }
    if (group->owner.vms.count >= owner->status.desired) {
        return apply_refuse(
            apply, BERTH_ECONFLICT, "group %s has the %" PRIu32 " VM%s it wants already",
            admit->group, owner->status.desired, plural_s(owner->status.desired));
    }
    return 0;
}

static struct vm *vm_build(const struct cmd_admit_vm *admit,
                           const struct template *template)
{
    struct vm *vm = object_new(KIND_VM);
    REQUIRE(vm != NULL);
    (void)snprintf(vm->meta.name, sizeof(vm->meta.name), "%s", admit->name);
    (void)snprintf(vm->meta.tenant, sizeof(vm->meta.tenant), "%s", admit->tenant);
    (void)snprintf(vm->spec.group, sizeof(vm->spec.group), "%s", admit->group);
    (void)snprintf(vm->spec.template_ref.name, sizeof(vm->spec.template_ref.name), "%s",
                   admit->template_name);
    vm->spec.power = admit->power;
    record_fini(&machine_spec_record, &vm->spec.machine);
    int r = record_copy(&machine_spec_record, &template->spec, &vm->spec.machine);
    REQUIRE(r == 0);
    apply_take_labels(&vm->meta, &admit->labels);
    vm->status.template_version = template->status.version;
    return vm;
}

/* Its NICs have their MACs from the uid, which it has only now. */
static void vm_add_nics(struct vm *vm, uint64_t uid)
{
    const struct nic_spec_list *nics = &vm->spec.machine.nics;
    struct record_list list = {0};
    for (uint32_t i = 0; i < nics->count; i++) {
        struct vm_nic *nic = record_list_add(&vm_nic_record, &list);
        REQUIRE(nic != NULL);
        memcpy(nic->name, nics->items[i].name, sizeof(nic->name));
        memcpy(nic->network, nics->items[i].network, sizeof(nic->network));
        nic->mac = vm_mac(uid, i);
    }
    vm->status.nics.items = list.items;
    vm->status.nics.count = list.count;
}

/* The next name a scheduler should try: one above the highest "GROUP-N" seen. */
static void group_count_index(struct group *group, const char *vm_name)
{
    size_t length = strlen(group->meta.name);
    uint32_t next = group->status.next_index;
    char *end = NULL;
    if (strncmp(vm_name, group->meta.name, length) == 0 && vm_name[length] == '-' &&
        vm_name[length + 1] >= '0' && vm_name[length + 1] <= '9') {
        unsigned long long index = strtoull(vm_name + length + 1, &end, 10);
        if (*end == '\0' && index >= next && index < UINT32_MAX) {
            group->status.next_index = (uint32_t)index + 1;
        }
    }
}

static int admit_check(struct apply *apply,
                       const struct cmd_admit_vm *admit,
                       struct entry **ret_tenant,
                       const struct template **ret_template,
                       struct entry **ret_group)
{
    int r = apply_find_tenant(apply, admit->tenant, ret_tenant);
    if (r != 0) {
        return r;
    }
    if (state_entry_named(apply->state, KIND_VM, admit->tenant, admit->name) != NULL) {
        return apply_refuse(apply, BERTH_EEXISTS, "vm %s of tenant %s exists already",
                            admit->name, admit->tenant);
    }
    if (state_count(apply->state, KIND_VM) >= STATE_VMS_MAX) {
        return apply_refuse(apply, BERTH_EFULL, "the cluster has %d VMs already",
                            STATE_VMS_MAX);
    }
    *ret_template =
        state_get(apply->state, KIND_TEMPLATE, admit->tenant, admit->template_name);
    if (*ret_template == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND,
                            "template %s of tenant %s does not exist",
                            admit->template_name, admit->tenant);
    }
    if (admit->group[0] != '\0') {
        *ret_group =
            state_entry_named(apply->state, KIND_GROUP, admit->tenant, admit->group);
        r = admit_check_group(apply, admit, *ret_group);
    }
    if (r == 0) {
        struct usage more = machine_usage(&(*ret_template)->spec);
        r = quota_check(apply, *ret_tenant, &more);
    }
    return r;
}

int apply_admit_vm(struct apply *apply, const struct command *command)
{
    const struct cmd_admit_vm *admit = &command->body.admit_vm;
    struct entry *tenant = NULL;
    struct entry *group = NULL;
    const struct template *template = NULL;
    int r = admit_check(apply, admit, &tenant, &template, &group);
    if (r != 0) {
        return r;
    }
    struct vm *vm = vm_build(admit, template);
    r = apply_check_object(apply, KIND_VM, vm);
    if (r != 0) {
        object_free(KIND_VM, vm);
        return r;
    }
    vm_add_nics(vm, apply->state->next_uid);
    vm->status.phase = vm->spec.power == POWER_ON ? PHASE_PENDING : PHASE_STOPPED;
    vm->status.pending_wall_ms = vm->spec.power == POWER_ON ? command->wall_ms : 0;
    struct usage more = machine_usage(&vm->spec.machine);
    struct entry *entry = apply_create(apply, KIND_VM, vm);
    apply->result->uid = vm->meta.uid;
    quota_take(apply, tenant, &more);
    apply_changed(apply, entry,
                  &(struct change_note){.verb = "created",
                                        .phase_from = vm->status.phase,
                                        .phase_to = vm->status.phase,
                                        .created = true});
    if (group != NULL) {
        uint32_t before = group_of(group)->status.next_index;
        group_count_index(group_of(group), vm->meta.name);
        if (group_of(group)->status.next_index != before) {
            apply_changed(apply, group, &(struct change_note){0});
        }
    }
    return 0;
}

/* ---- groups ---- */

static int
scale_check(struct apply *apply, const struct cmd_group_scale *scale, struct entry *group)
{
    if (group == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND,
                            "group %s of tenant %s does not exist", scale->group,
                            scale->tenant);
    }
    if (group_of(group)->status.deleting) {
        return apply_refuse(apply, BERTH_EPHASE, "group %s is being deleted",
                            scale->group);
    }
    const struct autoscale *autoscale = &group_of(group)->spec.autoscale;
    if (autoscale->max == 0) {
        return 0;
    }
    if (scale->by_user) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "group %s scales by load: change its autoscale.min and max",
                            scale->group);
    }
    if (scale->desired < autoscale->min || scale->desired > autoscale->max) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "group %s scales between %" PRIu32 " and %" PRIu32
                            " VMs, not to %" PRIu32,
                            scale->group, autoscale->min, autoscale->max, scale->desired);
    }
    return 0;
}

int apply_group_scale(struct apply *apply, const struct command *command)
{
    const struct cmd_group_scale *scale = &command->body.group_scale;
    struct entry *entry =
        state_entry_named(apply->state, KIND_GROUP, scale->tenant, scale->group);
    int r = scale_check(apply, scale, entry);
    if (r != 0) {
        return r;
    }
    struct group *group = group_of(entry);
    apply->result->uid = group->meta.uid;
    bool spec_moves = scale->by_user && group->spec.replicas != scale->desired;
    if (group->status.desired == scale->desired && !spec_moves) {
        return 0;
    }
    char reason[256];
    (void)snprintf(reason, sizeof(reason), "%" PRIu32 " to %" PRIu32 " VMs%s%.200s",
                   group->status.desired, scale->desired,
                   scale->reason != NULL ? ": " : "",
                   scale->reason != NULL ? scale->reason : "");
    if (scale->by_user) {
        group->spec.replicas = scale->desired;
    }
    group->status.desired = scale->desired;
    group->status.scaled_wall_ms = command->wall_ms;
    r = record_set_text(&group->status.scale_reason, scale->reason);
    REQUIRE(r == 0);
    apply_changed(apply, entry,
                  &(struct change_note){.verb = "scaled", .reason = reason});
    return 0;
}

/* ---- operations ---- */

static const char *const operation_verbs[] = {
    [OPERATION_RUNNING] = "started",
    [OPERATION_DONE] = "done",
    [OPERATION_FAILED] = "failed",
};

/* Room for one more: the finished one with the lowest uid goes. */
static void drop_old_operation(struct apply *apply)
{
    struct table *table = &apply->state->tables[KIND_OPERATION];
    if (table->count < OPERATIONS_KEPT_MAX) {
        return;
    }
    struct entry *oldest = NULL;
    for (uint32_t i = 0; i < table->count; i++) {
        struct entry *entry = table->items[i];
        const struct operation *operation = entry->object;
        if (operation->status.phase != OPERATION_RUNNING &&
            (oldest == NULL || meta_of(entry)->uid < meta_of(oldest)->uid)) {
            oldest = entry;
        }
    }
    if (oldest != NULL) {
        apply_removed(apply, oldest, &(struct change_note){0});
    }
}

static int operation_create(struct apply *apply,
                            const struct cmd_operation_step *step,
                            struct entry **ret_entry)
{
    if (!name_valid(step->name)) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "name: %s is not a name: use a-z, 0-9 "
                            "and -, starting with a letter",
                            step->name);
    }
    int r = check_room(apply, KIND_OPERATION);
    if (r != 0) {
        return r;
    }
    drop_old_operation(apply);
    struct operation *operation = object_new(KIND_OPERATION);
    REQUIRE(operation != NULL);
    (void)snprintf(operation->meta.name, sizeof(operation->meta.name), "%s", step->name);
    bool titled = step->title != NULL && step->title[0] != '\0';
    r = record_set_text(&operation->spec.title, titled ? step->title : step->name);
    REQUIRE(r == 0);
    *ret_entry = apply_create(apply, KIND_OPERATION, operation);
    return 0;
}

int apply_operation_step(struct apply *apply, const struct command *command)
{
    const struct cmd_operation_step *step = &command->body.operation_step;
    struct entry *entry = state_entry_named(apply->state, KIND_OPERATION, "", step->name);
    bool created = entry == NULL;
    if (created) {
        int r = operation_create(apply, step, &entry);
        if (r != 0) {
            return r;
        }
    }
    struct operation *operation = entry->object;
    uint32_t from = operation->status.phase;
    if (!created && from != OPERATION_RUNNING) {
        return apply_refuse(apply, BERTH_EPHASE, "operation %s is over: it is %s",
                            step->name, operation_phase_names[from]);
    }
    apply->result->uid = operation->meta.uid;
    operation->status.phase = step->phase;
    operation->status.permille = step->permille;
    int r = record_set_text(&operation->status.step, step->step);
    REQUIRE(r == 0);
    bool told = created || step->phase != from;
    apply_changed(
        apply, entry,
        &(struct change_note){.verb = told ? operation_verbs[step->phase] : NULL,
                              .reason = step->step,
                              .created = created});
    return 0;
}
