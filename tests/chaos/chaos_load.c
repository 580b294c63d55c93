#include "chaos_load.h"

#include "base/clock.h"
#include "base/require.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_NS \
    (UINT64_C(20) * NS_PER_S) /* with one key: memory of answers is bounded */
#define AGAIN_MS 150
#define PAUSE_MS 160
#define TENANT   "/v1/tenants/default/"

uint64_t chaos_now_ns(void)
{
    return clock_now_ns(clock_system());
}

void chaos_pause_ms(uint64_t ms)
{
    (void)poll(NULL, 0, (int)ms); /* clients have paces */
}

unsigned chaos_any_host(struct chaos_client *client)
{
    return (unsigned)random_below(&client->random, client->load->rack.count);
}

/* ---- a request until it is clear what became of it ---- */

static enum record_outcome outcome_of(long status)
{
    if (status == 200 || status == 201) {
        return RECORD_OK;
    }
    return status >= 400 && status < 500 && status != 429 ? RECORD_REFUSED
                                                          : RECORD_UNKNOWN;
}

/* The last answer is the caller's. A request that was given up may still be done, at any
 * time later: who goes on as if it were not must not give up. */
static enum record_outcome insist(struct chaos_client *client,
                                  uint64_t patience_ns,
                                  const char *method,
                                  const char *path,
                                  const json_t *body,
                                  uint64_t match,
                                  struct chaos_answer *ret_answer)
{
    char key[64];
    uint64_t begin_ns = chaos_now_ns();
    enum record_outcome outcome;
    (void)snprintf(key, sizeof(key), "c%u-%" PRIu64, client->actor, client->count);
    *ret_answer = (struct chaos_answer){0};
    for (;;) {
        chaos_answer_fini(ret_answer);
        *ret_answer = chaos_call(client->wire, chaos_any_host(client), method, path, body,
                                 key, match);
        outcome = outcome_of(ret_answer->status);
        if (outcome != RECORD_UNKNOWN || atomic_load(&client->load->settled) ||
            chaos_now_ns() - begin_ns > patience_ns) {
            return outcome;
        }
        chaos_pause_ms(AGAIN_MS + random_below(&client->random, AGAIN_MS));
    }
}

/* Of an object, or of a write that others have written over by the time of its answer. */
static uint64_t object_revision(const json_t *object)
{
    return json_member_u64(json_object_get(object, "metadata"), "revision",
                           json_member_u64(object, "revision", 0));
}

/* ---- registers: templates with a label ---- */

static void register_path(unsigned index, char *ret_path, size_t size)
{
    (void)snprintf(ret_path, size, TENANT "templates/r%u", index);
}

static const char *register_value(const json_t *object)
{
    const json_t *labels = json_object_get(json_object_get(object, "metadata"), "labels");
    return json_member_text(labels, "value", "");
}

static void note(struct chaos_client *client, struct chaos_record *record)
{
    record->actor = client->actor;
    history_note(client->load->history, record);
}

/* *ret_revision of the object; 0 when nothing came, or it is not there yet. */
static bool
read_register(struct chaos_client *client, unsigned index, uint64_t *ret_revision)
{
    char path[128];
    struct chaos_record record = {.type = RECORD_READ, .begin_ns = chaos_now_ns()};
    register_path(index, path, sizeof(path));
    struct chaos_answer answer =
        chaos_call(client->wire, chaos_any_host(client), "GET", path, NULL, NULL, 0);
    record.end_ns = chaos_now_ns();
    bool came = answer.status == 200 || answer.status == 404;
    *ret_revision = 0;
    if (came) {
        record.outcome = RECORD_OK;
        record.at = answer.revision;
        (void)snprintf(record.key, sizeof(record.key), "template/r%u", index);
        if (answer.status == 200) {
            record.revision = object_revision(answer.document);
            (void)snprintf(record.value, sizeof(record.value), "%s",
                           register_value(answer.document));
        }
        *ret_revision = record.revision;
        note(client, &record);
    }
    chaos_answer_fini(&answer);
    return came;
}

uint64_t chaos_read(struct chaos_client *client, unsigned index)
{
    uint64_t revision = 0;
    return read_register(client, index, &revision) ? revision : 0;
}

enum record_outcome chaos_write(struct chaos_client *client, unsigned index)
{
    char path[128];
    struct chaos_record record = {.type = RECORD_WRITE};
    struct chaos_answer answer;
    uint64_t match =
        random_below(&client->random, 4) == 0 ? chaos_read(client, index) : 0;
    client->count++;
    register_path(index, path, sizeof(path));
    (void)snprintf(record.key, sizeof(record.key), "template/r%u", index);
    (void)snprintf(record.value, sizeof(record.value), "c%u-%" PRIu64, client->actor,
                   client->count);
    json_t *body = json_pack("{s:s, s:s, s:{s:o, s:s, s:{s:s}}, s:{s:s, s:s, s:{s:s}}}",
                             "apiVersion", "berth/v1", "kind", "Template", "metadata",
                             "name", json_sprintf("r%u", index), "tenant", "default",
                             "labels", "value", record.value, "spec", "image", "none",
                             "engine", "fake", "memory", "size", "32MiB");
    REQUIRE(body != NULL);
    record.begin_ns = chaos_now_ns();
    record.outcome = insist(client, PATIENCE_NS, "PUT", path, body, match, &answer);
    record.end_ns = chaos_now_ns();
    record.revision = record.outcome == RECORD_OK ? object_revision(answer.document) : 0;
    note(client, &record);
    if (record.outcome == RECORD_OK) {
        atomic_fetch_add(&client->load->acknowledged, 1);
    } else if (record.outcome == RECORD_REFUSED && answer.status != 412) {
        fprintf(stderr, "a write was refused: %ld %s\n", answer.status,
                json_member_text(answer.document, "detail", ""));
    }
    chaos_answer_fini(&answer);
    json_decref(body);
    return record.outcome;
}

void *chaos_write_on(void *context)
{
    struct chaos_client *client = context;
    while (!atomic_load(&client->load->over)) {
        (void)chaos_write(client,
                          (unsigned)random_below(&client->random, CHAOS_REGISTERS));
        chaos_pause_ms(random_below(&client->random, PAUSE_MS));
    }
    return NULL;
}

void *chaos_read_on(void *context)
{
    struct chaos_client *client = context;
    while (!atomic_load(&client->load->over)) {
        (void)chaos_read(client,
                         (unsigned)random_below(&client->random, CHAOS_REGISTERS));
        chaos_pause_ms(random_below(&client->random, PAUSE_MS));
    }
    return NULL;
}

/* ---- users of VMs ---- */

/* False: refused, or the end has come before a clear answer. */
static bool wish(struct chaos_client *client,
                 const char *method,
                 const char *path,
                 const json_t *body)
{
    struct chaos_answer answer;
    client->count++;
    enum record_outcome outcome =
        insist(client, UINT64_MAX, method, path, body, 0, &answer);
    if (outcome == RECORD_REFUSED) {
        fprintf(stderr, "%s %s was refused: %ld %s\n", method, path, answer.status,
                json_member_text(answer.document, "detail", ""));
    }
    chaos_answer_fini(&answer);
    return outcome == RECORD_OK;
}

static void vm_make(struct chaos_client *client, unsigned index)
{
    json_t *body = json_pack("{s:[{s:s, s:s, s:{s:o, s:s}, s:{s:{s:s}}}]}", "objects",
                             "apiVersion", "berth/v1", "kind", "VM", "metadata", "name",
                             json_sprintf("u%u-%u", client->actor, index), "tenant",
                             "default", "spec", "template", "name", "fake");
    REQUIRE(body != NULL);
    if (wish(client, "POST", "/v1/apply", body)) {
        client->wishes[index] = WISH_RUNNING;
    }
    json_decref(body);
}

static void vm_tell(struct chaos_client *client,
                    unsigned index,
                    const char *verb,
                    enum chaos_wish then)
{
    char path[128];
    (void)snprintf(path, sizeof(path), TENANT "vms/u%u-%u%s", client->actor, index, verb);
    if (wish(client, verb[0] == '\0' ? "DELETE" : "POST", path, NULL)) {
        client->wishes[index] = then;
    }
}

static void vm_step(struct chaos_client *client, unsigned index)
{
    uint64_t chance = random_below(&client->random, 8);
    switch (client->wishes[index]) {
    case WISH_NONE:
    case WISH_GONE:
        vm_make(client, index);
        break;
    case WISH_RUNNING:
        if (chance == 0) {
            vm_tell(client, index, "", WISH_GONE);
        } else if (chance < 4) {
            vm_tell(client, index, ":stop", WISH_STOPPED);
        } else if (chance == 4) {
            vm_tell(client, index, ":restart", WISH_RUNNING);
        }
        break;
    case WISH_STOPPED:
        if (chance == 0) {
            vm_tell(client, index, "", WISH_GONE);
        } else {
            vm_tell(client, index, ":start", WISH_RUNNING);
        }
        break;
    }
}

static void group_make(struct chaos_client *client, unsigned replicas)
{
    char path[128];
    (void)snprintf(path, sizeof(path), TENANT "groups/g%u", client->actor);
    json_t *body = json_pack(
        "{s:s, s:s, s:{s:o, s:s}, s:{s:{s:s}, s:i}}", "apiVersion", "berth/v1", "kind",
        "Group", "metadata", "name", json_sprintf("g%u", client->actor), "tenant",
        "default", "spec", "template", "name", "fake", "replicas", (int)replicas);
    REQUIRE(body != NULL);
    if (wish(client, "PUT", path, body)) {
        client->replicas = replicas;
    }
    json_decref(body);
}

static void group_scale(struct chaos_client *client, unsigned replicas)
{
    char path[128];
    (void)snprintf(path, sizeof(path), TENANT "groups/g%u:scale", client->actor);
    json_t *body = json_pack("{s:i}", "replicas", (int)replicas);
    if (wish(client, "POST", path, body)) {
        client->replicas = replicas;
    }
    json_decref(body);
}

void *chaos_use_on(void *context)
{
    struct chaos_client *client = context;
    group_make(client, 5);
    while (!atomic_load(&client->load->over)) {
        if (random_below(&client->random, 6) == 0) {
            group_scale(client, 2 + (unsigned)random_below(&client->random, 8));
        } else {
            vm_step(client, (unsigned)random_below(&client->random, CHAOS_VMS_MAX));
        }
        chaos_pause_ms(500 + random_below(&client->random, 3000));
    }
    return NULL;
}
