/* Hosts of a test rack: meshes over loopback on one loop, with everything they report
 * written down.
 *
 * A test waits with RACK_WAIT(rack, condition): the loop runs until the condition holds,
 * and the test fails when it does not within RACK_WAIT_MS. That bound is for broken code
 * only.
 */
#pragma once

#include "net/mesh.h"
#include "support/own_loopback.h"
#include "support/test_main.h"

#include <czmq.h>

#include <stdlib.h>
#include <string.h>

#define RACK_WAIT_MS   200000
#define RACK_HOSTS     4
#define HOST_KEPT      64 /* messages kept whole */
#define HOST_BODY_KEPT 64

struct host_message {
    struct mesh_peer_id from;
    uint16_t type;
    size_t size;
    char body[HOST_BODY_KEPT];
};

struct rack;
struct host {
    struct rack *rack;
    struct mesh *mesh; /* NULL: not running */
    struct mesh_key secret;
    struct mesh_key public;
    struct host_message messages[HOST_KEPT];
    unsigned message_count; /* all of them, kept or not */
    unsigned up_count;
    unsigned down_count;
    unsigned refused_count;
    unsigned room_count;
    struct mesh_peer_id last_up;
    /* May be NULL; called for each message after it has been written down. */
    void (*on_message)(struct host *host, const struct host_message *message);
    void (*on_room)(struct host *host);
    uint64_t number; /* for the test's use */
    bool failed;
    bool heard;
};

struct rack {
    uv_loop_t loop;
    uv_timer_t beat;
    struct host hosts[RACK_HOSTS];
};

static inline void host_message_take(void *context,
                                     const struct mesh_peer_id *from,
                                     uint16_t type,
                                     const void *body,
                                     size_t size)
{
    struct host *host = context;
    struct host_message message = {.from = *from, .type = type, .size = size};
    if (size > 0) {
        memcpy(message.body, body, size < HOST_BODY_KEPT - 1 ? size : HOST_BODY_KEPT - 1);
    }
    if (host->message_count < HOST_KEPT) {
        host->messages[host->message_count] = message;
    }
    host->message_count++;
    if (host->on_message) {
        host->on_message(host, &message);
    }
}

static inline void host_up_take(void *context, const struct mesh_peer_id *peer)
{
    struct host *host = context;
    host->up_count++;
    host->last_up = *peer;
}

static inline void host_down_take(void *context, const struct mesh_peer_id *peer)
{
    (void)peer;
    ((struct host *)context)->down_count++;
}

static inline void host_refused_take(void *context, const struct mesh_peer_id *peer)
{
    (void)peer;
    ((struct host *)context)->refused_count++;
}

static inline void
host_room_take(void *context, const struct mesh_peer_id *peer, enum mesh_lane lane)
{
    struct host *host = context;
    (void)peer;
    (void)lane;
    host->room_count++;
    if (host->on_room) {
        host->on_room(host);
    }
}

static const struct mesh_events host_events = {
    .on_message = host_message_take,
    .on_peer_up = host_up_take,
    .on_peer_down = host_down_take,
    .on_peer_refused = host_refused_take,
    .on_peer_room = host_room_take,
};

static inline void rack_beat(uv_timer_t *timer)
{
    (void)timer; /* only makes the waiter look at its condition again */
}

static inline void rack_init(struct rack *rack)
{
    memset(rack, 0, sizeof(*rack));
    ck_assert_int_eq(uv_loop_init(&rack->loop), 0);
    ck_assert_int_eq(uv_timer_init(&rack->loop, &rack->beat), 0);
    ck_assert_int_eq(uv_timer_start(&rack->beat, rack_beat, 1, 1), 0);
    for (unsigned i = 0; i < RACK_HOSTS; i++) {
        struct host *host = &rack->hosts[i];
        host->rack = rack;
        mesh_key_generate(&host->secret);
        mesh_key_public(&host->secret, &host->public);
    }
}

#define RACK_WAIT(rack, condition)                                                     \
    do {                                                                               \
        const uint64_t rack_until_ns = uv_hrtime() + RACK_WAIT_MS * UINT64_C(1000000); \
        while (!(condition)) {                                                         \
            ck_assert_msg(uv_hrtime() < rack_until_ns, "never came true: %s",          \
                          #condition);                                                 \
            uv_run(&(rack)->loop, UV_RUN_ONCE);                                        \
        }                                                                              \
    } while (0)

/* Starts a host that listens at these addresses (NULL: does not). */
static inline void
host_open_at(struct host *host, const char *bind, const char *join_bind)
{
    struct err err = {0};
    const struct mesh_config config = {
        .secret_key = host->secret, .bind = bind, .join_bind = join_bind};
    host->mesh = mesh_open(&host->rack->loop, &config, &host_events, host, &err);
    ck_assert_msg(host->mesh != NULL, "%s", err.text);
}

static inline void host_open(struct host *host)
{
    char address[OWN_LOOPBACK_TEXT_SIZE];
    (void)own_loopback_text(1, 0, address);
    host_open_at(host, address, address);
}

/* Every host of the rack (running or not) is a member for this one. */
static inline void host_trust_all(struct host *host)
{
    struct mesh_key keys[RACK_HOSTS];
    for (unsigned i = 0; i < RACK_HOSTS; i++) {
        keys[i] = host->rack->hosts[i].public;
    }
    ck_assert_int_eq(mesh_members_set(host->mesh, keys, RACK_HOSTS, NULL), 0);
}

static inline void host_dial(struct host *host, const struct host *peer)
{
    struct err err = {0};
    const int r =
        mesh_peer_add(host->mesh, &peer->public, mesh_bind_address(peer->mesh), &err);
    ck_assert_msg(r == 0, "%s", err.text);
}

static inline int
host_say(struct host *host, const struct host *peer, uint16_t type, const char *text)
{
    return mesh_send(host->mesh, &peer->public, MESH_CONTROL, type, text, strlen(text));
}

static inline struct mesh_stats host_stats(struct host *host)
{
    struct mesh_stats stats;
    mesh_stats_get(host->mesh, &stats);
    return stats;
}

static inline bool host_sees(struct host *host, const struct host *peer)
{
    return mesh_peer_is_up(host->mesh, &peer->public);
}

static inline void host_closed(void *context)
{
    struct host *host = context;
    host->mesh = NULL;
}

static inline void host_close(struct host *host)
{
    if (host->mesh) {
        mesh_close(host->mesh, host_closed, host);
        RACK_WAIT(host->rack, host->mesh == NULL);
    }
}

static inline void rack_fini(struct rack *rack)
{
    for (unsigned i = 0; i < RACK_HOSTS; i++) {
        host_close(&rack->hosts[i]);
    }
    uv_close((uv_handle_t *)&rack->beat, NULL);
    uv_run(&rack->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&rack->loop), 0);
}

/* Hosts 0 to count-1 run and trust each other; nobody dials yet. */
static inline void rack_start(struct rack *rack, unsigned count)
{
    rack_init(rack);
    for (unsigned i = 0; i < count; i++) {
        host_open(&rack->hosts[i]);
        host_trust_all(&rack->hosts[i]);
    }
}
