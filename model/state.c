#include "model/state.h"

#include "base/require.h"
#include "model/content_hash.h"
#include "model/state_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_KEY_SIZE (2 * NAME_SIZE + 1)
#define ENCODING_MAX                                                  \
    (1u << 20) /* of one object; above what its fields allow in a log \
                */

/* ---- sets of entries ---- */

void entry_set_add(struct entry_set *set, struct entry *entry)
{
    if (set->count == set->capacity) {
        uint32_t capacity = set->capacity == 0 ? 4 : set->capacity * 2;
        struct entry **items = reallocarray(set->items, capacity, sizeof(struct entry *));
        REQUIRE(items != NULL);
        set->items = items;
        set->capacity = capacity;
    }
    set->items[set->count++] = entry;
}

void entry_set_fini(struct entry_set *set)
{
    free(set->items);
    *set = (struct entry_set){0};
}

static int compare_uids(const void *a, const void *b)
{
    const struct entry *const *left = a;
    const struct entry *const *right = b;
    uint64_t left_uid = meta_of(*left)->uid;
    uint64_t right_uid = meta_of(*right)->uid;
    return (left_uid > right_uid) - (left_uid < right_uid);
}

struct entry_set entry_set_sorted(const struct entry_set *set)
{
    struct entry_set copy = {0};
    for (uint32_t i = 0; i < set->count; i++) {
        entry_set_add(&copy, set->items[i]);
    }
    if (copy.count > 1) {
        qsort(copy.items, copy.count, sizeof(struct entry *), compare_uids);
    }
    return copy;
}

/* ---- tables ---- */

/* Without printf: each object that is looked for comes by here. */
static void name_key(const char *tenant, const char *name, char key[NAME_KEY_SIZE])
{
    const size_t tenant_length = strnlen(tenant, NAME_SIZE - 1);
    const size_t name_length = strnlen(name, NAME_SIZE - 1);
    memcpy(key, tenant, tenant_length);
    key[tenant_length] = '/';
    memcpy(key + tenant_length + 1, name, name_length);
    key[tenant_length + 1 + name_length] = '\0';
}

static void
table_add(struct table *table, struct entry *entry, const struct metadata *meta)
{
    if (table->count == table->capacity) {
        uint32_t capacity = table->capacity == 0 ? 16 : table->capacity * 2;
        struct entry **items =
            reallocarray(table->items, capacity, sizeof(struct entry *));
        REQUIRE(items != NULL);
        table->items = items;
        table->capacity = capacity;
    }
    char key[NAME_KEY_SIZE];
    name_key(meta->tenant, meta->name, key);
    void *old = NULL;
    int r = string_map_put(table->by_name, key, entry, &old);
    REQUIRE(r == 0 && old == NULL);
    REQUIRE(u64_map_get(table->by_uid, meta->uid) == NULL);
    r = u64_map_put(table->by_uid, meta->uid, entry);
    REQUIRE(r == 0);
    entry->slot = table->count;
    table->items[table->count++] = entry;
}

static void
table_remove(struct table *table, struct entry *entry, const struct metadata *meta)
{
    char key[NAME_KEY_SIZE];
    name_key(meta->tenant, meta->name, key);
    void *named = string_map_remove(table->by_name, key);
    void *numbered = u64_map_remove(table->by_uid, meta->uid);
    REQUIRE(named == entry && numbered == entry);
    struct entry *last = table->items[--table->count];
    table->items[entry->slot] = last;
    last->slot = entry->slot;
}

struct entry *state_entry(const struct state *state, enum kind kind, uint64_t uid)
{
    REQUIRE(kind > KIND_NONE && kind < KIND_COUNT);
    return uid != 0 ? u64_map_get(state->tables[kind].by_uid, uid) : NULL;
}

struct entry *state_entry_named(const struct state *state,
                                enum kind kind,
                                const char *tenant,
                                const char *name)
{
    REQUIRE(kind > KIND_NONE && kind < KIND_COUNT);
    if (strnlen(tenant, NAME_SIZE) == NAME_SIZE ||
        strnlen(name, NAME_SIZE) == NAME_SIZE) {
        return NULL; /* longer than any name */
    }
    char key[NAME_KEY_SIZE];
    name_key(tenant, name, key);
    return string_map_get(state->tables[kind].by_name, key);
}

/* ---- maps by digest ---- */

static void
digest_map_put(struct string_map *map, const struct digest *digest, struct entry *entry)
{
    char text[DIGEST_HEX_SIZE];
    digest_format(digest, text);
    int r = string_map_put(map, text, entry, NULL);
    REQUIRE(r == 0);
}

static void digest_map_remove(struct string_map *map, const struct digest *digest)
{
    char text[DIGEST_HEX_SIZE];
    digest_format(digest, text);
    (void)string_map_remove(map, text);
}

static const void *digest_map_get(const struct string_map *map,
                                  const struct digest *digest)
{
    char text[DIGEST_HEX_SIZE];
    digest_format(digest, text);
    const struct entry *entry = string_map_get(map, text);
    return entry != NULL ? entry->object : NULL;
}

/* ---- links of VMs ---- */

/* The links are kept by swapping the last one into the hole; `slot` finds the slot of a
 * VM's link in this set. */
static void set_drop(struct entry_set *set, uint32_t slot, size_t slot_offset)
{
    REQUIRE(slot < set->count);
    struct entry *last = set->items[--set->count];
    set->items[slot] = last;
    memcpy((char *)&last->vm + slot_offset, &slot, sizeof(slot));
}

static uint64_t vm_memory(const struct entry *vm)
{
    return machine_plain_bytes(&vm_of(vm)->spec.machine);
}

static uint64_t vm_pool(const struct entry *vm)
{
    return machine_pool_bytes(&vm_of(vm)->spec.machine);
}

static uint64_t vm_mcpu(const struct entry *vm)
{
    return machine_mcpu(&vm_of(vm)->spec.machine);
}

static uint64_t vm_disk(const struct entry *vm)
{
    return machine_disk_bytes(&vm_of(vm)->spec.machine);
}

static void promise(struct entry *host, const struct entry *vm)
{
    host->owner.disk_bytes += vm_disk(vm);
    host->owner.memory_bytes += vm_memory(vm);
    host->owner.pool_bytes += vm_pool(vm);
    host->owner.cpu_mcpu += vm_mcpu(vm);
}

static void promise_end(struct entry *host, const struct entry *vm)
{
    host->owner.disk_bytes -= vm_disk(vm);
    host->owner.memory_bytes -= vm_memory(vm);
    host->owner.pool_bytes -= vm_pool(vm);
    host->owner.cpu_mcpu -= vm_mcpu(vm);
}

/* A VM is in its host's set, or in that of those which are nowhere. */
static void link_host(struct state *state, struct entry *vm, struct entry *host)
{
    struct entry_set *set = host != NULL ? &host->owner.vms : &state->nowhere;
    vm->vm.host = host;
    vm->vm.host_slot = set->count;
    entry_set_add(set, vm);
    if (host != NULL) {
        promise(host, vm);
    }
}

static void unlink_host(struct state *state, struct entry *vm)
{
    struct entry *host = vm->vm.host;
    set_drop(host != NULL ? &host->owner.vms : &state->nowhere, vm->vm.host_slot,
             offsetof(struct vm_links, host_slot));
    if (host != NULL) {
        promise_end(host, vm);
        vm->vm.host = NULL;
    }
}

static void link_target(struct entry *vm, struct entry *target)
{
    vm->vm.target = target;
    if (target != NULL) {
        vm->vm.target_slot = target->owner.incoming.count;
        entry_set_add(&target->owner.incoming, vm);
        promise(target, vm);
    }
}

static void unlink_target(struct entry *vm)
{
    struct entry *target = vm->vm.target;
    if (target != NULL) {
        set_drop(&target->owner.incoming, vm->vm.target_slot,
                 offsetof(struct vm_links, target_slot));
        promise_end(target, vm);
        vm->vm.target = NULL;
    }
}

static void link_keeper(struct entry *vm, struct entry *keeper)
{
    vm->vm.keeper = keeper;
    if (keeper != NULL) {
        vm->vm.keeper_slot = keeper->owner.kept.count;
        entry_set_add(&keeper->owner.kept, vm);
        keeper->owner.disk_bytes += vm_disk(vm);
    }
}

static void unlink_keeper(struct entry *vm)
{
    struct entry *keeper = vm->vm.keeper;
    if (keeper != NULL) {
        set_drop(&keeper->owner.kept, vm->vm.keeper_slot,
                 offsetof(struct vm_links, keeper_slot));
        keeper->owner.disk_bytes -= vm_disk(vm);
        vm->vm.keeper = NULL;
    }
}

static void link_group(struct entry *vm, struct entry *group)
{
    vm->vm.group = group;
    if (group != NULL) {
        vm->vm.group_slot = group->owner.vms.count;
        entry_set_add(&group->owner.vms, vm);
    }
}

static void unlink_group(struct entry *vm)
{
    if (vm->vm.group != NULL) {
        set_drop(&vm->vm.group->owner.vms, vm->vm.group_slot,
                 offsetof(struct vm_links, group_slot));
        vm->vm.group = NULL;
    }
}

void vm_entry_set_host(struct state *state, struct entry *vm, struct entry *host)
{
    unlink_host(state, vm);
    vm_of(vm)->status.host = host != NULL ? meta_of(host)->uid : 0;
    link_host(state, vm, host);
}

void vm_entry_set_target(struct entry *vm, struct entry *target)
{
    unlink_target(vm);
    vm_of(vm)->status.target = target != NULL ? meta_of(target)->uid : 0;
    link_target(vm, target);
}

void vm_entry_keep(struct entry *vm, struct entry *keeper, uint64_t disk_epoch)
{
    unlink_keeper(vm);
    vm_of(vm)->status.disk_host = keeper != NULL ? meta_of(keeper)->uid : 0;
    vm_of(vm)->status.disk_epoch = disk_epoch;
    link_keeper(vm, keeper);
}

/* ---- addresses ---- */

static uint32_t address_offset(const struct entry *network, uint32_t ipv4)
{
    return ipv4 - cidr_address(network_of(network)->spec.ipv4.cidr);
}

static struct entry *
nic_network(const struct state *state, const struct vm *vm, const struct vm_nic *nic)
{
    struct entry *network =
        state_entry_named(state, KIND_NETWORK, vm->meta.tenant, nic->network);
    REQUIRE(network != NULL); /* it cannot go while a VM refers to it */
    return network;
}

void vm_entry_set_address(struct state *state,
                          struct entry *vm,
                          unsigned nic,
                          uint32_t ipv4)
{
    struct vm_nic *item = &vm_of(vm)->status.nics.items[nic];
    struct entry *network = nic_network(state, vm_of(vm), item);
    if (item->ipv4 != 0) {
        address_set_clear(&network->addresses, address_offset(network, item->ipv4));
    }
    item->ipv4 = ipv4;
    if (ipv4 != 0) {
        address_set_mark(&network->addresses, address_offset(network, ipv4));
    }
}

void network_entry_add_host(struct entry *network, uint64_t host_uid, uint32_t ipv4)
{
    struct network_site_list *hosts = &network_of(network)->status.hosts;
    struct record_list list = {.items = hosts->items, .count = hosts->count};
    struct network_site *host = record_list_add(&network_site_record, &list);
    REQUIRE(host != NULL);
    hosts->items = list.items;
    hosts->count = list.count;
    host->host = host_uid;
    host->ipv4 = ipv4;
    address_set_mark(&network->addresses, address_offset(network, ipv4));
}

int network_entry_host_index(const struct entry *network, uint64_t host_uid)
{
    const struct network_site_list *hosts = &network_of(network)->status.hosts;
    for (uint32_t i = 0; i < hosts->count; i++) {
        if (hosts->items[i].host == host_uid) {
            return (int)i;
        }
    }
    return -1;
}

void network_entry_remove_host(struct entry *network, unsigned index)
{
    struct network_site_list *hosts = &network_of(network)->status.hosts;
    REQUIRE(index < hosts->count);
    address_set_clear(&network->addresses,
                      address_offset(network, hosts->items[index].ipv4));
    record_fini(&network_site_record, &hosts->items[index]);
    memmove(&hosts->items[index], &hosts->items[index + 1],
            (hosts->count - index - 1) * sizeof(hosts->items[0]));
    hosts->count--;
    if (hosts->count == 0) {
        free(hosts->items);
        hosts->items = NULL;
    }
}

/* ---- what each kind hangs into the indexes ---- */

static void index_network(struct entry *entry)
{
    address_set_init(&entry->addresses);
    const struct network_site_list *hosts = &network_of(entry)->status.hosts;
    for (uint32_t i = 0; i < hosts->count; i++) {
        address_set_mark(&entry->addresses, address_offset(entry, hosts->items[i].ipv4));
    }
}

static void index_vm(struct state *state, struct entry *entry)
{
    const struct vm *vm = vm_of(entry);
    link_host(state, entry, state_entry(state, KIND_HOST, vm->status.host));
    link_target(entry, state_entry(state, KIND_HOST, vm->status.target));
    link_keeper(entry, state_entry(state, KIND_HOST, vm->status.disk_host));
    if (vm->spec.group[0] != '\0') {
        link_group(entry,
                   state_entry_named(state, KIND_GROUP, vm->meta.tenant, vm->spec.group));
    }
    for (uint32_t i = 0; i < vm->status.nics.count; i++) {
        const struct vm_nic *nic = &vm->status.nics.items[i];
        struct entry *network = nic_network(state, vm, nic);
        if (nic->ipv4 != 0) {
            address_set_mark(&network->addresses, address_offset(network, nic->ipv4));
        }
    }
}

static void unindex_vm(struct state *state, struct entry *entry)
{
    for (uint32_t i = 0; i < vm_of(entry)->status.nics.count; i++) {
        vm_entry_set_address(state, entry, i, 0);
    }
    unlink_host(state, entry);
    unlink_target(entry);
    unlink_keeper(entry);
    unlink_group(entry);
}

static void index_entry(struct state *state, struct entry *entry)
{
    switch (entry->kind) {
    case KIND_NETWORK:
        index_network(entry);
        break;
    case KIND_VM:
        index_vm(state, entry);
        break;
    case KIND_TOKEN:
        digest_map_put(state->tokens_by_hash,
                       &((const struct token *)entry->object)->spec.hash, entry);
        break;
    case KIND_HOST:
        digest_map_put(state->hosts_by_key, &host_of(entry)->status.public_key, entry);
        break;
    case KIND_SNAPSHOT:
        snapshot_index(state, entry);
        break;
    default:
        break;
    }
}

static void unindex_entry(struct state *state, struct entry *entry)
{
    switch (entry->kind) {
    case KIND_NETWORK:
        address_set_fini(&entry->addresses);
        break;
    case KIND_VM:
        unindex_vm(state, entry);
        break;
    case KIND_TOKEN:
        digest_map_remove(state->tokens_by_hash,
                          &((const struct token *)entry->object)->spec.hash);
        break;
    case KIND_HOST:
        digest_map_remove(state->hosts_by_key, &host_of(entry)->status.public_key);
        break;
    case KIND_SNAPSHOT:
        snapshot_unindex(state, entry);
        break;
    default:
        break;
    }
}

struct entry *entry_add(struct state *state, enum kind kind, void *take_object)
{
    struct entry *entry = calloc(1, sizeof(*entry));
    REQUIRE(entry != NULL);
    entry->object = take_object;
    entry->kind = kind;
    table_add(&state->tables[kind], entry, meta_of(entry));
    index_entry(state, entry);
    return entry;
}

void entry_remove(struct state *state, struct entry *entry)
{
    if (entry->kind == KIND_HOST || entry->kind == KIND_GROUP) {
        REQUIRE(entry->owner.vms.count == 0 && entry->owner.incoming.count == 0);
        REQUIRE(entry->owner.kept.count == 0 && entry->owner.snapshots.count == 0);
    }
    state->objects_hash -= entry->hash;
    entry->hash = 0;
    unindex_entry(state, entry);
    table_remove(&state->tables[entry->kind], entry, meta_of(entry));
}

void entry_free(struct entry *entry)
{
    if (entry->kind == KIND_HOST || entry->kind == KIND_GROUP) {
        entry_set_fini(&entry->owner.vms);
        entry_set_fini(&entry->owner.incoming);
        entry_set_fini(&entry->owner.kept);
        entry_set_fini(&entry->owner.snapshots);
    } else if (entry->kind == KIND_NETWORK) {
        address_set_fini(&entry->addresses);
    }
    object_free(entry->kind, entry->object);
    free(entry);
}

void entry_replace(struct state *state, struct entry *entry, void *take_object)
{
    const struct metadata *meta = take_object;
    REQUIRE(meta->uid == meta_of(entry)->uid);
    REQUIRE(entry->kind != KIND_VM && entry->kind != KIND_HOST);
    /* A network keeps its addresses: its cidr changes only while none is taken. */
    if (entry->kind == KIND_TOKEN) {
        unindex_entry(state, entry);
    }
    object_free(entry->kind, entry->object);
    entry->object = take_object;
    if (entry->kind == KIND_TOKEN) {
        index_entry(state, entry);
    }
}

void host_entry_set_key(struct state *state, struct entry *host, const struct digest *key)
{
    unindex_entry(state, host);
    host_of(host)->status.public_key = *key;
    index_entry(state, host);
}

void entry_rehash(struct state *state, struct entry *entry)
{
    struct bytes_writer *scratch = &state->scratch;
    scratch->size = 0; /* the buffer is kept */
    record_encode(kind_info(entry->kind)->record, entry->object, scratch);
    REQUIRE(scratch->error == 0);
    state->objects_hash -= entry->hash;
    entry->hash = content_hash((uint64_t)entry->kind, scratch->data, scratch->size);
    state->objects_hash += entry->hash;
}

/* ---- life ---- */

struct state *state_new(state_observer *observer, void *context)
{
    struct state *state = calloc(1, sizeof(*state));
    if (state == NULL) {
        return NULL;
    }
    state->observer = observer;
    state->observer_context = context;
    state->next_uid = 1;
    state->next_vni = 1;
    state->level = level_range_up_to(0).min;
    bytes_writer_init(&state->scratch, ENCODING_MAX);
    bool complete = true;
    for (unsigned kind = KIND_NONE + 1; kind < KIND_COUNT; kind++) {
        state->tables[kind].by_uid = u64_map_new();
        state->tables[kind].by_name = string_map_new();
        complete = complete && state->tables[kind].by_uid != NULL &&
                   state->tables[kind].by_name != NULL;
    }
    state->tokens_by_hash = string_map_new();
    state->hosts_by_key = string_map_new();
    state->requests = request_memory_new(STATE_REQUESTS_MAX);
    state->events = event_ring_new(STATE_EVENTS_MAX);
    if (!complete || state->tokens_by_hash == NULL || state->hosts_by_key == NULL ||
        state->requests == NULL || state->events == NULL) {
        return state_free(state);
    }
    return state;
}

struct state *state_free(struct state *state)
{
    if (state == NULL) {
        return NULL;
    }
    for (unsigned kind = KIND_NONE + 1; kind < KIND_COUNT; kind++) {
        struct table *table = &state->tables[kind];
        for (uint32_t i = 0; i < table->count; i++) {
            entry_free(table->items[i]);
        }
        free(table->items);
        u64_map_free(table->by_uid);
        string_map_free(table->by_name);
    }
    entry_set_fini(&state->nowhere);
    string_map_free(state->tokens_by_hash);
    string_map_free(state->hosts_by_key);
    request_memory_free(state->requests);
    event_ring_free(state->events);
    bytes_writer_fini(&state->scratch);
    free(state);
    return NULL;
}

uint64_t state_revision(const struct state *state)
{
    return state->revision;
}

uint32_t state_level(const struct state *state)
{
    return state->level;
}

/* The first level is in no part: its hashes are those of releases without levels. */
uint64_t state_hash(const struct state *state)
{
    const uint64_t parts[] = {
        state->revision,
        state->next_uid,
        state->next_vni,
        content_hash(0, state->cluster_id, sizeof(state->cluster_id)),
        state->objects_hash,
        request_memory_hash(state->requests),
        event_ring_hash(state->events) ^ (state->level - LEVEL_FIRST),
    };
    uint64_t hash = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        hash = content_hash(hash ^ parts[i], NULL, 0);
    }
    return hash;
}

void state_cluster_id(const struct state *state, uint8_t ret_id[REQUEST_ID_SIZE])
{
    memcpy(ret_id, state->cluster_id, REQUEST_ID_SIZE);
}

/* ---- look-ups ---- */

static const void *object_of(const struct entry *entry)
{
    return entry != NULL ? entry->object : NULL;
}

const void *
state_get(const struct state *state, enum kind kind, const char *tenant, const char *name)
{
    return object_of(state_entry_named(state, kind, tenant, name));
}

const struct vm *state_vm(const struct state *state, uint64_t uid)
{
    return object_of(state_entry(state, KIND_VM, uid));
}

const struct host *state_host(const struct state *state, uint64_t uid)
{
    return object_of(state_entry(state, KIND_HOST, uid));
}

const struct network *state_network(const struct state *state, uint64_t uid)
{
    return object_of(state_entry(state, KIND_NETWORK, uid));
}

const struct image *state_image(const struct state *state, uint64_t uid)
{
    return object_of(state_entry(state, KIND_IMAGE, uid));
}

const struct host *state_host_by_key(const struct state *state,
                                     const struct digest *public_key)
{
    return digest_map_get(state->hosts_by_key, public_key);
}

const struct token *state_token_by_hash(const struct state *state,
                                        const struct digest *hash)
{
    return digest_map_get(state->tokens_by_hash, hash);
}

const struct image *
state_image_for(const struct state *state, const char *tenant, const char *name)
{
    const struct image *own = state_get(state, KIND_IMAGE, tenant, name);
    return own != NULL ? own : state_get(state, KIND_IMAGE, "", name);
}

bool state_template_lacks(const struct state *state,
                          const struct template *template,
                          uint32_t *at,
                          char ret_text[APPLY_TEXT_SIZE])
{
    const struct machine_spec *machine = &template->spec;
    const char *tenant = template->meta.tenant;
    for (; *at <= machine->nics.count; (*at)++) {
        if (*at == 0 && state_image_for(state, tenant, machine->image) == NULL) {
            (void)snprintf(ret_text, APPLY_TEXT_SIZE,
                           "spec.image: image %s does not exist for tenant %s: apply an "
                           "Image first",
                           machine->image, tenant);
            break;
        }
        const char *network = *at > 0 ? machine->nics.items[*at - 1].network : NULL;
        if (network != NULL && state_get(state, KIND_NETWORK, tenant, network) == NULL) {
            (void)snprintf(ret_text, APPLY_TEXT_SIZE,
                           "spec.nics[%" PRIu32 "].network: network %s of tenant %s does "
                           "not exist: apply a Network first",
                           *at - 1, network, tenant);
            break;
        }
    }
    return (*at)++ <= machine->nics.count;
}

size_t state_count(const struct state *state, enum kind kind)
{
    REQUIRE(kind > KIND_NONE && kind < KIND_COUNT);
    return state->tables[kind].count;
}

size_t state_count_all(const struct state *state)
{
    size_t count = 0;
    for (enum kind kind = KIND_NONE + 1; kind < KIND_COUNT; kind++) {
        count += state->tables[kind].count;
    }
    return count;
}

const void *state_next(const struct state *state, enum kind kind, size_t *cursor)
{
    REQUIRE(kind > KIND_NONE && kind < KIND_COUNT);
    const struct table *table = &state->tables[kind];
    return *cursor < table->count ? table->items[(*cursor)++]->object : NULL;
}

static int compare_names(const void *a, const void *b)
{
    const struct metadata *const *left = a;
    const struct metadata *const *right = b;
    int order = strcmp((*left)->tenant, (*right)->tenant);
    return order != 0 ? order : strcmp((*left)->name, (*right)->name);
}

int state_list(const struct state *state,
               enum kind kind,
               const char *tenant,
               const void ***ret_objects,
               size_t *ret_count)
{
    REQUIRE(kind > KIND_NONE && kind < KIND_COUNT);
    const struct table *table = &state->tables[kind];
    const void **objects = calloc((size_t)table->count + 1, sizeof(*objects));
    if (objects == NULL) {
        return -ENOMEM;
    }
    size_t count = 0;
    for (uint32_t i = 0; i < table->count; i++) {
        const struct metadata *meta = table->items[i]->object;
        if (tenant == NULL || strcmp(meta->tenant, tenant) == 0) {
            objects[count++] = meta;
        }
    }
    qsort(objects, count, sizeof(*objects), compare_names);
    *ret_objects = objects;
    *ret_count = count;
    return 0;
}

static const struct vm *next_vm(const struct entry *owner, size_t *cursor)
{
    if (owner == NULL || *cursor >= owner->owner.vms.count) {
        return NULL;
    }
    return owner->owner.vms.items[(*cursor)++]->object;
}

const struct vm *
state_vm_on_host(const struct state *state, uint64_t host, size_t *cursor)
{
    return next_vm(state_entry(state, KIND_HOST, host), cursor);
}

const struct vm *
state_vm_of_group(const struct state *state, const struct group *group, size_t *cursor)
{
    return next_vm(state_entry(state, KIND_GROUP, group->meta.uid), cursor);
}

const struct vm *
state_vm_incoming(const struct state *state, uint64_t host, size_t *cursor)
{
    const struct entry *entry = state_entry(state, KIND_HOST, host);
    if (entry == NULL || *cursor >= entry->owner.incoming.count) {
        return NULL;
    }
    return entry->owner.incoming.items[(*cursor)++]->object;
}

const struct vm *state_vm_kept(const struct state *state, uint64_t host, size_t *cursor)
{
    const struct entry *entry = state_entry(state, KIND_HOST, host);
    if (entry == NULL || *cursor >= entry->owner.kept.count) {
        return NULL;
    }
    return entry->owner.kept.items[(*cursor)++]->object;
}

const struct vm *state_vm_nowhere(const struct state *state, size_t *cursor)
{
    return *cursor < state->nowhere.count ? state->nowhere.items[(*cursor)++]->object
                                          : NULL;
}

uint32_t state_group_vms(const struct state *state, const struct group *group)
{
    const struct entry *entry = state_entry(state, KIND_GROUP, group->meta.uid);
    return entry != NULL ? entry->owner.vms.count : 0;
}

struct host_use state_host_use(const struct state *state, uint64_t host)
{
    const struct entry *entry = state_entry(state, KIND_HOST, host);
    struct host_use use = {0};
    if (entry != NULL) {
        use.vms = entry->owner.vms.count + entry->owner.incoming.count +
                  entry->owner.kept.count;
        use.cpu_mcpu = entry->owner.cpu_mcpu;
        use.memory_bytes = entry->owner.memory_bytes;
        use.pool_bytes = entry->owner.pool_bytes;
        use.disk_bytes = entry->owner.disk_bytes;
    }
    return use;
}

const struct host *state_disks_bind(const struct state *state, const struct vm *vm)
{
    const struct host *host =
        vm->status.disk_host != 0 ? state_host(state, vm->status.disk_host) : NULL;
    return host != NULL && host->status.phase == HOST_PHASE_LOST &&
                   vm->spec.group[0] != '\0' &&
                   vm->spec.machine.lifecycle.host_failure == HOST_FAILURE_RESTART
               ? NULL
               : host;
}

/* ---- addresses of a network ---- */

/* Number of addresses in the cidr. */
static uint32_t cidr_size(uint64_t cidr)
{
    uint32_t prefix = cidr_prefix(cidr);
    return prefix >= 32 ? 1 : UINT32_C(1) << (32 - (prefix < 8 ? 8 : prefix));
}

bool state_address_used(const struct state *state,
                        const struct network *network,
                        uint32_t ipv4)
{
    uint64_t cidr = network->spec.ipv4.cidr;
    const struct entry *entry = state_entry(state, KIND_NETWORK, network->meta.uid);
    if (entry == NULL || !cidr_contains(cidr, ipv4)) {
        return true; /* nobody may have it */
    }
    uint32_t offset = address_offset(entry, ipv4);
    return offset == 0 || offset == cidr_size(cidr) - 1 ||
           ipv4 == cidr_gateway(network) || address_set_has(&entry->addresses, offset);
}

uint32_t state_address_count(const struct state *state, const struct network *network)
{
    const struct entry *entry = state_entry(state, KIND_NETWORK, network->meta.uid);
    return entry != NULL ? entry->addresses.count : 0;
}

uint32_t state_address_free(const struct state *state,
                            const struct network *network,
                            uint32_t from)
{
    const struct entry *entry = state_entry(state, KIND_NETWORK, network->meta.uid);
    uint64_t cidr = network->spec.ipv4.cidr;
    uint32_t first = cidr_address(cidr);
    uint32_t size = cidr_size(cidr);
    if (entry == NULL || entry->addresses.count >= NETWORK_ADDRESSES_MAX ||
        (from > first && from - first >= size)) {
        return 0;
    }
    uint32_t offset = from > first ? from - first : 1;
    for (;;) {
        offset = address_set_next_free(&entry->addresses, offset);
        if (offset >= size - 1) {
            return 0;
        }
        if (first + offset != cidr_gateway(network)) {
            return first + offset;
        }
        offset++;
    }
}

const struct event *
state_event_next(const struct state *state, uint64_t since, size_t *cursor)
{
    return event_ring_next(state->events, since, cursor);
}
