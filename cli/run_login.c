/* login: a server, its pinned key and a token into the context file. */
#include "base/cleanup.h"
#include "cli/asking.h"
#include "cli/certificate_pin.h"
#include "cli/connection.h"
#include "cli/remote.h"
#include "cli/run.h"

#include <string.h>

static int take_token(struct cli *cli, struct connection *target)
{
    if (cli->token != NULL) {
        (void)snprintf(target->token, sizeof(target->token), "%s", cli->token);
        (void)snprintf(target->token_from, sizeof(target->token_from), "%s",
                       cli->token_from);
        return EXIT_OK;
    }
    if (cli->in_tty) {
        fputs("Access token (berth token create NAME makes one): ", cli->err);
        (void)fflush(cli->err); /* the answer shows whether it was read */
    }
    if (fgets(target->token, sizeof(target->token), stdin) == NULL) {
        return cli_fail(cli, EXIT_USAGE,
                        "no token: give it in BERTH_TOKEN or as a line on stdin");
    }
    target->token[strcspn(target->token, "\r\n")] = '\0';
    (void)snprintf(target->token_from, sizeof(target->token_from), "%s",
                   cli->in_tty ? "your answer" : "stdin");
    return target->token[0] != '\0' ? EXIT_OK
                                    : cli_fail(cli, EXIT_USAGE, "the token is empty");
}

/* The key that the server has now. */
static int fetch_pin(struct cli *cli, const char *server, char ret_pin[PIN_TEXT_SIZE])
{
    struct connection bare = {0};
    struct http_answer answer;
    memcpy(bare.server, server, sizeof(bare.server));
    struct http *http = connection_http_to(cli, &bare);
    CLEANUP_FREE char *pem = http != NULL ? http_certificate(http, &answer) : NULL;
    if (http == NULL) {
        return EXIT_FAILED;
    }
    if (pem == NULL) {
        return remote_unreachable(cli, &answer);
    }
    if (certificate_pin(pem, ret_pin) < 0) {
        return cli_fail(cli, EXIT_UNREACHABLE, "%s: its certificate does not parse",
                        server);
    }
    return EXIT_OK;
}

static int confirm_pin(struct cli *cli, const char *server, const char *pin)
{
    if (cli_flag(cli, "trust") != NULL) {
        return EXIT_OK;
    }
    fprintf(cli->err, "%s shows the key %s\n", server, pin);
    if (!asking_can(cli)) {
        return cli_fail(cli, EXIT_USAGE,
                        "is that the right one? Then: --pin %s (or --trust)", pin);
    }
    if (!asking_yes(cli, "On that host, `berth up` prints its pin. Is it this one?")) {
        return cli_fail(cli, EXIT_AUTH, "not trusted: nothing was remembered");
    }
    return EXIT_OK;
}

static int choose_pin(struct cli *cli, struct connection *target)
{
    char found[PIN_TEXT_SIZE];
    if (cli->pin != NULL) {
        return server_pins(cli, cli->pin, target->pin);
    }
    int code = fetch_pin(cli, target->server, found);
    if (code == EXIT_OK) {
        (void)snprintf(target->pin, sizeof(target->pin), "%s", found);
        code = confirm_pin(cli, target->server, found);
    }
    return code;
}

int run_login(struct cli *cli)
{
    struct connection target = {0};
    CLEANUP_JSON json_t *self = NULL;
    int code = server_url(cli, cli->words[0], target.server);
    if (code == EXIT_OK) { /* the key before the secret is asked for */
        code = choose_pin(cli, &target);
    }
    if (code == EXIT_OK) {
        code = take_token(cli, &target);
    }
    if (code == EXIT_OK) {
        code = connection_http_to(cli, &target) != NULL
                   ? remote_call(cli, "GET", "/v1/self", NULL, &self)
                   : (int)EXIT_FAILED;
    }
    if (code == EXIT_OK) {
        code = context_save(cli, &target);
    }
    if (code == EXIT_OK) {
        const char *tenant = json_member_text(self, "tenant", "");
        const char *role =
            json_member_text(self, tenant[0] != '\0' ? "tenantRole" : "clusterRole", "");
        fprintf(cli->out, "logged in to %s as %s%s%s%s%s\n", target.server,
                json_member_text(self, "subject", "?"), role[0] != '\0' ? ", " : "", role,
                tenant[0] != '\0' ? " of tenant " : "", tenant);
    }
    return code;
}
