#include "agent/qmp_save.h"

#include "agent/engine.h"

#include <errno.h>
#include <string.h>

#define NAME "snapshot"

static void over(struct qmp_save *save, const struct err *why)
{
    if (save->is_active) {
        save->is_active = false;
        save->done(save->context, why);
    }
}

/* A command failed: who knows what the program makes of those that are on their way. */
static void refused(struct qmp_save *save, int code, const struct err *why)
{
    if (code != BERTH_ECLOSED && save->is_active) {
        qmp_save_cancel(save->client);
    }
    over(save, why);
}

static void
on_migrate(void *context, int code, const json_t *result, const struct err *error)
{
    (void)result; /* empty; the event tells */
    if (code < 0) {
        refused(context, code, error);
    }
}

static void
on_getfd(void *context, int code, const json_t *result, const struct err *error)
{
    struct qmp_save *save = context;
    struct err err = {0};
    (void)result; /* empty */
    if (!save->is_active) {
        return;
    }
    json_t *arguments = json_pack("{s:s}", "uri", "fd:" NAME);
    int r = code < 0 ? code
            : arguments == NULL
                ? err_sys(&err, -ENOMEM, "migrate")
                : qmp_client_execute(save->client, "migrate", arguments,
                                     ENGINE_CALL_TIMEOUT_MS, on_migrate, save, &err);
    if (r < 0) {
        refused(save, r, code < 0 ? error : &err);
    }
}

int qmp_save_begin(struct qmp_save *save,
                   struct qmp_client *client,
                   int fd,
                   struct err *err)
{
    if (save->is_active) {
        return err_set(err, BERTH_EBUSY, "the machine is being saved already");
    }
    json_t *arguments = json_pack("{s:s}", "fdname", NAME);
    int r = arguments == NULL
                ? err_sys(err, -ENOMEM, "getfd")
                : qmp_client_execute_fd(client, "getfd", arguments, fd,
                                        ENGINE_CALL_TIMEOUT_MS, on_getfd, save, err);
    if (r == 0) {
        save->client = client;
        save->is_active = true;
    }
    return r;
}

/* The event says that it failed, this says why. */
static void
on_reason(void *context, int code, const json_t *result, const struct err *error)
{
    struct err why;
    const char *text = json_member_text(result, "error-desc", "");
    if (code < 0) {
        over(context, error);
        return;
    }
    (void)err_set(&why, BERTH_ECHILD, "%s",
                  text[0] != '\0' ? text : "the machine was not saved: cancelled");
    over(context, &why);
}

void qmp_save_event(struct qmp_save *save, const json_t *data)
{
    static const struct err none;
    const char *status = json_member_text(data, "status", "");
    struct err err = {0};
    if (!save->is_active) {
        return; /* of a client before, or given up already */
    }
    if (strcmp(status, "completed") == 0) {
        over(save, &none);
    } else if (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0) {
        if (qmp_client_execute(save->client, "query-migrate", NULL,
                               ENGINE_CALL_TIMEOUT_MS, on_reason, save, &err) < 0) {
            over(save, &err);
        }
    }
}

void qmp_save_lost(struct qmp_save *save, const struct err *why)
{
    over(save, why);
}

void qmp_save_cancel(struct qmp_client *client)
{
    if (client != NULL && qmp_client_is_ready(client)) {
        /* Where it is lost the save ends by itself, at its end. */
        (void)qmp_client_execute(client, "migrate_cancel", NULL, ENGINE_CALL_TIMEOUT_MS,
                                 NULL, NULL, NULL);
    }
}
