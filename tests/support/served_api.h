/* The whole API on real sockets, in a thread of the test.
 *
 * Shapes: struct served runs the real HTTP server, router and watches over a control
 * plane whose state, change feed, scheduler, image store and certificate are the real
 * ones; the log is replaced by applying at the loop's next turn. Three hosts h1, h2, h3
 * are up, and their agents are played: what is placed there is reported starting, running
 * and ready. The test speaks to it over its UNIX socket (the test's user counts as root
 * when it is) and over TLS on the loopback. Threads: the server's loop has its own; a
 * test touches the state only inside served_do, and counters that are read elsewhere
 * abort. Errors: the test aborts with a sentence.
 * Limits: one at a time in a process.
 */
#pragma once

#include "model/command.h"
#include "model/state.h"

#include <stdbool.h>
#include <stdint.h>

struct exchange;
struct served;

/* What a test may bend while it runs; read on the loop's thread, so change it inside
 * served_do. */
struct served_knobs {
    bool not_leader;       /* this host does not lead ... */
    bool no_leader;        /* ... and knows no leader */
    bool no_state;         /* it is no voter */
    bool hold_proposals;   /* proposals are never answered */
    bool slow_proposals;   /* they wait until served_log_goes_on */
    bool lose_proposals;   /* they end with an unknown outcome, and are in the log: done
                              before what comes behind them */
    bool lose_first;       /* of each lot the first is refused for want of room, and only
                              that one: what no log does */
    bool hold_reads;       /* barriers are not passed until served_reads_go_on */
    bool hold_consoles;    /* upgraded ones are given nothing, not even the 101 */
    bool no_scheduler;     /* nothing is decided by itself */
    bool images_gone;      /* no host has the content of any image */
    const char *forwarder; /* with a front: the host that it is; NULL: h1, which votes */
    size_t lost_after;     /* with a front: bytes of an answer that come over before the
                              connection is lost; 0: all */
    enum phase phase_last; /* played agents take VMs no further (PHASE_READY) */
    bool never_stopped;    /* VMs that are to stop go on and on */
    bool never_saved;      /* snapshots are neither made nor removed */
    bool save_fails;       /* snapshots cannot be made */
    bool never_paused; /* VMs that are to stand still go on, and those that stand stay */
};

struct served_config {
    bool front;          /* the host asked does not lead: it forwards to one that does */
    bool tls;            /* listen on the loopback as well */
    uint32_t request_ms; /* http_server_config.request_ms; 0: as usual */
    uint64_t held_max;   /* http_server_config.held_max; 0: as usual */
    uint64_t memory_bytes; /* of each host; 0: 1 GiB */
    uint32_t level;        /* of the cluster; 0: the newest */
};

/* folder: an existing one that is removed by the test. config may be NULL. */
struct served *served_start(const char *folder, const struct served_config *config);
/* Ends the server and joins its thread; NULL is fine. */
void served_stop(struct served *served);

const char *served_socket(const struct served *served);
uint16_t served_port(const struct served *served);
/* The server's key as `berth login --pin` wants it. */
const char *served_pin(const struct served *served);

/* Runs fn on the loop's thread and waits until it is through and watchers know. */
void served_do(struct served *served,
               void (*fn)(struct served *served, void *context),
               void *context);
/* Inside served_do. */
struct served_knobs *served_knobs(struct served *served);
struct state *served_state(struct served *served);
/* As if the state had been replaced by a snapshot. */
void served_reset(struct served *served);
/* Inside served_do: as if that exchange had come from another host. */
void served_arrives(struct served *served, struct exchange *exchange);
/* Inside served_do: the host asked gives up on the answer that was lost (lost_after). */
void served_lose(struct served *served);
/* Inside served_do: requests that crossed between the two hosts so far. */
unsigned served_forwarded(const struct served *served);
/* Inside served_do: how often the scheduler was asked where VMs would go. */
unsigned served_forecasts(const struct served *served);
/* Inside served_do: how often the log was given something to do: each is a round of it.
 */
unsigned served_rounds(const struct served *served);
/* Inside served_do: proposals that slow_proposals has kept so far. */
unsigned served_slow_proposals(const struct served *served);
/* Inside served_do: what slow_proposals has kept is done, and the knob is off. */
void served_log_goes_on(struct served *served);
/* Inside served_do: what hold_reads has kept is answered, and the knob is off. */
void served_reads_go_on(struct served *served);
/* Inside served_do: consoles that hold_consoles has kept from being answered so far. */
unsigned served_held_consoles(const struct served *served);

/* Applies a command (consumed) and returns what apply() says. */
struct apply_result served_apply(struct served *served, struct command *take_command);
/* Makes an access token by its text. expires_wall_ms 0: never. */
void served_token(struct served *served,
                  const char *name,
                  const char *secret,
                  enum role role,
                  const char *tenant,
                  uint64_t expires_wall_ms);
/* Admits VMs "<prefix>-00000" ... of template "plain" in tenant default, and leaves them
 * to the scheduler. */
void served_vms(struct served *served, const char *prefix, unsigned count);
