#include "net/mesh_actor.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/require.h"
#include "net/mesh_peer.h"
#include "net/mesh_receive.h"
#include "net/mesh_retry.h"
#include "net/mesh_transmit.h"

#include <sys/eventfd.h>

#define TICK_MS           500  /* as often as the agent speaks */
#define STALLED_RETRY_MS  2    /* a full route has no event of its own */
#define STALL_NOTICED_MS  1000 /* a turn this long: we were stopped, not they silent */
#define HELLO_INTERVAL_MS 1000
#define AGE_INTERVAL_MS   1000
/* It counts when it has lasted: a host that has just joined dials hosts that are yet to
 * hear of it. */
#define REFUSAL_LASTS_MS 3000
/* One that breaks off so long after the one before ended by its timer: nobody spoke. */
#define BREAK_GAP_MAX_MS 4000
/* And a link that has not come up for so long is dialed anew whatever the reason. */
#define REDIAL_MS         15000
#define BULK_IDLE_MAX_MS  60000
#define GUEST_IDLE_MAX_MS 30000
/* Messages per socket and turn, so that no peer holds up the others. */
#define CONTROL_BUDGET 64
#define BULK_BUDGET    4

void mesh_actor_wake(struct mesh *mesh)
{
    if (!atomic_exchange(&mesh->wake_pending, true)) {
        REQUIRE(eventfd_write(mesh->wake_fd, 1) == 0); /* never full: nobody adds 2^64 */
    }
}

/* --- links ------------------------------------------------------------------------- */

static uint64_t refused_wait_max_ms(const struct mesh_peer *peer)
{
    return peer->id.class == MESH_MEMBER ? MESH_RETRY_REFUSED_MAX_MS : MESH_RETRY_MAX_MS;
}

static void peer_refused(struct mesh *mesh, struct mesh_peer *peer)
{
    if (!peer->refused_told) {
        peer->refused_since_ms = mesh->now_ms;
    }
    mesh_lock(mesh);
    if (mesh->now_ms - peer->refused_since_ms >= REFUSAL_LASTS_MS) {
        /* unless it is gone by then */
        peer->refused_until_ms =
            mesh->now_ms + mesh_retry_lapse_ms(peer->refusals, refused_wait_max_ms(peer));
    }
    if (!peer->refused_told) {
        mesh_peer_notify(mesh, peer, MESH_ITEM_REFUSED);
    }
    mesh_unlock(mesh);
    peer->refused_told = true;
}

static void peer_broken(struct mesh *mesh, struct mesh_peer *peer)
{
    if (peer->broken_since_ms == 0 || mesh->now_ms - peer->broken_ms > BREAK_GAP_MAX_MS) {
        peer->broken_since_ms = mesh->now_ms;
    }
    peer->broken_ms = mesh->now_ms;
    if (mesh->now_ms - peer->broken_since_ms >= REFUSAL_LASTS_MS) {
        mesh_lock(mesh);
        peer->broken_until_ms =
            mesh->now_ms + mesh_retry_lapse_ms(peer->breaks, MESH_RETRY_MAX_MS);
        mesh_unlock(mesh);
    }
}

static void link_connected(struct mesh *mesh, struct mesh_link *link)
{
    link->connected = true;
    link->heard_ms = mesh->now_ms;
    if (link->peer->id.class == MESH_JOIN_HOST) {
        link->up = true; /* strangers are not welcomed: being let in has to do */
        mesh_lock(mesh);
        mesh_peer_mark(mesh, link->peer);
        mesh_unlock(mesh);
        mesh_peer_refresh(mesh, link->peer);
    } else {
        link->hello_due = true;
    }
}

static void link_disconnected(struct mesh *mesh, struct mesh_link *link)
{
    link->connected = false;
    link->up = false;
    link->hello_due = false;
    link->blocked = false;
    mesh_peer_refresh(mesh, link->peer);
}

/* A refused or broken handshake ends libzmq's session for good (it takes it for a
 * protocol error), but members are added and hosts are repaired: dial anew, later and
 * later, by how often that was so in a row. */
static void link_turned_away(struct mesh *mesh,
                             struct mesh_link *link,
                             unsigned *count,
                             uint64_t wait_max_ms)
{
    link_disconnected(mesh, link);
    if (link->retry_ms == 0) {
        link->retry_ms = mesh->now_ms + mesh_retry_wait_ms(*count, wait_max_ms) +
                         mesh_jitter(mesh, MESH_RETRY_MIN_MS);
        *count = mesh_retry_count(*count);
    }
}

static void link_events_read(struct mesh *mesh, struct mesh_link *link)
{
    for (;;) {
        switch (mesh_socket_event_take(&link->socket)) {
        case MESH_SOCKET_NOTHING:
            return;
        case MESH_SOCKET_CONNECTED:
            link_connected(mesh, link);
            break;
        case MESH_SOCKET_DISCONNECTED:
            link_disconnected(mesh, link);
            break;
        case MESH_SOCKET_REFUSED:
            link_turned_away(mesh, link, &link->peer->refusals,
                             refused_wait_max_ms(link->peer));
            peer_refused(mesh, link->peer);
            break;
        case MESH_SOCKET_BROKEN:
            link_turned_away(mesh, link, &link->peer->breaks, MESH_RETRY_MAX_MS);
            peer_broken(mesh, link->peer);
            mesh_count(mesh, MESH_COUNT_handshakes_broken, 1);
            break;
        case MESH_SOCKET_CLOSED:
        case MESH_SOCKET_OTHER:
            break;
        }
    }
}

/* Makes the links follow what the loop wants of this peer. */
static void links_follow(struct mesh *mesh, struct mesh_peer *peer)
{
    mesh_lock(mesh);
    const bool dialed = peer->dialed;
    const unsigned revision = peer->address_revision;
    const struct mesh_address address = peer->address;
    mesh_unlock(mesh);
    const bool wanted = dialed && (peer->id.class != MESH_MEMBER ||
                                   mesh_zap_is_member(mesh->zap, &peer->id.key));
    struct mesh_link *control = &peer->links[MESH_CONTROL];
    if (mesh_link_is_open(control) && (!wanted || peer->linked_revision != revision)) {
        mesh_link_close(&peer->links[MESH_BULK]);
        mesh_link_close(control);
        peer->bulk_port = 0;
        peer->refused_told = false;
        mesh_peer_refresh(mesh, peer);
    }
    if (wanted && !mesh_link_is_open(control)) {
        peer->linked_revision = revision;
        peer->linked_address = address;
        (void)mesh_link_open(mesh, peer, MESH_CONTROL); /* the next tick tries again */
    }
}

static void bulk_link_follow(struct mesh *mesh, struct mesh_peer *peer)
{
    struct mesh_link *bulk = &peer->links[MESH_BULK];
    if (mesh_link_is_open(bulk) && peer->bulk_moved) {
        mesh_link_close(bulk);
        peer->bulk_wanted = true;
    }
    peer->bulk_moved = false;
    if (peer->bulk_wanted && !mesh_link_is_open(bulk) && peer->bulk_port > 0 &&
        peer->links[MESH_CONTROL].up) {
        peer->bulk_wanted = false;
        peer->bulk_used_ms = mesh->now_ms;
        (void)mesh_link_open(mesh, peer,
                             MESH_BULK); /* asked for again while bulk waits */
    }
}

/* --- serving peers ----------------------------------------------------------------- */

static void member_removed(struct mesh *mesh, struct mesh_peer *peer)
{
    for (unsigned lane = 0; lane < MESH_LANE_COUNT; lane++) {
        peer->routes[lane].live = false;
    }
    mesh_lock(mesh);
    mesh_peer_outbox_clear(mesh, peer);
    mesh_unlock(mesh);
    links_follow(mesh, peer);
    mesh_peer_refresh(mesh, peer);
}

static void members_check(struct mesh *mesh)
{
    LIST_EACH (link, &mesh->peer_list) {
        struct mesh_peer *peer = LIST_ITEM(link, struct mesh_peer, link);
        if (peer->id.class != MESH_MEMBER) {
            continue;
        }
        if (mesh_zap_is_member(mesh->zap, &peer->id.key)) {
            links_follow(mesh, peer);
        } else {
            member_removed(mesh, peer);
        }
    }
}

static struct mesh_peer *dirty_take(struct mesh *mesh, struct list *dirty)
{
    mesh_lock(mesh);
    struct mesh_peer *peer = NULL;
    if (!list_empty(dirty)) {
        peer = LIST_ITEM(dirty->next, struct mesh_peer, dirty_link);
        list_remove(&peer->dirty_link);
    }
    mesh_unlock(mesh);
    return peer;
}

static void stalled_retry(struct mesh *mesh)
{
    if (mesh->now_ms < mesh->stalled_due_ms) {
        return;
    }
    mesh->stalled_due_ms = mesh->now_ms + STALLED_RETRY_MS;
    mesh_lock(mesh);
    while (!list_empty(&mesh->stalled)) {
        struct mesh_peer *peer =
            LIST_ITEM(mesh->stalled.next, struct mesh_peer, stalled_link);
        list_remove(&peer->stalled_link);
        mesh_peer_mark(mesh, peer);
    }
    mesh_unlock(mesh);
}

/* Everyone's control first, then bulk. What becomes dirty meanwhile waits for the next
 * turn, so that sockets are read in between. */
static void dirty_serve(struct mesh *mesh)
{
    struct list dirty;
    struct list bulk;
    list_init(&dirty);
    list_init(&bulk);
    mesh_lock(mesh);
    list_move_all(&dirty, &mesh->dirty);
    mesh_unlock(mesh);
    struct mesh_peer *peer = NULL;
    while ((peer = dirty_take(mesh, &dirty))) {
        if (list_empty(&peer->link)) {
            list_push_back(&mesh->peer_list, &peer->link);
        }
        links_follow(mesh, peer);
        mesh_transmit_peer(mesh, peer, MESH_CONTROL, CONTROL_BUDGET);
        list_push_back(&bulk, &peer->bulk_link);
    }
    while (!list_empty(&bulk)) {
        peer = LIST_ITEM(bulk.next, struct mesh_peer, bulk_link);
        list_remove(&peer->bulk_link);
        mesh_transmit_peer(mesh, peer, MESH_BULK, BULK_BUDGET);
        bulk_link_follow(mesh, peer);
    }
}

static enum mesh_lane listener_lane(enum mesh_listener listener)
{
    return listener == MESH_LISTENER_BULK ? MESH_BULK : MESH_CONTROL;
}

/* --- the tick ---------------------------------------------------------------------- */

static bool silent(const struct mesh *mesh, uint64_t heard_ms, uint64_t max_ms)
{
    const uint64_t since_ms = heard_ms > mesh->resumed_ms ? heard_ms : mesh->resumed_ms;
    return mesh->now_ms - since_ms > max_ms;
}

static bool link_is_hopeless(const struct mesh *mesh, const struct mesh_link *link)
{
    return !link->up && (link->retry_ms > 0 ? mesh->now_ms >= link->retry_ms
                                            : mesh->now_ms - link->heard_ms > REDIAL_MS);
}

static void link_tick(struct mesh *mesh, struct mesh_link *link)
{
    if (!mesh_link_is_open(link)) {
        return;
    }
    /* Join hosts are dialed by guests, to whom nobody talks unasked. */
    if (link->peer->id.class != MESH_JOIN_HOST) {
        if (link->connected &&
            mesh->now_ms - link->hello_ms >= HELLO_INTERVAL_MS - TICK_MS / 2) {
            link->hello_due = true;
        }
        if (link->up && silent(mesh, link->heard_ms, MESH_SILENCE_MAX_MS)) {
            link->up = false; /* the socket goes on trying */
        }
    }
    const bool idle = link->lane == MESH_BULK &&
                      mesh->now_ms - link->peer->bulk_used_ms > BULK_IDLE_MAX_MS;
    if (idle || link_is_hopeless(mesh, link)) {
        mesh_link_close(link); /* what is still wanted is opened in the next tick */
    }
}

static void route_tick(struct mesh *mesh, struct mesh_peer *peer, enum mesh_lane lane)
{
    struct mesh_route *route = &peer->routes[lane];
    const uint64_t max_ms =
        peer->id.class == MESH_GUEST ? GUEST_IDLE_MAX_MS : MESH_SILENCE_MAX_MS;
    if (route->live && silent(mesh, route->heard_ms, max_ms)) {
        route->live = false;
    }
    /* A probe to a connection that has ended fails, which tells whose it was. */
    if (route->live && mesh->probe_due && peer->id.class == MESH_MEMBER) {
        mesh_transmit_welcome(mesh, peer, lane);
    }
}

/* Old control is dropped for its own age, old bulk only when nothing of it has left for
 * that long: chunks on a slow link are not stale. */
static void outboxes_age(struct mesh *mesh, struct mesh_peer *peer)
{
    peer->aged_ms = mesh->now_ms;
    const uint64_t before_ms =
        mesh->now_ms > MESH_QUEUE_AGE_MAX_MS ? mesh->now_ms - MESH_QUEUE_AGE_MAX_MS : 0;
    mesh_lock(mesh);
    for (unsigned lane = 0; lane < MESH_LANE_COUNT; lane++) {
        struct mesh_outbox *outbox = &peer->outbox[lane];
        if (lane == MESH_CONTROL || outbox->moved_ms < before_ms) {
            mesh_count(mesh, MESH_COUNT_dropped_age,
                       mesh_queue_drop_older(&outbox->queue, before_ms));
            mesh_peer_room_check(mesh, peer, (enum mesh_lane)lane);
        }
    }
    mesh_unlock(mesh);
}

/* Nobody needs it: not dialed, not connected, nothing left to tell. */
static bool peer_is_idle(struct mesh *mesh, const struct mesh_peer *peer)
{
    bool idle = !peer->routes[MESH_CONTROL].live && !peer->routes[MESH_BULK].live;
    mesh_lock(mesh);
    idle = idle && !peer->dialed && !peer->up;
    for (unsigned kind = 0; kind < MESH_ITEM_KIND_COUNT; kind++) {
        idle = idle && list_empty(&peer->notices[kind].link);
    }
    mesh_unlock(mesh);
    return idle;
}

static void peer_tick(struct mesh *mesh, struct mesh_peer *peer)
{
    links_follow(mesh, peer);
    for (unsigned lane = 0; lane < MESH_LANE_COUNT; lane++) {
        link_tick(mesh, &peer->links[lane]);
        route_tick(mesh, peer, (enum mesh_lane)lane);
    }
    mesh_peer_refresh(mesh, peer);
    if (mesh->now_ms - peer->aged_ms >= AGE_INTERVAL_MS) {
        outboxes_age(mesh, peer);
    }
    mesh_lock(mesh);
    if (!mesh_queue_empty(&peer->outbox[MESH_BULK].queue)) {
        mesh_peer_mark(mesh, peer); /* it may still wait for the bulk lane to be dialed */
    }
    mesh_unlock(mesh);
    if (peer_is_idle(mesh, peer)) {
        (void)mesh_peer_free(mesh, peer);
    }
}

static void tick(struct mesh *mesh)
{
    LIST_EACH_SAFE (link, &mesh->peer_list) {
        peer_tick(mesh, LIST_ITEM(link, struct mesh_peer, link));
    }
    mesh->probe_due = false;
}

/* --- the turn ---------------------------------------------------------------------- */

/* Something is left to do: look for signals, but do not sleep. */
static bool work_waits(struct mesh *mesh)
{
    const bool reads[MESH_LANE_COUNT] = {
        !mesh_receive_paused(mesh, MESH_CONTROL),
        !mesh_receive_paused(mesh, MESH_BULK),
    };
    mesh_lock(mesh);
    bool waits = !list_empty(&mesh->dirty);
    mesh_unlock(mesh);
    for (unsigned i = 0; i < MESH_LISTENER_COUNT; i++) {
        const struct mesh_socket *socket = &mesh->listeners[i];
        waits = waits || socket->monitor_watch.due ||
                (socket->watch.due && reads[listener_lane((enum mesh_listener)i)]);
    }
    LIST_EACH (node, &mesh->links) {
        const struct mesh_link *link = LIST_ITEM(node, struct mesh_link, link);
        waits = waits || link->socket.monitor_watch.due ||
                (link->socket.watch.due && reads[link->lane]);
    }
    return waits;
}

static int turn_timeout_ms(struct mesh *mesh, uint64_t tick_ms)
{
    if (tick_ms <= mesh->now_ms || work_waits(mesh)) {
        return 0;
    }
    const int wait_ms = (int)(tick_ms - mesh->now_ms);
    return !list_empty(&mesh->stalled) && wait_ms > STALLED_RETRY_MS ? STALLED_RETRY_MS
                                                                     : wait_ms;
}

static void listener_events_read(struct mesh *mesh, enum mesh_listener listener)
{
    enum mesh_socket_event event;
    while ((event = mesh_socket_event_take(&mesh->listeners[listener])) !=
           MESH_SOCKET_NOTHING) {
        if (event == MESH_SOCKET_BROKEN) {
            mesh_count(mesh, MESH_COUNT_handshakes_broken, 1);
        } else if (event == MESH_SOCKET_DISCONNECTED) {
            mesh->probe_due = true;
        }
    }
}

static void events_read(struct mesh *mesh)
{
    for (unsigned i = 0; i < MESH_LISTENER_COUNT; i++) {
        if (mesh->listeners[i].monitor_watch.due) {
            listener_events_read(mesh, (enum mesh_listener)i);
        }
    }
    LIST_EACH (node, &mesh->links) {
        struct mesh_link *link = LIST_ITEM(node, struct mesh_link, link);
        if (link->socket.monitor_watch.due) {
            link_events_read(mesh, link);
        }
    }
}

static void lane_read(struct mesh *mesh, enum mesh_lane lane, unsigned budget)
{
    for (unsigned i = 0; i < MESH_LISTENER_COUNT; i++) {
        if (mesh->listeners[i].watch.due &&
            listener_lane((enum mesh_listener)i) == lane) {
            mesh_receive_listener(mesh, (enum mesh_listener)i, budget);
        }
    }
    LIST_EACH (node, &mesh->links) {
        struct mesh_link *link = LIST_ITEM(node, struct mesh_link, link);
        if (link->socket.watch.due && link->lane == lane) {
            mesh_receive_link(mesh, link, budget);
        }
    }
}

/* After all reads, which may have taken the signal that there is room. */
static void blocked_ask(struct mesh *mesh)
{
    LIST_EACH (node, &mesh->links) {
        struct mesh_link *link = LIST_ITEM(node, struct mesh_link, link);
        if (link->blocked && link->connected &&
            mesh_watch_writable(&link->socket.watch, link->socket.socket)) {
            link->blocked = false;
            mesh_lock(mesh);
            mesh_peer_mark(mesh, link->peer);
            mesh_unlock(mesh);
        }
    }
}

static void hellos_say(struct mesh *mesh)
{
    LIST_EACH (node, &mesh->links) {
        struct mesh_link *link = LIST_ITEM(node, struct mesh_link, link);
        if (link->hello_due && link->connected && !link->blocked) {
            mesh_transmit_hello(mesh, link);
        }
    }
}

static void clock_read(struct mesh *mesh)
{
    const uint64_t now_ms = (uint64_t)zclock_mono();
    if (now_ms - mesh->now_ms > STALL_NOTICED_MS) {
        mesh->resumed_ms = now_ms;
    }
    mesh->now_ms = now_ms;
}

static void turn_run(struct mesh *mesh, uint64_t *tick_ms)
{
    mesh_watch_wait(mesh->watch_set, turn_timeout_ms(mesh, *tick_ms));
    clock_read(mesh);
    mesh_count(mesh, MESH_COUNT_turns, 1);
    /* Before the shared state is looked at: what comes later wakes again. */
    atomic_store(&mesh->wake_pending, false);
    events_read(mesh);
    lane_read(mesh, MESH_CONTROL, CONTROL_BUDGET);
    lane_read(mesh, MESH_BULK, BULK_BUDGET);
    blocked_ask(mesh);
    /* From here on links come and go. */
    if (atomic_exchange(&mesh->members_changed, false)) {
        members_check(mesh);
    }
    hellos_say(mesh);
    stalled_retry(mesh);
    dirty_serve(mesh);
    if (*tick_ms <= mesh->now_ms) {
        /* At multiples, as the loop's timers: what they send leaves in the same turn. */
        *tick_ms = mesh->now_ms - mesh->now_ms % TICK_MS + TICK_MS;
        tick(mesh);
    }
    if (mesh->post_due) {
        mesh->post_due = false;
        loop_post_send(mesh->post);
    }
}

static void actor_end(struct mesh *mesh)
{
    LIST_EACH_SAFE (link, &mesh->peer_list) {
        (void)mesh_peer_free(mesh, LIST_ITEM(link, struct mesh_peer, link));
    }
    for (unsigned i = 0; i < MESH_LISTENER_COUNT; i++) {
        mesh_socket_unlisten(&mesh->listeners[i]);
        mesh_socket_close(&mesh->listeners[i]);
    }
}

void mesh_actor_main(zsock_t *pipe, void *args)
{
    struct mesh *mesh = args;
    mesh_socket_block_signals();
    mesh->now_ms = (uint64_t)zclock_mono();
    zsock_signal(pipe, 0);
    uint64_t tick_ms = mesh->now_ms; /* when the next one is due */
    while (!atomic_load(&mesh->stop_wanted)) {
        turn_run(mesh, &tick_ms);
    }
    actor_end(mesh);
    atomic_store(&mesh->stopped, true);
    loop_post_send(mesh->post);
}
