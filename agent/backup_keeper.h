/* Backups by themselves: while this host leads, a file every few hours, and the newest
 * few kept.
 *
 * Shapes: struct backup_keeper looks once a minute (or once per period, when that is
 * shorter); when this host leads and the newest file in its folder is older than the
 * period, it takes the state after a read barrier, and encrypts and writes it in the
 * loop's thread pool. Files are "<time>-r<revision>.backup", mode 0600, whole or not
 * there; others in the folder are not its own and stay. A new leader has a folder of its
 * own, so a change of leaders means a file more, not one less. Threads: the loop's.
 * Ownership: texts of the config are copied, the passphrase is wiped at the end. Errors:
 * logged, counted, and tried again at the next look.
 */
#pragma once

#include "base/clock.h"
#include "base/err.h"
#include "model/state.h"

#include <uv.h>

#include <stdbool.h>
#include <stdint.h>

#define BACKUP_KEEPER_EVERY_MS UINT64_C(21600000) /* 6 h */
#define BACKUP_KEEPER_KEEP     28                 /* a week of them */
#define BACKUP_KEEPER_KEEP_MAX 1000

struct backup_keeper_config {
    uv_loop_t *loop;
    const struct clock *clock;
    const char *folder; /* made when it is missing */
    uint64_t every_ms;
    uint32_t keep;
    const char *passphrase; /* NULL or "": in the clear */
    const char *host;
    void *context;
    bool (*leads)(void *context);
    /* As control_read: done(0) means that `state` has all that was answered. */
    int (*read)(void *context,
                void (*done)(void *done_context, int code),
                void *done_context);
    const struct state *(*state)(void *context); /* NULL: none here any more */
};

struct backup_keeper_stats {
    uint64_t made;
    uint64_t failed;
    uint64_t last_wall_ms; /* of the last one that was made, 0: none since start */
};

struct backup_keeper;

struct backup_keeper *backup_keeper_new(const struct backup_keeper_config *config);
/* Lets a file that is being written be written; accepts NULL, returns NULL. */
struct backup_keeper *backup_keeper_close(struct backup_keeper *keeper);
void backup_keeper_stats(const struct backup_keeper *keeper,
                         struct backup_keeper_stats *ret_stats);
