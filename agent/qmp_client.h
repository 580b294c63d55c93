/* QMP over a UNIX socket: greeting, capabilities, commands with deadlines, events.
 *
 * One client for every engine that speaks it. Shapes: opaque `struct qmp_client`; one
 * JSON message per line from the peer; commands carry a numeric id and are answered in
 * any order. A peer that breaks the rules (no greeting, an answer to an unknown id, a
 * line that is not JSON) is tolerated up to QMP_GARBAGE_MAX such lines, then given up;
 * a line over QMP_MESSAGE_MAX closes the client at once. Threads: the loop's. Ownership:
 * open gives, close takes; documents given to callbacks are borrowed for the callback.
 * House rule: no callback runs inside the call that registered it; each command's reply
 * runs exactly once, also when the client is closed by the peer (BERTH_ECLOSED); after
 * qmp_client_close nothing runs. Errors: BERTH_ETIMEOUT (says which command),
 * BERTH_ECLOSED, BERTH_EPROTO, BERTH_EFULL, BERTH_ECHILD (the peer answered with an
 * error; text holds its class and words). Limits: QMP_*.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"

#include <uv.h>

#include <stdbool.h>
#include <stdint.h>

#define QMP_MESSAGE_MAX \
    (1u << 20)               /* query-* answers of large machines are below 100 KiB */
#define QMP_COMMANDS_MAX 64u /* unanswered at a time */
#define QMP_GARBAGE_MAX  16u
#define QMP_LAST_MAX                                                   \
    (2u * QMP_MESSAGE_MAX) /* of what is read of a peer that has ended \
                            */
#define QMP_RETRY_MS 10u   /* between attempts to connect */

struct qmp_client;

struct qmp_handlers {
    /* Greeting read, capabilities agreed: commands may be sent. */
    void (*ready)(void *context);
    /* An event: "SHUTDOWN", "STOP", ... with its data (may be NULL). */
    void (*event)(void *context, const char *name, const json_t *data);
    /* The connection is over, or never came to be ready before the deadline; once, and
     * the last callback. The client is still to be closed. */
    void (*closed)(void *context, const struct err *reason);
};

/* Connects to the socket, again and again until connect_timeout_ms is over (the peer may
 * be still starting). All callbacks come from the loop. NULL: out of memory or the path
 * does not fit an address. */
struct qmp_client *qmp_client_open(uv_loop_t *loop,
                                   const char *path,
                                   uint64_t connect_timeout_ms,
                                   const struct qmp_handlers *handlers,
                                   void *context,
                                   struct err *err);

/* code 0 with the "return" value, or an error with text. */
typedef void
qmp_reply(void *context, int code, const json_t *result, const struct err *error);

/* Sends a command. arguments (may be NULL) is consumed in any case. reply may be NULL. 0,
 * BERTH_EFULL, BERTH_ECLOSED, BERTH_EBUSY (not ready yet) or -ENOMEM; then reply will not
 * run. */
int qmp_client_execute(struct qmp_client *client,
                       const char *command,
                       json_t *take_arguments,
                       uint64_t timeout_ms,
                       qmp_reply *reply,
                       void *context,
                       struct err *err);
/* Likewise, with a descriptor (SCM_RIGHTS), which is borrowed for the call. BERTH_EBUSY
 * also when the peer does not read: it cannot wait in a queue. */
int qmp_client_execute_fd(struct qmp_client *client,
                          const char *command,
                          json_t *take_arguments,
                          int fd,
                          uint64_t timeout_ms,
                          qmp_reply *reply,
                          void *context,
                          struct err *err);
bool qmp_client_is_ready(const struct qmp_client *client);
/* The peer has ended: takes what it has said and nobody has read, at most QMP_LAST_MAX
 * bytes. The callbacks run before this returns, `closed` not for its end; so not from one
 * of them. Accepts NULL. */
void qmp_client_hear_last(struct qmp_client *client);
/* Accepts NULL; returns NULL; from any callback. */
struct qmp_client *qmp_client_close(struct qmp_client *client);
