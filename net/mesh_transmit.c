#include "net/mesh_transmit.h"

#include "base/require.h"
#include "net/mesh_peer.h"

#include <errno.h>
#include <string.h>

#define BULK_ASK_INTERVAL_MS 500

/* 0 and *take_frame sent; -EAGAIN: the pipe is full; -EHOSTUNREACH: the connection is
 * gone. */
static int route_send(struct mesh *mesh,
                      const struct mesh_peer *peer,
                      enum mesh_lane lane,
                      zframe_t **take_frame)
{
    const enum mesh_listener listener =
        peer->id.class == MESH_GUEST ? MESH_LISTENER_JOIN : (enum mesh_listener)lane;
    const struct mesh_route *route = &peer->routes[lane];
    zsock_t *socket = mesh->listeners[listener].socket;
    mesh->listeners[listener].watch.due = true; /* sending may take a signal away */
    if (zmq_send(zsock_resolve(socket), route->id, route->id_size,
                 ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0) {
        return -zmq_errno();
    }
    /* The first part has reserved the place: the second cannot block. */
    return zframe_send(take_frame, socket, ZFRAME_DONTWAIT) ? -zmq_errno() : 0;
}

static int link_send(struct mesh_link *link, zframe_t **take_frame)
{
    link->socket.watch.due = true; /* as above */
    return zframe_send(take_frame, link->socket.socket, ZFRAME_DONTWAIT) ? -zmq_errno()
                                                                         : 0;
}

static void route_lost(struct mesh *mesh, struct mesh_peer *peer, enum mesh_lane lane)
{
    peer->routes[lane].live = false;
    mesh_peer_refresh(mesh, peer);
}

/* One of the link's own frames; NULL when out of memory. */
static zframe_t *own_frame_new(const struct mesh *mesh,
                               enum mesh_lane lane,
                               uint16_t type,
                               const void *body,
                               uint32_t body_size)
{
    zframe_t *frame = zframe_new(NULL, MESH_FRAME_HEADER_SIZE + body_size);
    if (!frame) {
        return NULL;
    }
    mesh_frame_encode(type, lane == MESH_BULK ? MESH_FRAME_BULK : 0, mesh->session, 0,
                      body_size, zframe_data(frame));
    if (body_size > 0) {
        memcpy(zframe_data(frame) + MESH_FRAME_HEADER_SIZE, body, body_size);
    }
    return frame;
}

static void route_say(struct mesh *mesh,
                      struct mesh_peer *peer,
                      enum mesh_lane lane,
                      uint16_t type,
                      const void *body,
                      uint32_t body_size)
{
    zframe_t *frame = own_frame_new(mesh, lane, type, body, body_size);
    if (!frame) {
        return; /* said again within a second */
    }
    const int r = route_send(mesh, peer, lane, &frame);
    zframe_destroy(&frame);
    if (r && r != -EAGAIN) {
        route_lost(mesh, peer, lane);
    }
}

void mesh_transmit_welcome(struct mesh *mesh, struct mesh_peer *peer, enum mesh_lane lane)
{
    uint8_t body[MESH_WELCOME_SIZE];
    mesh_welcome_encode(mesh->addresses[MESH_LISTENER_BULK].port, body);
    route_say(mesh, peer, lane, MESH_TYPE_WELCOME, body, sizeof(body));
}

void mesh_transmit_hello(struct mesh *mesh, struct mesh_link *link)
{
    zframe_t *frame = own_frame_new(mesh, link->lane, MESH_TYPE_HELLO, NULL, 0);
    if (frame && link_send(link, &frame) == 0) {
        link->hello_due = false;
        link->hello_ms = mesh->now_ms;
    } else {
        link->blocked = true;
    }
    zframe_destroy(&frame);
}

/* Which of the two ways a frame of this lane can take now. */
enum way { WAY_NONE, WAY_LINK, WAY_ROUTE };

static enum way way_choose(const struct mesh_peer *peer, enum mesh_lane lane)
{
    if (peer->links[lane].up) {
        return WAY_LINK;
    }
    return peer->routes[lane].live ? WAY_ROUTE : WAY_NONE;
}

/* Bulk waits but has no connection: dial the lane, or ask the peer to. */
static void bulk_way_prepare(struct mesh *mesh, struct mesh_peer *peer)
{
    if (peer->links[MESH_CONTROL].up) {
        peer->bulk_wanted = true;
    } else if (peer->routes[MESH_CONTROL].live &&
               mesh->now_ms - peer->bulk_asked_ms >= BULK_ASK_INTERVAL_MS) {
        peer->bulk_asked_ms = mesh->now_ms;
        route_say(mesh, peer, MESH_CONTROL, MESH_TYPE_BULK_OPEN, NULL, 0);
    }
}

static bool outbox_waits(struct mesh *mesh, struct mesh_peer *peer, enum mesh_lane lane)
{
    mesh_lock(mesh);
    const bool waits = !mesh_queue_empty(&peer->outbox[lane].queue);
    mesh_unlock(mesh);
    return waits;
}

/* The actor alone takes out, so what waited a moment ago is there. */
static struct mesh_item *
outbox_pop(struct mesh *mesh, struct mesh_peer *peer, enum mesh_lane lane)
{
    mesh_lock(mesh);
    struct mesh_item *item = mesh_queue_pop(&peer->outbox[lane].queue);
    mesh_unlock(mesh);
    REQUIRE(item);
    return item;
}

static void outbox_put_back(struct mesh *mesh,
                            struct mesh_peer *peer,
                            enum mesh_lane lane,
                            struct mesh_item *item)
{
    mesh_lock(mesh);
    mesh_queue_push_front(&peer->outbox[lane].queue, item);
    mesh_unlock(mesh);
}

static void outbox_moved(struct mesh *mesh, struct mesh_peer *peer, enum mesh_lane lane)
{
    mesh_lock(mesh);
    peer->outbox[lane].moved_ms = mesh->now_ms;
    mesh_peer_room_check(mesh, peer, lane);
    mesh_unlock(mesh);
}

/* Sends one; false when it has to wait and was put back. */
static bool item_send(struct mesh *mesh,
                      struct mesh_peer *peer,
                      enum mesh_lane lane,
                      struct mesh_item *item)
{
    const size_t size = mesh_item_size(item);
    for (;;) {
        const enum way way = way_choose(peer, lane);
        int r = -EAGAIN;
        if (way == WAY_LINK) {
            r = link_send(&peer->links[lane], &item->frame);
            peer->links[lane].blocked = r != 0;
        } else if (way == WAY_ROUTE) {
            r = route_send(mesh, peer, lane, &item->frame);
            if (r && r != -EAGAIN) {
                route_lost(mesh, peer, lane);
                continue; /* at most twice: a lost route is not chosen again */
            }
            if (r && list_empty(&peer->stalled_link)) {
                list_push_back(&mesh->stalled, &peer->stalled_link);
            }
        }
        if (r) {
            outbox_put_back(mesh, peer, lane, item);
            return false;
        }
        mesh_count(mesh, MESH_COUNT_frames_sent, 1);
        mesh_count(mesh, MESH_COUNT_bytes_sent, size);
        (void)mesh_item_free(item);
        outbox_moved(mesh, peer, lane);
        return true;
    }
}

void mesh_transmit_peer(struct mesh *mesh,
                        struct mesh_peer *peer,
                        enum mesh_lane lane,
                        unsigned budget)
{
    for (unsigned sent = 0; outbox_waits(mesh, peer, lane); sent++) {
        peer->bulk_used_ms = lane == MESH_BULK ? mesh->now_ms : peer->bulk_used_ms;
        if (way_choose(peer, lane) == WAY_NONE) {
            if (lane == MESH_BULK) {
                bulk_way_prepare(mesh, peer);
            }
            return;
        }
        if (sent == budget) {
            mesh_lock(mesh);
            mesh_peer_mark(mesh, peer);
            mesh_unlock(mesh);
            return;
        }
        if (!item_send(mesh, peer, lane, outbox_pop(mesh, peer, lane))) {
            return;
        }
    }
}
