#include "base/parse_number.h"
#include "base/require.h"
#include "model/state_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- refusals ---- */

void apply_refuse_text(struct apply *apply, int code, const char *format, ...)
{
    REQUIRE(code < 0);
    apply->result->code = code;
    apply->result->uid = 0;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(apply->result->text, sizeof(apply->result->text), format, arguments);
    va_end(arguments);
}

int apply_check_revision(struct apply *apply,
                         const struct entry *entry,
                         const char *what,
                         uint64_t expected_revision)
{
    if (expected_revision == REVISION_ANY) {
        return 0;
    }
    if (expected_revision == REVISION_NONE) {
        return entry == NULL
                   ? 0
                   : apply_refuse(apply, BERTH_EEXISTS, "%s exists already", what);
    }
    if (entry == NULL) {
        return apply_refuse(apply, BERTH_ECONFLICT,
                            "%s is gone: it was at revision %" PRIu64, what,
                            expected_revision);
    }
    uint64_t revision = meta_of(entry)->modify_revision;
    if (revision != expected_revision) {
        return apply_refuse(apply, BERTH_ECONFLICT,
                            "%s has changed: it is at revision %" PRIu64
                            ", the request was made for %" PRIu64,
                            what, revision, expected_revision);
    }
    return 0;
}

static void
take_first_fault(void *context, const char *path, const char *message, const char *hint)
{
    struct apply *apply = context;
    if (apply->result->code == 0) {
        bool hinted = hint != NULL && hint[0] != '\0';
        apply_refuse_text(apply, BERTH_EINVALID, "%s: %s%s%s", path, message,
                          hinted ? ": " : "", hinted ? hint : "");
    }
}

int apply_check_object(struct apply *apply, enum kind kind, const void *object)
{
    unsigned faults = object_check(kind, object, take_first_fault, apply);
    REQUIRE((faults > 0) == (apply->result->code != 0));
    return apply->result->code;
}

int apply_check_room(struct apply *apply, enum kind kind)
{
    if (state_count(apply->state, kind) >= STATE_OBJECTS_MAX) {
        return apply_refuse(apply, BERTH_EFULL, "the cluster has %d %s already",
                            STATE_OBJECTS_MAX, kind_info(kind)->plural);
    }
    return 0;
}

int apply_find_tenant(struct apply *apply, const char *name, struct entry **ret_tenant)
{
    struct entry *tenant = state_entry_named(apply->state, KIND_TENANT, "", name);
    if (tenant == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND,
                            "tenant %s does not exist: apply a Tenant first", name);
    }
    *ret_tenant = tenant;
    return 0;
}

/* ---- changes ---- */

/* As much of it as there is room for. */
static void take_text(char *ret_text, size_t size, const char *text)
{
    const size_t length = strnlen(text, size - 1);
    memcpy(ret_text, text, length);
    ret_text[length] = '\0';
}

static void write_event(struct apply *apply,
                        const struct entry *entry,
                        const struct change_note *note)
{
    if (note->verb == NULL) {
        return;
    }
    const struct metadata *meta = meta_of(entry);
    struct event event = {
        .revision = apply->revision,
        .wall_ms = apply->command->wall_ms,
        .kind = entry->kind,
    };
    take_text(event.tenant, sizeof(event.tenant), meta->tenant);
    take_text(event.name, sizeof(event.name), meta->name);
    take_text(event.verb, sizeof(event.verb), note->verb);
    take_text(event.reason, sizeof(event.reason),
              note->reason != NULL ? note->reason : "");
    event_ring_push(apply->state->events, &event);
}

static void tell_observer(struct apply *apply,
                          const struct entry *entry,
                          const struct change_note *note,
                          bool deleted)
{
    struct state *state = apply->state;
    if (state->observer == NULL) {
        return;
    }
    const struct metadata *meta = meta_of(entry);
    const struct change change = {
        .revision = apply->revision,
        .wall_ms = apply->command->wall_ms,
        .kind = entry->kind,
        .uid = meta->uid,
        .tenant = meta->tenant,
        .name = meta->name,
        .reason = note->reason != NULL ? note->reason : "",
        .object = deleted ? NULL : entry->object,
        .phase_from = note->phase_from,
        .phase_to = note->phase_to,
        .created = note->created,
    };
    state->observer(state->observer_context, &change);
}

void apply_changed(struct apply *apply,
                   struct entry *entry,
                   const struct change_note *note)
{
    apply->changed = true;
    meta_of(entry)->modify_revision = apply->revision;
    entry_rehash(apply->state, entry);
    tell_observer(apply, entry, note, false);
    write_event(apply, entry, note);
}

void apply_removed(struct apply *apply,
                   struct entry *entry,
                   const struct change_note *note)
{
    apply->changed = true;
    entry_remove(apply->state, entry);
    tell_observer(apply, entry, note, true);
    write_event(apply, entry, note);
    entry_free(entry);
}

struct entry *apply_create(struct apply *apply, enum kind kind, void *take_object)
{
    struct metadata *meta = object_meta(take_object);
    meta->uid = apply->state->next_uid++;
    meta->create_revision = apply->revision;
    meta->modify_revision = apply->revision;
    meta->created_wall_ms = apply->command->wall_ms;
    return entry_add(apply->state, kind, take_object);
}

/* ---- quotas ---- */

static void format_count(uint64_t value, char text[NUMBER_TEXT_SIZE])
{
    (void)snprintf(text, NUMBER_TEXT_SIZE, "%" PRIu64, value);
}

/* Sums may exceed what one VM can have. */
static void format_cpu(uint64_t mcpu, char text[NUMBER_TEXT_SIZE])
{
    if (mcpu <= UINT32_MAX) {
        format_mcpu((uint32_t)mcpu, text);
    } else {
        (void)snprintf(text, NUMBER_TEXT_SIZE, "%" PRIu64 "m", mcpu);
    }
}

#define QUOTA_ROWS 7

/* One resource in a quota and in a usage, widened. An unlimited one is UINT64_MAX. */
struct quota_row {
    const char *name;
    uint64_t limit;
    uint64_t used;
    uint64_t more;
    void (*format)(uint64_t value, char text[NUMBER_TEXT_SIZE]);
};

static uint64_t widen_limit(uint32_t limit)
{
    return limit == UNLIMITED32 ? UNLIMITED : limit;
}

static void quota_rows(const struct tenant *tenant,
                       const struct usage *used,
                       const struct usage *more,
                       struct quota_row ret_rows[QUOTA_ROWS])
{
    const struct quota *quota = &tenant->spec.quota;
    const struct quota_row rows[QUOTA_ROWS] = {
        {"cpu", quota->cpu_mcpu, used->cpu_mcpu, more->cpu_mcpu, format_cpu},
        {"memory", quota->memory_bytes, used->memory_bytes, more->memory_bytes,
         format_bytes},
        {"disk", quota->disk_bytes, used->disk_bytes, more->disk_bytes, format_bytes},
        {"vms", widen_limit(quota->vms), used->vms, more->vms, format_count},
        {"networks", widen_limit(quota->networks), used->networks, more->networks,
         format_count},
        {"addresses", widen_limit(quota->addresses), used->addresses, more->addresses,
         format_count},
        {"snapshots", quota->snapshots, used->snapshots, more->snapshots, format_count},
    };
    memcpy(ret_rows, rows, sizeof(rows));
}

/* 0, or BERTH_EQUOTA with the reason in text (may be NULL). */
static int quota_refusal(const struct tenant *tenant,
                         const struct usage *used,
                         const struct usage *more,
                         char *ret_text,
                         size_t text_size)
{
    struct quota_row rows[QUOTA_ROWS];
    quota_rows(tenant, used, more, rows);
    for (size_t i = 0; i < QUOTA_ROWS; i++) {
        const struct quota_row *row = &rows[i];
        if (row->more == 0 || (row->used <= row->limit && /* else it was lowered */
                               row->more <= row->limit - row->used)) {
            continue;
        }
        char used_text[NUMBER_TEXT_SIZE];
        char limit_text[NUMBER_TEXT_SIZE];
        char more_text[NUMBER_TEXT_SIZE];
        row->format(row->used, used_text);
        row->format(row->limit, limit_text);
        row->format(row->more, more_text);
        if (ret_text != NULL) {
            (void)snprintf(ret_text, text_size,
                           "quota of tenant %s: %s %s of %s in use, %s more asked",
                           tenant->meta.name, row->name, used_text, limit_text,
                           more_text);
        }
        return BERTH_EQUOTA;
    }
    return 0;
}

int quota_check(struct apply *apply, const struct entry *tenant, const struct usage *more)
{
    char text[sizeof(apply->result->text)];
    const struct tenant *owner = tenant_of(tenant);
    int r = quota_refusal(owner, &owner->status.used, more, text, sizeof(text));
    return r != 0 ? apply_refuse(apply, BERTH_EQUOTA, "%s", text) : 0;
}

static void usage_add(struct usage *usage, const struct usage *more, uint32_t times)
{
    usage->cpu_mcpu += more->cpu_mcpu * times;
    usage->memory_bytes += more->memory_bytes * times;
    usage->disk_bytes += more->disk_bytes * times;
    usage->vms += more->vms * times;
    usage->networks += more->networks * times;
    usage->addresses += more->addresses * times;
    usage->snapshots += more->snapshots * times;
}

/* How often `more` of it fits. */
static uint64_t row_fits(const struct quota_row *row)
{
    if (row->more == 0) {
        return UINT64_MAX;
    }
    return row->used <= row->limit ? (row->limit - row->used) / row->more : 0;
}

uint32_t state_quota_fits(const struct state *state,
                          const char *tenant,
                          const struct machine_spec *machine,
                          uint32_t count,
                          struct usage *promised,
                          char *ret_text)
{
    const struct tenant *owner = state_get(state, KIND_TENANT, "", tenant);
    REQUIRE(owner != NULL);
    struct quota_row rows[QUOTA_ROWS];
    const struct usage more = machine_usage(machine);
    struct usage used = owner->status.used;
    uint32_t fits = count;
    usage_add(&used, promised, 1);
    quota_rows(owner, &used, &more, rows);
    for (size_t i = 0; i < QUOTA_ROWS; i++) {
        uint64_t row = row_fits(&rows[i]);
        fits = row < fits ? (uint32_t)row : fits;
    }
    usage_add(promised, &more, fits);
    if (fits < count) {
        usage_add(&used, &more, fits);
        (void)quota_refusal(owner, &used, &more, ret_text, APPLY_TEXT_SIZE);
    }
    return fits;
}

int state_quota_room(const struct state *state,
                     const char *tenant,
                     const struct machine_spec *machine,
                     struct usage *promised,
                     char *ret_text)
{
    return state_quota_fits(state, tenant, machine, 1, promised, ret_text) == 1
               ? 0
               : BERTH_EQUOTA;
}

/* The tenant is told of as changed once, when the command is through. */
static void usage_changed(struct apply *apply, struct entry *tenant)
{
    apply->changed = true;
    if (!tenant->usage_changed) {
        tenant->usage_changed = true;
        entry_set_add(&apply->tenants, tenant);
    }
}

void quota_take(struct apply *apply, struct entry *tenant, const struct usage *more)
{
    usage_add(&tenant_of(tenant)->status.used, more, 1);
    usage_changed(apply, tenant);
}

void quota_give(struct apply *apply, struct entry *tenant, const struct usage *less)
{
    struct usage *used = &tenant_of(tenant)->status.used;
    REQUIRE(used->cpu_mcpu >= less->cpu_mcpu && used->memory_bytes >= less->memory_bytes);
    REQUIRE(used->disk_bytes >= less->disk_bytes && used->vms >= less->vms);
    REQUIRE(used->networks >= less->networks && used->addresses >= less->addresses);
    REQUIRE(used->snapshots >= less->snapshots);
    used->cpu_mcpu -= less->cpu_mcpu;
    used->memory_bytes -= less->memory_bytes;
    used->disk_bytes -= less->disk_bytes;
    used->vms -= less->vms;
    used->networks -= less->networks;
    used->addresses -= less->addresses;
    used->snapshots -= less->snapshots;
    usage_changed(apply, tenant);
}

struct usage machine_usage(const struct machine_spec *machine)
{
    return (struct usage){
        .cpu_mcpu = machine_mcpu(machine),
        .memory_bytes = machine->memory.size_bytes,
        .disk_bytes = machine_disk_bytes(machine),
        .vms = 1,
        .addresses = machine->nics.count,
    };
}

/* A tenant's revision is its user's: use alone does not move it, or no compare-and-set
 * on a busy tenant would ever succeed. */
void apply_finish(struct apply *apply)
{
    static const struct change_note note = {0};
    for (uint32_t i = 0; i < apply->tenants.count; i++) {
        struct entry *tenant = apply->tenants.items[i];
        tenant->usage_changed = false;
        entry_rehash(apply->state, tenant);
        tell_observer(apply, tenant, &note, false);
    }
    entry_set_fini(&apply->tenants);
}

/* ---- dispatch ---- */

static int apply_noop(struct apply *apply, const struct command *command)
{
    (void)apply;
    (void)command;
    return 0;
}

int apply_set_level(struct apply *apply, const struct command *command)
{
    uint32_t level = command->body.set_level.level;
    REQUIRE(level <= level_range_up_to(0).max); /* command_decode has seen to it */
    if (level < apply->state->level) {
        return apply_refuse(apply, BERTH_ELEVEL,
                            "the cluster is at level %" PRIu32
                            ": a level is never lowered",
                            apply->state->level);
    }
    apply->changed = level != apply->state->level;
    apply->state->level = level;
    return 0;
}

void apply_take_labels(struct metadata *meta, const struct label_list *labels)
{
    /* A record with nothing but the labels is the shortest deep copy of them. */
    struct metadata labelled = {.labels = *labels};
    struct metadata copy;
    int r = record_copy(&metadata_record, &labelled, &copy);
    REQUIRE(r == 0);
    struct metadata old = {.labels = meta->labels};
    meta->labels = copy.labels;
    record_fini(&metadata_record, &old);
}

static int labels_change(struct label_list *labels,
                         const struct label_list *named,
                         const struct label_list *removed)
{
    int r = 0;
    for (uint32_t i = 0; i < removed->count; i++) {
        (void)label_unset(labels, removed->items[i].key); /* gone is gone */
    }
    for (uint32_t i = 0; i < named->count && r == 0; i++) {
        const char *value = named->items[i].value;
        r = label_set(labels, named->items[i].key, value != NULL ? value : "");
    }
    REQUIRE(r == 0 || r == BERTH_ETOOLARGE);
    return r == 0 && labels->count > LABELS_MAX ? BERTH_ETOOLARGE : r;
}

int apply_relabel(struct apply *apply,
                  struct entry *entry,
                  const struct label_list *named,
                  const struct label_list *removed,
                  const struct change_note *note)
{
    const struct metadata has = {.labels = meta_of(entry)->labels};
    struct metadata wanted;
    int r = record_copy(&metadata_record, &has, &wanted);
    REQUIRE(r == 0);
    r = labels_change(&wanted.labels, named, removed);
    bool news = !record_equal(&metadata_record, &has, &wanted);
    if (r == 0 && news) {
        apply_take_labels(meta_of(entry), &wanted.labels);
        apply_changed(apply, entry, note);
    } else if (r != 0) {
        r = apply_refuse(apply, r, "%s %s would have more than %d labels",
                         kind_info(entry->kind)->word, meta_of(entry)->name, LABELS_MAX);
    }
    record_fini(&metadata_record, &wanted);
    return r;
}

/* One row per command; COMMANDS and this table must name the same. */
static apply_function *const rows[COMMAND_COUNT] = {
#define COMMAND_ROW(NAME, number, member, record, FIELDS) [number] = apply_##member,
    COMMANDS(COMMAND_ROW)
#undef COMMAND_ROW
};

/* What was asked, without when and under which id. */
static void asked_digest(struct state *state,
                         const struct command *command,
                         struct digest *ret_digest)
{
    struct bytes_writer *scratch = &state->scratch;
    scratch->size = 0;
    bytes_write_u16(scratch, (uint16_t)command->type);
    bytes_write_text(scratch, command->subject);
    record_encode(command_record(command->type), &command->body, scratch);
    REQUIRE(scratch->error == 0);
    digest_of(scratch->data, scratch->size, ret_digest);
}

bool state_answered(const struct state *state,
                    const uint8_t id[REQUEST_ID_SIZE],
                    struct apply_result *ret_result)
{
    const struct remembered_request *known = request_memory_find(state->requests, id);
    if (known != NULL) {
        *ret_result = known->result;
    }
    return known != NULL;
}

/* What is remembered raises the revision, so that no two answers have one. */
bool state_may_have_forgotten(const struct state *state,
                              const uint8_t id[REQUEST_ID_SIZE],
                              uint64_t since_revision)
{
    return request_memory_find(state->requests, id) == NULL &&
           request_memory_forgotten(state->requests, id) > since_revision;
}

/* True when the request was seen before; the result is then complete. */
static bool answer_again(struct state *state,
                         const struct command *command,
                         const struct digest *asked,
                         struct apply_result *ret_result)
{
    const struct remembered_request *known =
        request_memory_find(state->requests, command->request_id);
    if (known == NULL) {
        return false;
    }
    if (digest_equal(&known->asked, asked)) {
        *ret_result = known->result;
        return true;
    }
    ret_result->code = BERTH_EREUSED;
    (void)snprintf(ret_result->text, sizeof(ret_result->text),
                   "the request id was used for another request: make a new one");
    return true;
}

static void remember(struct state *state,
                     const struct command *command,
                     const struct digest *asked,
                     const struct apply_result *result)
{
    struct remembered_request request = {.asked = *asked, .result = *result};
    memcpy(request.id, command->request_id, sizeof(request.id));
    bool shares = state->level >= LEVEL_REQUEST_SHARES;
    int r = request_memory_add(state->requests, &request, shares);
    REQUIRE(r == 0);
}

void state_apply(struct state *state,
                 const struct command *command,
                 struct apply_result *ret_result)
{
    REQUIRE(command->type > COMMAND_NONE && command->type < COMMAND_COUNT);
    *ret_result = (struct apply_result){.revision = state->revision};
    bool remembered = !request_id_is_zero(command->request_id);
    struct digest asked;
    if (remembered) {
        asked_digest(state, command, &asked);
        if (answer_again(state, command, &asked, ret_result)) {
            return;
        }
    }
    struct apply apply = {
        .state = state,
        .command = command,
        .result = ret_result,
        .revision = state->revision + 1,
    };
    /* What a log begins at is not in it: a release that begins higher founded it. */
    if (state->revision == 0 && command->level > state->level) {
        state->level = command->level;
    }
    int r = command->level <= state->level
                ? rows[command->type](&apply, command)
                : apply_refuse(&apply, BERTH_ELEVEL,
                               "the command was proposed at level %" PRIu32
                               ", the cluster is at %" PRIu32,
                               command->level, state->level);
    REQUIRE(r == ret_result->code);
    REQUIRE_IF(r != 0, !apply.changed); /* a refusal leaves no trace */
    apply_finish(&apply);
    /* To remember is a change too: replicas at one revision remember the same. */
    if (apply.changed || remembered) {
        state->revision = apply.revision;
    }
    ret_result->revision = state->revision;
    if (remembered) {
        remember(state, command, &asked, ret_result);
    }
}
