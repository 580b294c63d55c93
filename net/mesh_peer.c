#include "net/mesh_peer.h"

#include "base/log.h"
#include "base/require.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct mesh_peer *
mesh_peer_find(struct mesh *mesh, enum mesh_class class, const char *hex)
{
    return string_map_get(mesh->peers[class], hex);
}

static void
peer_init(struct mesh_peer *peer, const struct mesh_peer_id *id, const char *hex)
{
    peer->id = *id;
    memcpy(peer->hex, hex, sizeof(peer->hex));
    list_init(&peer->link);
    list_init(&peer->dirty_link);
    list_init(&peer->stalled_link);
    list_init(&peer->bulk_link);
    mesh_queue_init(&peer->outbox[MESH_CONTROL].queue, MESH_QUEUE_CONTROL_MAX,
                    MESH_QUEUE_CONTROL_BYTES_MAX);
    mesh_queue_init(&peer->outbox[MESH_BULK].queue, MESH_QUEUE_BULK_MAX,
                    MESH_QUEUE_BULK_BYTES_MAX);
    for (unsigned kind = 0; kind < MESH_ITEM_KIND_COUNT; kind++) {
        list_init(&peer->notices[kind].link);
        peer->notices[kind].kind = (enum mesh_item_kind)kind;
        peer->notices[kind].peer = *id;
    }
    for (unsigned lane = 0; lane < MESH_LANE_COUNT; lane++) {
        peer->links[lane].peer = peer;
        peer->links[lane].lane = (enum mesh_lane)lane;
        list_init(&peer->links[lane].link);
    }
}

struct mesh_peer *
mesh_peer_get(struct mesh *mesh, const struct mesh_peer_id *id, const char *hex)
{
    struct mesh_peer *peer = mesh_peer_find(mesh, id->class, hex);
    if (peer) {
        return peer;
    }
    peer = calloc(1, sizeof(*peer));
    if (!peer) {
        return NULL;
    }
    peer_init(peer, id, hex);
    if (string_map_put(mesh->peers[id->class], hex, peer, NULL)) {
        free(peer);
        return NULL;
    }
    mesh_peer_mark(mesh, peer);
    return peer;
}

void mesh_peer_mark(struct mesh *mesh, struct mesh_peer *peer)
{
    if (list_empty(&peer->dirty_link)) {
        list_push_back(&mesh->dirty, &peer->dirty_link);
    }
}

void mesh_peer_notify(struct mesh *mesh, struct mesh_peer *peer, enum mesh_item_kind kind)
{
    /* MESH_ITEM_FRAME where there is none: that notice is never linked. */
    static const enum mesh_item_kind opposite[MESH_ITEM_KIND_COUNT] = {
        [MESH_ITEM_UP] = MESH_ITEM_DOWN,
        [MESH_ITEM_DOWN] = MESH_ITEM_UP,
    };
    REQUIRE(kind > MESH_ITEM_FRAME && kind < MESH_ITEM_KIND_COUNT);
    struct mesh_item *notice = &peer->notices[kind];
    if (!list_empty(&notice->link)) {
        /* Up, down, up without the loop looking: up. */
        list_remove(&peer->notices[opposite[kind]].link);
    } else {
        mesh_queue_push(&mesh->inbox[MESH_CONTROL], notice);
        mesh->post_due = true;
    }
}

void mesh_peer_room_check(struct mesh *mesh, struct mesh_peer *peer, enum mesh_lane lane)
{
    struct mesh_outbox *outbox = &peer->outbox[lane];
    if (outbox->room_wanted && mesh_queue_half_free(&outbox->queue)) {
        outbox->room_wanted = false;
        mesh_peer_notify(
            mesh, peer, lane == MESH_BULK ? MESH_ITEM_ROOM_BULK : MESH_ITEM_ROOM_CONTROL);
    }
}

void mesh_peer_outbox_clear(struct mesh *mesh, struct mesh_peer *peer)
{
    for (unsigned lane = 0; lane < MESH_LANE_COUNT; lane++) {
        mesh_count(mesh, MESH_COUNT_dropped_gone,
                   mesh_queue_clear(&peer->outbox[lane].queue));
        mesh_peer_room_check(mesh, peer, (enum mesh_lane)lane);
    }
}

static bool peer_works(const struct mesh_peer *peer)
{
    return peer->links[MESH_CONTROL].up || peer->routes[MESH_CONTROL].live;
}

void mesh_peer_refresh(struct mesh *mesh, struct mesh_peer *peer)
{
    const bool up = peer_works(peer);
    mesh_lock(mesh);
    const bool changed = up != peer->up;
    if (changed) {
        peer->up = up;
        peer->refused_until_ms = up ? 0 : peer->refused_until_ms;
        peer->broken_until_ms = up ? 0 : peer->broken_until_ms;
        mesh_peer_mark(mesh, peer);
        if (peer->id.class != MESH_GUEST) {
            mesh_peer_notify(mesh, peer, up ? MESH_ITEM_UP : MESH_ITEM_DOWN);
        }
    }
    mesh_unlock(mesh);
    if (changed) {
        peer->refused_told = up ? false : peer->refused_told;
        peer->broken_since_ms = up ? 0 : peer->broken_since_ms;
        peer->refusals = up ? 0 : peer->refusals;
        peer->breaks = up ? 0 : peer->breaks;
        log_debug("net", up ? "mesh peer up" : "mesh peer down",
                  KV_STR("peer", peer->hex));
    }
}

void mesh_peer_restarted(struct mesh *mesh, struct mesh_peer *peer)
{
    mesh_lock(mesh);
    if (peer->up) {
        mesh_peer_notify(mesh, peer, MESH_ITEM_DOWN);
        mesh_peer_notify(mesh, peer, MESH_ITEM_UP);
    }
    mesh_unlock(mesh);
}

struct mesh_peer *mesh_peer_free(struct mesh *mesh, struct mesh_peer *peer)
{
    for (unsigned lane = 0; lane < MESH_LANE_COUNT; lane++) {
        mesh_link_close(&peer->links[lane]);
    }
    mesh_lock(mesh);
    mesh_peer_outbox_clear(mesh, peer);
    for (unsigned kind = 0; kind < MESH_ITEM_KIND_COUNT; kind++) {
        list_remove(&peer->notices[kind].link);
    }
    (void)string_map_remove(mesh->peers[peer->id.class], peer->hex);
    list_remove(&peer->dirty_link);
    mesh_unlock(mesh);
    list_remove(&peer->link);
    list_remove(&peer->stalled_link);
    list_remove(&peer->bulk_link);
    free(peer);
    return NULL;
}

unsigned mesh_jitter(struct mesh *mesh, unsigned bound)
{
    mesh->jitter = mesh->jitter * 1103515245u + 12345u;
    return (mesh->jitter >> 16) % bound;
}

int mesh_link_open(struct mesh *mesh, struct mesh_peer *peer, enum mesh_lane lane)
{
    struct mesh_link *link = &peer->links[lane];
    REQUIRE(!mesh_link_is_open(link));
    struct mesh_address address = peer->linked_address;
    if (lane == MESH_BULK) {
        REQUIRE(peer->bulk_port > 0);
        address.port = peer->bulk_port;
    }
    const struct mesh_socket_config config = {
        .secret_key = &mesh->secret_key,
        .public_key = &mesh->public_key,
        .server_key = &peer->id.key,
        .body_size_max = peer->id.class == MESH_JOIN_HOST ? MESH_JOIN_BODY_SIZE_MAX
                                                          : MESH_BODY_SIZE_MAX,
        .bulk = lane == MESH_BULK,
        .reconnect_jitter_ms = (int)mesh_jitter(mesh, 200),
    };
    const int r = mesh_socket_dial(&link->socket, &config, &address);
    if (r) {
        return r;
    }
    const int watched = mesh_socket_watch(&link->socket, mesh->watch_set);
    if (watched) {
        mesh_socket_close(&link->socket);
        return watched;
    }
    link->heard_ms = mesh->now_ms;
    link->hello_ms = mesh->now_ms;
    link->retry_ms = 0;
    list_push_back(&mesh->links, &link->link);
    return 0;
}

void mesh_link_close(struct mesh_link *link)
{
    if (!mesh_link_is_open(link)) {
        return;
    }
    mesh_socket_close(&link->socket);
    list_remove(&link->link);
    link->connected = false;
    link->up = false;
    link->hello_due = false;
    link->blocked = false;
}
