#include "api/watch_sight.h"

#include "base/bytes.h"
#include "model/content_hash.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define KEY_SIZE ((size_t)2 * NAME_SIZE)

void sight_fini(struct watch_sight *sight)
{
    sight->vms = string_map_free(sight->vms);
}

/* ---- tenants ---- */

/* May members of tenants be among what it sees by membership alone? */
static bool by_membership(const struct subject *subject)
{
    return subject->cluster_role == ROLE_NONE && subject->host == 0;
}

/* Its own tenant is its token's to see, whatever becomes of it. */
static uint64_t tenants_seen(const struct state *state, const struct subject *subject)
{
    uint64_t sum = 0;
    size_t cursor = 0;
    const struct tenant *tenant;
    while ((tenant = state_next(state, KIND_TENANT, &cursor)) != NULL) {
        const char *name = tenant->meta.name;
        if (strcmp(name, subject->tenant) != 0 &&
            subject_role_in(state, subject, name) != ROLE_NONE) {
            sum += content_hash(1, name, strlen(name));
        }
    }
    return sum;
}

void sight_reached(struct watch_sight *sight,
                   const struct state *state,
                   const struct subject *subject)
{
    if (!sight->known) {
        sight->tenants = by_membership(subject) ? tenants_seen(state, subject) : 0;
        sight->known = true;
    }
}

int sight_renew(struct watch_sight *sight,
                const struct state *state,
                const struct subject *subject)
{
    sight_fini(sight);
    *sight = (struct watch_sight){0};
    if (subject->host != 0) {
        sight->vms = string_map_new();
        if (sight->vms == NULL) {
            return -ENOMEM;
        }
    }
    sight_reached(sight, state, subject);
    return 0;
}

/* Somebody wrote the tenant; its use, which changes all the time, leaves the revision. */
static bool was_written(const struct feed_entry *entry)
{
    struct bytes_reader reader;
    const struct record *record = kind_info(KIND_TENANT)->record;
    if (entry->deleted) {
        return true;
    }
    struct tenant *tenant = object_new(KIND_TENANT);
    if (tenant == NULL) {
        return true; /* nobody can tell */
    }
    bytes_reader_init(&reader, entry->record, entry->record_size);
    record_fini(record, tenant);
    bool written = record_decode(record, &reader, tenant) < 0 ||
                   tenant->meta.modify_revision == entry->revision;
    object_free(KIND_TENANT, tenant);
    return written;
}

bool sight_moves(struct watch_sight *sight,
                 const struct state *state,
                 const struct subject *subject,
                 const struct feed_entry *entry)
{
    if (entry->kind != KIND_TENANT || !by_membership(subject) ||
        strcmp(entry->name, subject->tenant) == 0 || !was_written(entry)) {
        return false;
    }
    if (!sight->known) {
        return true;
    }
    if (sight->judged != state_revision(state)) { /* once, however many were written */
        sight->judged = state_revision(state);
        sight->moved = tenants_seen(state, subject) != sight->tenants;
    }
    return sight->moved;
}

/* ---- VMs ---- */

static bool keeps(const struct watch_sight *sight, enum kind kind)
{
    return sight->vms != NULL && kind == KIND_VM;
}

static void key_make(const char *tenant, const char *name, char ret_key[KEY_SIZE])
{
    (void)snprintf(ret_key, KEY_SIZE, "%s/%s", tenant, name);
}

int sight_told(struct watch_sight *sight,
               enum kind kind,
               const char *tenant,
               const char *name)
{
    char key[KEY_SIZE];
    if (!keeps(sight, kind)) {
        return 0;
    }
    key_make(tenant, name, key);
    return string_map_put(sight->vms, key, sight, NULL);
}

void sight_untold(struct watch_sight *sight,
                  enum kind kind,
                  const char *tenant,
                  const char *name)
{
    char key[KEY_SIZE];
    if (keeps(sight, kind)) {
        key_make(tenant, name, key);
        (void)string_map_remove(sight->vms, key); /* also when it was not there */
    }
}

bool sight_holds(const struct watch_sight *sight,
                 enum kind kind,
                 const char *tenant,
                 const char *name)
{
    char key[KEY_SIZE];
    if (!keeps(sight, kind)) {
        return false;
    }
    key_make(tenant, name, key);
    return string_map_get(sight->vms, key) != NULL;
}
