#include "agent/link.h"

#include "agent/link_parts.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/random.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A message from us to us, waiting for the loop's next turn. */
struct self_message {
    struct list link;
    enum message_type type;
    uint8_t *data;
    size_t size;
};

struct link {
    const struct identity *identity;
    const struct members *members;
    struct link_events events;
    struct mesh *mesh;
    struct mesh_key *dialed; /* keys that we told the mesh to dial */
    size_t dialed_count;
    struct loop_post *self_post;
    struct list self_queue;
    struct link_parts parts; /* of one message, from whoever began last */
    uint64_t parts_sent;     /* the id of the last that was cut; begins at random */
};

/* ---- arriving
 * --------------------------------------------------------------------------------------
 */

static void deliver(struct link *link,
                    const struct msg_member *from,
                    uint16_t type,
                    const void *body,
                    size_t size)
{
    const struct record *record = message_record(type);
    if (record == NULL) {
        return; /* a newer host; what it says is optional to us */
    }
    _Alignas(16)
        uint8_t message[sizeof(struct msg_heartbeat) + sizeof(struct msg_orders)];
    _Static_assert(sizeof(struct msg_join) <= sizeof(message), "every message fits");
    if (message_decode(record, body, size, message) < 0) {
        log_warn("link", "message does not parse", KV_STR("from", from->name),
                 KV_STR("type", message_name(type)));
        return;
    }
    link->events.on_message(link->events.context, from, (enum message_type)type, message);
    record_fini(record, message);
}

/* Nobody else says anything so large. */
static void deliver_part(struct link *link,
                         const struct msg_member *from,
                         const void *body,
                         size_t size)
{
    struct msg_part part;
    int r = message_decode(&msg_part_record, body, size, &part);
    if (r == 0) {
        r = from->voter != VOTER_NONE ? link_parts_add(&link->parts, from->uid, &part)
                                      : BERTH_EPROTO;
        record_fini(&msg_part_record, &part);
    }
    if (r < 0) {
        log_warn("link", "part of a message is of no use: all of it comes again",
                 KV_STR("from", from->name), KV_STR("why", err_sentence(r)));
    } else if (r > 0) {
        struct link_parts whole = link->parts;
        link->parts = (struct link_parts){0};
        deliver(link, from, (uint16_t)whole.type, whole.data, whole.size);
        link_parts_reset(&whole);
    }
}

static void deliver_join(struct link *link,
                         const struct mesh_key *guest,
                         const void *body,
                         size_t size)
{
    struct msg_join join;
    if (message_decode(&msg_join_record, body, size, &join) == 0) {
        link->events.on_join(link->events.context, guest, &join);
        record_fini(&msg_join_record, &join);
    }
}

static void deliver_join_reply(struct link *link, const void *body, size_t size)
{
    struct msg_join_reply reply;
    if (message_decode(&msg_join_reply_record, body, size, &reply) == 0) {
        link->events.on_join_reply(link->events.context, &reply);
        record_fini(&msg_join_reply_record, &reply);
    }
}

static void on_message(void *context,
                       const struct mesh_peer_id *from,
                       uint16_t type,
                       const void *body,
                       size_t size)
{
    struct link *link = context;
    if (from->class == MESH_GUEST && type == MESH_TYPE_JOIN) {
        deliver_join(link, &from->key, body, size);
    } else if (from->class == MESH_JOIN_HOST && type == MESH_TYPE_JOIN_REPLY) {
        deliver_join_reply(link, body, size);
    } else if (from->class == MESH_MEMBER) {
        struct digest key = identity_key_digest(&from->key);
        const struct msg_member *member = members_by_key(link->members, &key);
        if (member != NULL) {
            const struct msg_member copy = *member; /* the handler may change the table */
            if (type == MESSAGE_PART) {
                deliver_part(link, &copy, body, size);
            } else {
                deliver(link, &copy, type, body, size);
            }
        }
    }
}

static void peer_changed(struct link *link, const struct mesh_peer_id *peer, bool up)
{
    if (peer->class != MESH_MEMBER) {
        return;
    }
    struct digest key = identity_key_digest(&peer->key);
    const struct msg_member *member = members_by_key(link->members, &key);
    if (member != NULL) {
        log_info("link", up ? "host is connected" : "host is disconnected",
                 KV_STR("peer", member->name));
        link->events.on_peer(link->events.context, member->uid, up);
    }
}

static void on_peer_up(void *context, const struct mesh_peer_id *peer)
{
    peer_changed(context, peer, true);
}

static void on_peer_down(void *context, const struct mesh_peer_id *peer)
{
    peer_changed(context, peer, false);
}

/* What follows from it is said by agent/shut_out.h: a single host may be behind. */
static void on_peer_refused(void *context, const struct mesh_peer_id *peer)
{
    const struct link *link = context;
    const struct digest key = identity_key_digest(&peer->key);
    const struct msg_member *member =
        peer->class == MESH_MEMBER ? members_by_key(link->members, &key) : NULL;
    char hex[MESH_KEY_HEX_SIZE];
    mesh_key_format(&peer->key, hex);
    if (member != NULL) {
        log_warn("link", "a host does not know our key", KV_STR("peer", member->name),
                 KV_STR("key", hex));
    } else {
        log_warn("link", "the host that is asked to let us in lets nobody in",
                 KV_STR("key", hex));
    }
}

static void self_deliver(void *context)
{
    struct link *link = context;
    struct list ready;
    list_init(&ready);
    list_move_all(&ready, &link->self_queue);
    LIST_EACH_SAFE (item, &ready) {
        struct self_message *message = LIST_ITEM(item, struct self_message, link);
        const struct msg_member *self =
            members_by_uid(link->members, link->identity->uid);
        list_remove(item);
        if (self != NULL) {
            const struct msg_member copy = *self;
            deliver(link, &copy, (uint16_t)message->type, message->data, message->size);
        }
        free(message->data);
        free(message);
    }
}

/* ---- leaving
 * ---------------------------------------------------------------------------------------
 */

static int
self_send(struct link *link, enum message_type type, uint8_t **take_data, size_t size)
{
    struct self_message *message = calloc(1, sizeof(*message));
    if (message == NULL) {
        return -ENOMEM;
    }
    message->type = type;
    message->data = TAKE_PTR(*take_data);
    message->size = size;
    list_push_back(&link->self_queue, &message->link);
    loop_post_send(link->self_post);
    return 0;
}

struct addressed {
    struct link *link;
    struct mesh_key key;
};

/* Behind what has to be in time, leases above all. */
static int part_send(void *context, const struct msg_part *part)
{
    const struct addressed *to = context;
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    int r = message_encode(&msg_part_record, part, &data, &size);
    return r < 0
               ? r
               : mesh_send(to->link->mesh, &to->key, MESH_BULK, MESSAGE_PART, data, size);
}

int link_send(struct link *link,
              uint64_t host,
              enum message_type type,
              const void *message)
{
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    size_t most =
        link_parts_may_carry((uint16_t)type) ? LINK_PARTS_MAX : MESSAGE_SIZE_MAX;
    int r = message_encode_within(message_record((uint16_t)type), message, most, &data,
                                  &size);
    if (r < 0) {
        return r;
    }
    if (host == link->identity->uid) {
        return self_send(link, type, &data, size);
    }
    const struct msg_member *member = members_by_uid(link->members, host);
    if (member == NULL) {
        return BERTH_ENOTFOUND;
    }
    struct addressed to = {.link = link, .key = identity_mesh_key(&member->key)};
    if (size > MESSAGE_SIZE_MAX) {
        return link_parts_cut(++link->parts_sent, (uint16_t)type, data, size, part_send,
                              &to);
    }
    enum mesh_lane lane = type == MESSAGE_BLOB_CHUNK ? MESH_BULK : MESH_CONTROL;
    return mesh_send(link->mesh, &to.key, lane, (uint16_t)type, data, size);
}

bool link_is_up(const struct link *link, uint64_t host)
{
    const struct msg_member *member = members_by_uid(link->members, host);
    if (host == link->identity->uid) {
        return true;
    }
    if (member == NULL) {
        return false;
    }
    const struct mesh_key key = identity_mesh_key(&member->key);
    return mesh_peer_is_up(link->mesh, &key);
}

const struct msg_member *link_shut_out_by(const struct link *link)
{
    const struct msg_member_list *list = &link->members->list;
    const struct msg_member *refuser = NULL;
    for (uint32_t i = 0; i < list->count; i++) {
        const struct msg_member *member = &list->items[i];
        const struct mesh_key key = identity_mesh_key(&member->key);
        if (member->uid == link->identity->uid) {
            continue;
        }
        if (mesh_peer_is_up(link->mesh, &key)) {
            return NULL;
        }
        if (refuser == NULL && mesh_peer_refuses(link->mesh, &key)) {
            refuser = member;
        }
    }
    return refuser;
}

int link_join(struct link *link,
              const struct mesh_key *key,
              uint32_t address,
              uint32_t join_port,
              const struct msg_join *join,
              struct err *err)
{
    char text[MESH_ADDRESS_SIZE];
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    identity_address_text(address, join_port, text);
    int r = mesh_join_dial(link->mesh, key, text, err);
    if (r < 0) {
        return r;
    }
    r = message_encode(&msg_join_record, join, &data, &size);
    r = r < 0 ? r : mesh_send(link->mesh, key, MESH_CONTROL, MESH_TYPE_JOIN, data, size);
    return r < 0 ? err_sys(err, r, "ask %s to join", text) : 0;
}

enum mesh_join_door link_join_door(const struct link *link, const struct mesh_key *key)
{
    return mesh_join_door(link->mesh, key);
}

void link_join_end(struct link *link, const struct mesh_key *key)
{
    mesh_join_hang_up(link->mesh, key);
}

int link_join_reply(struct link *link,
                    const struct mesh_key *guest,
                    const struct msg_join_reply *reply)
{
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    int r = message_encode(&msg_join_reply_record, reply, &data, &size);
    return r < 0 ? r
                 : mesh_send(link->mesh, guest, MESH_CONTROL, MESH_TYPE_JOIN_REPLY, data,
                             size);
}

/* ---- who
 * -------------------------------------------------------------------------------------------
 */

static bool is_self(const struct link *link, const struct msg_member *member)
{
    return member->uid == link->identity->uid;
}

static void hang_up_strangers(struct link *link)
{
    for (size_t i = 0; i < link->dialed_count; i++) {
        struct digest key = identity_key_digest(&link->dialed[i]);
        if (members_by_key(link->members, &key) == NULL) {
            mesh_peer_remove(link->mesh, &link->dialed[i]);
        }
    }
}

void link_members_changed(struct link *link)
{
    const struct msg_member_list *list = &link->members->list;
    struct err err;
    struct mesh_key *keys = calloc(list->count + 1, sizeof(*keys));
    if (keys == NULL) {
        log_error("link", "members cannot be admitted",
                  KV_STR("why", err_sentence(-ENOMEM)));
        return;
    }
    size_t count = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        if (!is_self(link, &list->items[i])) {
            keys[count++] = identity_mesh_key(&list->items[i].key);
        }
    }
    if (mesh_members_set(link->mesh, keys, count, &err) < 0) {
        log_error("link", "members cannot be admitted", KV_STR("why", err.text));
    }
    hang_up_strangers(link);
    for (uint32_t i = 0; i < list->count; i++) {
        const struct msg_member *member = &list->items[i];
        if (is_self(link, member)) {
            continue;
        }
        char address[MESH_ADDRESS_SIZE];
        struct mesh_key key = identity_mesh_key(&member->key);
        identity_address_text(member->address, member->mesh_port, address);
        if (mesh_peer_add(link->mesh, &key, address, &err) < 0) {
            log_error("link", "host cannot be called", KV_STR("peer", member->name),
                      KV_STR("why", err.text));
        }
    }
    free(link->dialed);
    link->dialed = keys;
    link->dialed_count = count;
}

void link_guests_allow(struct link *link, bool allow)
{
    mesh_guests_allow(link->mesh, allow);
}

void link_stats(const struct link *link, struct mesh_stats *ret_stats)
{
    mesh_stats_get(link->mesh, ret_stats);
}

/* ---- life
 * ------------------------------------------------------------------------------------------
 */

static void link_free(struct link *link)
{
    LIST_EACH_SAFE (item, &link->self_queue) {
        struct self_message *message = LIST_ITEM(item, struct self_message, link);
        list_remove(item);
        free(message->data);
        free(message);
    }
    loop_post_close(link->self_post);
    link_parts_reset(&link->parts);
    free(link->dialed);
    free(link);
}

int link_open(uv_loop_t *loop,
              const struct identity *identity,
              const struct members *members,
              const struct link_events *events,
              struct link **ret_link,
              struct err *err)
{
    static const struct mesh_events mesh_events = {
        .on_message = on_message,
        .on_peer_up = on_peer_up,
        .on_peer_down = on_peer_down,
        .on_peer_refused = on_peer_refused,
    };
    char bind[MESH_ADDRESS_SIZE];
    char join_bind[MESH_ADDRESS_SIZE];
    struct link *link = calloc(1, sizeof(*link));
    if (link == NULL) {
        return err_sys(err, -ENOMEM, "open the mesh");
    }
    link->identity = identity;
    link->members = members;
    link->events = *events;
    list_init(&link->self_queue);
    random_secret(&link->parts_sent, sizeof(link->parts_sent));
    identity_address_text(identity->address, identity->mesh_port, bind);
    identity_address_text(identity->address, identity->mesh_port + LINK_JOIN_PORT_OFFSET,
                          join_bind);
    const struct mesh_config config = {
        .secret_key = identity->secret, .bind = bind, .join_bind = join_bind};
    link->self_post = loop_post_new(loop, self_deliver, link);
    link->mesh = link->self_post != NULL
                     ? mesh_open(loop, &config, &mesh_events, link, err)
                     : NULL;
    if (link->mesh == NULL) {
        int r = link->self_post != NULL && err != NULL ? err->code : -ENOMEM;
        link_free(link);
        return r < 0 ? r : BERTH_EBUG;
    }
    link_members_changed(link);
    *ret_link = link;
    return 0;
}

void link_close(struct link *link, void (*closed)(void *context), void *context)
{
    struct mesh *mesh = link->mesh;
    link_free(link);
    mesh_close(mesh, closed, context);
}
