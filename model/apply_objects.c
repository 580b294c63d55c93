#include "base/require.h"
#include "model/apply_vm.h"
#include "model/object_rules.h"

/* ---- put ---- */

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

/* What a put counts for beyond what was there: only disks change in size, and they only
 * grow (disk_check). */
static struct usage
usage_growth(enum kind kind, const struct entry *old, const void *object)
{
    struct usage usage = {0};
    if (object_rule(kind)->usage != NULL) {
        usage = object_rule(kind)->usage(object);
        if (old != NULL) {
            struct usage before = object_rule(kind)->usage(old->object);
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
    char what[OBJECT_WHAT_SIZE];
    object_what(kind, meta->tenant, meta->name, what);
    int r = apply_check_revision(apply, old, what, put->expected_revision);
    if (r == 0 && old == NULL) {
        r = apply_check_room(apply, kind);
    }
    if (r == 0 && meta->tenant[0] != '\0') {
        r = apply_find_tenant(apply, meta->tenant, ret_tenant);
    }
    if (r == 0 && object_rule(kind)->check != NULL) {
        r = object_rule(kind)->check(apply, old, object);
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
    if (object_rule(kind)->settle != NULL) {
        object_rule(kind)->settle(apply, old, take_object);
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
    if (old != NULL && object_rule(kind)->spread != NULL) {
        object_rule(kind)->spread(apply, entry);
    }
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
        if (object_spec_equal(kind, old->object, *object) &&
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
    if (put->kind == KIND_NONE || put->kind >= KIND_COUNT ||
        !object_rule(put->kind)->putable) {
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
    const struct object_rule *rule = object_rule(entry->kind);
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
    char what[OBJECT_WHAT_SIZE];
    object_what(kind, delete->tenant, delete->name, what);
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
    case KIND_SNAPSHOT:
        r = snapshot_delete(apply, entry);
        break;
    case KIND_HOST:
        r = host_remove(apply, entry,
                        (struct host_removal){.force = delete->force,
                                              .surely_off = delete->surely_off},
                        "removed");
        break;
    default:
        r = delete_plain(apply, entry);
        break;
    }
    return r;
}
