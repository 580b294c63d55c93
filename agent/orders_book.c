#include "agent/orders_book.h"

#include "agent/orders.h"
#include "agent/orders_parts.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- parts ---- */

static struct host_part *host_part_of(struct orders_book *book, uint64_t uid)
{
    struct host_part *part = u64_map_get(book->hosts, uid);
    if (part != NULL) {
        return part;
    }
    part = calloc(1, sizeof(*part));
    if (part == NULL) {
        return NULL;
    }
    list_init(&part->dirty_link);
    part->uid = uid;
    part->networks = u64_map_new();
    if (part->networks == NULL || u64_map_put(book->hosts, uid, part) < 0) {
        u64_map_free(part->networks);
        free(part);
        return NULL;
    }
    return part;
}

static struct network_part *network_part_free(struct network_part *part)
{
    if (part != NULL) {
        u64_map_free(part->vms);
        free(part->hosts);
        free(part->neighbours.items); /* neighbours own no further memory */
        free(part);
    }
    return NULL;
}

static struct network_part *network_part_new(const struct network *network)
{
    struct network_part *part = calloc(1, sizeof(*part));
    if (part == NULL) {
        return NULL;
    }
    part->uid = network->meta.uid;
    memcpy(part->tenant, network->meta.tenant, sizeof(part->tenant));
    memcpy(part->name, network->meta.name, sizeof(part->name));
    part->vms = u64_map_new();
    return part->vms != NULL ? part : network_part_free(part);
}

static void host_part_free(struct host_part *part)
{
    list_remove(&part->dirty_link);
    u64_map_free(part->networks);
    free(part);
}

/* Frees the map's values with `release`, and the map. */
static struct u64_map *map_free(struct u64_map *map, void (*release)(void *value))
{
    size_t cursor = 0;
    uint64_t key;
    void *value;
    while (map != NULL && u64_map_next(map, &cursor, &key, &value)) {
        release(value);
    }
    return u64_map_free(map);
}

static void release_host(void *value)
{
    host_part_free(value);
}

static void release_network(void *value)
{
    (void)network_part_free(value);
}

static void parts_free(struct orders_book *book)
{
    book->vms = map_free(book->vms, free);
    book->networks = map_free(book->networks, release_network);
    book->images = map_free(book->images, free);
    book->snapshots = map_free(book->snapshots, free);
    book->hosts = map_free(book->hosts, release_host);
    free(book->members.items);
    book->members = (struct msg_member_list){0};
}

/* ---- whom it concerns ---- */

static int host_touch(struct orders_book *book, uint64_t uid)
{
    struct host_part *part = uid != 0 ? host_part_of(book, uid) : NULL;
    if (uid != 0 && part == NULL) {
        return -ENOMEM;
    }
    if (part != NULL && list_empty(&part->dirty_link)) {
        list_push_back(&book->dirty, &part->dirty_link);
    }
    return 0;
}

/* Its neighbours are others now. */
static int network_touch(struct orders_book *book, struct network_part *part)
{
    part->stale = true;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < part->host_count; i++) {
        r = host_touch(book, part->hosts[i]);
    }
    return r;
}

/* ---- looking at what was noted ---- */

static int note_add(struct orders_book *book, enum kind kind, uint64_t uid)
{
    if (book->note_count == ORDERS_BOOK_NOTES) {
        return BERTH_EFULL;
    }
    if (book->note_count == book->note_capacity) {
        size_t capacity = book->note_capacity == 0 ? 64 : 2 * book->note_capacity;
        struct note *grown = reallocarray(book->notes, capacity, sizeof(*grown));
        if (grown == NULL) {
            return -ENOMEM;
        }
        book->notes = grown;
        book->note_capacity = capacity;
    }
    book->notes[book->note_count++] = (struct note){.kind = kind, .uid = uid};
    return 0;
}

static int host_look(struct orders_book *book, uint64_t uid)
{
    const struct host *host = state_host(book->state, uid);
    struct host_part *part = host_part_of(book, uid);
    struct msg_member member = {0};
    if (part == NULL) {
        return -ENOMEM;
    }
    if (host != NULL) {
        member = orders_member(host);
    }
    bool is_member = host != NULL && host->status.phase != HOST_PHASE_REMOVED;
    if (part->known == (host != NULL) && part->is_member == is_member &&
        record_equal(&msg_member_record, &part->member, &member)) {
        return 0;
    }
    part->known = host != NULL;
    part->is_member = is_member;
    part->member = member;
    book->members_stale = book->addresses_changed = book->concerns_all = true;
    return 0;
}

/* A name that means another network, or none: the VMs that use it. */
static int network_renamed(struct orders_book *book, const char *tenant, const char *name)
{
    size_t cursor = 0;
    const struct vm *vm;
    while (!book->rebuild && (vm = state_next(book->state, KIND_VM, &cursor)) != NULL) {
        bool uses = false;
        for (uint32_t i = 0; i < vm->status.nics.count; i++) {
            uses = uses || (strcmp(vm->status.nics.items[i].network, name) == 0 &&
                            strcmp(vm->meta.tenant, tenant) == 0);
        }
        int r = uses ? note_add(book, KIND_VM, vm->meta.uid) : 0;
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int network_leave_hosts(struct orders_book *book, struct network_part *part)
{
    int r = 0;
    for (uint32_t i = 0; i < part->host_count; i++) {
        struct host_part *host = u64_map_get(book->hosts, part->hosts[i]);
        if (host != NULL) {
            (void)u64_map_remove(host->networks, part->uid);
        }
        int touched = host_touch(book, part->hosts[i]);
        r = r == 0 ? touched : r;
    }
    free(part->hosts);
    part->hosts = NULL;
    part->host_count = 0;
    return r;
}

static int network_enter_hosts(struct orders_book *book,
                               struct network_part *part,
                               const struct network_site_list *sites)
{
    part->hosts = calloc((size_t)sites->count + 1, sizeof(*part->hosts));
    if (part->hosts == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < sites->count; i++) {
        uint64_t uid = sites->items[i].host;
        struct host_part *host = host_part_of(book, uid);
        if (host == NULL || u64_map_put(host->networks, part->uid, part) < 0) {
            return -ENOMEM;
        }
        part->hosts[part->host_count++] = uid;
    }
    return network_touch(book, part);
}

/* Networks change seldom: whatever it was, its hosts are told. */
static int network_look(struct orders_book *book, uint64_t uid)
{
    const struct network *network = state_network(book->state, uid);
    struct network_part *part = u64_map_get(book->networks, uid);
    int r = 0;
    if (part != NULL) {
        r = network_leave_hosts(book, part);
    }
    if (r == 0 && network == NULL && part != NULL) {
        r = network_renamed(book, part->tenant, part->name);
        (void)u64_map_remove(book->networks, uid);
        (void)network_part_free(part);
        return r;
    }
    if (r < 0 || network == NULL) {
        return r;
    }
    if (part == NULL) {
        part = network_part_new(network);
        if (part == NULL || u64_map_put(book->networks, uid, part) < 0) {
            (void)network_part_free(part);
            return -ENOMEM;
        }
        r = network_renamed(book, part->tenant, part->name);
    }
    return r == 0 ? network_enter_hosts(book, part, &network->status.hosts) : r;
}

static int
digest_record(const struct record *record, const void *object, struct digest *ret)
{
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    int r = message_encode(record, object, &data, &size);
    if (r == 0) {
        digest_of(data, size, ret);
    }
    return r;
}

static int image_look(struct orders_book *book, uint64_t uid)
{
    const struct image *image = state_image(book->state, uid);
    struct digest *was = u64_map_get(book->images, uid);
    struct digest now = {0};
    int r = image != NULL ? digest_record(&image_spec_record, &image->spec, &now) : 0;
    if (r < 0) {
        return r;
    }
    if (image == NULL) {
        free(u64_map_remove(book->images, uid));
    } else if (was == NULL) {
        struct digest *made = calloc(1, sizeof(*made));
        if (made == NULL || u64_map_put(book->images, uid, made) < 0) {
            free(made);
            return -ENOMEM;
        }
        *made = now;
    } else if (digest_equal(was, &now)) {
        return 0;
    } else {
        *was = now;
    }
    book->offers_stale = true;
    book->concerns_all = true; /* all are offered it, and any may have VMs of it */
    return 0;
}

static int
vm_order_digest(struct orders_book *book, const struct vm *vm, struct digest *ret)
{
    struct msg_vm order;
    int r = orders_vm(book->state, vm, orders_host_of(vm), &order);
    if (r == 0) {
        r = digest_record(&msg_vm_record, &order, ret);
        record_fini(&msg_vm_record, &order);
    }
    return r;
}

/* What the VM gives to orders now. */
static int
vm_part_fill(struct orders_book *book, const struct vm *vm, struct vm_part *part)
{
    part->host = vm->status.host;
    part->named_on = orders_host_of(vm);
    part->kept_on = orders_keeper_of(vm);
    for (uint32_t i = 0; i < vm->status.nics.count && i < NICS_MAX; i++) {
        const struct vm_nic *nic = &vm->status.nics.items[i];
        const struct network *network =
            state_get(book->state, KIND_NETWORK, vm->meta.tenant, nic->network);
        if (network != NULL && nic->ipv4 != 0) {
            part->nics[part->nic_count++] = (struct msg_nic){
                .network = network->meta.uid, .mac = nic->mac, .ipv4 = nic->ipv4};
        }
    }
    /* When all is looked at, all are told: then the first change alone will cost this. */
    return book->rebuild || part->named_on == 0 ? 0
                                                : vm_order_digest(book, vm, &part->order);
}

static bool same_neighbours(const struct vm_part *one, const struct vm_part *two)
{
    bool same = one->host == two->host && one->nic_count == two->nic_count;
    for (uint32_t i = 0; same && i < one->nic_count; i++) {
        same = record_equal(&msg_nic_record, &one->nics[i], &two->nics[i]);
    }
    return same;
}

static bool same_order(const struct vm_part *one, const struct vm_part *two)
{
    return one->named_on == two->named_on && one->kept_on == two->kept_on &&
           (one->named_on == 0 ||
            (!digest_is_zero(&one->order) && digest_equal(&one->order, &two->order)));
}

/* Out of its networks, or into them. */
static int vm_networks_touch(struct orders_book *book,
                             uint64_t uid,
                             struct vm_part *part,
                             bool enters)
{
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < part->nic_count; i++) {
        struct network_part *network = u64_map_get(book->networks, part->nics[i].network);
        if (network == NULL) {
            continue; /* gone meanwhile, with its set of VMs */
        }
        if (enters) {
            r = u64_map_put(network->vms, uid, part);
        } else {
            (void)u64_map_remove(network->vms, uid);
        }
        r = r == 0 ? network_touch(book, network) : r;
    }
    return r;
}

static int vm_part_replace(struct orders_book *book,
                           uint64_t uid,
                           struct vm_part *was,
                           struct vm_part *take_now)
{
    const struct vm_part none = {0};
    bool moved = !same_neighbours(was != NULL ? was : &none, take_now);
    int r = 0;
    if (was != NULL && moved) {
        r = vm_networks_touch(book, uid, was, false);
    }
    if (was != NULL && !moved) { /* the networks' sets go on pointing at it */
        *was = *take_now;
        free(take_now);
        return 0;
    }
    if (r == 0 && u64_map_put(book->vms, uid, take_now) < 0) {
        r = -ENOMEM;
    }
    if (r < 0) {
        free(take_now);
        return r;
    }
    free(was);
    return vm_networks_touch(book, uid, take_now, true);
}

static int vm_hosts_touch(struct orders_book *book, const struct vm_part *part)
{
    int r = host_touch(book, part->named_on);
    return r == 0 ? host_touch(book, part->kept_on) : r;
}

static int vm_look(struct orders_book *book, uint64_t uid)
{
    const struct vm *vm = state_vm(book->state, uid);
    struct vm_part *was = u64_map_get(book->vms, uid);
    if (vm == NULL) {
        int r = 0;
        if (was != NULL) {
            r = vm_networks_touch(book, uid, was, false);
            r = r == 0 ? vm_hosts_touch(book, was) : r;
            free(u64_map_remove(book->vms, uid));
        }
        return r;
    }
    struct vm_part *now = calloc(1, sizeof(*now));
    if (now == NULL) {
        return -ENOMEM;
    }
    int r = vm_part_fill(book, vm, now);
    if (r == 0 && (was == NULL || !same_order(was, now))) {
        r = was != NULL ? vm_hosts_touch(book, was) : 0;
        r = r == 0 ? vm_hosts_touch(book, now) : r;
    }
    if (r < 0) {
        free(now);
        return r;
    }
    return vm_part_replace(book, uid, was, now);
}

static int snapshot_look(struct orders_book *book, uint64_t uid)
{
    const struct snapshot *snapshot = state_snapshot(book->state, uid);
    struct snapshot_part *part = u64_map_get(book->snapshots, uid);
    struct snapshot_part now = {0};
    if (snapshot != NULL && snapshot->status.host != 0) {
        now.host = snapshot->status.host;
        now.ordered = orders_snapshot(snapshot).order;
    }
    if (part == NULL) {
        part = calloc(1, sizeof(*part));
        if (part == NULL || u64_map_put(book->snapshots, uid, part) < 0) {
            free(part);
            return -ENOMEM;
        }
    }
    bool same = part->host == now.host && part->ordered == now.ordered;
    int r = same ? 0 : host_touch(book, part->host);
    r = r == 0 && !same ? host_touch(book, now.host) : r;
    *part = now;
    if (snapshot == NULL) {
        free(u64_map_remove(book->snapshots, uid));
    }
    return r;
}

/* In this order: a later one finds what an earlier one made, and may be noted by it. */
static const struct {
    enum kind kind;
    int (*look)(struct orders_book *book, uint64_t uid);
} looks[] = {
    {KIND_HOST, host_look}, {KIND_NETWORK, network_look},   {KIND_IMAGE, image_look},
    {KIND_VM, vm_look},     {KIND_SNAPSHOT, snapshot_look},
};

static int look_at_notes(struct orders_book *book)
{
    for (unsigned i = 0; i < ARRAY_COUNT(looks); i++) {
        for (size_t k = 0; k < book->note_count; k++) {
            int r = book->notes[k].kind == looks[i].kind
                        ? looks[i].look(book, book->notes[k].uid)
                        : 0;
            if (r < 0) {
                return r;
            }
        }
    }
    book->note_count = 0;
    return 0;
}

static int look_at_all(struct orders_book *book)
{
    parts_free(book);
    book->note_count = 0;
    book->hosts = u64_map_new();
    book->networks = u64_map_new();
    book->images = u64_map_new();
    book->vms = u64_map_new();
    book->snapshots = u64_map_new();
    book->members_stale = book->offers_stale = true;
    if (book->hosts == NULL || book->networks == NULL || book->images == NULL ||
        book->vms == NULL || book->snapshots == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < ARRAY_COUNT(looks); i++) {
        size_t cursor = 0;
        const void *object;
        while ((object = state_next(book->state, looks[i].kind, &cursor)) != NULL) {
            int r = looks[i].look(book, object_meta(object)->uid);
            if (r < 0) {
                return r;
            }
        }
    }
    book->concerns_all = true;
    return 0;
}

/* ---- what all hosts are told ---- */

static int members_look(struct orders_book *book)
{
    struct msg_member_list members;
    int r = book->members_stale ? orders_members(book->state, &members) : 0;
    if (r == 0 && book->members_stale) {
        free(book->members.items);
        book->members = members;
        book->members_stale = false;
    }
    return r;
}

struct offer *orders_offer_find(struct orders_book *book, const struct digest *sha256)
{
    for (uint32_t i = 0; i < book->offer_count; i++) {
        if (digest_equal(&book->offers[i].blob.sha256, sha256)) {
            return &book->offers[i];
        }
    }
    return NULL;
}

static int by_uid(const void *a, const void *b)
{
    const struct metadata *one = object_meta(*(const void *const *)a);
    const struct metadata *two = object_meta(*(const void *const *)b);
    return one->uid < two->uid ? -1 : one->uid > two->uid;
}

const void **orders_pointers(size_t count)
{
    return calloc(count + 1, sizeof(const void *));
}

void orders_sort_by_uid(const void **objects, size_t count)
{
    qsort(objects, count, sizeof(*objects), by_uid);
}

static int offers_make(struct orders_book *book)
{
    size_t count = state_count(book->state, KIND_IMAGE);
    CLEANUP_FREE const void **images = orders_pointers(count);
    size_t cursor = 0;
    if (images == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        images[i] = state_next(book->state, KIND_IMAGE, &cursor);
    }
    orders_sort_by_uid(images, count);
    book->offer_count = 0;
    book->offers_cut = false;
    for (size_t i = 0; i < count && !book->offers_cut; i++) {
        const struct artifact_list *list =
            &((const struct image *)images[i])->spec.artifacts;
        for (uint32_t k = 0; k < list->count; k++) {
            const struct artifact *artifact = &list->items[k];
            if (digest_is_zero(&artifact->sha256) ||
                orders_offer_find(book, &artifact->sha256) != NULL) {
                continue;
            }
            if (book->offer_count == ORDERS_BOOK_BLOBS) {
                book->offers_cut = true;
                break;
            }
            book->offers[book->offer_count++] = (struct offer){
                .blob = {.sha256 = artifact->sha256, .size_bytes = artifact->size_bytes}};
        }
    }
    book->offers_stale = false;
    return 0;
}

struct blob_holder_pair orders_holders_of(const struct orders_book *book,
                                          const struct digest *sha256)
{
    return blob_holders_of(book->holders, sha256, book->reachable, book->context);
}

/* At every refresh, for nobody notes who can be reached. */
static int offers_look(struct orders_book *book)
{
    int r = book->offers_stale ? offers_make(book) : 0;
    bool all = book->holders_changed && book->offers_cut;
    for (uint32_t i = 0; r == 0 && i < book->offer_count; i++) {
        struct offer *offer = &book->offers[i];
        const struct blob_holder_pair now = orders_holders_of(book, &offer->blob.sha256);
        if (now.first != offer->holders.first) {
            all = true;
        } else if (now.second != offer->holders.second) {
            r = host_touch(book, now.first); /* nobody else is told of the second */
        }
        offer->holders = now;
    }
    book->concerns_all = book->concerns_all || all;
    book->holders_changed = book->holders_changed && r < 0;
    return r;
}

static void tell_all(struct orders_book *book)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (book->concerns_all && u64_map_next(book->hosts, &cursor, &uid, &value)) {
        (void)host_touch(book, uid); /* its part is there */
    }
    cursor = 0;
    while (book->addresses_changed &&
           u64_map_next(book->networks, &cursor, &uid, &value)) {
        struct network_part *network = value;
        network->stale = true;
    }
}

int orders_book_refresh(struct orders_book *book)
{
    book->concerns_all = book->addresses_changed = false;
    int r = book->rebuild ? look_at_all(book) : look_at_notes(book);
    if (r == BERTH_EFULL) { /* more VMs to look at than there is room for notes */
        book->rebuild = true;
        r = look_at_all(book);
    }
    r = r == 0 ? members_look(book) : r;
    r = r == 0 ? offers_look(book) : r;
    book->rebuild = r < 0;
    if (r == 0) {
        tell_all(book);
    }
    return r;
}

/* ---- the book ---- */

void orders_book_reset(struct orders_book *book)
{
    struct blob_holders *empty = blob_holders_new();
    parts_free(book);
    book->note_count = 0;
    book->rebuild = true;
    if (empty != NULL) { /* else old news: a pull that asks in vain asks again */
        blob_holders_free(book->holders);
        book->holders = empty;
    }
}

void orders_book_note(struct orders_book *book, enum kind kind, uint64_t uid)
{
    bool concerns = false;
    for (unsigned i = 0; i < ARRAY_COUNT(looks); i++) {
        concerns = concerns || looks[i].kind == kind;
    }
    if (concerns && !book->rebuild && note_add(book, kind, uid) < 0) {
        book->rebuild = true;
    }
}

void orders_book_holds(struct orders_book *book,
                       uint64_t host,
                       const struct msg_blob *blobs,
                       uint32_t count)
{
    if (blob_holders_set(book->holders, host, blobs, count) != 0) {
        book->holders_changed = true;
    }
}

void orders_book_touch(struct orders_book *book, uint64_t host)
{
    if (!book->rebuild && host_touch(book, host) < 0) {
        book->rebuild = true;
    }
}

uint64_t orders_book_take(struct orders_book *book)
{
    if (book->rebuild || list_empty(&book->dirty)) {
        return 0;
    }
    struct host_part *part = LIST_ITEM(book->dirty.next, struct host_part, dirty_link);
    list_remove(&part->dirty_link);
    return part->uid;
}

bool orders_book_lacks(const struct orders_book *book,
                       const char *tenant,
                       const char *image_name,
                       uint64_t host,
                       struct image_lack *ret_lack)
{
    return image_lack_of(book->state, book->holders, book->reachable, book->context,
                         tenant, image_name, host, ret_lack);
}

bool orders_book_pending(const struct orders_book *book)
{
    return book->rebuild || book->note_count > 0 || book->holders_changed ||
           !list_empty(&book->dirty);
}

bool orders_book_settled(const struct orders_book *book, uint64_t host)
{
    if (book->rebuild || book->note_count > 0 || book->holders_changed) {
        return false;
    }
    const struct host_part *part = u64_map_get(book->hosts, host);
    return part != NULL && list_empty(&part->dirty_link);
}

struct orders_book *orders_book_new(const struct state *state,
                                    blob_holders_reachable *reachable,
                                    void *context)
{
    struct orders_book *book = calloc(1, sizeof(*book));
    if (book == NULL) {
        return NULL;
    }
    list_init(&book->dirty);
    book->state = state;
    book->reachable = reachable;
    book->context = context;
    book->rebuild = true;
    book->holders = blob_holders_new();
    return book->holders != NULL ? book : orders_book_free(book);
}

struct orders_book *orders_book_free(struct orders_book *book)
{
    if (book != NULL) {
        parts_free(book);
        blob_holders_free(book->holders);
        free(book->notes);
        free(book);
    }
    return NULL;
}
