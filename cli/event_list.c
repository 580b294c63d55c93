#include "cli/event_list.h"

#include "cli/remote.h"

#include <inttypes.h>

#define EVENTS_MAX 100000 /* more than a cluster remembers */

int event_list_get(struct cli *cli,
                   const char *filter,
                   uint64_t *since,
                   json_t **ret_items)
{
    char path[REMOTE_PATH_SIZE];
    CLEANUP_JSON json_t *answer = NULL;
    *ret_items = NULL;
    (void)snprintf(path, sizeof(path), "/v1/events?since=%" PRIu64 "&limit=%d%s", *since,
                   EVENTS_MAX, filter);
    int code = remote_call(cli, "GET", path, NULL, &answer);
    if (code != EXIT_OK) {
        return code;
    }
    uint64_t revision = json_member_u64(answer, "revision", *since);
    *since = revision > *since ? revision : *since;
    *ret_items = json_incref(json_object_get(answer, "items"));
    return *ret_items != NULL ? EXIT_OK
                              : cli_fail(cli, EXIT_FAILED, "the answer has no events");
}
