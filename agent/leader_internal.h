/* What the files of leader.h share: the leader's books.
 *
 * Private to leader.c (leases, orders, decisions, life), leader_heartbeat.c (what hosts
 * say) and leader_facts.c (what people are told beyond the log). Shapes, threads and
 * limits: leader.h. Ownership: struct leader owns its hosts, which live as long as it,
 * since proposals under way point at them.
 */
#pragma once

#include "agent/admission.h"
#include "agent/confirm.h"
#include "agent/leader.h"
#include "agent/level_watch.h"
#include "agent/orders_book.h"
#include "agent/vm_rates.h"
#include "agent/voters.h"
#include "base/loop.h"
#include "base/u64_map.h"

/* So long a host's orders wait for a run of before to begin: longer than one takes to
 * read its snapshot's memory, for it may never do. */
#define LEADER_BEGINS_MS 120000

/* What the leader knows of a host beyond the log. */
struct heard {
    struct leader *leader;
    uint64_t uid;
    uint64_t boot;
    uint32_t fence;        /* enum fence_health, as it last said */
    uint64_t sequence;     /* newest heartbeat */
    uint64_t round_covers; /* newest heartbeat that the running round will confirm */
    uint64_t acked;
    uint64_t orders_hash;      /* of what it was sent last; 0: nothing */
    uint64_t orders_taken;     /* as it says */
    uint64_t orders_sent_ms;   /* they did go; 0: this boot was sent none */
    uint64_t orders_looked_ms; /* they were to go, whether they did or were put off */
    unsigned phases_under_way;
    bool update_under_way;
    bool finds; /* it has VMs that the log is to hear of before its orders end them */
    uint64_t begins_ms; /* since then one of them may begin any moment; 0: none */
    bool outdated;      /* takes no part at the cluster's level; said once */
    bool orders_owed;   /* they are off the book's list and did not go: tried again */
};

struct leader {
    struct leader_config config;
    bool leads;
    bool ended; /* the host goes */
    uint64_t term;
    struct scheduler *scheduler;
    struct voters *voters;
    struct confirm confirm;
    struct u64_map *hosts; /* uid -> struct heard */
    struct vm_rates *rates;
    struct loop_timer *tick;
    struct loop_timer *gather; /* ends in a round of confirm */
    bool gathering;
    struct loop_post *wake; /* something changed: decide and give orders */
    struct decisions *decisions;
    uint32_t decisions_under_way;
    bool decisions_unknown; /* what became of one: it counts as under way until a barrier
                             */
    uint64_t settle_term;   /* of that barrier's read, if it is under way; 0: it is not */
    bool decisions_took; /* some of them was taken: what follows may be decided at once */
    struct level_watch *levels;
    bool raise_under_way;
    struct admission *admission;
    struct orders_book *book;
    struct loop_post *more_orders; /* some hosts' were left to the next turn */
    bool caught_up;                /* all that earlier leaders decided is applied here */
    uint64_t catch_term;           /* of the read under way that will tell; 0: none is */
};

/* The host's entry, made when there is none; NULL: out of memory. */
struct heard *leader_heard_of(struct leader *leader, uint64_t uid);
/* Whether the host's orders wait (heard->finds), by what it says that it has. */
void leader_take_finds(struct heard *heard,
                       const struct state *state,
                       const struct msg_vm_seen_list *vms,
                       uint64_t now_ms);
/* Whether it has the orders that follow from the log, as it says itself. */
bool leader_has_orders(const struct leader *leader, const struct heard *heard);
/* Orders for some of the hosts whose may be others now; the rest in later turns. */
void leader_give_orders(struct leader *leader);
/* A round that confirms what was heard begins soon. */
void leader_round_gather(struct leader *leader);
