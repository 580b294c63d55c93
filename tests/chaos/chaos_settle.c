#include "chaos_settle.h"

#include "base/clock.h"
#include "base/require.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS      300
#define MISSING_SIZE 4096
#define VM_LIST      "/v1/tenants/default/vms?fields=metadata,spec.group,status&limit=1000"
#define HOST_LIST    "/v1/hosts?fields=metadata,status&limit=1000"

/* What is not yet as it should be, as a text. */
struct missing {
    char text[MISSING_SIZE];
    size_t length;
};

static void
miss(struct missing *missing, const char *name, const char *is, const char *why)
{
    int length =
        snprintf(missing->text + missing->length, sizeof(missing->text) - missing->length,
                 "  %s is %s%s%s\n", name, is, why[0] != '\0' ? ": " : "", why);
    size_t room = sizeof(missing->text) - missing->length - 1;
    missing->length += (size_t)length < room ? (size_t)length : room;
}

static uint64_t since_ms(uint64_t begin_ns)
{
    return (chaos_now_ns() - begin_ns) / NS_PER_MS;
}

static bool failed(const char *what, unsigned bound_s, const struct missing *missing)
{
    printf("FAULT: %s within %u s after the faults had stopped\n%s", what, bound_s,
           missing != NULL ? missing->text : "");
    return false;
}

static json_t *items_of(struct chaos_client *client, const char *path)
{
    struct chaos_answer answer =
        chaos_call(client->wire, chaos_any_host(client), "GET", path, NULL, NULL, 0);
    json_t *items = answer.status == 200
                        ? json_incref(json_object_get(answer.document, "items"))
                        : NULL;
    chaos_answer_fini(&answer);
    return items;
}

static const char *name_of(const json_t *object)
{
    return json_member_text(json_object_get(object, "metadata"), "name", "");
}

static const char *phase_of(const json_t *object)
{
    return json_member_text(json_object_get(object, "status"), "phase", "ready");
}

static const char *reason_of(const json_t *object)
{
    return json_member_text(json_object_get(object, "status"), "reason", "");
}

static bool runs(const json_t *vm)
{
    return strcmp(phase_of(vm), "ready") == 0 || strcmp(phase_of(vm), "running") == 0;
}

static const json_t *find(const json_t *items, const char *name)
{
    size_t i;
    const json_t *item;
    json_array_foreach((json_t *)(uintptr_t)items, i, item)
    {
        if (strcmp(name_of(item), name) == 0) {
            return item;
        }
    }
    return NULL;
}

static void look_at_wish(const json_t *vms,
                         const char *name,
                         enum chaos_wish wish,
                         struct missing *missing)
{
    const json_t *vm = find(vms, name);
    bool good = wish == WISH_NONE      ? true
                : wish == WISH_GONE    ? vm == NULL
                : vm == NULL           ? false
                : wish == WISH_RUNNING ? runs(vm)
                                       : strcmp(phase_of(vm), "stopped") == 0;
    if (!good) {
        miss(missing, name, vm == NULL ? "not there" : phase_of(vm),
             vm == NULL ? "" : reason_of(vm));
    }
}

static void look_at_group(const json_t *vms,
                          const char *group,
                          unsigned replicas,
                          struct missing *missing)
{
    unsigned count = 0;
    size_t i;
    const json_t *vm;
    json_array_foreach((json_t *)(uintptr_t)vms, i, vm)
    {
        const char *of = json_member_text(json_object_get(vm, "spec"), "group", "");
        if (strcmp(of, group) != 0) {
            continue;
        }
        count++;
        if (!runs(vm)) {
            miss(missing, name_of(vm), phase_of(vm), reason_of(vm));
        }
    }
    if (count != replicas) {
        char is[64];
        (void)snprintf(is, sizeof(is), "of %u VMs, not %u", count, replicas);
        miss(missing, group, is, "");
    }
}

static void look_at_hosts(const json_t *hosts, struct missing *missing)
{
    size_t i;
    const json_t *host;
    json_array_foreach((json_t *)(uintptr_t)hosts, i, host)
    {
        if (strcmp(phase_of(host), "ready") != 0) {
            miss(missing, name_of(host), phase_of(host), reason_of(host));
        }
    }
}

/* True when nothing is missing. */
static bool look(struct chaos_client *asker,
                 const struct chaos_client *clients,
                 struct missing *missing)
{
    json_t *vms = items_of(asker, VM_LIST);
    json_t *hosts = vms != NULL ? items_of(asker, HOST_LIST) : NULL;
    *missing = (struct missing){0};
    if (hosts == NULL) {
        miss(missing, "a host that was asked", "silent", "");
    } else {
        look_at_hosts(hosts, missing);
        for (unsigned i = 0; i < CHAOS_CLIENTS; i++) {
            const struct chaos_client *client = &clients[i];
            char name[32];
            for (unsigned k = 0; k < CHAOS_VMS_MAX; k++) {
                (void)snprintf(name, sizeof(name), "u%u-%u", client->actor, k);
                look_at_wish(vms, name, client->wishes[k], missing);
            }
            (void)snprintf(name, sizeof(name), "g%u", client->actor);
            look_at_group(vms, name, client->replicas, missing);
        }
    }
    json_decref(vms);
    json_decref(hosts);
    return missing->length == 0;
}

static bool
join(struct chaos_client *clients, unsigned first, unsigned end, unsigned bound_s)
{
    struct timespec until;
    REQUIRE(clock_gettime(CLOCK_REALTIME, &until) == 0);
    until.tv_sec += bound_s;
    for (unsigned i = first; i < end; i++) {
        if (pthread_timedjoin_np(clients[i].thread, NULL, &until) != 0) {
            printf("client %u is still without an answer\n", i);
            return false;
        }
    }
    return true;
}

static bool all_reached(const struct chaos_client *clients,
                        unsigned first,
                        uint64_t revision,
                        struct missing *missing)
{
    *missing = (struct missing){0};
    for (unsigned i = first; i + 1 < CHAOS_CLIENTS; i++) {
        uint64_t reached = atomic_load(&clients[i].reached);
        if (reached < revision) {
            char name[32];
            char is[96];
            (void)snprintf(name, sizeof(name), "watch %u", i);
            (void)snprintf(is, sizeof(is), "at %" PRIu64 " of %" PRIu64, reached,
                           revision);
            miss(missing, name, is, "");
        }
    }
    return missing->length == 0;
}

bool chaos_settle(struct chaos_load *load,
                  struct chaos_client *clients,
                  unsigned workers,
                  unsigned bound_s)
{
    struct chaos_client *self = &clients[CHAOS_CLIENTS - 1];
    struct missing missing = {0};
    uint64_t begin_ns = chaos_now_ns();
    uint64_t until_ns = begin_ns + bound_s * NS_PER_S;
    while (chaos_write(self, 0) != RECORD_OK) {
        if (chaos_now_ns() > until_ns) {
            return failed("no write was acknowledged", bound_s, NULL);
        }
    }
    printf("a write was acknowledged after %" PRIu64 " ms\n", since_ms(begin_ns));
    atomic_store(&load->over, true);
    if (!join(clients, 0, workers, bound_s)) {
        return failed("a request was not answered", bound_s, NULL);
    }
    while (!look(self, clients, &missing)) {
        if (chaos_now_ns() > until_ns) {
            return failed("not all that is wanted came about", bound_s, &missing);
        }
        chaos_pause_ms(LOOK_MS);
    }
    printf("all hosts and VMs were as they should be after %" PRIu64 " ms\n",
           since_ms(begin_ns));
    uint64_t newest = 0;
    for (unsigned i = 0; i < CHAOS_REGISTERS; i++) {
        if (chaos_write(self, i) == RECORD_UNKNOWN) {
            return failed("a last write was not acknowledged", bound_s, NULL);
        }
        uint64_t revision = chaos_read(self, i);
        newest = revision > newest ? revision : newest;
    }
    while (!all_reached(clients, workers, newest, &missing)) {
        if (chaos_now_ns() > until_ns) {
            return failed("a watch did not get to the end", bound_s, &missing);
        }
        chaos_pause_ms(LOOK_MS);
    }
    printf("all watches had seen the end after %" PRIu64 " ms\n", since_ms(begin_ns));
    return true;
}
