/* token create, token join, token ls. */
#include "base/clock.h"
#include "cli/kind_view.h"
#include "cli/object_name.h"
#include "cli/output.h"
#include "cli/run.h"

#include <string.h>

/* The secret alone on stdout, so that it can be piped on. */
static int print_token(struct cli *cli, const json_t *answer, const char *advice)
{
    const char *token = json_member_text(answer, "token", NULL);
    if (token == NULL) {
        return cli_fail(cli, EXIT_FAILED, "the server gave no token");
    }
    if (cli->format == FORMAT_JSON || cli->format == FORMAT_YAML) {
        return output_document(cli, answer);
    }
    fprintf(cli->out, "%s\n", token);
    if (cli->out_tty) {
        cli_note(cli, "%s", advice);
    }
    return EXIT_OK;
}

static bool is_role(const char *text)
{
    for (int role = ROLE_VIEWER; role <= ROLE_ADMIN; role++) {
        if (strcmp(role_names[role], text) == 0) {
            return true;
        }
    }
    return false;
}

int run_token_create(struct cli *cli)
{
    const char *role = cli_flag(cli, "role");
    const char *ttl = cli_flag(cli, "ttl");
    if (role != NULL && !is_role(role)) {
        return cli_fail(cli, EXIT_USAGE,
                        "--role: \"%s\": wanted viewer, operator or admin", role);
    }
    CLEANUP_JSON json_t *answer = NULL;
    CLEANUP_JSON json_t *body = json_pack("{s:s, s:s}", "name", cli->words[0], "role",
                                          role != NULL ? role : role_names[ROLE_VIEWER]);
    if (body == NULL) {
        return cli_fail(cli, EXIT_USAGE, "the name or the role is not UTF-8");
    }
    if (cli->tenant != NULL) {
        json_object_set_new(body, "tenant", json_string(cli->tenant));
    }
    if (ttl != NULL) {
        json_object_set_new(body, "ttl", json_string(ttl));
    }
    int code = remote_call(cli, "POST", "/v1/tokens", body, &answer);
    return code == EXIT_OK ? print_token(cli, answer, "keep it: it is not shown again")
                           : code;
}

int run_token_join(struct cli *cli)
{
    const char *ttl = cli_flag(cli, "ttl");
    CLEANUP_JSON json_t *answer = NULL;
    CLEANUP_JSON json_t *body = json_pack("{s:s}", "ttl", ttl != NULL ? ttl : "15m");
    int code = remote_call(cli, "POST", "/v1/join-tokens", body, &answer);
    return code == EXIT_OK
               ? print_token(cli, answer,
                             "good for one host: run `berth join TOKEN` there")
               : code;
}

int run_token_ls(struct cli *cli)
{
    CLEANUP_JSON json_t *list = NULL;
    struct view_time time = {.now_wall_ms = clock_wall_ms(clock_system())};
    char fields[VIEW_FIELDS_SIZE];
    kind_view_fields(cli, kind_info(KIND_TOKEN), fields);
    int code = remote_list(cli, kind_info(KIND_TOKEN), "",
                           output_is_document(cli) ? NULL : fields, &list);
    if (code != EXIT_OK || output_is_document(cli)) {
        return code == EXIT_OK ? output_document(cli, list) : code;
    }
    return kind_view_print(cli, kind_info(KIND_TOKEN), json_object_get(list, "items"),
                           &time);
}
