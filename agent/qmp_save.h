/* Saving a machine into a file, in QMP's terms: getfd, migrate to it, MIGRATION.
 *
 *     idle --begin--> active --done--> idle
 *
 * Shapes: `struct qmp_save`, one for a connection after the other; its fields are
 * private. The program pauses the machine itself; saved, it stands still until `cont`;
 * when it could not be saved it goes on, if it ran, but a connection that is lost leaves
 * it saving: whoever connects again cancels first (qmp_save_cancel). Threads: the loop's.
 * `done` never runs inside begin. Ownership: client and descriptor are borrowed, the
 * latter for the call. Errors: of begin, at once; of the rest, by done: BERTH_ECHILD in
 * the program's words, BERTH_ECLOSED, BERTH_ETIMEOUT. Limits: each command has
 * ENGINE_CALL_TIMEOUT_MS; the save itself lasts as long as the disk takes.
 */
#pragma once

#include "agent/qmp_client.h"

struct qmp_save {
    struct qmp_client *client;
    void (*done)(void *context, const struct err *why); /* code 0: saved */
    void *context;
    bool is_active;
};

/* BERTH_EBUSY while one is active, and as qmp_client_execute_fd. */
int qmp_save_begin(struct qmp_save *save,
                   struct qmp_client *client,
                   int fd,
                   struct err *err);
/* The data of a MIGRATION event. */
void qmp_save_event(struct qmp_save *save, const json_t *data);
/* The connection is over; done is called in here. */
void qmp_save_lost(struct qmp_save *save, const struct err *why);
/* Has the program end a save, if one is under way: ours or that of a client before. */
void qmp_save_cancel(struct qmp_client *client);
