/* Rounds of questions to a VM's program that says what it likes: the client's whole way,
 * over a socket. The peer agrees to speak QMP, says the input, and goes; each event lets
 * a round begin. Whatever it was, no number is one that could not be, no round goes on
 * without a client, and nothing is left. The first byte of the input says whether the
 * program is ours, which knows more questions. */
#include "agent/qmp_stats.h"
#include "base/fd.h"
#include "base/require.h"
#include "vm_stats_sane.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define INPUT_MAX  (32u << 10) /* what a socket takes at once */
#define TIMEOUT_MS 60000u      /* none comes to its end */
#define BEGINNING                                          \
    "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n" \
    "{\"return\": {}, \"id\": 1}\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct talk {
    struct qmp_stats stats;
    struct qmp_client *client;
    bool ours;
    bool is_over;
    uint64_t now_ms;
};

static void ask(struct talk *talk)
{
    talk->now_ms += QMP_STATS_EVERY_MS;
    qmp_stats_ask(&talk->stats, talk->client, talk->ours, talk->now_ms);
    vm_stats_sane(&talk->stats.numbers);
}

static void on_ready(void *context)
{
    ask(context);
}

static void on_event(void *context, const char *name, const json_t *data)
{
    (void)name;
    (void)data;
    ask(context);
}

static void on_closed(void *context, const struct err *reason)
{
    struct talk *talk = context;
    REQUIRE(reason->code < 0 && reason->text[0] != '\0');
    REQUIRE(!talk->is_over && !talk->stats.asking && talk->stats.client == NULL);
    talk->is_over = true;
}

static const struct qmp_handlers handlers = {on_ready, on_event, on_closed};

static char folder[] = "/tmp/berth-qmp-stats-fuzz.XXXXXX";
static char socket_path[sizeof(folder) + 4];

static void folder_remove(void)
{
    (void)unlink(socket_path); /* gone already */
    (void)rmdir(folder);
}

static void folder_make(void)
{
    if (socket_path[0] == '\0') {
        REQUIRE(mkdtemp(folder) != NULL && atexit(folder_remove) == 0);
        (void)snprintf(socket_path, sizeof(socket_path), "%s/qmp", folder);
    }
}

static int listen_there(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
    (void)unlink(socket_path); /* of the input before */
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0 &&
            bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
            listen(fd, 1) == 0);
    return fd;
}

/* Says all of it before anybody reads, so that an input is always the same talk. */
static int peer_speak(uv_loop_t *loop, int listener, const uint8_t *data, size_t size)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0) {
        REQUIRE(errno == EAGAIN);
        (void)uv_run(loop, UV_RUN_NOWAIT);
    }
    REQUIRE(fd_write_full(fd, BEGINNING, strlen(BEGINNING)) == 0);
    REQUIRE(fd_write_full(fd, data, size) == 0);
    REQUIRE(shutdown(fd, SHUT_WR) == 0); /* what it is asked still has a reader */
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct engine_vm vm = {
        .disks = {{.name = "root"}, {.name = "data"}}, .disk_count = 2, .nic_count = 2};
    struct talk talk = {.stats = {.timeout_ms = TIMEOUT_MS, .skips_next = 1}};
    uv_loop_t loop;
    if (size == 0 || size > INPUT_MAX) {
        return 0;
    }
    talk.ours = data[0] != 'q';
    vm_stats_init(&talk.stats.numbers, &vm);
    folder_make();
    const int listener = listen_there();
    REQUIRE(uv_loop_init(&loop) == 0);
    talk.client = qmp_client_open(&loop, socket_path, TIMEOUT_MS, &handlers, &talk, NULL);
    REQUIRE(talk.client != NULL);
    const int peer = peer_speak(&loop, listener, data + 1, size - 1);
    while (!talk.is_over) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    vm_stats_sane(&talk.stats.numbers);
    (void)qmp_client_close(talk.client);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    REQUIRE(uv_loop_close(&loop) == 0);
    (void)close(peer);
    (void)close(listener);
    return 0;
}
