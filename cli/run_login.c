/* login: remembers a server, its pinned key and a token. */
#include "base/cleanup.h"
#include "cli/connection.h"
#include "cli/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --token, BERTH_TOKEN (both in cli->token), or a line on stdin. */
static int token_read(struct cli *cli, char *ret_token, size_t capacity)
{
    if (cli->token != NULL) {
        (void)snprintf(ret_token, capacity, "%s", cli->token);
        return EXIT_OK;
    }
    if (cli->in_tty) {
        cli_note(cli, "Token (made by `berth token create` on a host):");
    }
    if (fgets(ret_token, (int)capacity, stdin) == NULL) {
        return cli_fail(cli, EXIT_USAGE, "no token came on stdin");
    }
    ret_token[strcspn(ret_token, "\r\n")] = '\0';
    return EXIT_OK;
}

int run_login(struct cli *cli)
{
    struct connection server = {0};
    const char *pin = cli_flag(cli, "pin");
    struct http_answer answer;
    int code = server_url(cli, cli->words[0], server.server);
    code = code == EXIT_OK ? token_read(cli, server.token, sizeof(server.token)) : code;
    if (code != EXIT_OK) {
        return code;
    }
    if (pin == NULL) {
        return cli_fail(
            cli, EXIT_USAGE,
            "say which key the server must have: --pin sha256//... (on the host: openssl "
            "x509 -in STATE/tls.crt -pubkey -noout | openssl pkey -pubin -outform der | "
            "openssl dgst -sha256 -binary | base64)");
    }
    (void)snprintf(server.pin, sizeof(server.pin), "%s", pin);
    struct http *http = connection_http_to(cli, &server);
    if (http == NULL) {
        return EXIT_UNREACHABLE;
    }
    if (http_call(http, "GET", "/v1/self", NULL, &answer) < 0) {
        code = cli_fail(cli, EXIT_UNREACHABLE, "%s: %s", server.server, answer.text);
    } else if (answer.status != 200) {
        code = cli_fail(cli, EXIT_AUTH, "%s: the token is not accepted", server.server);
    } else {
        code = context_save(cli, &server);
        if (code == EXIT_OK) {
            cli_note(cli, "logged in to %s as %s", server.server,
                     json_member_text(answer.document, "subject", "?"));
        }
    }
    http_answer_fini(&answer);
    return code;
}
