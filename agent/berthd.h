/* The daemon: everything in this host's berthd, wired together.
 *
 * Life of a host: it founds a cluster (bootstrap) or joins one (token); both give it a
 * uid, kept in its state folder; from then on it just starts. Every host works
 * (agent/worker.h); one that has a part in the log also runs control and, while it leads,
 * leader. All serve the API. Threads: one loop, the caller's. Errors: berthd_open fails
 * with text; later faults that end the daemon are logged and given by berthd_exit_code.
 */
#pragma once

#include "base/err.h"

#include <uv.h>

#include <stdbool.h>
#include <stdint.h>

struct berthd;

struct berthd_config {
    const char *folder;
    const char *name;   /* NULL: the machine's; only at first start */
    uint32_t address;   /* 0: the one of the default route; only at first start */
    uint32_t mesh_port; /* 0: default or as before, likewise below */
    uint32_t raft_port;
    uint32_t api_port;
    bool no_https;
    const char *const *labels; /* "key=value", NULL-terminated, or NULL */
    bool bootstrap;
    const char *join_token; /* or NULL */
    bool join_once;         /* ends when the token's host lets nobody in */
    const char *restore;    /* a backup file to found the cluster with, or NULL */
    const char *passphrase; /* of that, or NULL */
    uint64_t image_cache_bytes;
    uint64_t disk_reserve_bytes;   /* kept free; BERTHD_RESERVE_DEFAULT: disk_room.h's */
    uint64_t memory_reserve_bytes; /* BERTHD_RESERVE_DEFAULT: host_facts.h's */
    uint32_t cpu_overcommit;
    uint32_t disk_overcommit;
    uint32_t vm_uids; /* BERTHD_VM_UIDS: the first of VMs' own users; 0: they have none */
    uint64_t backup_every_ms; /* 0: none by itself */
    uint32_t backup_keep;
    const char *backup_folder;     /* NULL: <folder>/backups */
    const char *backup_passphrase; /* NULL or "": in the clear */
    uint32_t level_max;            /* take part up to this level; 0: all that is known */
    uint64_t level_wait_ms;        /* leading: agent/level_watch.h */
    const char *watchdog;          /* for the fence: device, "auto" or NULL */
};

#define BERTHD_RESERVE_DEFAULT UINT64_MAX
/* Behind what systemd gives to containers and SSSD to users of a directory; with each pid
 * of Linux (2^22) on top below 2^31: on Debian nobody's. */
#define BERTHD_VM_UIDS   0x7f000000u
#define BERTHD_MESH_PORT 7440 /* and 7441 for hosts that join */
#define BERTHD_RAFT_PORT 7442
#define BERTHD_API_PORT  7443

/* What a berthd that was to join ends with once the cluster has refused its token. */
#define BERTHD_EXIT_NOT_LET_IN 3

int berthd_open(uv_loop_t *loop,
                const struct berthd_config *config,
                struct berthd **ret_berthd,
                struct err *err);
/* Ends it in order; the loop runs empty afterwards. VMs run on. */
void berthd_stop(struct berthd *berthd);
bool berthd_stopping(const struct berthd *berthd);
int berthd_exit_code(const struct berthd *berthd);
/* After the loop has ended. */
struct berthd *berthd_free(struct berthd *berthd);
