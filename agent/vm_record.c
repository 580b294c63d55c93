#include "agent/vm_record.h"

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/file_atomic.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const state_names[VM_RECORD_STATE_COUNT] = {
    "noted", "starting", "running", "stopping", "stopped", "failed", "forgotten",
};

/* One table for both ways. */
enum field_kind { KIND_U64 = 0, KIND_U32, KIND_BOOL, KIND_TEXT, KIND_PID, KIND_ENGINE };

struct record_field {
    const char *key;
    enum field_kind kind;
    size_t offset;
    uint64_t max;  /* numbers: largest value; texts: capacity with NUL */
    bool optional; /* records of earlier versions may lack it */
};

#define ROW(text, type, member, most)                                                \
    {                                                                                \
        .key = (text), .kind = (type), .offset = offsetof(struct vm_record, member), \
        .max = (most)                                                                \
    }
#define ROW_TEXT(text, member) \
    ROW(text, KIND_TEXT, member, sizeof(((struct vm_record *)NULL)->member))

static const struct record_field fields[] = {
    ROW("uid", KIND_U64, order.vm.uid, INT64_MAX),
    ROW("epochSeen", KIND_U64, epoch_seen, INT64_MAX),
    ROW("epoch", KIND_U64, order.vm.epoch, INT64_MAX),
    ROW_TEXT("name", order.vm.name),
    ROW_TEXT("tenant", order.vm.tenant),
    ROW("engine", KIND_ENGINE, order.engine, ENGINE_COUNT - 1),
    ROW("fenced", KIND_BOOL, order.fenced, 1),
    ROW("hold", KIND_BOOL, hold, 1),
    ROW("pid", KIND_PID, identity.pid, INT32_MAX),
    ROW("startTicks", KIND_U64, identity.start_ticks, INT64_MAX),
    ROW_TEXT("boot", identity.boot),
    ROW("cpu", KIND_U32, order.vm.cpu_count, VM_CPU_MAX),
    ROW("weight", KIND_U32, order.vm.cpu_weight, 10000),
    ROW("memory", KIND_U64, order.vm.memory_bytes, INT64_MAX),
    ROW("stopGraceMs", KIND_U64, order.stop_grace_ms, INT64_MAX),
    ROW("probeAddress", KIND_U32, order.probe_address, UINT32_MAX),
    ROW("probePort", KIND_U32, order.probe_port, 65535),
    ROW_TEXT("probePath", order.probe_path),
    ROW("probeEveryMs", KIND_U64, order.probe_every_ms, INT64_MAX),
    ROW("probeTimeoutMs", KIND_U64, order.probe_timeout_ms, INT64_MAX),
    ROW("probePass", KIND_U32, order.probe_pass, 100),
    ROW("probeFail", KIND_U32, order.probe_fail, 100),
    ROW("sinceMs", KIND_U64, since_wall_ms, INT64_MAX),
    ROW("startMs", KIND_U64, start_wall_ms, INT64_MAX),
    ROW("runningMs", KIND_U64, running_wall_ms, INT64_MAX),
    ROW_TEXT("reason", reason),
    {.key = "disksUsed",
     .kind = KIND_BOOL,
     .offset = offsetof(struct vm_record, disks_used),
     .max = 1,
     .optional = true},
};

static uint64_t number_get(const struct record_field *field, const void *at)
{
    switch (field->kind) {
    case KIND_U64:
        return *(const uint64_t *)at;
    case KIND_U32:
        return *(const uint32_t *)at;
    case KIND_ENGINE:
        return (uint64_t) * (const enum engine *)at;
    default:
        return (uint64_t) * (const pid_t *)at;
    }
}

static void number_set(const struct record_field *field, void *at, uint64_t number)
{
    switch (field->kind) {
    case KIND_U64:
        *(uint64_t *)at = number;
        break;
    case KIND_U32:
        *(uint32_t *)at = (uint32_t)number;
        break;
    case KIND_ENGINE:
        *(enum engine *)at = (enum engine)number;
        break;
    default:
        *(pid_t *)at = (pid_t)number;
        break;
    }
}

/* Reasons may hold a guest's bytes: what is not UTF-8 must not cost us the record. */
static json_t *text_json(const char *text)
{
    char plain[VM_SUPERVISOR_REASON];
    json_t *json = json_string(text);
    if (json != NULL) {
        return json;
    }
    size_t i = 0;
    for (; text[i] != '\0' && i + 1 < sizeof(plain); i++) {
        plain[i] = text[i];
        if ((unsigned char)text[i] >= 0x80) {
            plain[i] = '?';
        }
    }
    plain[i] = '\0';
    return json_string(plain);
}

/* Over keys and values, not over bytes of the file: people may format it anew. */
static uint32_t values_sum(const json_t *document)
{
    const char *state = json_member_text(document, "state", "");
    uint32_t sum = crc32c(0, state, strlen(state));
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        const json_t *value = json_object_get(document, fields[i].key);
        if (value == NULL && fields[i].optional) {
            continue;
        }
        const char *text = json_string_value(value);
        json_int_t number =
            json_is_true(value) ? 1 : json_integer_value(value); /* 0 when it is none */
        sum = crc32c(sum, fields[i].key, strlen(fields[i].key) + 1);
        sum = text != NULL ? crc32c(sum, text, strlen(text) + 1)
                           : crc32c(sum, &number, sizeof(number));
    }
    return sum;
}

char *vm_record_encode(const struct vm_record *record)
{
    json_t *document = json_pack("{s:i, s:s}", "version", (int)VM_RECORD_VERSION, "state",
                                 state_names[record->state]);
    int r = document == NULL ? -1 : 0;
    for (size_t i = 0; i < ARRAY_COUNT(fields) && r == 0; i++) {
        const void *at = (const char *)record + fields[i].offset;
        /* Only where it is not what its absence says: readers of before know none. */
        if (fields[i].optional && record->disks_used == (record->running_wall_ms != 0)) {
            continue;
        }
        json_t *value = fields[i].kind == KIND_TEXT ? text_json(at)
                        : fields[i].kind == KIND_BOOL
                            ? json_boolean(*(const bool *)at)
                            : json_integer((json_int_t)number_get(&fields[i], at));
        r = json_object_set_new(document, fields[i].key, value);
    }
    if (r == 0 && record->diskless) { /* not in the sum: readers of before know no such */
        r = json_object_set_new(document, "diskless", json_true());
    }
    if (r == 0 && record->order.vm.cpu_max != 0) { /* likewise */
        r = json_object_set_new(document, "cpuMax",
                                json_integer(record->order.vm.cpu_max));
    }
    if (r == 0 && record->paused) { /* likewise */
        r = json_object_set_new(document, "paused", json_true());
    }
    if (r == 0) {
        r = json_object_set_new(document, "sum", json_integer(values_sum(document)));
    }
    char *text = r == 0 ? json_text_pretty(document) : NULL;
    json_decref(document);
    return text;
}

static bool
field_decode(const struct record_field *field, const json_t *value, void *record)
{
    void *at = (char *)record + field->offset;
    if (field->kind == KIND_TEXT) {
        const char *text = json_string_value(value);
        if (text == NULL || strlen(text) >= field->max) {
            return false;
        }
        memcpy(at, text, strlen(text) + 1);
        return true;
    }
    if (field->kind == KIND_BOOL) {
        *(bool *)at = json_is_true(value);
        return json_is_boolean(value);
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) > field->max) {
        return false;
    }
    number_set(field, at, (uint64_t)json_integer_value(value));
    return true;
}

static int record_decode_document(const json_t *document,
                                  struct vm_record *ret_record,
                                  struct err *err)
{
    const char *state = json_member_text(document, "state", "");
    unsigned number = 0;
    if (json_member_u64(document, "version", 0) != VM_RECORD_VERSION) {
        return err_set(err, BERTH_ECORRUPT, "version: not %u", VM_RECORD_VERSION);
    }
    while (number < VM_RECORD_STATE_COUNT && strcmp(state, state_names[number]) != 0) {
        number++;
    }
    if (number == VM_RECORD_STATE_COUNT) {
        return err_set(err, BERTH_ECORRUPT, "state: not known");
    }
    ret_record->state = (enum vm_record_state)number;
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        const json_t *value = json_object_get(document, fields[i].key);
        if (!(value == NULL && fields[i].optional) &&
            !field_decode(&fields[i], value, ret_record)) {
            return err_set(err, BERTH_ECORRUPT, "%s: missing or out of range",
                           fields[i].key);
        }
    }
    if (json_object_get(document, "disksUsed") == NULL) { /* what they said then */
        ret_record->disks_used = ret_record->running_wall_ms != 0;
    }
    ret_record->diskless = json_is_true(json_object_get(document, "diskless"));
    ret_record->paused = json_is_true(json_object_get(document, "paused"));
    const uint64_t cpu_max = json_member_u64(document, "cpuMax", 0);
    ret_record->order.vm.cpu_max = cpu_max <= VM_CPU_MAX ? (uint32_t)cpu_max : 0;
    if (ret_record->order.vm.uid == 0 ||
        ret_record->epoch_seen < ret_record->order.vm.epoch) {
        return err_set(err, BERTH_ECORRUPT, "uid or epochs make no sense");
    }
    if (json_member_u64(document, "sum", UINT64_MAX) != values_sum(document)) {
        return err_set(err, BERTH_ECORRUPT, "sum: does not fit the values");
    }
    return 0;
}

int vm_record_decode(const char *text,
                     size_t size,
                     struct vm_record *ret_record,
                     struct err *err)
{
    json_t *document = NULL;
    struct vm_record record;
    memset(&record, 0, sizeof(record));
    if (json_parse(text, size, &document, err) != 0) {
        if (err != NULL) {
            err->code = BERTH_ECORRUPT;
        }
        return BERTH_ECORRUPT;
    }
    int r = record_decode_document(document, &record, err);
    json_decref(document);
    if (r == 0) {
        *ret_record = record;
    }
    return r;
}

static int record_path(const char *folder, char ret_path[ENGINE_PATH_SIZE])
{
    int length = snprintf(ret_path, ENGINE_PATH_SIZE, "%s/%s", folder, VM_RECORD_FILE);
    return length > 0 && length < ENGINE_PATH_SIZE ? 0 : -ENAMETOOLONG;
}

int vm_record_write(const char *folder, const struct vm_record *record, struct err *err)
{
    CLEANUP_FREE char *text = vm_record_encode(record);
    return text == NULL ? err_sys(err, -ENOMEM, "record of a VM in %s", folder)
                        : vm_record_store(folder, text, err);
}

int vm_record_store(const char *folder, const char *text, struct err *err)
{
    char path[ENGINE_PATH_SIZE];
    int r = record_path(folder, path);
    return r != 0 ? err_sys(err, r, "record of a VM in %s", folder)
                  : file_atomic_write(path, text, strlen(text), 0600, err);
}

int vm_record_read(const char *folder, struct vm_record *ret_record, struct err *err)
{
    char path[ENGINE_PATH_SIZE];
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    if (record_path(folder, path) != 0) {
        return err_sys(err, -ENAMETOOLONG, "record of a VM in %s", folder);
    }
    int r = fd_read_file(AT_FDCWD, path, VM_RECORD_SIZE_MAX, &text, &size, err);
    if (r == -ENOENT) {
        return err_set(err, BERTH_ENOTFOUND, "%s: no such file", path);
    }
    if (r != 0) {
        return r;
    }
    r = vm_record_decode((const char *)text, size, ret_record, err);
    return r == 0 ? 0 : err_wrap(err, r, "%s", path);
}
