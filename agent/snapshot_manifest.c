#include "agent/snapshot_manifest.h"

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/json.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum manifest_kind { KIND_U64 = 0, KIND_U32, KIND_ENGINE, KIND_TEXT };

struct manifest_field {
    const char *key;
    enum manifest_kind kind;
    size_t offset;
    uint64_t max; /* numbers: the largest; texts: capacity with NUL */
};

#define ROW(type, text, kind_of, member, most)                                     \
    {                                                                              \
        .key = (text), .kind = (kind_of), .offset = offsetof(struct type, member), \
        .max = (most)                                                              \
    }
#define ROW_TEXT(type, text, member) \
    ROW(type, text, KIND_TEXT, member, sizeof(((struct type *)NULL)->member))

/* One table for both ways. */
static const struct manifest_field fields[] = {
    ROW(snapshot_manifest, "uid", KIND_U64, uid, INT64_MAX),
    ROW(snapshot_manifest, "vm", KIND_U64, vm, INT64_MAX),
    ROW(snapshot_manifest, "epoch", KIND_U64, epoch, INT64_MAX),
    ROW(snapshot_manifest, "atMs", KIND_U64, at_wall_ms, INT64_MAX),
    ROW(snapshot_manifest, "engine", KIND_ENGINE, engine, ENGINE_COUNT - 1),
    ROW_TEXT(snapshot_manifest, "name", name),
    ROW_TEXT(snapshot_manifest, "tenant", tenant),
    ROW_TEXT(snapshot_manifest, "vmName", vm_name),
    ROW(snapshot_manifest, "memoryBytes", KIND_U64, memory_file_bytes, INT64_MAX),
    ROW(snapshot_manifest, "memorySum", KIND_U32, memory_sum, UINT32_MAX),
    ROW_TEXT(snapshot_manifest, "base", base),
    ROW_TEXT(snapshot_manifest, "tail", tail),
    ROW(snapshot_manifest, "takenBytes", KIND_U64, taken_bytes, INT64_MAX),
};

static const struct manifest_field disk_fields[] = {
    ROW_TEXT(snapshot_disk, "name", name),
    ROW(snapshot_disk, "bytes", KIND_U64, size_bytes, INT64_MAX),
    ROW(snapshot_disk, "sum", KIND_U32, sum, UINT32_MAX),
};

/* ---- encoding ---- */

static json_t *field_json(const struct manifest_field *field, const void *of)
{
    const void *at = (const char *)of + field->offset;
    switch (field->kind) {
    case KIND_TEXT:
        return json_string(at);
    case KIND_U32:
        return json_integer((json_int_t) * (const uint32_t *)at);
    case KIND_ENGINE:
        return json_integer((json_int_t) * (const enum engine *)at);
    default:
        return json_integer((json_int_t) * (const uint64_t *)at);
    }
}

/* NULL when out of memory. */
static json_t *
fields_json(const struct manifest_field *table, size_t count, const void *of)
{
    json_t *object = json_object();
    for (size_t i = 0; object != NULL && i < count; i++) {
        if (json_object_set_new(object, table[i].key, field_json(&table[i], of)) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

/* Over the values, not the bytes of the file: people may format it anew. */
static int values_sum(const json_t *document, uint32_t *ret_sum)
{
    CLEANUP_FREE char *text = json_text(document);
    if (text == NULL) {
        return -ENOMEM;
    }
    *ret_sum = crc32c(0, text, strlen(text));
    return 0;
}

char *snapshot_manifest_encode(const struct snapshot_manifest *manifest)
{
    json_t *document = fields_json(fields, ARRAY_COUNT(fields), manifest);
    json_t *disks = json_array();
    uint32_t sum = 0;
    int r = document == NULL || disks == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; r == 0 && i < manifest->disk_count; i++) {
        json_t *disk =
            fields_json(disk_fields, ARRAY_COUNT(disk_fields), &manifest->disks[i]);
        r = disk == NULL ? -ENOMEM : json_array_append_new(disks, disk);
    }
    r = r == 0 ? json_object_set(document, "disks", disks) : r;
    r = r == 0 ? json_object_set_new(document, "version",
                                     json_integer(SNAPSHOT_MANIFEST_VERSION))
               : r;
    r = r == 0 ? values_sum(document, &sum) : r;
    r = r == 0 ? json_object_set_new(document, "manifestSum", json_integer(sum)) : r;
    char *text = r == 0 ? json_text_pretty(document) : NULL;
    json_decref(disks);
    json_decref(document);
    return text;
}

/* ---- decoding ---- */

static bool
field_take(const struct manifest_field *field, const json_t *value, void *into)
{
    void *at = (char *)into + field->offset;
    if (field->kind == KIND_TEXT) {
        const char *text = json_string_value(value);
        if (text == NULL || strlen(text) >= field->max) {
            return false;
        }
        memcpy(at, text, strlen(text) + 1);
        return true;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) > field->max) {
        return false;
    }
    const uint64_t number = (uint64_t)json_integer_value(value);
    if (field->kind == KIND_U32) {
        *(uint32_t *)at = (uint32_t)number;
    } else if (field->kind == KIND_ENGINE) {
        *(enum engine *)at = (enum engine)number;
    } else {
        *(uint64_t *)at = number;
    }
    return true;
}

static int fields_take(const struct manifest_field *table,
                       size_t count,
                       const json_t *object,
                       void *into,
                       struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (!field_take(&table[i], json_object_get(object, table[i].key), into)) {
            return err_set(err, BERTH_ECORRUPT, "%s: missing or out of range",
                           table[i].key);
        }
    }
    return 0;
}

static int
disks_take(const json_t *disks, struct snapshot_manifest *manifest, struct err *err)
{
    if (!json_is_array(disks) || json_array_size(disks) > DISKS_MAX) {
        return err_set(err, BERTH_ECORRUPT, "disks: missing or too many");
    }
    manifest->disk_count = (uint32_t)json_array_size(disks);
    for (uint32_t i = 0; i < manifest->disk_count; i++) {
        struct snapshot_disk *disk = &manifest->disks[i];
        int r = fields_take(disk_fields, ARRAY_COUNT(disk_fields),
                            json_array_get(disks, i), disk, err);
        if (r < 0 || !name_valid(disk->name)) {
            return r < 0 ? r : err_set(err, BERTH_ECORRUPT, "disks: not a name");
        }
    }
    return 0;
}

static int
document_take(json_t *document, struct snapshot_manifest *manifest, struct err *err)
{
    uint32_t sum = 0;
    if (json_member_u64(document, "version", 0) != SNAPSHOT_MANIFEST_VERSION) {
        return err_set(err, BERTH_ECORRUPT, "version: not %u", SNAPSHOT_MANIFEST_VERSION);
    }
    const uint64_t said = json_member_u64(document, "manifestSum", UINT64_MAX);
    (void)json_object_del(document, "manifestSum"); /* it is not in the sum itself */
    int r = values_sum(document, &sum);
    if (r < 0 || said != sum) {
        return r < 0 ? err_sys(err, r, "read")
                     : err_set(err, BERTH_ECORRUPT, "sum: does not fit the values");
    }
    r = fields_take(fields, ARRAY_COUNT(fields), document, manifest, err);
    r = r == 0 ? disks_take(json_object_get(document, "disks"), manifest, err) : r;
    if (r == 0 && (manifest->uid == 0 || manifest->vm == 0 ||
                   strchr(manifest->tail, '/') != NULL)) {
        r = err_set(err, BERTH_ECORRUPT, "uids or tail make no sense");
    }
    return r;
}

int snapshot_manifest_decode(const char *text,
                             size_t size,
                             struct snapshot_manifest *ret_manifest,
                             struct err *err)
{
    json_t *document = NULL;
    struct snapshot_manifest manifest = {.uid = 0};
    int r = json_parse(text, size, &document, err);
    if (r < 0) {
        if (err != NULL && r == BERTH_EINVALID) {
            err->code = BERTH_ECORRUPT;
        }
        return r == BERTH_EINVALID ? BERTH_ECORRUPT : r;
    }
    r = document_take(document, &manifest, err);
    json_decref(document);
    if (r == 0) {
        *ret_manifest = manifest;
    }
    return r;
}
