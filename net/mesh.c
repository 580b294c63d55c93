#include "net/mesh.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/random.h"
#include "base/require.h"
#include "base/where.h"
#include "net/mesh_actor.h"
#include "net/mesh_core.h"
#include "net/mesh_peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

_Static_assert(6 * MESH_DIALS_MAX < MESH_SOCKETS_MAX, "every dial has its sockets");

/* Callbacks per loop turn; more go on after other things have had their turn. */
#define DELIVER_BUDGET 256

/* --- arrivals: from the inbox to the callbacks ----------------------------------- */

/* What the callbacks need, by value: a notice belongs to its peer, which the actor may
 * free. */
struct delivery {
    enum mesh_item_kind kind;
    struct mesh_peer_id peer;
    struct mesh_item *item; /* a frame, owned; NULL for a notice */
};

static bool inbox_take(struct mesh *mesh, struct delivery *ret_delivery)
{
    bool wake = false;
    mesh_lock(mesh);
    /* Bulk only while no control waits. */
    const enum mesh_lane lane =
        mesh_queue_empty(&mesh->inbox[MESH_CONTROL]) ? MESH_BULK : MESH_CONTROL;
    struct mesh_item *item = mesh_queue_pop(&mesh->inbox[lane]);
    if (item) {
        *ret_delivery = (struct delivery){
            .kind = item->kind,
            .peer = item->peer,
            .item = item->kind == MESH_ITEM_FRAME ? item : NULL,
        };
        mesh->inbox_guests -=
            item->kind == MESH_ITEM_FRAME && item->peer.class == MESH_GUEST ? 1 : 0;
    }
    for (unsigned i = 0; i < MESH_LANE_COUNT; i++) {
        if (mesh->inbox_paused[i] && mesh_queue_half_free(&mesh->inbox[i])) {
            mesh->inbox_paused[i] = false;
            wake = true;
        }
    }
    mesh_unlock(mesh);
    if (wake) {
        mesh_actor_wake(mesh);
    }
    return item != NULL;
}

static void deliver_frame(struct mesh *mesh, struct mesh_item *item)
{
    struct mesh_frame frame;
    const uint8_t *body = NULL;
    if (item->peer.class == MESH_MEMBER &&
        !mesh_zap_is_member(mesh->zap, &item->peer.key)) {
        mesh_count(mesh, MESH_COUNT_dropped_stranger, 1); /* removed after it arrived */
        return;
    }
    const int r = mesh_frame_decode(zframe_data(item->frame), zframe_size(item->frame),
                                    &frame, &body);
    REQUIRE(r == 0); /* the actor has decoded it before */
    if (mesh->events.on_message) {
        mesh->events.on_message(mesh->context, &item->peer, frame.type, body,
                                frame.body_size);
    }
}

static void peer_event(struct mesh *mesh,
                       void (*fn)(void *context, const struct mesh_peer_id *peer),
                       const struct mesh_peer_id *peer)
{
    if (fn) {
        fn(mesh->context, peer);
    }
}

static void
room_event(struct mesh *mesh, const struct mesh_peer_id *peer, enum mesh_lane lane)
{
    if (mesh->events.on_peer_room) {
        mesh->events.on_peer_room(mesh->context, peer, lane);
    }
}

static void delivery_fire(struct mesh *mesh, struct delivery *delivery)
{
    switch (delivery->kind) {
    case MESH_ITEM_FRAME:
        deliver_frame(mesh, delivery->item);
        delivery->item = mesh_item_free(delivery->item);
        break;
    case MESH_ITEM_UP:
        peer_event(mesh, mesh->events.on_peer_up, &delivery->peer);
        break;
    case MESH_ITEM_DOWN:
        peer_event(mesh, mesh->events.on_peer_down, &delivery->peer);
        break;
    case MESH_ITEM_REFUSED:
        peer_event(mesh, mesh->events.on_peer_refused, &delivery->peer);
        break;
    case MESH_ITEM_ROOM_CONTROL:
        room_event(mesh, &delivery->peer, MESH_CONTROL);
        break;
    case MESH_ITEM_ROOM_BULK:
        room_event(mesh, &delivery->peer, MESH_BULK);
        break;
    case MESH_ITEM_KIND_COUNT:
        break;
    }
}

/* --- opening and closing ------------------------------------------------------- */

static void mesh_free(struct mesh *mesh)
{
    for (unsigned i = 0; i < MESH_LANE_COUNT; i++) {
        (void)mesh_queue_clear(&mesh->inbox[i]);
    }
    for (unsigned class = 0; class < MESH_CLASS_COUNT; class ++) {
        size_t cursor = 0;
        struct string_map_entry entry;
        while (mesh->peers[class] &&
               string_map_next(mesh->peers[class], &cursor, &entry)) {
            (void)mesh_peer_free(mesh, entry.value);
        }
        (void)string_map_free(mesh->peers[class]);
    }
    for (unsigned i = 0; i < MESH_LISTENER_COUNT; i++) {
        mesh_socket_close(&mesh->listeners[i]);
    }
    if (mesh->post) {
        mesh->post = loop_post_close(mesh->post);
    }
    mesh->sent = loop_batch_close(mesh->sent);
    mesh_watch_stop(&mesh->wake_watch);
    fd_close(&mesh->watch_set);
    fd_close(&mesh->wake_fd);
    mesh->zap = mesh_zap_close(mesh->zap);
    mesh_key_wipe(&mesh->secret_key);
    pthread_mutex_destroy(&mesh->lock);
    free(mesh);
}

/* All that one turn of the loop sends: the actor wakes once for it. */
static void on_sent(void *context)
{
    mesh_actor_wake(context);
}

static void mesh_posted(void *context)
{
    struct mesh *mesh = context;
    if (mesh->closing) {
        if (atomic_load(&mesh->stopped)) {
            void (*closed)(void *) = mesh->closed;
            void *closed_context = mesh->closed_context;
            WHERE("end the thread of the mesh");
            zactor_destroy(&mesh->actor);
            mesh_free(mesh);
            if (closed) {
                closed(closed_context);
            }
        }
        return;
    }
    struct delivery delivery;
    for (unsigned i = 0; i < DELIVER_BUDGET; i++) {
        if (!inbox_take(mesh, &delivery)) {
            return;
        }
        delivery_fire(mesh, &delivery);
        if (mesh->closing) {
            return; /* by the callback; the actor posts again when it has ended */
        }
    }
    loop_post_send(mesh->post);
}

static int listener_open(struct mesh *mesh,
                         enum mesh_listener listener,
                         const struct mesh_address *address,
                         struct err *err)
{
    const bool join = listener == MESH_LISTENER_JOIN;
    const struct mesh_socket_config config = {
        .secret_key = &mesh->secret_key,
        .public_key = &mesh->public_key,
        .body_size_max = join ? MESH_JOIN_BODY_SIZE_MAX : MESH_BODY_SIZE_MAX,
        .bulk = listener != MESH_LISTENER_CONTROL, /* guests do not slow members either */
        .zap_domain =
            join ? mesh_zap_guest_domain(mesh->zap) : mesh_zap_member_domain(mesh->zap),
    };
    mesh->addresses[listener] = *address;
    const int r = mesh_socket_listen(&mesh->listeners[listener], &config,
                                     &mesh->addresses[listener], err);
    if (r) {
        return r;
    }
    mesh_address_format(&mesh->addresses[listener], mesh->address_texts[listener]);
    const int watched = mesh_socket_watch(&mesh->listeners[listener], mesh->watch_set);
    return watched ? err_sys(err, watched, "watch %s", mesh->address_texts[listener]) : 0;
}

static int
listeners_open(struct mesh *mesh, const struct mesh_config *config, struct err *err)
{
    const char *texts[MESH_LISTENER_COUNT] = {
        [MESH_LISTENER_CONTROL] = config->bind,
        [MESH_LISTENER_BULK] = config->bulk_bind,
        [MESH_LISTENER_JOIN] = config->join_bind,
    };
    struct mesh_address addresses[MESH_LISTENER_COUNT];
    for (unsigned i = 0; i < MESH_LISTENER_COUNT; i++) {
        int r = 0;
        if (texts[i]) {
            r = mesh_address_parse(texts[i], &addresses[i], err);
        } else if (i == MESH_LISTENER_BULK && texts[MESH_LISTENER_CONTROL]) {
            addresses[i] = addresses[MESH_LISTENER_CONTROL];
            addresses[i].port = 0;
        } else {
            continue;
        }
        r = r ? r : listener_open(mesh, (enum mesh_listener)i, &addresses[i], err);
        if (r) {
            return r;
        }
    }
    return 0;
}

static void mesh_init(struct mesh *mesh,
                      uv_loop_t *loop,
                      const struct mesh_config *config,
                      const struct mesh_events *events,
                      void *context)
{
    mesh->loop = loop;
    mesh->watch_set = -1;
    mesh->wake_fd = -1;
    mesh->events = *events;
    mesh->context = context;
    mesh->secret_key = config->secret_key;
    mesh_key_public(&mesh->secret_key, &mesh->public_key);
    do {
        random_secret(&mesh->session, sizeof(mesh->session));
    } while (mesh->session == 0); /* 0 means "not heard yet" */
    random_secret(&mesh->jitter, sizeof(mesh->jitter));
    pthread_mutex_init(&mesh->lock, NULL);
    list_init(&mesh->dirty);
    list_init(&mesh->peer_list);
    list_init(&mesh->links);
    list_init(&mesh->stalled);
    mesh_queue_init(&mesh->inbox[MESH_CONTROL], MESH_INBOX_CONTROL_MAX,
                    MESH_INBOX_CONTROL_BYTES_MAX);
    mesh_queue_init(&mesh->inbox[MESH_BULK], MESH_INBOX_BULK_MAX,
                    MESH_INBOX_BULK_BYTES_MAX);
}

static int
mesh_start(struct mesh *mesh, const struct mesh_config *config, struct err *err)
{
    for (unsigned class = 0; class < MESH_CLASS_COUNT; class ++) {
        mesh->peers[class] = string_map_new();
        if (!mesh->peers[class]) {
            return err_set(err, -ENOMEM, "no memory");
        }
    }
    mesh->zap = mesh_zap_open(err);
    if (!mesh->zap) {
        return err ? err->code : -ENOMEM;
    }
    mesh->watch_set = mesh_watch_set_open();
    mesh->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mesh->watch_set < 0 || mesh->wake_fd < 0) {
        return err_set(err, -EMFILE, "no more descriptors");
    }
    int r = mesh_watch_start_fd(&mesh->wake_watch, mesh->watch_set, mesh->wake_fd);
    if (r) {
        return err_sys(err, r, "watch for wake-ups");
    }
    r = listeners_open(mesh, config, err);
    if (r) {
        return r;
    }
    mesh->post = loop_post_new(mesh->loop, mesh_posted, mesh);
    mesh->sent = loop_batch_new(mesh->loop, on_sent, mesh);
    WHERE("start the thread of the mesh");
    mesh->actor = mesh->post && mesh->sent ? zactor_new(mesh_actor_main, mesh) : NULL;
    return mesh->actor ? 0 : err_set(err, -ENOMEM, "start the mesh's thread");
}

struct mesh *mesh_open(uv_loop_t *loop,
                       const struct mesh_config *config,
                       const struct mesh_events *events,
                       void *context,
                       struct err *err)
{
    REQUIRE(loop && config && events);
    struct mesh *mesh = calloc(1, sizeof(*mesh));
    if (!mesh) {
        (void)err_set(err, -ENOMEM, "open the mesh");
        return NULL;
    }
    mesh_socket_setup();
    mesh_init(mesh, loop, config, events, context);
    const int r = mesh_start(mesh, config, err);
    if (r) {
        (void)err_wrap(err, r, "open the mesh");
        mesh_free(mesh);
        return NULL;
    }
    return mesh;
}

void mesh_close(struct mesh *mesh, void (*closed)(void *context), void *context)
{
    REQUIRE(!mesh->closing);
    mesh->closing = true;
    mesh->closed = closed;
    mesh->closed_context = context;
    atomic_store(&mesh->stop_wanted, true);
    mesh_actor_wake(mesh);
}

const struct mesh_key *mesh_public_key(const struct mesh *mesh)
{
    return &mesh->public_key;
}

const char *mesh_bind_address(const struct mesh *mesh)
{
    return mesh->address_texts[MESH_LISTENER_CONTROL];
}

const char *mesh_join_address(const struct mesh *mesh)
{
    return mesh->address_texts[MESH_LISTENER_JOIN];
}

/* --- who may speak ------------------------------------------------------------- */

int mesh_members_set(struct mesh *mesh,
                     const struct mesh_key *keys,
                     size_t count,
                     struct err *err)
{
    const int r = mesh_zap_members_set(mesh->zap, keys, count, err);
    if (r == 0) {
        atomic_store(&mesh->members_changed, true);
        mesh_actor_wake(mesh);
    }
    return r;
}

void mesh_guests_allow(struct mesh *mesh, bool allow)
{
    mesh_zap_guests_allow(mesh->zap, allow);
}

/* --- peers --------------------------------------------------------------------- */

/* Under the lock. */
static int dial_locked(struct mesh *mesh,
                       const struct mesh_peer_id *id,
                       const char *hex,
                       const struct mesh_address *address)
{
    struct mesh_peer *peer = mesh_peer_find(mesh, id->class, hex);
    if ((!peer || !peer->dialed) && mesh->dial_count >= MESH_DIALS_MAX) {
        return BERTH_EFULL;
    }
    peer = mesh_peer_get(mesh, id, hex);
    if (!peer) {
        return -ENOMEM;
    }
    mesh->dial_count += peer->dialed ? 0 : 1;
    if (!peer->dialed || peer->address.port != address->port ||
        strcmp(peer->address.ip, address->ip) != 0) {
        peer->address_revision++;
    }
    peer->dialed = true;
    peer->address = *address;
    mesh_peer_mark(mesh, peer);
    return 0;
}

static int dial(struct mesh *mesh,
                enum mesh_class class,
                const struct mesh_key *key,
                const char *address_text,
                struct err *err)
{
    const struct mesh_peer_id id = {.key = *key, .class = class};
    char hex[MESH_KEY_HEX_SIZE];
    mesh_key_format(key, hex);
    struct mesh_address address;
    int r = mesh_address_parse(address_text, &address, err);
    if (r) {
        return err_wrap(err, r, "dial peer %.12s", hex);
    }
    if (address.port == 0 || mesh_key_equal(key, &mesh->public_key)) {
        return err_set(err, BERTH_EINVALID, "dial peer %.12s at %s: %s", hex,
                       address_text,
                       address.port == 0 ? "the port is 0" : "that is this host itself");
    }
    mesh_lock(mesh);
    r = dial_locked(mesh, &id, hex, &address);
    mesh_unlock(mesh);
    if (r) {
        return err_sys(err, r, "dial peer %.12s at %s", hex, address_text);
    }
    mesh_actor_wake(mesh);
    return 0;
}

static void hang_up(struct mesh *mesh, enum mesh_class class, const struct mesh_key *key)
{
    char hex[MESH_KEY_HEX_SIZE];
    mesh_key_format(key, hex);
    mesh_lock(mesh);
    struct mesh_peer *peer = mesh_peer_find(mesh, class, hex);
    if (peer && peer->dialed) {
        peer->dialed = false;
        mesh->dial_count--;
        mesh_peer_mark(mesh, peer);
    }
    mesh_unlock(mesh);
    mesh_actor_wake(mesh);
}

int mesh_peer_add(struct mesh *mesh,
                  const struct mesh_key *key,
                  const char *address,
                  struct err *err)
{
    return dial(mesh, MESH_MEMBER, key, address, err);
}

void mesh_peer_remove(struct mesh *mesh, const struct mesh_key *key)
{
    hang_up(mesh, MESH_MEMBER, key);
}

int mesh_join_dial(struct mesh *mesh,
                   const struct mesh_key *key,
                   const char *address,
                   struct err *err)
{
    return dial(mesh, MESH_JOIN_HOST, key, address, err);
}

void mesh_join_hang_up(struct mesh *mesh, const struct mesh_key *key)
{
    hang_up(mesh, MESH_JOIN_HOST, key);
}

bool mesh_peer_is_up(struct mesh *mesh, const struct mesh_key *key)
{
    char hex[MESH_KEY_HEX_SIZE];
    mesh_key_format(key, hex);
    mesh_lock(mesh);
    const struct mesh_peer *peer = mesh_peer_find(mesh, MESH_MEMBER, hex);
    const bool up = peer && peer->up;
    mesh_unlock(mesh);
    return up;
}

enum mesh_join_door mesh_join_door(struct mesh *mesh, const struct mesh_key *key)
{
    enum mesh_join_door door = MESH_JOIN_DOOR_UNKNOWN;
    char hex[MESH_KEY_HEX_SIZE];
    const uint64_t now_ms = (uint64_t)zclock_mono();
    mesh_key_format(key, hex);
    mesh_lock(mesh);
    const struct mesh_peer *peer = mesh_peer_find(mesh, MESH_JOIN_HOST, hex);
    if (peer && !peer->up) {
        door = now_ms < peer->refused_until_ms  ? MESH_JOIN_DOOR_CLOSED
               : now_ms < peer->broken_until_ms ? MESH_JOIN_DOOR_FOREIGN
                                                : MESH_JOIN_DOOR_UNKNOWN;
    }
    mesh_unlock(mesh);
    return door;
}

bool mesh_peer_refuses(struct mesh *mesh, const struct mesh_key *key)
{
    char hex[MESH_KEY_HEX_SIZE];
    const uint64_t now_ms = (uint64_t)zclock_mono();
    mesh_key_format(key, hex);
    mesh_lock(mesh);
    const struct mesh_peer *peer = mesh_peer_find(mesh, MESH_MEMBER, hex);
    const bool refuses = peer && !peer->up && now_ms < peer->refused_until_ms;
    mesh_unlock(mesh);
    return refuses;
}

/* --- sending ------------------------------------------------------------------- */

/* To whom a type may go; MESH_CLASS_COUNT: to nobody. */
static enum mesh_class type_class(uint16_t type)
{
    switch (type) {
    case MESH_TYPE_JOIN:
        return MESH_JOIN_HOST;
    case MESH_TYPE_JOIN_REPLY:
        return MESH_GUEST;
    default:
        return type >= MESH_TYPE_USER_MIN ? MESH_MEMBER : MESH_CLASS_COUNT;
    }
}

static int send_check(struct mesh *mesh,
                      const struct mesh_peer_id *to,
                      enum mesh_lane lane,
                      size_t size)
{
    if (to->class == MESH_CLASS_COUNT || lane >= MESH_LANE_COUNT ||
        (lane == MESH_BULK && to->class != MESH_MEMBER)) {
        return BERTH_EINVALID;
    }
    if (size >
        (to->class == MESH_MEMBER ? MESH_BODY_SIZE_MAX : MESH_JOIN_BODY_SIZE_MAX)) {
        return BERTH_ETOOLARGE;
    }
    if (to->class == MESH_MEMBER && !mesh_zap_is_member(mesh->zap, &to->key)) {
        return BERTH_EFORBIDDEN;
    }
    return 0;
}

static struct mesh_item *send_item_new(struct mesh *mesh,
                                       const struct mesh_peer_id *to,
                                       enum mesh_lane lane,
                                       uint16_t type,
                                       const void *body,
                                       size_t size)
{
    zframe_t *frame = zframe_new(NULL, MESH_FRAME_HEADER_SIZE + size);
    struct mesh_item *item = frame ? mesh_item_new(to, type, frame) : NULL;
    if (!item) {
        zframe_destroy(&frame);
        return NULL;
    }
    mesh_frame_encode(type, lane == MESH_BULK ? MESH_FRAME_BULK : 0, mesh->session,
                      ++mesh->sequence, (uint32_t)size, zframe_data(frame));
    if (size > 0) {
        memcpy(zframe_data(frame) + MESH_FRAME_HEADER_SIZE, body, size);
    }
    item->queued_ms = (uint64_t)zclock_mono();
    return item;
}

/* Under the lock: 0 when the peer's queue takes one more. */
static int
send_room_locked(struct mesh *mesh, struct mesh_peer *peer, enum mesh_lane lane)
{
    if (!peer || !(peer->dialed || peer->up)) {
        return BERTH_EUNREACHABLE;
    }
    if (mesh_queue_full(&peer->outbox[lane].queue)) {
        peer->outbox[lane].room_wanted = true;
        mesh_count(mesh, MESH_COUNT_refused_full, 1);
        return BERTH_EFULL;
    }
    return 0;
}

int mesh_send(struct mesh *mesh,
              const struct mesh_key *key,
              enum mesh_lane lane,
              uint16_t type,
              const void *body,
              size_t size)
{
    if (mesh->closing) {
        return BERTH_ECLOSED;
    }
    const struct mesh_peer_id to = {.key = *key, .class = type_class(type)};
    int r = send_check(mesh, &to, lane, size);
    if (r) {
        return r;
    }
    char hex[MESH_KEY_HEX_SIZE];
    mesh_key_format(key, hex);
    mesh_lock(mesh);
    r = send_room_locked(mesh, mesh_peer_find(mesh, to.class, hex), lane);
    mesh_unlock(mesh);
    if (r) {
        return r;
    }
    struct mesh_item *item = send_item_new(mesh, &to, lane, type, body, size);
    if (!item) {
        return -ENOMEM;
    }
    /* The peer may have gone in between; room it still has, as only this thread adds. */
    mesh_lock(mesh);
    struct mesh_peer *peer = mesh_peer_find(mesh, to.class, hex);
    if (peer) {
        mesh_queue_push(&peer->outbox[lane].queue, item);
        mesh_peer_mark(mesh, peer);
    }
    mesh_unlock(mesh);
    if (!peer) {
        (void)mesh_item_free(item);
        return BERTH_EUNREACHABLE;
    }
    loop_batch_ask(mesh->sent);
    return 0;
}

void mesh_stats_get(struct mesh *mesh, struct mesh_stats *ret_stats)
{
    const struct mesh_zap_counts zap = mesh_zap_counts(mesh->zap);
#define MESH_COUNTER_READ(name, sentence) \
    ret_stats->name =                     \
        atomic_load_explicit(&mesh->counters[MESH_COUNT_##name], memory_order_relaxed);
    MESH_COUNTERS(MESH_COUNTER_READ)
#undef MESH_COUNTER_READ
    ret_stats->handshakes_admitted = zap.admitted;
    ret_stats->handshakes_refused = zap.refused;
}
