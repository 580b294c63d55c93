/* Hosts of one rack inside a test: each with a state folder, an address of its own on
 * loopback, and a real link (mesh, CURVE, messages) to the others.
 *
 * `rack_start(n)` in the test (a mesh must not cross a fork), `rack_stop()` at its end. A
 * host's `hear` gets every message; host_down closes its link, as death does. RACK_WAIT
 * turns the loop until the condition holds, bounded by the test's own timeout.
 */
#pragma once

#include "agent/link.h"
#include "base/clock.h"
#include "support/own_loopback.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <uv.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RACK_HOSTS_MAX 4
#define RACK_MESH_PORT 17440

struct rack_host {
    struct temp_dir dir;
    struct identity identity;
    struct members members;
    struct link *link; /* NULL: down */
    enum voter_role voter;
    void (*hear)(struct rack_host *host,
                 const struct msg_member *from,
                 enum message_type type,
                 void *message);
    void (*hear_join)(struct rack_host *host,
                      const struct mesh_key *guest,
                      struct msg_join *join);
    void (*hear_join_reply)(struct rack_host *host, struct msg_join_reply *reply);
    void (*see_peer)(struct rack_host *host, uint64_t uid, bool up);
    void *context;  /* the test's */
    unsigned ups;   /* peers that came up, all in all */
    unsigned downs; /* and went down */
};

static struct {
    uv_loop_t loop;
    uv_timer_t tick; /* so that no turn waits for ever */
    struct rack_host hosts[RACK_HOSTS_MAX];
    unsigned count;
} rack;

#define RACK_WAIT(condition)                   \
    while (!(condition)) {                     \
        (void)uv_run(&rack.loop, UV_RUN_ONCE); \
    }

static inline void rack_tick(uv_timer_t *timer)
{
    (void)timer;
}

static inline void rack_on_message(void *context,
                                   const struct msg_member *from,
                                   enum message_type type,
                                   void *message)
{
    struct rack_host *host = context;
    if (host->hear != NULL) {
        host->hear(host, from, type, message);
    }
}

static inline void
rack_on_join(void *context, const struct mesh_key *guest, struct msg_join *join)
{
    struct rack_host *host = context;
    if (host->hear_join != NULL) {
        host->hear_join(host, guest, join);
    }
}

static inline void rack_on_join_reply(void *context, struct msg_join_reply *reply)
{
    struct rack_host *host = context;
    if (host->hear_join_reply != NULL) {
        host->hear_join_reply(host, reply);
    }
}

static inline void rack_on_peer(void *context, uint64_t uid, bool up)
{
    struct rack_host *host = context;
    if (host->see_peer != NULL) {
        host->see_peer(host, uid, up);
    }
    host->ups += up ? 1U : 0U;
    host->downs += up ? 0U : 1U;
}

static inline void host_up(struct rack_host *host)
{
    struct err err = {0};
    const struct link_events events = {
        .context = host,
        .on_message = rack_on_message,
        .on_join = rack_on_join,
        .on_join_reply = rack_on_join_reply,
        .on_peer = rack_on_peer,
    };
    int r = link_open(&rack.loop, &host->identity, &host->members, &events, &host->link,
                      &err);
    ck_assert_msg(r == 0, "%s", err.text);
}

static inline void rack_closed(void *context)
{
    *(bool *)context = true;
}

static inline void host_down(struct rack_host *host)
{
    bool closed = false;
    if (host->link != NULL) {
        link_close(host->link, rack_closed, &closed);
        host->link = NULL;
        RACK_WAIT(closed);
    }
}

/* What host number i is to the others; uids count from 1. */
static inline struct msg_member host_member(const struct rack_host *host)
{
    struct msg_member member = {
        .uid = host->identity.uid,
        .key = identity_key_digest(&host->identity.key),
        .address = host->identity.address,
        .mesh_port = host->identity.mesh_port,
        .raft_port = host->identity.raft_port,
        .voter = host->voter,
    };
    memcpy(member.name, host->identity.name, sizeof(member.name));
    return member;
}

/* Makes the first `count` hosts the members that this host knows. */
static inline void host_knows(struct rack_host *host, unsigned count)
{
    struct msg_member members[RACK_HOSTS_MAX];
    bool changed = false;
    for (unsigned i = 0; i < count; i++) {
        members[i] = host_member(&rack.hosts[i]);
    }
    const struct msg_member_list list = {.items = members, .count = count};
    ck_assert_int_eq(members_set(&host->members, &list, &changed, NULL), 0);
    if (host->link != NULL) {
        link_members_changed(host->link);
    }
}

static inline void host_init(struct rack_host *host, unsigned number)
{
    struct err err = {0};
    temp_dir_init_guarded(&host->dir);
    int r = identity_open(host->dir.path, &host->identity, &err);
    r = r < 0 ? r : members_open(host->dir.path, &host->members, &err);
    ck_assert_msg(r == 0, "%s", err.text);
    (void)snprintf(host->identity.name, NAME_SIZE, "h%u", number);
    host->identity.uid = number;
    host->identity.cluster_id = 1;
    host->voter = VOTER_VOTER;
    host->identity.address = own_loopback(number); /* tests run side by side */
    host->identity.mesh_port = RACK_MESH_PORT;
    host->identity.raft_port = RACK_MESH_PORT + 2;
}

/* All know all, and are connected when it returns. */
static inline void rack_start(unsigned count)
{
    ck_assert_uint_le(count, RACK_HOSTS_MAX);
    memset(&rack, 0, sizeof(rack));
    rack.count = count;
    ck_assert_int_eq(uv_loop_init(&rack.loop), 0);
    ck_assert_int_eq(uv_timer_init(&rack.loop, &rack.tick), 0);
    ck_assert_int_eq(uv_timer_start(&rack.tick, rack_tick, 10, 10), 0);
    for (unsigned i = 0; i < count; i++) {
        host_init(&rack.hosts[i], i + 1);
    }
    for (unsigned i = 0; i < count; i++) {
        host_knows(&rack.hosts[i], count);
        host_up(&rack.hosts[i]);
    }
    for (unsigned i = 0; i < count; i++) {
        for (unsigned k = 1; k <= count; k++) {
            RACK_WAIT(link_is_up(rack.hosts[i].link, k));
        }
    }
}

static inline void rack_stop(void)
{
    for (unsigned i = 0; i < rack.count; i++) {
        host_down(&rack.hosts[i]);
        members_fini(&rack.hosts[i].members);
        identity_fini(&rack.hosts[i].identity);
        temp_dir_fini(&rack.hosts[i].dir);
    }
    uv_close((uv_handle_t *)&rack.tick, NULL);
    (void)uv_run(&rack.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&rack.loop), 0);
}
