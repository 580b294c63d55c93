#include "cli/event_list.h"

#include "cli/remote.h"

#include <inttypes.h>

/* A page may end early, so this asks until nothing more comes. */
int event_list_get(struct cli *cli,
                   const char *filter,
                   uint64_t *since,
                   json_t **ret_items)
{
    uint64_t at = *since;
    json_t *all = json_array();
    *ret_items = NULL;
    for (unsigned page = 0; page < REMOTE_PAGES; page++) {
        char path[REMOTE_PATH_SIZE];
        CLEANUP_JSON json_t *answer = NULL;
        (void)snprintf(path, sizeof(path), "/v1/events?since=%" PRIu64 "&limit=%d%s", at,
                       REMOTE_PAGE, filter);
        int code = remote_call(cli, "GET", path, NULL, &answer);
        if (code != EXIT_OK) {
            json_decref(all);
            return code;
        }
        json_t *items = json_object_get(answer, "items");
        size_t count = json_array_size(items);
        const json_t *last = json_array_get(items, count > 0 ? count - 1 : 0);
        uint64_t reached = json_member_u64(last, "revision", at);
        json_array_extend(all, items);
        if (count < REMOTE_PAGE || reached <= at) {
            uint64_t now = json_member_u64(answer, "revision", reached);
            at = now > reached ? now : reached;
            break;
        }
        at = reached;
    }
    *since = at > *since ? at : *since;
    *ret_items = all;
    return EXIT_OK;
}
