/* berth-fetch: fetches one URL for berthd, which starts it and has the other end of its
 * stdin. See fetch/README.md. */
#include "base/err.h"
#include "base/version.h"
#include "fetch/fetch_http.h"
#include "fetch/fetch_rights.h"
#include "fetch/fetch_wire.h"

#include <curl/curl.h>

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ASK_WAIT_MS 10000 /* berthd asks at once */

static int usage(FILE *out, int code)
{
    (void)fprintf(out, "usage: berth-fetch [--version | --help]\n\n"
                       "Fetches a URL for berthd, which starts it with a socket as stdin "
                       "and asks over it.\n"
                       "Runs as a user of its own, without rights.\n");
    return code;
}

static bool is_ours(int fd)
{
    int kind = 0;
    socklen_t size = sizeof(kind);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size) == 0 &&
           kind == SOCK_SEQPACKET;
}

/* Who has made the socket has started us. */
static pid_t parent_of(int fd)
{
    struct ucred maker;
    socklen_t size = sizeof(maker);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &maker, &size) == 0 ? maker.pid : -1;
}

static int take_ask(int fd, struct fetch_message *ret_ask)
{
    static uint8_t packet[FETCH_PACKET_MAX];
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (poll(&wait, 1, ASK_WAIT_MS) <= 0) {
        return BERTH_ETIMEOUT;
    }
    int r = fetch_wire_receive(fd, packet, ret_ask);
    return r == 0 && ret_ask->type != FETCH_ASK ? BERTH_EPROTO : r;
}

static void serve(int fd, struct fetch_message *ret_end)
{
    static struct fetch_message ask;
    static struct fetch_message note = {.type = FETCH_MISSING};
    char missing[FETCH_MISSING_SIZE];
    struct err err = {0};
    int r = fetch_rights_drop(parent_of(fd), missing, &err);
    if (r == 0) {
        r = take_ask(fd, &ask);
        if (r < 0) {
            (void)err_set(&err, r, "berthd asks what is not understood: %s",
                          err_sentence(r));
        }
    }
    if (r < 0) {
        ret_end->outcome = FETCH_UNABLE;
        (void)snprintf(ret_end->text, sizeof(ret_end->text), "%.255s", err.text);
        return;
    }
    if (missing[0] != '\0') {
        (void)snprintf(note.text, sizeof(note.text), "%s", missing);
        (void)fetch_wire_send(fd, &note); /* or the first data show that nobody hears */
    }
    fetch_http(fd, &ask, ret_end);
}

int main(int argc, char **argv)
{
    static struct fetch_message end = {.type = FETCH_END, .outcome = FETCH_UNABLE};
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("berth-fetch %s\n", BERTH_VERSION);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        return usage(stdout, 0);
    }
    if (argc != 1 || !is_ours(STDIN_FILENO)) {
        return usage(stderr, 2);
    }
    serve(STDIN_FILENO, &end);
    (void)fetch_wire_send(STDIN_FILENO, &end); /* or nobody is left to hear it */
    _exit(0); /* nothing here is to be kept, and libraries' last words are not wanted */
}
