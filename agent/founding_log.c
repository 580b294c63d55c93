#include "agent/founding_log.h"

#include "agent/log_mark.h"
#include "base/fd.h"
#include "base/log.h"
#include "consensus/raft_offline.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_TERM 1 /* that a new log begins in */

static void pass_over(void *context,
                      uint64_t index,
                      const void *data,
                      size_t size,
                      struct consensus_result *ret_result)
{
    (void)context;
    (void)index;
    (void)data;
    (void)size;
    (void)ret_result;
}

static int pass_over_snapshot(void *context, const void *data, size_t size)
{
    (void)context;
    (void)data;
    (void)size;
    return 0;
}

static bool never_began(const struct log_facts *facts)
{
    return facts->last_index == 0 && facts->member_count == 0 &&
           facts->term <= FIRST_TERM && facts->damage[0] == '\0';
}

/* The mark goes first: without its log it would say that one was lost. */
static int put_aside(const struct identity *identity,
                     const struct clock *clock,
                     const char *folder,
                     struct err *err)
{
    char mark[PATH_MAX];
    char before[PATH_MAX];
    char stamp[CLOCK_STAMP_SIZE];
    char name[64];
    clock_stamp(clock_wall_ms(clock), stamp);
    (void)snprintf(name, sizeof(name), LOG_MARK_FOLDER ".before-%s", stamp);
    identity_path(identity, LOG_MARK_FILE, mark, sizeof(mark));
    identity_path(identity, name, before, sizeof(before));
    if (unlink(mark) < 0 && errno != ENOENT) {
        return err_sys(err, -errno, "remove %s", mark);
    }
    int r = fd_sync_folder(identity->folder, err);
    if (r == 0 && rename(folder, before) < 0) {
        r = err_sys(err, -errno, "put %s aside", folder);
    }
    if (r == 0) {
        log_warn("berthd",
                 "an earlier start ended while it founded, before anything was in the "
                 "log: it is made anew",
                 KV_STR("before", before));
    }
    return r == 0 ? fd_sync_folder(identity->folder, err) : r;
}

int founding_log_put_aside(const struct identity *identity,
                           const struct clock *clock,
                           struct err *err)
{
    char folder[PATH_MAX];
    char address[MESH_ADDRESS_SIZE];
    struct stat info;
    struct log_facts facts;
    const struct consensus_fsm fsm = {.apply = pass_over, .restore = pass_over_snapshot};
    identity_path(identity, LOG_MARK_FOLDER, folder, sizeof(folder));
    identity_address_text(identity->address, identity->raft_port, address);
    const struct log_offline log = {.folder = folder,
                                    .id = identity_raft_id(&identity->key),
                                    .cluster_id = identity->cluster_id,
                                    .address = address};
    if (stat(folder, &info) < 0) {
        return errno == ENOENT ? 0 : err_sys(err, -errno, "open %s", folder);
    }
    int r = log_offline_read(&log, &fsm, &facts, err);
    if (r < 0) {
        return r == BERTH_ENOTFOUND || r == BERTH_ECORRUPT ? 0 : r;
    }
    return never_began(&facts) ? put_aside(identity, clock, folder, err) : 0;
}
