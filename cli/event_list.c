#include "cli/event_list.h"

#include "cli/connection.h"
#include "cli/remote.h"

#include <inttypes.h>

#define EVENTS_MAX 100000 /* more than a cluster remembers */

static void path_make(const char *filter, uint64_t since, char ret_path[REMOTE_PATH_SIZE])
{
    (void)snprintf(ret_path, REMOTE_PATH_SIZE, "/v1/events?since=%" PRIu64 "&limit=%d%s",
                   since, EVENTS_MAX, filter);
}

static int
take_items(struct cli *cli, const json_t *answer, uint64_t *since, json_t **ret_items)
{
    uint64_t revision = json_member_u64(answer, "revision", *since);
    *since = revision > *since ? revision : *since;
    *ret_items = json_incref(json_object_get(answer, "items"));
    return *ret_items != NULL ? EXIT_OK
                              : cli_fail(cli, EXIT_FAILED, "the answer has no events");
}

int event_list_get(struct cli *cli,
                   const char *filter,
                   uint64_t *since,
                   json_t **ret_items)
{
    char path[REMOTE_PATH_SIZE];
    CLEANUP_JSON json_t *answer = NULL;
    *ret_items = NULL;
    path_make(filter, *since, path);
    int code = remote_call(cli, "GET", path, NULL, &answer);
    return code == EXIT_OK ? take_items(cli, answer, since, ret_items) : code;
}

int event_list_follow(struct cli *cli,
                      const char *filter,
                      uint64_t *since,
                      bool patient,
                      json_t **ret_items)
{
    char path[REMOTE_PATH_SIZE];
    struct http_answer answer = {0};
    int code = EXIT_OK;
    *ret_items = NULL;
    struct http *http = connection_http(cli);
    if (http == NULL) {
        return cli->connect_code != EXIT_OK ? cli->connect_code : (int)EXIT_FAILED;
    }
    path_make(filter, *since, path);
    int r = http_call(http, "GET", path, NULL, &answer);
    bool away = r < 0 || answer.status == 503;
    if (away && patient) {
        code = EXIT_OK;
    } else if (r < 0) {
        code = remote_unreachable(cli, &answer);
    } else if (answer.status >= 300) {
        code = remote_problem(cli, &answer);
    } else {
        code = take_items(cli, answer.document, since, ret_items);
    }
    http_answer_fini(&answer);
    return code;
}
