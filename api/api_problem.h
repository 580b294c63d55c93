/* Problems: every refusal of the API as application/problem+json.
 *
 * Shapes: one table gives each code of base/err.h its HTTP status, title and hint. struct
 * problem is filled by the handler that sees the fault. Threads: the loop's. Ownership:
 * texts are borrowed for the call; `errors` and `extra` are taken.
 */
#pragma once

#include "api/exchange.h"
#include "base/err.h"
#include "base/json.h"

struct problem {
    int code;           /* BERTH_E* or -errno */
    int status;         /* 0: as the table says */
    const char *detail; /* NULL: the code's sentence */
    const char *hint;   /* NULL: the code's, if it has one */
    json_t *errors;     /* taken: list of {pointer, message, hint}, or NULL */
    json_t *extra;      /* taken: further members, or NULL */
    const char *allow;  /* the Allow header of a 405, or NULL */
};

/* HTTP status of a code. */
int problem_status(int code);
/* Surely nothing was done: the request may be sent to another host as it is. */
bool problem_undone(const struct problem *problem);
/* The document, a new reference (NULL when out of memory); takes errors and extra. */
json_t *problem_document(const struct problem *problem, const char *request_id);
/* Answers the exchange with it, and ends it. One that is larger than any answer says what
 * was refused without its errors and extra, as BERTH_ETOOLARGE. */
void problem_answer(struct exchange *exchange,
                    const struct problem *problem,
                    uint64_t revision);
