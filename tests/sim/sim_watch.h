/* Watches: clients that follow the change feed (sim_watch.c), and the API that serves
 * them (sim_api.c).
 *
 * Checked: after its listing a stream tells exactly the changes of the one order, each
 * once, in order; goes on behind the last id that its client has, at any voter; a
 * bookmark, and any event with an id, is told when everything until there was; a
 * listing, and what is told beside it, ends in the state of its bookmark. Threads: the
 * world's.
 */
#pragma once

#include "sim.h"

/* A change of the one order, as whoever came first applied it. */
struct sim_news {
    uint64_t revision;
    uint64_t at_ns;
    enum kind kind;
    bool deleted;
    char name[NAME_SIZE];
};

/* ---- the oracle's list of changes (sim_watch.c) ---- */

/* A process applies a change; kept until it is known whether the command was new. */
void sim_news_seen(struct sim_process *process, const struct change *change);
/* The command that made them was new: so are they. */
void sim_news_take(struct sim *sim, struct sim_process *process);
/* It was known. */
void sim_news_drop(struct sim_process *process);

/* ---- the voter's end (sim_api.c) ---- */

void sim_api_prepare(struct sim_process *process);
void sim_api_open(struct sim_process *process);
/* Before the log is closed. */
void sim_api_close(struct sim_process *process);
void sim_api_changed(struct sim_process *process);
void sim_api_reset(struct sim_process *process);
/* last_id 0: none. */
void sim_api_watch(struct sim_process *process,
                   unsigned watcher,
                   uint64_t connection,
                   const char *query,
                   uint64_t last_id);
/* So many pieces have arrived. */
void sim_api_taken(struct sim_process *process,
                   unsigned watcher,
                   uint64_t connection,
                   uint64_t pieces);
void sim_api_leave(struct sim_process *process, unsigned watcher, uint64_t connection);

/* ---- the client's end (sim_watch.c) ---- */

/* Sends a piece of a stream to its client. */
void sim_watch_piece(struct sim_process *process,
                     unsigned watcher,
                     uint64_t connection,
                     uint64_t number,
                     bool end,
                     const void *data,
                     size_t size);
void sim_watchers_start(struct sim *sim);
/* Each has been told all that had happened when clients stopped. */
bool sim_watchers_current(const struct sim *sim);
void sim_watchers_stop(struct sim *sim);
void sim_watchers_free(struct sim *sim);
