/* A cluster that begins again on this host: from a backup, or from what this host's log
 * still holds when a majority of voters is gone for good.
 *
 * Both end in the same: a state whose counters have jumped (model/state_rebirth.h) as the
 * beginning of a new log with this host as its only voter (consensus/raft_offline.h). No
 * daemon runs meanwhile; berthd then starts on it as on any other log. Before, both wait
 * as long as a lease can last that somebody gave who is not asked any more, so that
 * nothing that ran under one runs when VMs start again.
 * A recovered cluster keeps its identity and the hosts that had no part in the log; the
 * other voters are shut out and have to join again. A restored one knows no host: all
 * join again. The log that was there is kept beside the new one.
 * Threads: any; blocking. Ownership: the identity is the caller's and holds the folder's
 * lock. Errors: BERTH_EEXISTS (this host is a member of a cluster), BERTH_ENOTFOUND (no
 * log, no file), those of raft_offline.h, backup_file.h and secret_box.h.
 */
#pragma once

#include "agent/identity.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "consensus/raft_offline.h"
#include "model/state.h"

/* Puts a backup's state where this host's log will be, and makes it a founder.
 * passphrase: NULL or "" when there is none. */
int rebirth_restore(struct identity *identity,
                    const char *file,
                    const char *passphrase,
                    const struct clock *clock,
                    struct err *err);

/* What a log on this host holds. */
struct rebirth_log {
    struct log_facts facts;
    struct state *state; /* owned */
};
int rebirth_look(const struct identity *identity,
                 struct rebirth_log *ret_log,
                 struct err *err);
void rebirth_log_fini(struct rebirth_log *log);
/* {"host", "folder", "term", "lastIndex", "lastTerm", "revision", "members": [{"name",
 * "address", "role", "self"}], "objects": {"hosts": N, ...}, "newest": {"time", "kind",
 * "tenant", "name", "verb"}}; a new reference, NULL when out of memory. */
json_t *rebirth_log_document(const struct identity *identity,
                             const struct rebirth_log *log);
/* Makes this host the only voter of what its log holds. */
int rebirth_recover(struct identity *identity,
                    const struct clock *clock,
                    struct err *err);

/* With the VMs of this host ended: forgets its cluster, so that it can found or join
 * another. What it had goes into a folder beside; name and address stay. Interrupted, it
 * goes on where it was at the next call, or by rebirth_forget_resume. */
int rebirth_forget(struct identity *identity, const struct clock *clock, struct err *err);
/* Before the identity of a state folder is opened to be used: a host that was interrupted
 * while it forgot must not be a member without its log. Else does nothing. */
int rebirth_forget_resume(const char *folder, const struct clock *clock, struct err *err);
