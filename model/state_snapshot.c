#include "base/require.h"
#include "model/state_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The format, little endian, at the state's level (model/level.h):
 *
 *     header   u32 magic, u16 level, u16 section count, u64 revision, u64 state hash,
 *              u32 CRC32C of these
 *     section  u32 type, u32 length, the payload, u32 CRC32C of all that
 *
 * Sections come once each in the order of `sections` below; objects by rising uid, each
 * as u32 length and record. So equal states give equal bytes. */
#define SNAPSHOT_MAGIC     UINT32_C(0x53545242) /* "BRTS" */
#define SNAPSHOT_MAX       (UINT32_C(2) << 30) /* what one file or one message may hold */
#define OBJECT_SIZE_MAX    (1u << 20)
#define OBJECT_SIZE_GUESS  512
#define REQUEST_SIZE_GUESS 96
#define EVENT_SIZE_GUESS   96
#define COUNTER_MAX        (UINT64_C(1) << 62) /* out of reach: what lies above is damage */

enum section_type {
    SECTION_COUNTERS = 1,
    SECTION_REQUESTS = 2,
    SECTION_EVENTS = 3,
    SECTION_OBJECTS = 16, /* + kind */
};

/* Referenced kinds come before those that refer to them: each object is checked and
 * linked as it is read. */
static const struct section {
    uint32_t type;
    uint32_t since; /* the level it came with; 0: the first */
} sections[] = {
    {SECTION_COUNTERS, 0},
    {SECTION_OBJECTS + KIND_TENANT, 0},
    {SECTION_OBJECTS + KIND_TOKEN, 0},
    {SECTION_OBJECTS + KIND_HOST, 0},
    {SECTION_OBJECTS + KIND_IMAGE, 0},
    {SECTION_OBJECTS + KIND_NETWORK, 0},
    {SECTION_OBJECTS + KIND_DISK, 0},
    {SECTION_OBJECTS + KIND_TEMPLATE, 0},
    {SECTION_OBJECTS + KIND_GROUP, 0},
    {SECTION_OBJECTS + KIND_VM, 0},
    {SECTION_OBJECTS + KIND_SNAPSHOT, LEVEL_SNAPSHOTS},
    {SECTION_OBJECTS + KIND_OPERATION, 0},
    {SECTION_REQUESTS, 0},
    {SECTION_EVENTS, 0},
};
#define SECTION_COUNT (sizeof(sections) / sizeof(sections[0]))

static bool has_section(const struct state *state, const struct section *section)
{
    return section->since <= state->level;
}

static uint16_t section_count(const struct state *state)
{
    uint16_t count = 0;
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        count = (uint16_t)(count + has_section(state, &sections[i]));
    }
    return count;
}

/* ---- encode ---- */

static void encode_counters(const struct state *state, struct bytes_writer *writer)
{
    bytes_write_u64(writer, state->next_uid);
    bytes_write_u32(writer, state->next_vni);
    bytes_write_raw(writer, state->cluster_id, sizeof(state->cluster_id));
}

static void
encode_objects(const struct state *state, enum kind kind, struct bytes_writer *writer)
{
    const struct table *table = &state->tables[kind];
    const struct entry_set all = {.items = table->items, .count = table->count};
    struct entry_set sorted = entry_set_sorted(&all);
    bytes_write_u32(writer, sorted.count);
    for (uint32_t i = 0; i < sorted.count; i++) {
        size_t hole = bytes_write_length_hole(writer);
        record_encode(kind_info(kind)->record, sorted.items[i]->object, writer);
        bytes_writer_patch_length(writer, hole);
    }
    entry_set_fini(&sorted);
}

static void encode_request(const struct remembered_request *request,
                           struct bytes_writer *writer)
{
    const struct apply_result *result = &request->result;
    const size_t length = strlen(result->text);
    uint8_t *at =
        bytes_write_space(writer, sizeof(request->id) + sizeof(request->asked.bytes) +
                                      3 * sizeof(uint64_t) + length);
    if (at != NULL) {
        memcpy(at, request->id, sizeof(request->id));
        at += sizeof(request->id);
        memcpy(at, request->asked.bytes, sizeof(request->asked.bytes));
        at += sizeof(request->asked.bytes);
        at = bytes_put(at, (uint32_t)result->code, sizeof(uint32_t));
        at = bytes_put(at, result->revision, sizeof(uint64_t));
        at = bytes_put(at, result->uid, sizeof(uint64_t));
        at = bytes_put(at, length, sizeof(uint32_t));
        memcpy(at, result->text, length);
    }
}

static void encode_requests(const struct state *state, struct bytes_writer *writer)
{
    const struct request_memory *requests = state->requests;
    uint32_t count = request_memory_count(requests);
    bytes_write_u64(writer, request_memory_sequence(requests) - count);
    bytes_write_u32(writer, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct remembered_request *request = request_memory_at(requests, i);
        encode_request(request, writer);
    }
}

static void encode_events(const struct state *state, struct bytes_writer *writer)
{
    uint32_t count = event_ring_count(state->events);
    bytes_write_u64(writer, event_ring_sequence(state->events) - count);
    bytes_write_u32(writer, count);
    for (uint32_t i = 0; i < count; i++) {
        event_ring_encode(state->events, i, writer);
    }
}

static void
encode_section(const struct state *state, uint32_t type, struct bytes_writer *writer)
{
    size_t start = writer->size;
    bytes_write_u32(writer, type);
    size_t hole = bytes_write_length_hole(writer);
    switch (type) {
    case SECTION_COUNTERS:
        encode_counters(state, writer);
        break;
    case SECTION_REQUESTS:
        encode_requests(state, writer);
        break;
    case SECTION_EVENTS:
        encode_events(state, writer);
        break;
    default:
        encode_objects(state, type - SECTION_OBJECTS, writer);
        break;
    }
    bytes_writer_patch_length(writer, hole);
    if (writer->error == 0) {
        bytes_write_u32(writer, crc32c(0, writer->data + start, writer->size - start));
    }
}

/* About what the snapshot takes: it is not moved as often while it grows. */
static size_t size_guess(const struct state *state)
{
    size_t objects = 0;
    for (size_t kind = 0; kind < KIND_COUNT; kind++) {
        objects += state->tables[kind].count;
    }
    return OBJECT_SIZE_GUESS * objects +
           REQUEST_SIZE_GUESS * request_memory_count(state->requests) +
           EVENT_SIZE_GUESS * event_ring_count(state->events);
}

int state_encode(const struct state *state, uint8_t **ret_data, size_t *ret_size)
{
    struct bytes_writer writer;
    bytes_writer_init(&writer, SNAPSHOT_MAX);
    bytes_writer_expect(&writer, size_guess(state));
    bytes_write_u32(&writer, SNAPSHOT_MAGIC);
    bytes_write_u16(&writer, (uint16_t)state->level);
    bytes_write_u16(&writer, section_count(state));
    bytes_write_u64(&writer, state->revision);
    bytes_write_u64(&writer, state_hash(state));
    if (writer.error == 0) {
        bytes_write_u32(&writer, crc32c(0, writer.data, writer.size));
    }
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        if (has_section(state, &sections[i])) {
            encode_section(state, sections[i].type, &writer);
        }
    }
    return bytes_writer_take(&writer, ret_data, ret_size);
}

/* ---- decode ---- */

/* One snapshot on its way in. */
struct decoder {
    struct state *state; /* new, thrown away on a fault */
    struct err *err;
};

static int corrupt(const struct decoder *decoder, const char *what)
{
    return err_set(decoder->err, BERTH_ECORRUPT, "snapshot: %s", what);
}

static int corrupt_object(const struct decoder *decoder,
                          const struct metadata *meta,
                          const char *what)
{
    return err_set(decoder->err, BERTH_ECORRUPT, "snapshot: uid %" PRIu64 " (%s): %s",
                   meta->uid, meta->name, what);
}

static int decode_counters(struct decoder *decoder, struct bytes_reader *reader)
{
    struct state *state = decoder->state;
    state->next_uid = bytes_read_u64(reader);
    state->next_vni = bytes_read_u32(reader);
    bytes_read_raw(reader, state->cluster_id, sizeof(state->cluster_id));
    bool sound = state->next_uid != 0 && state->next_uid < COUNTER_MAX &&
                 state->next_vni != 0 && state->revision < COUNTER_MAX;
    return sound ? 0 : corrupt(decoder, "a counter is out of range");
}

/* ---- what must hold of an object before it may be linked ---- */

static bool
has_named(const struct state *state, enum kind kind, const char *tenant, const char *name)
{
    return state_entry_named(state, kind, tenant, name) != NULL;
}

/* An address of the network that nobody has yet. */
static bool address_is_free(const struct entry *network, uint32_t ipv4)
{
    uint64_t cidr = network_of(network)->spec.ipv4.cidr;
    return cidr_contains(cidr, ipv4) &&
           !address_set_has(&network->addresses, ipv4 - cidr_address(cidr));
}

static bool addresses_differ(const uint32_t *addresses, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (addresses[i] != 0 && addresses[i] == addresses[j]) {
                return false;
            }
        }
    }
    return true;
}

static const char *check_host(const struct state *state, const struct host *host)
{
    if (host->status.phase >= HOST_PHASE_REMOVED) {
        return "a removed host has no record";
    }
    return state_host_by_key(state, &host->status.public_key) == NULL
               ? NULL
               : "its key is there twice";
}

static const char *check_network(const struct state *state, const struct network *network)
{
    uint64_t cidr = network->spec.ipv4.cidr;
    uint32_t prefix = cidr_prefix(cidr);
    if (cidr >> 40 != 0 || prefix < 8 || prefix > 29 ||
        (cidr_address(cidr) & (UINT32_MAX >> prefix)) != 0 ||
        network->status.hosts.count > NETWORK_HOSTS_MAX) {
        return "its cidr is out of range";
    }
    uint32_t addresses[NETWORK_HOSTS_MAX];
    for (uint32_t i = 0; i < network->status.hosts.count; i++) {
        const struct network_site *host = &network->status.hosts.items[i];
        if (state_entry(state, KIND_HOST, host->host) == NULL ||
            !cidr_contains(network->spec.ipv4.cidr, host->ipv4)) {
            return "a host in it is wrong";
        }
        addresses[i] = host->ipv4;
    }
    return addresses_differ(addresses, network->status.hosts.count)
               ? NULL
               : "two hosts have one address";
}

static const char *check_vm_nics(const struct state *state, const struct vm *vm)
{
    const struct vm_nic_list *nics = &vm->status.nics;
    if (nics->count != vm->spec.machine.nics.count || nics->count > NICS_MAX) {
        return "its NICs are not those of its machine";
    }
    uint32_t addresses[NICS_MAX] = {0};
    for (uint32_t i = 0; i < nics->count; i++) {
        const struct entry *network = state_entry_named(
            state, KIND_NETWORK, vm->meta.tenant, nics->items[i].network);
        if (network == NULL ||
            strcmp(nics->items[i].network, vm->spec.machine.nics.items[i].network) != 0) {
            return "a network is missing or another";
        }
        addresses[i] = nics->items[i].ipv4;
        if (addresses[i] != 0 && !address_is_free(network, addresses[i])) {
            return "an address is wrong or taken";
        }
    }
    return addresses_differ(addresses, nics->count) ? NULL : "two NICs have one address";
}

/* Phase, hosts and intent as apply keeps them. */
static const char *check_vm_phase(const struct state *state, const struct vm *vm)
{
    const struct vm_status *status = &vm->status;
    bool placed = vm_phase_on_host(status->phase) || status->phase == PHASE_LOST;
    if (placed != (status->host != 0)) {
        return "its host does not fit its phase";
    }
    const struct host *host = state_host(state, status->host);
    if (placed && (host == NULL || (host->status.phase == HOST_PHASE_LOST &&
                                    status->phase != PHASE_LOST))) {
        return "its host is missing or lost";
    }
    const struct host *target = state_host(state, status->target);
    if (status->target != 0 &&
        (status->phase != PHASE_MIGRATING || status->target == status->host ||
         target == NULL || target->status.phase == HOST_PHASE_LOST)) {
        return "its target cannot be one";
    }
    /* Placed it has a keeper only where it has not begun from its snapshot yet. */
    if (status->disk_host != 0
            ? (placed &&
               (status->restore_epoch == 0 || status->disk_host == status->host)) ||
                  state_host(state, status->disk_host) == NULL || status->disk_epoch == 0
            : status->disk_epoch != 0 && !placed && !state_place_unknown(state, vm)) {
        return "nobody can keep its disks";
    }
    if (status->disk_epoch > status->epoch) {
        return "its disks are of an epoch to come";
    }
    if (status->restore_epoch > status->epoch) {
        return "it went back in an epoch to come";
    }
    if (status->intent != STOP_INTENT_NONE && status->phase != PHASE_STOPPING &&
        status->phase != PHASE_LOST) {
        return "its intent does not fit its phase";
    }
    if ((vm->spec.paused || status->paused) && status->phase != PHASE_RUNNING &&
        status->phase != PHASE_READY && status->phase != PHASE_MIGRATING &&
        status->phase != PHASE_LOST) {
        return "it is paused and does not run";
    }
    return status->phase == PHASE_PENDING && vm->spec.power == POWER_OFF
               ? "it is pending and switched off"
               : NULL;
}

static const char *check_vm(const struct state *state, const struct vm *vm)
{
    if (vm->spec.group[0] != '\0' &&
        !has_named(state, KIND_GROUP, vm->meta.tenant, vm->spec.group)) {
        return "its group is missing";
    }
    const char *fault = check_vm_phase(state, vm);
    return fault != NULL ? fault : check_vm_nics(state, vm);
}

static const char *check_snapshot(const struct state *state,
                                  const struct snapshot *snapshot)
{
    const struct snapshot_status *status = &snapshot->status;
    const struct host *host = state_host(state, status->host);
    const struct vm *vm = state_vm(state, snapshot->spec.vm_uid);
    bool here = status->phase == SNAPSHOT_MAKING || status->phase == SNAPSHOT_READY ||
                status->phase == SNAPSHOT_DELETING;
    if (here != (status->host != 0) || (here && host == NULL) ||
        (!here && status->bytes != 0)) {
        return "its host does not fit its phase";
    }
    if (here && host->status.phase == HOST_PHASE_LOST &&
        status->phase != SNAPSHOT_READY) {
        return "its host is lost";
    }
    if (vm == NULL ? status->phase != SNAPSHOT_DELETING
                   : strcmp(vm->meta.tenant, snapshot->meta.tenant) != 0) {
        return "its VM is missing, or another tenant's";
    }
    return status->bytes > COUNTER_MAX ? "its size is out of range" : NULL;
}

/* Its name, and the tenant it belongs to or not. */
static const char *
check_metadata(const struct state *state, enum kind kind, const struct metadata *meta)
{
    if (meta->uid == 0 || meta->uid >= state->next_uid) {
        return "its uid was never given";
    }
    if (!name_valid(meta->name) || state_entry(state, kind, meta->uid) != NULL ||
        has_named(state, kind, meta->tenant, meta->name)) {
        return "it is there twice, or has no name";
    }
    enum kind_scope scope = kind_info(kind)->scope;
    if (meta->tenant[0] == '\0') {
        return scope == SCOPE_TENANT ? "it has no tenant" : NULL;
    }
    return scope == SCOPE_CLUSTER || !has_named(state, KIND_TENANT, "", meta->tenant)
               ? "its tenant is missing, or it may have none"
               : NULL;
}

/* NULL, or what is wrong. */
static const char *
check_object(const struct state *state, enum kind kind, const void *object)
{
    const char *fault = check_metadata(state, kind, object);
    if (fault != NULL) {
        return fault;
    }
    switch (kind) {
    case KIND_TOKEN:
        return state_token_by_hash(state, &((const struct token *)object)->spec.hash) ==
                       NULL
                   ? NULL
                   : "its hash is there twice";
    case KIND_HOST:
        return check_host(state, object);
    case KIND_NETWORK:
        return check_network(state, object);
    case KIND_VM:
        return check_vm(state, object);
    case KIND_SNAPSHOT:
        return check_snapshot(state, object);
    default:
        return NULL;
    }
}

static int
decode_object(struct decoder *decoder, enum kind kind, struct bytes_reader *reader)
{
    size_t size = 0;
    const void *data = bytes_read_block(reader, OBJECT_SIZE_MAX, &size);
    struct bytes_reader record;
    bytes_reader_init(&record, data, size);
    const struct record *table = kind_info(kind)->record;
    void *object = calloc(1, table->size_bytes);
    if (object == NULL) {
        return -ENOMEM;
    }
    int r = reader->error != 0
                ? reader->error
                : record_decode_level(table, &record, decoder->state->level, object);
    if (r < 0) {
        free(object);
        return r == -ENOMEM ? r : corrupt(decoder, "an object cannot be read");
    }
    const char *fault = check_object(decoder->state, kind, object);
    if (fault != NULL) {
        r = corrupt_object(decoder, object, fault);
        object_free(kind, object);
        return r;
    }
    entry_rehash(decoder->state, entry_add(decoder->state, kind, object));
    return 0;
}

static uint32_t objects_max(enum kind kind)
{
    return kind == KIND_VM     ? STATE_VMS_MAX
           : kind == KIND_HOST ? STATE_HOSTS_MAX
                               : STATE_OBJECTS_MAX;
}

static int
decode_objects(struct decoder *decoder, enum kind kind, struct bytes_reader *reader)
{
    uint32_t count = bytes_read_u32(reader);
    if (count > objects_max(kind)) {
        return corrupt(decoder, "more objects than there may be");
    }
    for (uint32_t i = 0; i < count; i++) {
        int r = decode_object(decoder, kind, reader);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int decode_requests(struct decoder *decoder, struct bytes_reader *reader)
{
    struct request_memory *requests = decoder->state->requests;
    request_memory_start(requests, bytes_read_u64(reader), decoder->state->revision);
    uint32_t count = bytes_read_u32(reader);
    for (uint32_t i = 0; i < count && reader->error == 0; i++) {
        struct remembered_request request = {0};
        bytes_read_raw(reader, request.id, sizeof(request.id));
        bytes_read_raw(reader, request.asked.bytes, sizeof(request.asked.bytes));
        request.result.code = (int32_t)bytes_read_u32(reader);
        request.result.revision = bytes_read_u64(reader);
        request.result.uid = bytes_read_u64(reader);
        bytes_read_text(reader, request.result.text, sizeof(request.result.text));
        if (reader->error != 0 || i >= STATE_REQUESTS_MAX ||
            request_id_is_zero(request.id) ||
            request_memory_find(requests, request.id) != NULL) {
            return corrupt(decoder, "a remembered request is wrong");
        }
        int r = request_memory_add(requests, &request, false);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int decode_events(struct decoder *decoder, struct bytes_reader *reader)
{
    event_ring_start(decoder->state->events, bytes_read_u64(reader));
    uint32_t count = bytes_read_u32(reader);
    uint64_t revision = 0;
    for (uint32_t i = 0; i < count && reader->error == 0; i++) {
        struct event event = {0};
        event.revision = bytes_read_u64(reader);
        event.wall_ms = bytes_read_u64(reader);
        event.kind = bytes_read_u32(reader);
        bytes_read_text(reader, event.tenant, sizeof(event.tenant));
        bytes_read_text(reader, event.name, sizeof(event.name));
        bytes_read_text(reader, event.verb, sizeof(event.verb));
        bytes_read_text(reader, event.reason, sizeof(event.reason));
        if (reader->error != 0 || i >= STATE_EVENTS_MAX || event.kind >= KIND_COUNT ||
            event.revision < revision || event.revision > decoder->state->revision) {
            return corrupt(decoder, "an event is wrong");
        }
        revision = event.revision;
        event_ring_push(decoder->state->events, &event);
    }
    return 0;
}

static int
decode_payload(struct decoder *decoder, uint32_t type, struct bytes_reader *reader)
{
    switch (type) {
    case SECTION_COUNTERS:
        return decode_counters(decoder, reader);
    case SECTION_REQUESTS:
        return decode_requests(decoder, reader);
    case SECTION_EVENTS:
        return decode_events(decoder, reader);
    default:
        return decode_objects(decoder, type - SECTION_OBJECTS, reader);
    }
}

static int
decode_section(struct decoder *decoder, uint32_t wanted, struct bytes_reader *reader)
{
    const uint8_t *start = reader->data + reader->position;
    uint32_t type = bytes_read_u32(reader);
    uint32_t length = bytes_read_u32(reader);
    struct bytes_reader payload = bytes_read_sub(reader, length);
    size_t size = (size_t)(reader->data + reader->position - start);
    uint32_t crc = bytes_read_u32(reader);
    if (reader->error != 0) {
        return corrupt(decoder, "it is cut short");
    }
    if (type != wanted || crc != crc32c(0, start, size)) {
        return corrupt(decoder, "a section is damaged");
    }
    int r = decode_payload(decoder, type, &payload);
    if (r == 0 && bytes_reader_end(&payload) != 0) {
        r = corrupt(decoder, "a section is not what it says");
    }
    return r;
}

/* Reads the header; *ret_hash is what the state's hash must be in the end. */
static int
decode_header(struct decoder *decoder, struct bytes_reader *reader, uint64_t *ret_hash)
{
    uint32_t magic = bytes_read_u32(reader);
    uint16_t level = bytes_read_u16(reader);
    uint16_t count = bytes_read_u16(reader);
    decoder->state->revision = bytes_read_u64(reader);
    *ret_hash = bytes_read_u64(reader);
    size_t size = reader->position;
    uint32_t crc = bytes_read_u32(reader);
    if (reader->error != 0 || magic != SNAPSHOT_MAGIC ||
        crc != crc32c(0, reader->data, size)) {
        return corrupt(decoder, "its header is damaged");
    }
    const struct level_range known = level_range_up_to(0);
    if (!level_in_range(known, level)) {
        char why[256];
        level_refusal(known, level, why);
        return err_set(decoder->err, BERTH_ELEVEL, "snapshot: %s", why);
    }
    decoder->state->level = level;
    if (count != section_count(decoder->state)) {
        return corrupt(decoder, "its parts are not those of its level");
    }
    return 0;
}

static void count_use(struct usage *used, const struct entry *entry)
{
    struct usage more = {0};
    if (entry->kind == KIND_VM) {
        more = machine_usage(&vm_of(entry)->spec.machine);
    } else if (entry->kind == KIND_NETWORK) {
        more.networks = 1;
    } else if (entry->kind == KIND_SNAPSHOT) {
        more = snapshot_usage(entry->object);
    } else {
        more.disk_bytes = ((const struct disk *)entry->object)->spec.size_bytes;
    }
    used->cpu_mcpu += more.cpu_mcpu;
    used->memory_bytes += more.memory_bytes;
    used->disk_bytes += more.disk_bytes;
    used->vms += more.vms;
    used->networks += more.networks;
    used->addresses += more.addresses;
    used->snapshots += more.snapshots;
}

/* What each tenant is said to use is what its objects add up to. */
static int check_use(const struct decoder *decoder)
{
    static const enum kind counted[] = {KIND_VM, KIND_NETWORK, KIND_DISK, KIND_SNAPSHOT};
    const struct state *state = decoder->state;
    const struct table *tenants = &state->tables[KIND_TENANT];
    struct usage *uses = calloc((size_t)tenants->count + 1, sizeof(*uses));
    if (uses == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++) {
        const struct table *table = &state->tables[counted[i]];
        for (uint32_t j = 0; j < table->count; j++) {
            const struct entry *tenant = state_entry_named(
                state, KIND_TENANT, "", meta_of(table->items[j])->tenant);
            count_use(&uses[tenant->slot], table->items[j]);
        }
    }
    int r = 0;
    for (uint32_t i = 0; i < tenants->count && r == 0; i++) {
        const struct tenant *tenant = tenant_of(tenants->items[i]);
        if (!record_equal(&usage_record, &uses[i], &tenant->status.used)) {
            r = corrupt_object(decoder, &tenant->meta, "its use does not add up");
        }
    }
    free(uses);
    return r;
}

/* VMs are read before the snapshots that they begin from. */
static int check_restores(const struct decoder *decoder)
{
    const struct table *vms = &decoder->state->tables[KIND_VM];
    for (uint32_t i = 0; i < vms->count; i++) {
        const struct vm *vm = vm_of(vms->items[i]);
        const struct snapshot *snapshot =
            state_snapshot(decoder->state, vm->status.restore);
        if (vm->status.restore != 0 &&
            (snapshot == NULL || snapshot->spec.vm_uid != vm->meta.uid)) {
            return corrupt_object(decoder, &vm->meta,
                                  "it begins from no snapshot of its");
        }
    }
    return 0;
}

/* *ret_hash is what the header says. */
static int
decode_all(struct decoder *decoder, const void *data, size_t size, uint64_t *ret_hash)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, size);
    int r = decode_header(decoder, &reader, ret_hash);
    for (size_t i = 0; i < SECTION_COUNT && r == 0; i++) {
        if (has_section(decoder->state, &sections[i])) {
            r = decode_section(decoder, sections[i].type, &reader);
        }
    }
    if (r == 0 && bytes_reader_end(&reader) != 0) {
        r = corrupt(decoder, "something follows its end");
    }
    r = r == 0 ? check_restores(decoder) : r;
    return r == 0 ? check_use(decoder) : r;
}

int state_snapshot_hash(const void *data, size_t size, uint64_t *ret_hash)
{
    struct decoder decoder = {.state = state_new(NULL, NULL)};
    if (decoder.state == NULL) {
        return -ENOMEM;
    }
    uint64_t said = 0;
    int r = decode_all(&decoder, data, size, &said);
    *ret_hash = r == 0 ? state_hash(decoder.state) : 0;
    state_free(decoder.state);
    return r;
}

int state_decode(struct state *state, const void *data, size_t size, struct err *err)
{
    struct decoder decoder = {
        .err = err, .state = state_new(state->observer, state->observer_context)};
    if (decoder.state == NULL) {
        return err_sys(err, -ENOMEM, "snapshot");
    }
    uint64_t hash = 0;
    int r = decode_all(&decoder, data, size, &hash);
    if (r == 0 && state_hash(decoder.state) != hash) {
        r = corrupt(&decoder, "its content does not give its hash");
    }
    if (r == -ENOMEM) {
        r = err_sys(err, r, "snapshot");
    }
    if (r == 0) {
        /* The caller's pointer stays; only what it points to changes. */
        struct state old = *state;
        *state = *decoder.state;
        *decoder.state = old;
    }
    state_free(decoder.state);
    return r;
}
