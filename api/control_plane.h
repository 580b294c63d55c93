/* What the API sees of the control plane: one small interface, implemented by the agent.
 *
 * Shapes: struct control_plane is an ops table with a context. The API reads the
 * replicated state only inside a callback of `read` (leader, after a barrier) or, on a
 * voter, directly for watches; it changes it only by `propose`. On a host that is not the
 * leader the whole exchange is forwarded: see api/exchange.h. Threads: the loop's. No
 * callback runs inside the call that registered it. Ownership: commands are borrowed for
 * the call; results are borrowed for the callback.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "model/feed.h"
#include "model/state.h"

#include <stdbool.h>
#include <stdint.h>

struct exchange;

/* result->code carries refusals by apply; `code` transport outcomes (BERTH_ENOTLEADER,
 * _EUNKNOWN, ...). */
typedef void control_proposed(void *context, int code, const struct apply_result *result);
/* state is NULL when code != 0. Valid for the callback only. */
typedef void control_readable(void *context, int code, const struct state *state);

struct control_role {
    bool leader;
    bool voter;              /* holds the state: may serve watches */
    const char *host_name;   /* this host; borrowed */
    const char *leader_name; /* "" when unknown */
    uint64_t revision;       /* applied here; 0 on hosts without the state */
};

struct control_plane {
    void *context;
    void (*role)(void *context, struct control_role *ret_role);
    /* Proposes commands one after the other in one batch; done is called once per
     * command, in order, with its index. What the log does not take keeps out those
     * behind it; only a command that the cluster's level has not, or that is too large,
     * is refused by itself, perhaps before those in front of it. */
    void (*propose)(void *context,
                    const struct command *commands,
                    uint32_t count,
                    void (*done)(void *done_context,
                                 uint32_t index,
                                 int code,
                                 const struct apply_result *result),
                    void *done_context);
    /* Linearizable read on the leader. */
    void (*read)(void *context, control_readable *readable, void *readable_context);
    /* The state as applied here (voters), or NULL. */
    const struct state *(*state)(void *context);
    /* The change feed of this host (voters), or NULL. */
    const struct feed *(*feed)(void *context);
    /* Soft facts on the leader. NULL document: nothing known. New references. */
    json_t *(*vm_live)(void *context, const struct vm *vm); /* {"cpu": permille,...} */
    json_t *(*host_live)(void *context,
                         const struct host *host); /* {"lastHeard","cpuUsed",...} */
    /* {level, next, waits}: the level of the state, the highest that a host knows, what
     * it waits for; NULL unless this host leads. */
    json_t *(*level)(void *context);
    /* Why a VM that waits for a host has none, in a few words; false when it is not so.
     * *looks: placements that may be worked out for it and others; with none left, the
     * text says whom to ask. */
    bool (*vm_waits)(void *context,
                     const struct vm *vm,
                     unsigned *looks,
                     char *ret_text,
                     size_t size);
    /* Why a VM that has a host is not started yet, when that is for want of its image's
     * content, in words; false when it is not so. ret_missing: the image, when no host
     * that is up has the content; else "": it is on its way. */
    bool (*vm_lacks)(void *context,
                     const struct vm *vm,
                     char ret_missing[NAME_SIZE],
                     char *ret_text,
                     size_t size);
    json_t *(*explain_vm)(void *context, const struct vm *vm);
    json_t *(*explain_group)(void *context, const struct group *group);
    json_t *(*forecast)(void *context,
                        const char *tenant,
                        const char *group,
                        const struct machine_spec *machine,
                        uint32_t count);
    /* Of a VM that is there, and would be switched on. */
    json_t *(*forecast_vm)(void *context, const struct vm *vm);
    /* Text in Prometheus' exposition format of what the agent knows (this host); caller
     * frees. */
    char *(*metrics)(void *context);
    /* Makes and stores a join token: secret text for the user through done (code, token
     * or NULL). */
    void (*join_token)(
        void *context,
        uint64_t ttl_ms,
        void (*done)(void *done_context, int code, const char *token, const char *detail),
        void *done_context);
    /* Takes an exchange that must run elsewhere (the leader, or the host of a VM's
     * console) and sees it through: the API calls nothing on it afterwards but exchange_*
     * callbacks from its sink. */
    void (*forward)(void *context, struct exchange *exchange);
    /* Attaches a console exchange to the VM's ring on this host, or forwards it to the
     * VM's host. The API has authorised it. */
    void (*console)(void *context, struct exchange *exchange, uint64_t vm);
    /* Image store of this host: begins a blob of size_bytes (UINT64_MAX: not known);
     * write and end run in order. See agent/image_store.h. */
    void *(*blob_begin)(void *context,
                        const struct digest *expected /* or NULL */,
                        uint64_t size_bytes,
                        struct err *err);
    int (*blob_write)(void *context,
                      void *blob,
                      const void *data,
                      size_t size,
                      struct err *err);
    void (*blob_end)(void *context,
                     void *blob,
                     bool abort,
                     void (*done)(void *done_context,
                                  int code,
                                  const struct digest *digest,
                                  uint64_t size,
                                  const char *detail),
                     void *done_context);
    /* Fetches a URL into the store, checking the digest; progress by log. */
    void (*blob_fetch)(void *context,
                       const char *url,
                       const struct digest *expected,
                       void (*done)(void *done_context,
                                    int code,
                                    const struct digest *digest,
                                    uint64_t size,
                                    const char *detail),
                       void *done_context);
    bool (*blob_has)(void *context, const struct digest *digest, uint64_t *ret_size);
};
