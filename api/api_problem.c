#include "api/api_problem.h"

#include "base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct problem_row {
    int code;
    int status;
    const char *title;
    const char *hint;
};

static const struct problem_row rows[] = {
    {BERTH_ENOTLEADER, 503, "Another host leads now", "try again"},
    {BERTH_ENOLEADER, 503, "No leader is known",
     "a majority of the voters must be up; `berth watch host` on one of them lists the "
     "hosts. If the others have a leader and only this host knows none, it was away too "
     "long: berth down, then berth join TOKEN here; berth token join on a member makes "
     "one"},
    {BERTH_ETIMEOUT, 504, "It took too long", "try again"},
    {BERTH_EUNKNOWN, 504, "The outcome is unknown",
     "ask again with the same Idempotency-Key: nothing is done twice"},
    {BERTH_EFULL, 429, "Too much is under way", "try again in a second"},
    {BERTH_EBUSY, 409, "Busy with another request", "try again"},
    {BERTH_ECLOSED, 503, "Going down", "ask another host"},
    {BERTH_EUNREACHABLE, 503, "The host cannot be reached", "try again"},
    {BERTH_EINVALID, 422, "Not valid", NULL},
    {BERTH_ENOTFOUND, 404, "Not found", NULL},
    {BERTH_EEXISTS, 409, "Exists already", NULL},
    {BERTH_ECONFLICT, 409, "Changed in the meantime", "get it again, then decide"},
    {BERTH_EQUOTA, 409, "The quota does not allow it", "berth show tenant/NAME"},
    {BERTH_ENOCAPACITY, 409, "No host fits", "berth explain says why, per host"},
    {BERTH_EAUTH, 401, "Not authenticated",
     "send `Authorization: Bearer TOKEN` with a token of this cluster"},
    {BERTH_EFORBIDDEN, 403, "Not allowed", "ask an administrator for a stronger role"},
    {BERTH_EINUSE, 409, "Still in use", NULL},
    {BERTH_EREUSED, 422, "The Idempotency-Key was used for another request",
     "make a new key for a new request"},
    {BERTH_ESTALE, 409, "The epoch is stale", NULL},
    {BERTH_EPHASE, 409, "Not in this phase", NULL},
    {BERTH_EUNSUPPORTED, 422, "Not supported", NULL},
    {BERTH_ETOOLARGE, 413, "Too large", NULL},
    {BERTH_ELEVEL, 409, "The cluster's level does not allow it",
     "berth version says which host holds the level back"},
    {BERTH_ECORRUPT, 422, "The content is not what was announced", NULL},
    {BERTH_EPROTO, 400, "Malformed", NULL},
    {BERTH_EDISKFULL, 507, "The host's disk is full", NULL},
    {BERTH_ECHILD, 502, "A helper program failed", NULL},
    {-ENOSPC, 507, "The host's disk is full", NULL},
    {-ENOMEM, 503, "The host is out of memory", "try again"},
};
static const struct problem_row row_bug = {BERTH_EBUG, 500, "Internal error",
                                           "the daemon's log says more"};

static const struct problem_row *find_row(int code)
{
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (rows[i].code == code) {
            return &rows[i];
        }
    }
    return &row_bug;
}

int problem_status(int code)
{
    return find_row(code)->status;
}

/* What the request had malformed, whatever code says so. */
static const char *title_of(const struct problem_row *row, int status)
{
    switch (status) {
    case 400:
        return "Malformed request";
    case 405:
        return "Method not allowed";
    case 412:
        return "Precondition not met";
    case 415:
        return "Not JSON";
    default:
        return row->title;
    }
}

/* A text that may hold foreign bytes. */
static json_t *text_or_mask(const char *text)
{
    json_t *value = json_string(text);
    return value != NULL ? value : json_string("(not printable)");
}

json_t *problem_document(const struct problem *problem, const char *request_id)
{
    const struct problem_row *row = find_row(problem->code);
    int status = problem->status != 0 ? problem->status : row->status;
    const char *hint = problem->hint != NULL   ? problem->hint
                       : status == row->status ? row->hint
                                               : NULL;
    const char *detail =
        problem->detail != NULL ? problem->detail : err_sentence(problem->code);
    json_t *document = json_object();
    json_object_set_new(document, "type", json_string("about:blank"));
    json_object_set_new(document, "title", json_string(title_of(row, status)));
    json_object_set_new(document, "status", json_integer(status));
    json_object_set_new(document, "code", json_string(err_name(problem->code)));
    json_object_set_new(document, "detail", text_or_mask(detail));
    if (hint != NULL) {
        json_object_set_new(document, "hint", text_or_mask(hint));
    }
    if (request_id != NULL) {
        json_object_set_new(document, "requestId", text_or_mask(request_id));
    }
    if (problem->errors != NULL) {
        json_object_set_new(document, "errors", problem->errors);
    }
    if (problem->extra != NULL) {
        json_object_update_missing(document, problem->extra);
        json_decref(problem->extra);
    }
    return document;
}

/* With a newline in place of the NUL: it is a text no more. */
static char *
problem_line(const struct problem *problem, const char *request_id, size_t *ret_size)
{
    json_t *document = problem_document(problem, request_id);
    char *text = json_text(document);
    size_t size = text != NULL ? strlen(text) : 0;
    json_decref(document);
    if (size > 0) {
        text[size++] = '\n';
    }
    *ret_size = size;
    return text;
}

bool problem_undone(const struct problem *problem)
{
    return problem->code == BERTH_ENOTLEADER && problem->errors == NULL;
}

void problem_answer(struct exchange *exchange,
                    const struct problem *problem,
                    uint64_t revision)
{
    const struct exchange_request *request = exchange_request(exchange);
    struct exchange_header headers[5];
    unsigned count = 0;
    char revision_text[24];
    int status = problem->status != 0 ? problem->status : problem_status(problem->code);
    size_t size = 0;
    const bool undone = problem_undone(problem);
    CLEANUP_FREE char *text = problem_line(problem, request->request_id, &size);
    if (size > EXCHANGE_ANSWER_MAX) {
        char detail[512];
        (void)snprintf(detail, sizeof(detail),
                       "%.400s (all that is to be said of it has more than 64MiB)",
                       problem->detail != NULL ? problem->detail
                                               : err_sentence(problem->code));
        problem_answer(exchange,
                       &(struct problem){.code = BERTH_ETOOLARGE,
                                         .detail = detail,
                                         .hint = "send fewer objects at once"},
                       revision);
        return;
    }
    if (undone) {
        headers[count++] = (struct exchange_header){EXCHANGE_UNDONE, "1"};
    }
    (void)snprintf(revision_text, sizeof(revision_text), "%" PRIu64, revision);
    headers[count++] = (struct exchange_header){EXCHANGE_REVISION, revision_text};
    if (request->request_id != NULL) {
        headers[count++] = (struct exchange_header){"X-Request-Id", request->request_id};
    }
    if (status == 503 || status == 429) {
        headers[count++] = (struct exchange_header){"Retry-After", "1"};
    } else if (status == 401) {
        headers[count++] = (struct exchange_header){"WWW-Authenticate", "Bearer"};
    } else if (problem->allow != NULL) {
        headers[count++] = (struct exchange_header){"Allow", problem->allow};
    }
    exchange_answer(exchange, status, "application/problem+json", headers, count, text,
                    size);
}
