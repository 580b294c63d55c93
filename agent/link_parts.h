/* A message that is too large for a frame of the mesh, in parts, and put together again.
 *
 * Orders grow with the rack: all hosts are in them, and all VMs of their networks. Up to
 * MESSAGE_SIZE_MAX they are one message, as every release knows it; above that they are
 * parts (msg_part) one behind the other, which a release that does not know them skips.
 * Only orders are sent so, and only by who may lead.
 *
 * Shapes: link_parts_cut makes the parts of an encoded message; struct link_parts puts
 * one message at a time together: a first part begins anew, a later one of another
 * message is dropped alone (of an earlier leader, perhaps), and one that does not follow
 * on in its own is dropped with all of that, for the sender sends all of it again.
 * Threads: the loop's; pure. Ownership: the fields of struct link_parts are private.
 * Errors: BERTH_ETOOLARGE, BERTH_EPROTO, -ENOMEM, or the sender's own. Limits:
 * LINK_PARTS_MAX bytes.
 */
#pragma once

#include "agent/messages.h"

/* Of a cluster of 5000 hosts, a thousand VMs of two KiB and ten networks full of others.
 * Half of what the mesh queues for one host beside its control messages. */
#define LINK_PARTS_MAX (8u << 20)

struct link_parts {
    uint64_t from;
    uint64_t id;
    uint32_t type;
    uint32_t total;
    uint32_t size; /* so far */
    uint8_t *data; /* of total bytes; NULL: nothing has begun */
};

/* Whether a message of that type may be so large. */
bool link_parts_may_carry(uint16_t type);
/* Gives each part of the message to `send` (borrowed for the call), until that returns an
 * error; 0 or that error. The id is to be another one each time. */
int link_parts_cut(uint64_t id,
                   uint16_t type,
                   const uint8_t *data,
                   size_t size,
                   int (*send)(void *context, const struct msg_part *part),
                   void *context);
/* Takes a part in. 1: it was the last; the whole is in parts->data until the next call.
 * 0: there is more to come. BERTH_EPROTO: it is none, of another message, or does not
 * follow on; -ENOMEM. */
int link_parts_add(struct link_parts *parts, uint64_t from, const struct msg_part *part);
/* Forgets what has come. */
void link_parts_reset(struct link_parts *parts);
