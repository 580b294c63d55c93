/* The berthd that is put under faults: the real one, with as many voters as are asked for
 * and little patience (CMakeLists.txt), snapshots that come often, and, when it is asked
 * for, a mistake that the checks have to find.
 *
 * Elections wait longer, for some thirty daemons share one machine. Small logs make a
 * voter that was away for seconds need a snapshot, which takes hours otherwise.
 * BERTH_CHAOS_PLANT names a mistake: `twice` (a leader that takes hosts for lost before
 * their leases are over), `watch` (a change that watches of this host are not told),
 * `diverge` (a command whose time is another one on each host).
 */
#include "base/parse_number.h"
#include "chaos_voters.h"
#include "consensus/consensus.h"
#include "model/feed.h"
#include "scheduler/host_watch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VOTERS           5
#define SNAPSHOT_EVERY   200
#define SNAPSHOT_TRAIL   50
#define MEMBER_STABLE_MS 3000
#define ELECTION_MS      800 /* a busy machine shall not be the fault that is tried */
#define PLANT_EVERY      40
#define EARLY_NS         (UINT64_C(4) * 1000000000)

int __real_consensus_open(uv_loop_t *loop,
                          const struct consensus_config *config,
                          const struct consensus_fsm *fsm,
                          const struct consensus_events *events,
                          struct consensus **ret_consensus,
                          struct err *err);
int __wrap_consensus_open(uv_loop_t *loop,
                          const struct consensus_config *config,
                          const struct consensus_fsm *fsm,
                          const struct consensus_events *events,
                          struct consensus **ret_consensus,
                          struct err *err);
void __real_feed_push(struct feed *feed, const struct change *change);
void __wrap_feed_push(struct feed *feed, const struct change *change);
void __real_state_apply(struct state *state,
                        const struct command *command,
                        struct apply_result *ret_result);
void __wrap_state_apply(struct state *state,
                        const struct command *command,
                        struct apply_result *ret_result);
enum host_phase __real_host_watch_judge(struct host_watch *watch,
                                        const struct host *host,
                                        uint64_t now_ns,
                                        char *ret_reason);
enum host_phase __wrap_host_watch_judge(struct host_watch *watch,
                                        const struct host *host,
                                        uint64_t now_ns,
                                        char *ret_reason);

static bool is_planted(const char *name)
{
    const char *planted = getenv("BERTH_CHAOS_PLANT");
    return planted != NULL && strcmp(planted, name) == 0;
}

unsigned chaos_voters(void)
{
    const char *wanted = getenv("BERTH_CHAOS_VOTERS");
    uint64_t count = 0;
    bool good = wanted != NULL && parse_u64(wanted, &count, NULL) == 0 && count > 0;
    return good && count < CONSENSUS_MEMBERS_MAX ? (unsigned)count : VOTERS;
}

int __wrap_consensus_open(uv_loop_t *loop,
                          const struct consensus_config *config,
                          const struct consensus_fsm *fsm,
                          const struct consensus_events *events,
                          struct consensus **ret_consensus,
                          struct err *err)
{
    struct consensus_config often = *config;
    often.snapshot_threshold = SNAPSHOT_EVERY;
    often.snapshot_trailing = SNAPSHOT_TRAIL;
    often.election_ms = ELECTION_MS;
    often.member_stable_ms = MEMBER_STABLE_MS;
    return __real_consensus_open(loop, &often, fsm, events, ret_consensus, err);
}

void __wrap_feed_push(struct feed *feed, const struct change *change)
{
    static unsigned count;
    if (!is_planted("watch") || ++count % PLANT_EVERY != 0) {
        __real_feed_push(feed, change);
    }
}

void __wrap_state_apply(struct state *state,
                        const struct command *command,
                        struct apply_result *ret_result)
{
    static unsigned count;
    struct command later = *command; /* borrows what the command owns */
    if (is_planted("diverge") && ++count % PLANT_EVERY == 0) {
        later.wall_ms += (uint64_t)getpid() % 1000 + 1;
    }
    __real_state_apply(state, &later, ret_result);
}

enum host_phase __wrap_host_watch_judge(struct host_watch *watch,
                                        const struct host *host,
                                        uint64_t now_ns,
                                        char *ret_reason)
{
    enum host_phase phase = __real_host_watch_judge(watch, host, now_ns, ret_reason);
    bool early = phase == HOST_PHASE_SUSPECT && is_planted("twice");
    return early ? __real_host_watch_judge(watch, host, now_ns + EARLY_NS, ret_reason)
                 : phase;
}
