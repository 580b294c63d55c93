#include "vmm/qmp_server.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/require.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NO_WATCH (-1)

/* Where one message ends: braces outside of texts are counted. */
struct frame {
    unsigned depth;
    bool in_text;
    bool escaped;
    size_t at; /* how far the input has been looked at */
};

/* What has come and waits until the answer before it is given. */
struct waiting {
    bool is_there;
    json_t *message; /* owned; NULL: no JSON, for the reason beside it */
    struct err err;
};

struct qmp_server {
    struct poller *poller;
    const struct qmp_command *commands;
    unsigned command_count;
    void *context;
    void (*gone)(void *context); /* NULL: nobody hears of it */
    int listener;
    int listener_watch;
    int client; /* -1: there is none */
    int client_watch;
    bool has_agreed; /* on capabilities */
    bool has_ended;  /* no more comes from it, but it may read */
    bool owes;       /* an answer */
    json_t *owed_id; /* of that; owned; NULL: it has none */
    struct waiting waiting;
    struct frame frame;
    size_t input_size;
    char input[QMP_INPUT_MAX];
    char *output; /* owned; what waits to be sent */
    size_t output_size;
    int descriptors[QMP_DESCRIPTORS_MAX];
    unsigned descriptor_count;
};

/* ---- the client's end of it */

static void client_close(struct qmp_server *server)
{
    const bool was_there = server->client >= 0;
    if (server->client_watch != NO_WATCH) {
        poller_remove(server->poller, server->client_watch);
        server->client_watch = NO_WATCH;
    }
    fd_close(&server->client);
    for (unsigned i = 0; i < server->descriptor_count; i++) {
        fd_close(&server->descriptors[i]);
    }
    free(server->output);
    server->output = NULL;
    server->output_size = 0;
    json_decref(server->owed_id);
    server->owed_id = NULL;
    server->owes = false;
    json_decref(server->waiting.message);
    server->waiting = (struct waiting){.is_there = false};
    server->descriptor_count = 0;
    server->input_size = 0;
    server->frame = (struct frame){0};
    server->has_agreed = server->has_ended = false;
    if (server->listener_watch != NO_WATCH) {
        poller_change(server->poller, server->listener_watch, POLLER_READABLE);
    }
    if (was_there && server->gone != NULL) {
        server->gone(server->context);
    }
}

/* What waits and need not any more comes from the poller, too. */
static bool can_resume(const struct qmp_server *server)
{
    return server->waiting.is_there && !server->owes;
}

/* It has all that it will ever be answered. */
static bool is_over(const struct qmp_server *server)
{
    return server->has_ended && !server->owes && !server->waiting.is_there &&
           server->output_size == 0;
}

static void client_watch_set(struct qmp_server *server)
{
    const bool has_more =
        server->output_size > 0 || can_resume(server) || is_over(server);
    poller_change(server->poller, server->client_watch,
                  (server->has_ended ? POLLER_HUNG_UP : POLLER_READABLE) |
                      (has_more ? POLLER_WRITABLE : 0));
}

static void output_flush(struct qmp_server *server)
{
    while (server->output_size > 0) {
        ssize_t sent = send(server->client, server->output, server->output_size,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 && errno == EAGAIN) {
            break;
        }
        if (sent <= 0) {
            client_close(server);
            return;
        }
        server->output_size -= (size_t)sent;
        memmove(server->output, server->output + sent, server->output_size);
    }
    client_watch_set(server);
}

/* Consumes the document. */
static void document_send(struct qmp_server *server, json_t *take_document)
{
    char *text = take_document != NULL ? json_text(take_document) : NULL;
    size_t length = text != NULL ? strlen(text) : 0;
    json_decref(take_document);
    char *output = NULL;
    if (text != NULL && server->output_size + length + 2 <= QMP_OUTPUT_MAX) {
        output = realloc(server->output, server->output_size + length + 2);
    }
    if (output == NULL) { /* no memory, or a client that does not read */
        free(text);
        client_close(server);
        return;
    }
    memcpy(output + server->output_size, text, length);
    memcpy(output + server->output_size + length, "\r\n", 2);
    server->output = output;
    server->output_size += length + 2;
    free(text);
    output_flush(server);
}

/* ---- commands */

/* id: NULL for none. */
static json_t *answer_new(json_t *id, const char *key, json_t *take_value)
{
    json_t *answer = json_object();
    if (json_object_set_new(answer, key, take_value) != 0 ||
        (id != NULL && json_object_set(answer, "id", id) != 0)) {
        json_decref(answer);
        return NULL;
    }
    return answer;
}

static json_t *id_of(const json_t *message)
{
    return json_object_get(message, "id");
}

static void answer(struct qmp_server *server, json_t *id, json_t *take_result)
{
    document_send(server, answer_new(id, "return", take_result));
}

static void
refuse(struct qmp_server *server, json_t *id, const char *class, const char *text)
{
    document_send(
        server,
        answer_new(id, "error", json_pack("{s:s, s:s}", "class", class, "desc", text)));
}

static void fail(struct qmp_server *server, json_t *id, int code, const struct err *error)
{
    refuse(server, id, code == -ENODEV ? "DeviceNotFound" : "GenericError",
           error != NULL && error->text[0] != '\0' ? error->text : err_sentence(code));
}

static const struct qmp_command *command_find(const struct qmp_server *server,
                                              const char *name)
{
    for (unsigned i = 0; i < server->command_count; i++) {
        if (strcmp(server->commands[i].name, name) == 0) {
            return &server->commands[i];
        }
    }
    return NULL;
}

static void name_add(json_t *names, const char *name)
{
    (void)json_array_append_new(names, json_pack("{s:s}", "name", name)); /* one less */
}

/* With those that are ours: a client may look there before it says the first one again.
 */
static json_t *command_names(const struct qmp_server *server)
{
    json_t *names = json_array();
    name_add(names, "qmp_capabilities");
    name_add(names, "query-commands");
    for (unsigned i = 0; i < server->command_count; i++) {
        name_add(names, server->commands[i].name);
    }
    return names;
}

static void command_run(struct qmp_server *server,
                        const json_t *message,
                        const struct qmp_command *command)
{
    json_t *result = NULL;
    json_t *id = id_of(message);
    struct err err = {0};
    const int r = command->run(server->context, json_object_get(message, "arguments"),
                               &result, &err);
    if (r == QMP_LATER) {
        REQUIRE(!server->owes && result == NULL);
        server->owes = server->client >= 0; /* it may have gone over an event */
        server->owed_id = server->owes ? json_incref(id) : NULL;
    } else if (r < 0) {
        json_decref(result);
        fail(server, id, r, &err);
    } else {
        answer(server, id, result != NULL ? result : json_object());
    }
}

static void message_handle(struct qmp_server *server, const json_t *message)
{
    const char *name = json_member_text(message, "execute", "");
    const struct qmp_command *command = command_find(server, name);
    json_t *id = id_of(message);
    if (strcmp(name, "qmp_capabilities") == 0) {
        server->has_agreed = true;
        answer(server, id, json_object());
    } else if (name[0] == '\0') {
        refuse(server, id, "GenericError", "QMP input lacks member 'execute'");
    } else if (!server->has_agreed) {
        refuse(server, id, "CommandNotFound",
               "Expecting capabilities negotiation with 'qmp_capabilities'");
    } else if (strcmp(name, "query-commands") == 0) {
        answer(server, id, command_names(server));
    } else if (command == NULL) {
        refuse(server, id, "CommandNotFound", "The command has not been found");
    } else {
        command_run(server, message, command);
    }
}

/* Takes a message, or why there is none. */
static void message_take(struct qmp_server *server, json_t *take, const struct err *err)
{
    if (server->owes && id_of(take) == NULL) {
        server->waiting =
            (struct waiting){.is_there = true, .message = take, .err = *err};
        return;
    }
    if (take != NULL) {
        message_handle(server, take);
    } else {
        refuse(server, NULL, "GenericError", err->text);
    }
    json_decref(take);
}

/* ---- framing */

/* Looks on; true when the input up to frame->at is one whole message. */
static bool frame_is_whole(struct frame *frame, const char *input, size_t size)
{
    while (frame->at < size) {
        char c = input[frame->at++];
        if (frame->escaped) {
            frame->escaped = false;
        } else if (frame->in_text) {
            frame->escaped = c == '\\';
            frame->in_text = c != '"';
        } else if (c == '"') {
            frame->in_text = true;
        } else if (c == '{') {
            frame->depth++;
        } else if (c == '}' && frame->depth > 0 && --frame->depth == 0) {
            return true;
        }
    }
    return false;
}

/* White space before a message says nothing. */
static void input_trim(struct qmp_server *server)
{
    size_t blank = 0;
    while (blank < server->input_size &&
           strchr(" \t\r\n", server->input[blank]) != NULL) {
        blank++;
    }
    server->input_size -= blank;
    memmove(server->input, server->input + blank, server->input_size);
}

/* Takes the first `size` bytes as a message. */
static void input_take(struct qmp_server *server, size_t size)
{
    json_t *message = NULL;
    struct err err = {0};
    if (json_parse(server->input, size, &message, &err) < 0) {
        message = NULL;
    }
    server->input_size -= size;
    memmove(server->input, server->input + size, server->input_size);
    server->frame = (struct frame){0};
    message_take(server, message, &err);
}

/* May end the connection. */
static void input_handle(struct qmp_server *server)
{
    while (server->client >= 0 && !server->waiting.is_there) {
        if (server->frame.at == 0) {
            input_trim(server);
        }
        if (server->input_size > 0 && server->input[0] != '{') {
            log_warn("vmm", "a QMP client does not speak JSON");
            client_close(server);
        } else if (frame_is_whole(&server->frame, server->input, server->input_size)) {
            input_take(server, server->frame.at);
        } else if (server->input_size == QMP_INPUT_MAX) {
            log_warn("vmm", "a QMP client sent a message that is too long");
            client_close(server);
        } else {
            return;
        }
    }
}

/* ---- the socket */

static void descriptors_keep(struct qmp_server *server, struct msghdr *header)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL;
         part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof(fd), sizeof(fd));
            if (server->descriptor_count < QMP_DESCRIPTORS_MAX) {
                server->descriptors[server->descriptor_count++] = fd;
            } else {
                fd_close(&fd);
            }
        }
    }
}

static ssize_t input_receive(struct qmp_server *server)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(QMP_DESCRIPTORS_MAX * sizeof(int))];
    } control;
    struct iovec free_input = {server->input + server->input_size,
                               QMP_INPUT_MAX - server->input_size};
    struct msghdr header = {.msg_iov = &free_input,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof(control)};
    ssize_t got = recvmsg(server->client, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got >= 0) {
        descriptors_keep(server, &header);
    }
    return got < 0 ? -errno : got;
}

/* What has waited, and what came behind it. */
static void input_resume(struct qmp_server *server)
{
    const struct waiting waiting = server->waiting;
    server->waiting = (struct waiting){.is_there = false};
    message_take(server, waiting.message, &waiting.err);
    input_handle(server);
}

static void input_read(struct qmp_server *server)
{
    if (server->input_size == QMP_INPUT_MAX) { /* more than that does not wait */
        log_warn("vmm", "a QMP client says too much before it is answered");
        client_close(server);
        return;
    }
    ssize_t got = input_receive(server);
    if (got > 0) {
        server->input_size += (size_t)got;
        input_handle(server);
    } else if (got == 0) { /* what has come is answered yet */
        server->has_ended = true;
        client_watch_set(server);
    } else if (got != -EAGAIN && got != -EINTR) {
        client_close(server);
    }
}

static void on_client(void *context, uint64_t token, unsigned events)
{
    struct qmp_server *server = context;
    (void)token;
    if (server->client >= 0 && (events & POLLER_HUNG_UP) != 0) {
        client_close(server); /* nobody reads it */
        return;
    }
    if (server->client >= 0 && can_resume(server)) {
        input_resume(server);
    }
    if (server->client >= 0 && (events & POLLER_WRITABLE) != 0) {
        output_flush(server);
    }
    if (server->client >= 0 && (events & POLLER_READABLE) != 0) {
        input_read(server);
    }
    if (server->client >= 0 && is_over(server)) {
        client_close(server);
    }
}

json_t *qmp_version(void)
{
    return json_pack("{s:{s:i, s:i, s:i}, s:s}", "qemu", "major", 0, "minor", 1, "micro",
                     0, "package", "berth-vmm");
}

static void greet(struct qmp_server *server)
{
    document_send(server, json_pack("{s:{s:o, s:[]}}", "QMP", "version", qmp_version(),
                                    "capabilities"));
}

static void on_connection(void *context, uint64_t token, unsigned events)
{
    struct qmp_server *server = context;
    (void)token;
    (void)events;
    if (server->client >= 0) {
        return;
    }
    server->client = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (server->client < 0) {
        return; /* it went away again */
    }
    int watch =
        poller_add(server->poller, server->client, POLLER_READABLE, on_client, server, 0);
    if (watch < 0) {
        fd_close(&server->client);
        return;
    }
    server->client_watch = watch;
    poller_change(server->poller, server->listener_watch, 0);
    greet(server);
}

int qmp_server_new(struct poller *poller,
                   int take_listener,
                   const struct qmp_command *commands,
                   unsigned command_count,
                   void *context,
                   struct qmp_server **ret_server,
                   struct err *err)
{
    struct qmp_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return err_sys(err, -ENOMEM, "QMP");
    }
    server->poller = poller;
    server->commands = commands;
    server->command_count = command_count;
    server->context = context;
    server->client = server->listener = -1;
    server->client_watch = NO_WATCH;
    server->listener_watch =
        poller_add(poller, take_listener, POLLER_READABLE, on_connection, server, 0);
    if (server->listener_watch < 0) {
        int r = server->listener_watch;
        free(server);
        return err_sys(err, r, "QMP: watch its socket");
    }
    server->listener = take_listener;
    *ret_server = server;
    return 0;
}

void qmp_server_listen_gone(struct qmp_server *server, void (*gone)(void *context))
{
    server->gone = gone;
}

bool qmp_server_owes(const struct qmp_server *server)
{
    return server != NULL && server->owes;
}

void qmp_server_answer(struct qmp_server *server, int code, const struct err *error)
{
    if (!qmp_server_owes(server)) {
        return;
    }
    json_t *id = server->owed_id;
    server->owed_id = NULL;
    server->owes = false;
    if (code < 0) {
        fail(server, id, code, error);
    } else {
        answer(server, id, json_object());
    }
    json_decref(id);
}

void qmp_server_event(struct qmp_server *server, const char *name, json_t *take_data)
{
    if (server == NULL || server->client < 0 || !server->has_agreed) {
        json_decref(take_data);
        return;
    }
    uint64_t wall_ms = clock_wall_ms(clock_system());
    json_t *event = json_pack("{s:{s:I, s:I}, s:s}", "timestamp", "seconds",
                              (json_int_t)(wall_ms / MS_PER_S), "microseconds",
                              (json_int_t)(wall_ms % MS_PER_S * 1000), "event", name);
    if (take_data != NULL) {
        (void)json_object_set_new(event, "data", take_data); /* an event without it */
    }
    document_send(server, event);
}

int qmp_server_take_fd(struct qmp_server *server)
{
    if (server->descriptor_count == 0) {
        return -1;
    }
    int fd = server->descriptors[0];
    server->descriptor_count--;
    memmove(server->descriptors, server->descriptors + 1,
            server->descriptor_count * sizeof(int));
    return fd;
}

struct qmp_server *qmp_server_close(struct qmp_server *server)
{
    if (server == NULL) {
        return NULL;
    }
    if (server->listener_watch != NO_WATCH) {
        poller_remove(server->poller, server->listener_watch);
        server->listener_watch = NO_WATCH;
    }
    if (server->client >= 0) {
        output_flush(server);
    }
    client_close(server);
    fd_close(&server->listener);
    free(server);
    return NULL;
}
