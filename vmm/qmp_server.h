/* Speaks QMP on a listening UNIX socket: greeting, capabilities, commands, events.
 *
 * Shapes: `struct qmp_command` is one row of the owner's table; a command answers at
 * once, with a document or an error, or owes its answer (QMP_LATER) until its owner calls
 * qmp_server_answer, one at a time. Meanwhile a client that gives its messages an `id`,
 * and so can tell answers apart, is answered as before; a message without one waits, and
 * what comes behind it, so that answers come in order. One that closes its sending side
 * has its answers first; what a client is owed goes with it when it closes both. Messages
 * are JSON objects, one after another, with or without line ends between (stock clients
 * differ); answers and events are one line each. One client at a time: the next is served
 * when it has gone. Descriptors sent along with a message (SCM_RIGHTS) wait until a
 * command takes them, or are closed with the client.
 *
 * Threads: the poller's. Ownership: takes the listener; borrows the table. Errors: what a
 * client gets wrong is answered with an error; what is no JSON, too long, or a client
 * that does not read its answers, ends the connection. Limits: QMP_INPUT_MAX,
 * QMP_OUTPUT_MAX, QMP_DESCRIPTORS_MAX.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "vmm/poller.h"

#include <stdbool.h>

#define QMP_INPUT_MAX       (64u << 10) /* the longest command is some hundred bytes */
#define QMP_OUTPUT_MAX      (1u << 20)
#define QMP_DESCRIPTORS_MAX 16u

#define QMP_LATER 1 /* of a command: its answer is owed */

struct qmp_server;

struct qmp_command {
    const char *name;
    /* *ret_result: a new reference, or left alone for an empty object. -ENODEV is QEMU's
     * DeviceNotFound, any other error its GenericError. QMP_LATER only while no answer is
     * owed (qmp_server_owes). */
    int (*run)(void *context,
               const json_t *arguments,
               json_t **ret_result,
               struct err *err);
};

/* What query-version answers, and each client is greeted with; NULL without memory. */
json_t *qmp_version(void);
int qmp_server_new(struct poller *poller,
                   int take_listener,
                   const struct qmp_command *commands,
                   unsigned command_count,
                   void *context,
                   struct qmp_server **ret_server,
                   struct err *err);
/* Who hears that a client has gone, with the owner's context; it may not call the server.
 * Also at its close. */
void qmp_server_listen_gone(struct qmp_server *server, void (*gone)(void *context));
bool qmp_server_owes(const struct qmp_server *server);
/* Gives the answer that is owed: an empty object, or an error with its text. Nothing when
 * none is, for who was owed it has gone. NULL is fine. What has waited for it is taken
 * from the poller. */
void qmp_server_answer(struct qmp_server *server, int code, const struct err *error);
/* Tells the client, if there is one that has agreed on capabilities. data may be NULL and
 * is consumed. */
void qmp_server_event(struct qmp_server *server, const char *name, json_t *take_data);
/* The oldest descriptor that came along and was not taken; owned by the caller; -1. */
int qmp_server_take_fd(struct qmp_server *server);
/* Sends what can be sent at once, and closes. NULL is fine; returns NULL. */
struct qmp_server *qmp_server_close(struct qmp_server *server);
