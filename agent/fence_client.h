/* berthd's side of the fence (fence/README.md): starts it when it is missing, tells it
 * which VMs obey the lease and when the lease was renewed, and logs what it did.
 *
 * The fence outlives us: a restarted berthd finds it by its socket, tells it all again
 * and ends what it watches that nobody here knows (a process whose record is gone). While
 * it is away it is started anew every second; VMs that obey the lease are not started
 * meanwhile (fence_client_ready), and those that run are fenced by the worker alone, as
 * they always are: two enforcers, either of which is enough.
 *
 * Requests wait for their answer, FENCE_CLIENT_ANSWER_MS at most; one that does not come
 * ends the connection, so that the next request waits for nothing. A fence that stays
 * silent is killed and replaced, likewise one of other rules or another version.
 *
 * Shapes: opaque `struct fence_client`. Threads: the loop's. Callbacks never run inside a
 * call. Ownership: close leaves a fence that watches VMs to itself, and asks one that
 * watches none to end. Errors: BERTH_ECLOSED (it is not there), BERTH_ETIMEOUT, and the
 * fence's own (fence/fence_core.h).
 */
#pragma once

#include "agent/messages.h"
#include "agent/resource_groups.h"
#include "agent/vm_process.h"
#include "fence/fence_wire.h"

#define FENCE_CLIENT_ANSWER_MS 250 /* it takes microseconds; then something is wrong */
#define FENCE_CLIENT_GRACE_MS  UINT64_C(5000) /* of the first start, on a busy machine */
#define FENCE_CLIENT_PROGRAM   "berth-fence"

struct fence_client_config {
    uv_loop_t *loop;
    const char *folder;   /* state folder, absolute; copied */
    const char *program;  /* NULL: beside our own program, else in PATH; borrowed */
    uint64_t lease_ns;    /* L */
    const char *watchdog; /* device, "auto" or NULL; borrowed */
    struct resource_groups *groups; /* may be NULL */
    void *context;
    /* It is there (again) and knows nothing: lease first, then the VMs. */
    void (*connected)(void *context);
    /* Is this watched process a VM of ours? One that is not is ended. */
    bool (*is_known)(void *context, const struct fence_entry *entry);
};

struct fence_client;

struct fence_client *fence_client_open(const struct fence_client_config *config,
                                       struct err *err);
/* Accepts NULL; returns NULL. */
struct fence_client *fence_client_close(struct fence_client *client);

/* It is there and knows all that it should. */
bool fence_client_ready(const struct fence_client *client);
/* The newest grant that it went by when it last told of itself; 0: none. */
uint64_t fence_client_granted_ns(const struct fence_client *client);
/* UNKNOWN for NULL, and for FENCE_CLIENT_GRACE_MS while the first start is under way. */
enum fence_health fence_client_health(const struct fence_client *client);
/* The VM is watched once this has returned 0; the same again does no harm. */
int fence_client_watch(struct fence_client *client,
                       uint64_t uid,
                       uint64_t epoch,
                       const struct vm_process_identity *identity,
                       struct err *err);
void fence_client_drop(struct fence_client *client, uint64_t uid, uint64_t epoch);
/* The time of the last grant, CLOCK_BOOTTIME. */
void fence_client_lease(struct fence_client *client, uint64_t granted_ns);

/* When the fence of a folder freezes what it watches unless it hears of another lease;
 * CLOCK_BOOTTIME, 0: it was told of none. BERTH_ENOTFOUND: there is no fence. Blocks for
 * FENCE_CLIENT_ANSWER_MS at most: for programs without a loop. */
int fence_client_freezes_ns(const char *folder,
                            uint64_t *ret_freezes_ns,
                            struct err *err);

/* Ends the fence of a folder, which must not watch any VM any more, and waits for that;
 * 0 also when there is none. Blocks for 5 s at most: for programs without a loop. */
int fence_client_end(const char *folder, struct err *err);
