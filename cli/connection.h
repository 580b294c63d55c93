/* Where the API is asked: the local socket, or a host that `berth login` knows.
 *
 * Order: --server (or BERTH_SERVER); --state (or BERTH_STATE); the local socket when it
 * is there; the current server of the context file. The context file
 * (~/.config/berth/context.json, mode 0600; BERTH_CONTEXT names another) keeps per server
 * its token and its pinned key, before which --token and --pin (or BERTH_TOKEN and
 * BERTH_PIN) go: {"current": URL, "servers": {URL: {"token", "pin"}}}. Over the socket a
 * token that was said is sent as well, and counts in place of being root.
 * Threads: one. Errors: said on cli->err, exit codes.
 */
#pragma once

#include "cli/cli.h"
#include "cli/http.h"

#define SERVER_URL_SIZE 256
#define SERVER_PORT     "7443"
#define PIN_LIST_SIZE   2048 /* the keys of some 30 hosts */

struct connection {
    char socket_path[108]; /* "" when it is a server */
    char server[SERVER_URL_SIZE];
    char token[512];
    char token_from[SERVER_URL_SIZE]; /* where it was found, for messages */
    char pin[PIN_LIST_SIZE];
    bool may_be_silent; /* for long, with a reason that was told already */
};

/* HTTP to the API, made at first use; NULL when it cannot be made (said). */
struct http *connection_http(struct cli *cli);
/* The same to a chosen server: for login, which is not in the context file yet. */
struct http *connection_http_to(struct cli *cli, const struct connection *target);
/* "the berthd of this host (PATH)" or the URL, for messages. */
const char *connection_name(const struct cli *cli, char *text, size_t capacity);
/* Ends it; harmless without one. */
void connection_close(struct cli *cli);

/* "h1", "h1:7443" or "https://h1:7443" as URL with port; EXIT_OK or EXIT_USAGE (said). */
int server_url(struct cli *cli, const char *text, char ret_url[SERVER_URL_SIZE]);
/* Keys of servers, "sha256//..." joined by ';', of which a server must show one; EXIT_OK
 * or EXIT_USAGE (said). */
int server_pins(struct cli *cli, const char *text, char ret_pins[PIN_LIST_SIZE]);
/* Path of the context file; false when there is no home. */
bool context_path(char *ret_path, size_t capacity);
/* Writes the server as the current one. */
int context_save(struct cli *cli, const struct connection *server);
