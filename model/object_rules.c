#include "model/object_rules.h"

#include "base/parse_number.h"
#include "base/plural.h"
#include "base/require.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define VNI_MAX UINT32_C(0xffffff)

const char *object_what(enum kind kind,
                        const char *tenant,
                        const char *name,
                        char text[OBJECT_WHAT_SIZE])
{
    if (tenant[0] != '\0') {
        (void)snprintf(text, OBJECT_WHAT_SIZE, "%s %s of tenant %s",
                       kind_info(kind)->word, name, tenant);
    } else {
        (void)snprintf(text, OBJECT_WHAT_SIZE, "%s %s", kind_info(kind)->word, name);
    }
    return text;
}

const char *entry_what(const struct entry *entry, char text[OBJECT_WHAT_SIZE])
{
    return object_what(entry->kind, meta_of(entry)->tenant, meta_of(entry)->name, text);
}

bool object_spec_equal(enum kind kind, const void *a, const void *b)
{
    const struct field *field = record_field(kind_info(kind)->record, "spec");
    REQUIRE(field != NULL);
    return record_equal(field->record, field_at(field, a), field_at(field, b));
}

static int
refuse_in_use(struct apply *apply, const struct entry *entry, const struct entry *user)
{
    char what[OBJECT_WHAT_SIZE];
    char by[OBJECT_WHAT_SIZE];
    return apply_refuse(apply, BERTH_EINUSE, "%s is used by %s", entry_what(entry, what),
                        entry_what(user, by));
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

/* ---- Tenant ---- */

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
    static const enum kind kinds[] = {KIND_VM,      KIND_GROUP,   KIND_TEMPLATE,
                                      KIND_NETWORK, KIND_IMAGE,   KIND_DISK,
                                      KIND_TOKEN,   KIND_SNAPSHOT};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const struct entry *user = find_user(apply, kinds[i], is_of_tenant, entry);
        if (user != NULL) {
            return refuse_in_use(apply, entry, user);
        }
    }
    return 0;
}

/* ---- Template ---- */

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
    if (old == NULL || !object_spec_equal(KIND_TEMPLATE, old->object, object)) {
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

/* ---- Group ---- */

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

/* ---- Network ---- */

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
        bool overlaps =
            ipv4_ranges_overlap(cidr_address(cidr), cidr_prefix(cidr),
                                cidr_address(other_cidr), cidr_prefix(other_cidr));
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
    char what[OBJECT_WHAT_SIZE];
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
                        cidr_text, other_text, entry_what(clash, what));
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

/* ---- Image ---- */

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

/* ---- Disk ---- */

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

/* ---- Token ---- */

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

/* ---- Operation ---- */

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
                       .spread = template_spread_limits,
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

const struct object_rule *object_rule(enum kind kind)
{
    REQUIRE(kind < KIND_COUNT);
    return &rules[kind];
}
