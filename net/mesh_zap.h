/* Who may finish a CURVE handshake with this host: the process's ZAP handler (ZeroMQ
 * RFC 27).
 *
 * Shapes: `struct mesh_zap` is one mesh's door: a table of member keys, a switch for
 * guests, and the two ZAP domains its sockets name: one admits members only, the other
 * any key, but only while guests are allowed. Behind all doors of a process sits one
 * thread that owns inproc://zeromq.zap.01; the first door starts it, the last one ends
 * it. An admitted peer's messages carry its public key, as 64 hex digits, in the
 * User-Id property; everything else that a peer says of itself is hearsay.
 * The handshake is asked once per connection. Whoever reads messages has to ask
 * mesh_zap_is_member for each: that is what makes a removal take effect at once.
 * Threads: any.
 * Ownership: tables are copied.
 * Errors: -ENOMEM; BERTH_ETOOLARGE.
 * Limits: MESH_MEMBERS_MAX keys, the largest cell (5,000 hosts) with two or three keys
 * each.
 */
#pragma once

#include "base/err.h"
#include "net/mesh_key.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESH_MEMBERS_MAX     16384
#define MESH_ZAP_DOMAIN_SIZE 40

struct mesh_zap;

/* Opens a door with an empty table and no guests; NULL with *err filled. */
struct mesh_zap *mesh_zap_open(struct err *err);
/* The sockets that name its domains are closed already. Accepts NULL; returns NULL. */
struct mesh_zap *mesh_zap_close(struct mesh_zap *zap);
/* The domain of the members' sockets and of the join socket; owned by the door. */
const char *mesh_zap_member_domain(const struct mesh_zap *zap);
const char *mesh_zap_guest_domain(const struct mesh_zap *zap);
/* Replaces the table; keys may repeat. On error the old table stands. */
int mesh_zap_members_set(struct mesh_zap *zap,
                         const struct mesh_key *keys,
                         size_t count,
                         struct err *err);
bool mesh_zap_is_member(struct mesh_zap *zap, const struct mesh_key *key);
void mesh_zap_guests_allow(struct mesh_zap *zap, bool allow);
bool mesh_zap_guests_allowed(struct mesh_zap *zap);

struct mesh_zap_counts {
    uint64_t admitted;
    uint64_t refused;
};
struct mesh_zap_counts mesh_zap_counts(struct mesh_zap *zap);
