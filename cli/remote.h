/* Asking the API and saying what went wrong: every command goes through here.
 *
 * Shapes: remote_call is one request with its retries (cli/http.h); a refusal is printed
 * as a person wants to read it and becomes an exit code. remote_list gathers all pages of
 * a list into one document, of whole objects or of the fields that are read. Ownership:
 * documents are new references. Threads: one. Limits: REMOTE_PAGE objects per page (of
 * some fields: REMOTE_PAGE_THIN), REMOTE_PAGES pages.
 */
#pragma once

#include "cli/cli.h"
#include "cli/http.h"
#include "model/objects.h"

#define REMOTE_PAGE      200 /* answers of some 100 KiB: no host is held up by one */
#define REMOTE_PAGE_THIN 500 /* answers of the same size */
#define REMOTE_PAGES     1000

#define REMOTE_PATH_SIZE   512
#define REMOTE_FIELDS_SIZE 400

/* body and ret_document may be NULL; the body is borrowed. */
int remote_call(struct cli *cli,
                const char *method,
                const char *path,
                const json_t *body,
                json_t **ret_document);
/* As above, for what takes the server its time: the answer is waited for as long as the
 * connection stands. */
int remote_call_long(struct cli *cli,
                     const char *method,
                     const char *path,
                     const json_t *body,
                     json_t **ret_document);
/* As remote_call, but a 404 is silent and gives EXIT_NOT_FOUND. */
int remote_call_quiet(struct cli *cli,
                      const char *method,
                      const char *path,
                      const json_t *body,
                      json_t **ret_document);
/* The answer as it is: EXIT_OK when one came, else EXIT_UNREACHABLE (said). */
int remote_answer(struct cli *cli,
                  const char *method,
                  const char *path,
                  const json_t *body,
                  struct http_answer *ret_answer);
/* Exit code of an HTTP status and the problem's code. */
enum cli_exit remote_exit(int status, const char *code);
/* Says that the berthd of this host (cli is the context) answers nothing so far. */
void remote_silent(void *context);
/* Says why no answer came, and what to do; EXIT_UNREACHABLE. */
int remote_unreachable(struct cli *cli, const struct http_answer *answer);
/* Says the answer's problem and gives its exit code. */
int remote_problem(struct cli *cli, const struct http_answer *answer);
/* {"items": [...], "revision": N} of a kind; `query` is "" or "tenant=..&group=..".
 * fields: what of the objects is read, as in "metadata.name,status"; NULL: all of them. A
 * server that does not know them yet is asked for whole objects. */
int remote_list(struct cli *cli,
                const struct kind_info *info,
                const char *query,
                const char *fields,
                json_t **ret_list);
/* Text for a query: everything but unreserved characters as %XX. */
void remote_escape(const char *text, char *ret_text, size_t capacity);
