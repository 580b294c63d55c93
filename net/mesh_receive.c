#include "net/mesh_receive.h"

#include "base/require.h"
#include "net/mesh_peer.h"
#include "net/mesh_transmit.h"

#include <string.h>

/* One message as it came: the frame, and on a listener the routing id. Owned. */
struct arrival {
    zframe_t *id;
    zframe_t *frame;
    bool malformed; /* more or fewer parts than one message has */
    size_t good_bytes;
};

/* Counted last: what is counted has been handed on. */
static void arrival_fini(struct mesh *mesh, struct arrival *arrival)
{
    mesh_count(mesh, MESH_COUNT_bytes_received, arrival->good_bytes);
    zframe_destroy(&arrival->id);
    zframe_destroy(&arrival->frame);
}

static zframe_t *part_take(zsock_t *socket)
{
    return zframe_recv(socket); /* with RCVTIMEO 0: NULL when there is none */
}

/* Reads one message whole; false when there is none. */
static bool arrival_take(zsock_t *socket, bool with_id, struct arrival *ret_arrival)
{
    struct arrival arrival = {0};
    zframe_t *last = part_take(socket);
    if (!last) {
        return false;
    }
    if (with_id) {
        arrival.id = last;
        last = zframe_more(last) ? part_take(socket) : NULL;
    }
    arrival.frame = last;
    arrival.malformed = !last || zframe_more(last);
    while (last && zframe_more(last)) {
        zframe_t *next = part_take(socket);
        if (last != arrival.frame) {
            zframe_destroy(&last);
        }
        last = next;
    }
    if (last != arrival.frame) {
        zframe_destroy(&last);
    }
    *ret_arrival = arrival;
    return true;
}

/* Decodes and counts; 0 or negative when it was dropped. */
static int arrival_decode(struct mesh *mesh,
                          struct arrival *arrival,
                          enum mesh_lane lane,
                          struct mesh_frame *ret_frame,
                          const uint8_t **ret_body)
{
    int r = arrival->malformed
                ? BERTH_EPROTO
                : mesh_frame_decode(zframe_data(arrival->frame),
                                    zframe_size(arrival->frame), ret_frame, ret_body);
    if (r == 0 && ((ret_frame->flags & MESH_FRAME_BULK) != 0) != (lane == MESH_BULK)) {
        r = BERTH_EPROTO;
    }
    if (r) {
        mesh_count(mesh,
                   r == BERTH_EUNSUPPORTED ? MESH_COUNT_dropped_version
                                           : MESH_COUNT_dropped_malformed,
                   1);
        return r;
    }
    mesh_count(mesh, MESH_COUNT_frames_received, 1);
    arrival->good_bytes = zframe_size(arrival->frame);
    return 0;
}

/* Hands the frame to the loop. */
static void inbox_put(struct mesh *mesh,
                      const struct mesh_peer_id *from,
                      enum mesh_lane lane,
                      uint16_t type,
                      struct arrival *arrival)
{
    struct mesh_item *item = mesh_item_new(from, type, arrival->frame);
    if (!item) {
        mesh_count(mesh, MESH_COUNT_dropped_inbox, 1);
        return;
    }
    arrival->frame = NULL;
    mesh_lock(mesh);
    mesh_queue_push(&mesh->inbox[lane], item);
    mesh->inbox_guests += from->class == MESH_GUEST ? 1 : 0;
    mesh_unlock(mesh);
    mesh->post_due = true;
}

bool mesh_receive_paused(struct mesh *mesh, enum mesh_lane lane)
{
    mesh_lock(mesh);
    const bool full = mesh_queue_full(&mesh->inbox[lane]);
    if (full) {
        mesh->inbox_paused[lane] = true;
    }
    const bool paused = mesh->inbox_paused[lane];
    mesh_unlock(mesh);
    if (paused) {
        mesh->resumed_ms = mesh->now_ms; /* what we do not read we cannot hear */
    }
    return paused;
}

/* Follows the peer's process through restarts; false when the frame is from a former one.
 */
static bool session_accept(struct mesh *mesh, struct mesh_peer *peer, uint64_t session)
{
    if (session == peer->session) {
        return true;
    }
    if (session == peer->session_before) {
        return false;
    }
    const bool restarted = peer->session != 0;
    peer->session_before = peer->session;
    peer->session = session;
    memset(peer->received, 0, sizeof(peer->received));
    if (restarted) {
        mesh_peer_restarted(mesh, peer);
    }
    return true;
}

static bool
sequence_accept(struct mesh_peer *peer, enum mesh_lane lane, uint64_t sequence)
{
    if (sequence <= peer->received[lane]) {
        return false;
    }
    peer->received[lane] = sequence;
    return true;
}

/* A frame of the caller's, from a member. */
static void member_frame_take(struct mesh *mesh,
                              struct mesh_peer *peer,
                              enum mesh_lane lane,
                              const struct mesh_frame *frame,
                              struct arrival *arrival)
{
    if (!sequence_accept(peer, lane, frame->sequence)) {
        mesh_count(mesh, MESH_COUNT_dropped_order, 1);
        return;
    }
    peer->bulk_used_ms = lane == MESH_BULK ? mesh->now_ms : peer->bulk_used_ms;
    inbox_put(mesh, &peer->id, lane, frame->type, arrival);
}

/* Who sent it, by what the ZAP handler found; false when it does not say. */
static bool sender_identify(const struct arrival *arrival,
                            char hex[MESH_KEY_HEX_SIZE],
                            struct mesh_key *ret_key)
{
    const char *user = arrival->frame ? zframe_meta(arrival->frame, "User-Id") : NULL;
    if (!user || strlen(user) != MESH_KEY_HEX_SIZE - 1 || mesh_key_parse(user, ret_key)) {
        return false;
    }
    memcpy(hex, user, MESH_KEY_HEX_SIZE);
    return true;
}

/* Remembers through which connection the peer can be answered: the one it used last. */
static void
route_learn(struct mesh *mesh, struct mesh_peer *peer, enum mesh_lane lane, zframe_t *id)
{
    struct mesh_route *route = &peer->routes[lane];
    const size_t size = zframe_size(id);
    REQUIRE(size <= sizeof(route->id)); /* libzmq's own limit */
    memcpy(route->id, zframe_data(id), size);
    route->id_size = (uint8_t)size;
    route->heard_ms = mesh->now_ms;
    if (!route->live) {
        route->live = true;
        mesh_lock(mesh);
        mesh_peer_mark(mesh, peer); /* what has waited can leave */
        mesh_unlock(mesh);
        mesh_peer_refresh(mesh, peer);
    }
}

/* Finds or makes the peer that a listener has heard of. */
static struct mesh_peer *
peer_meet(struct mesh *mesh, const struct mesh_peer_id *id, const char *hex)
{
    mesh_lock(mesh);
    struct mesh_peer *peer = mesh_peer_get(mesh, id, hex);
    mesh_unlock(mesh);
    if (!peer) {
        mesh_count(mesh, MESH_COUNT_dropped_inbox, 1);
        return NULL;
    }
    if (list_empty(&peer->link)) {
        list_push_back(&mesh->peer_list, &peer->link);
    }
    return peer;
}

static void
member_arrival(struct mesh *mesh, enum mesh_lane lane, struct arrival *arrival)
{
    struct mesh_peer_id id = {.class = MESH_MEMBER};
    char hex[MESH_KEY_HEX_SIZE];
    if (!sender_identify(arrival, hex, &id.key) ||
        !mesh_zap_is_member(mesh->zap, &id.key)) {
        mesh_count(mesh, MESH_COUNT_dropped_stranger, 1);
        return;
    }
    struct mesh_frame frame;
    const uint8_t *body = NULL;
    if (arrival_decode(mesh, arrival, lane, &frame, &body)) {
        return;
    }
    const bool hello = frame.type == MESH_TYPE_HELLO;
    if (!hello && frame.type < MESH_TYPE_USER_MIN) {
        mesh_count(mesh, MESH_COUNT_dropped_type, 1);
        return;
    }
    struct mesh_peer *peer = peer_meet(mesh, &id, hex);
    if (!peer) {
        return;
    }
    if (!session_accept(mesh, peer, frame.session)) {
        mesh_count(mesh, MESH_COUNT_dropped_order, 1);
        return;
    }
    route_learn(mesh, peer, lane, arrival->id);
    if (hello) {
        mesh_transmit_welcome(mesh, peer, lane);
    } else {
        member_frame_take(mesh, peer, lane, &frame, arrival);
    }
}

/* The guest that has waited longest makes room for a new one. */
static void guests_limit(struct mesh *mesh)
{
    struct mesh_peer *oldest = NULL;
    unsigned count = 0;
    LIST_EACH (link, &mesh->peer_list) {
        struct mesh_peer *peer = LIST_ITEM(link, struct mesh_peer, link);
        if (peer->id.class == MESH_GUEST) {
            count++;
            oldest = !oldest || peer->routes[0].heard_ms < oldest->routes[0].heard_ms
                         ? peer
                         : oldest;
        }
    }
    if (count > MESH_GUESTS_MAX) {
        (void)mesh_peer_free(mesh, oldest);
    }
}

static bool guest_inbox_full(struct mesh *mesh)
{
    mesh_lock(mesh);
    const bool full = mesh->inbox_guests >= MESH_INBOX_GUEST_MAX;
    mesh_unlock(mesh);
    return full;
}

static void guest_arrival(struct mesh *mesh, struct arrival *arrival)
{
    struct mesh_peer_id id = {.class = MESH_GUEST};
    char hex[MESH_KEY_HEX_SIZE];
    if (!sender_identify(arrival, hex, &id.key) || !mesh_zap_guests_allowed(mesh->zap)) {
        mesh_count(mesh, MESH_COUNT_dropped_stranger, 1);
        return;
    }
    struct mesh_frame frame;
    const uint8_t *body = NULL;
    if (arrival_decode(mesh, arrival, MESH_CONTROL, &frame, &body)) {
        return;
    }
    if (frame.type != MESH_TYPE_JOIN) {
        mesh_count(mesh, MESH_COUNT_dropped_type, 1);
        return;
    }
    if (guest_inbox_full(mesh)) {
        mesh_count(mesh, MESH_COUNT_dropped_inbox, 1);
        return;
    }
    struct mesh_peer *peer = peer_meet(mesh, &id, hex);
    if (!peer) {
        return;
    }
    route_learn(mesh, peer, MESH_CONTROL, arrival->id);
    inbox_put(mesh, &id, MESH_CONTROL, frame.type, arrival);
    guests_limit(mesh);
}

void mesh_receive_listener(struct mesh *mesh,
                           enum mesh_listener listener,
                           unsigned budget)
{
    const enum mesh_lane lane = listener == MESH_LISTENER_BULK ? MESH_BULK : MESH_CONTROL;
    struct arrival arrival;
    while (budget-- > 0 && !mesh_receive_paused(mesh, lane)) {
        if (!arrival_take(mesh->listeners[listener].socket, true, &arrival)) {
            mesh->listeners[listener].watch.due = false;
            return;
        }
        if (listener == MESH_LISTENER_JOIN) {
            guest_arrival(mesh, &arrival);
        } else {
            member_arrival(mesh, lane, &arrival);
        }
        arrival_fini(mesh, &arrival);
    }
}

static void link_welcomed(struct mesh *mesh,
                          struct mesh_link *link,
                          const struct mesh_frame *frame,
                          const uint8_t *body)
{
    struct mesh_peer *peer = link->peer;
    uint16_t bulk_port = 0;
    if (mesh_welcome_decode(body, frame->body_size, &bulk_port)) {
        mesh_count(mesh, MESH_COUNT_dropped_malformed, 1);
        return;
    }
    if (link->lane == MESH_CONTROL && bulk_port != peer->bulk_port) {
        peer->bulk_port = bulk_port;
        peer->bulk_moved = true;
    }
    if (!link->up) {
        link->up = true;
        mesh_lock(mesh);
        mesh_peer_mark(mesh, peer);
        mesh_unlock(mesh);
        mesh_peer_refresh(mesh, peer);
    }
}

static void
link_arrival(struct mesh *mesh, struct mesh_link *link, struct arrival *arrival)
{
    struct mesh_peer *peer = link->peer;
    struct mesh_frame frame;
    const uint8_t *body = NULL;
    if (peer->id.class == MESH_MEMBER && !mesh_zap_is_member(mesh->zap, &peer->id.key)) {
        mesh_count(mesh, MESH_COUNT_dropped_stranger, 1);
        return;
    }
    if (arrival_decode(mesh, arrival, link->lane, &frame, &body)) {
        return;
    }
    if (!session_accept(mesh, peer, frame.session)) {
        mesh_count(mesh, MESH_COUNT_dropped_order, 1);
        return;
    }
    link->heard_ms = mesh->now_ms;
    const bool join_host = peer->id.class == MESH_JOIN_HOST;
    if (join_host ? frame.type == MESH_TYPE_JOIN_REPLY
                  : frame.type >= MESH_TYPE_USER_MIN) {
        member_frame_take(mesh, peer, link->lane, &frame, arrival);
    } else if (!join_host && frame.type == MESH_TYPE_WELCOME) {
        link_welcomed(mesh, link, &frame, body);
    } else if (!join_host && frame.type == MESH_TYPE_BULK_OPEN) {
        peer->bulk_wanted = true;
        mesh_lock(mesh);
        mesh_peer_mark(mesh, peer);
        mesh_unlock(mesh);
    } else {
        mesh_count(mesh, MESH_COUNT_dropped_type, 1);
    }
}

void mesh_receive_link(struct mesh *mesh, struct mesh_link *link, unsigned budget)
{
    struct arrival arrival;
    while (budget-- > 0 && !mesh_receive_paused(mesh, link->lane)) {
        if (!arrival_take(link->socket.socket, false, &arrival)) {
            link->socket.watch.due = false;
            return;
        }
        link_arrival(mesh, link, &arrival);
        arrival_fini(mesh, &arrival);
    }
}
