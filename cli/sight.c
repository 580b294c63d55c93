#include "cli/sight.h"

#include "base/json.h"
#include "cli/connection.h"
#include "cli/http.h"

#include <string.h>

/* One that the cluster turns away, or that knows no leader, has other worries. */
bool sight_is_narrow(struct cli *cli, char ret_host[NAME_SIZE])
{
    struct http *http = connection_http(cli);
    struct http_answer answer = {0};
    if (http == NULL || cli->target->socket_path[0] == '\0' ||
        cli->target->token[0] != '\0') {
        return false;
    }
    bool narrow = http_try(http, "GET", "/healthz", NULL, &answer) == 0 &&
                  answer.status == 200 &&
                  strcmp(json_member_text(answer.document, "role", ""), "agent") == 0;
    (void)snprintf(ret_host, NAME_SIZE, "%s",
                   json_member_text(answer.document, "host", ""));
    http_answer_fini(&answer);
    return narrow && name_valid(ret_host);
}

void sight_hint(struct cli *cli, const char *host)
{
    fprintf(cli->err,
            "hint: root of %s, which has no part in the log, sees hosts and the VMs on "
            "%s only; a token shows more: BERTH_TOKEN says one, or berth login VOTER "
            "remembers it for --server VOTER (berth ls host shows who votes)\n",
            host, host);
}

void sight_note(struct cli *cli)
{
    char host[NAME_SIZE];
    if (!cli->quiet && sight_is_narrow(cli, host)) {
        sight_hint(cli, host);
    }
}
