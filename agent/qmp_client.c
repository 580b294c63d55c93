#include "agent/qmp_client.h"

#include "base/cleanup.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/require.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define READ_CHUNK        16384
#define CAPABILITIES_MS   10000
#define COMMAND_NAME_SIZE 64

struct qmp_client {
    uv_loop_t *loop;
    uv_pipe_t pipe; /* data: the client */
    bool pipe_open;
    bool pipe_closing;
    bool greeted;
    bool ready;
    bool over;   /* handlers->closed has run, or is about to */
    bool closed; /* by the owner: nothing is called any more */
    bool held;   /* by the loop callback under way, which frees it at its end */
    unsigned garbage;
    uv_connect_t connect;
    struct loop_timer *retry;
    struct loop_timer *tick; /* fires at the next deadline */
    uint64_t deadline_ms;    /* to be ready by, loop time */
    struct qmp_handlers handlers;
    void *context;
    struct list commands; /* unanswered */
    unsigned command_count;
    uint64_t next_id;
    char *line; /* what has come of the next line */
    size_t line_size;
    size_t line_capacity;
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    char chunk[READ_CHUNK];
};

struct command {
    struct list link;
    uint64_t id;
    uint64_t deadline_ms;
    char name[COMMAND_NAME_SIZE];
    qmp_reply *reply;
    void *context;
};

struct sending {
    uv_write_t request; /* data: the sending */
    char *text;
};

/* ---- the end of a client ---- */

static void client_free_if_done(struct qmp_client *client)
{
    if (client->closed && !client->held && !client->pipe_closing && !client->pipe_open) {
        free(client->line);
        free(client);
    }
}

static void client_hold(struct qmp_client *client)
{
    REQUIRE(!client->held); /* the loop runs one callback after the other */
    client->held = true;
}

static void client_release(struct qmp_client *client)
{
    client->held = false;
    client_free_if_done(client);
}

static void pipe_closed(uv_handle_t *handle)
{
    struct qmp_client *client = handle->data;
    client->pipe_closing = false;
    if (!client->closed && !client->over) { /* a failed attempt to connect */
        loop_timer_again(client->retry, QMP_RETRY_MS, 0);
    }
    client_free_if_done(client);
}

static void client_close_pipe(struct qmp_client *client)
{
    if (client->pipe_open) {
        client->pipe_open = false;
        client->pipe_closing = true;
        uv_close((uv_handle_t *)&client->pipe, pipe_closed);
    }
}

/* Answers a command that is out of the list; the client may be closed when it returns. */
static void command_finish(struct qmp_client *client,
                           struct command *command,
                           int code,
                           const json_t *result,
                           const struct err *error)
{
    client->command_count--;
    if (command->reply != NULL && !client->closed) {
        command->reply(command->context, code, result, error);
    }
    free(command);
}

static void commands_drop(struct qmp_client *client, const struct err *reason)
{
    struct list dropped;
    list_init(&dropped);
    list_move_all(&dropped, &client->commands);
    for (struct list *link; (link = list_pop_front(&dropped)) != NULL;) {
        struct command *command = LIST_ITEM(link, struct command, link);
        struct err error;
        err_set(&error, BERTH_ECLOSED, "%s: %s", command->name, reason->text);
        command_finish(client, command, BERTH_ECLOSED, NULL, &error);
    }
}

/* From a loop callback that holds the client. */
static void client_fail(struct qmp_client *client, const struct err *reason)
{
    if (client->over || client->closed) {
        return;
    }
    client->over = true;
    client->ready = false;
    client_close_pipe(client);
    commands_drop(client, reason);
    if (!client->closed) {
        client->handlers.closed(client->context, reason);
    }
}

static void client_fail_with(struct qmp_client *client, int code, const char *sentence)
{
    struct err reason;
    err_set(&reason, code, "QMP %s: %s", client->path, sentence);
    client_fail(client, &reason);
}

/* ---- what comes in ---- */

static void client_garbage(struct qmp_client *client)
{
    if (++client->garbage > QMP_GARBAGE_MAX) {
        client_fail_with(client, BERTH_EPROTO, "too many malformed messages");
    }
}

static void capabilities_agreed(void *context,
                                int code,
                                const json_t *result,
                                const struct err *error)
{
    struct qmp_client *client = context;
    (void)result; /* empty */
    if (code == 0) {
        client->ready = true;
        client->handlers.ready(client->context);
    } else if (code != BERTH_ECLOSED) { /* closed: told already */
        client_fail(client, error);
    }
}

static int client_send(struct qmp_client *client,
                       const char *name,
                       json_t *take_arguments,
                       int fd,
                       uint64_t timeout_ms,
                       qmp_reply *reply,
                       void *context,
                       struct err *err);

static void client_greeted(struct qmp_client *client)
{
    struct err err;
    if (client->greeted) {
        client_garbage(client);
        return;
    }
    client->greeted = true;
    if (client_send(client, "qmp_capabilities", NULL, -1, CAPABILITIES_MS,
                    capabilities_agreed, client, &err) != 0) {
        client_fail(client, &err);
    }
}

static void client_answered(struct qmp_client *client, const json_t *message)
{
    uint64_t id = json_member_u64(message, "id", client->next_id);
    struct command *command = NULL;
    LIST_EACH (link, &client->commands) {
        if (LIST_ITEM(link, struct command, link)->id == id) {
            command = LIST_ITEM(link, struct command, link);
            break;
        }
    }
    if (command == NULL) {
        if (id >= client->next_id) { /* never asked; others are merely late */
            client_garbage(client);
        }
        return;
    }
    list_remove(&command->link);
    const json_t *fault = json_object_get(message, "error");
    if (fault == NULL) {
        command_finish(client, command, 0, json_object_get(message, "return"), NULL);
        return;
    }
    struct err error;
    err_set(&error, BERTH_ECHILD, "%s: %s: %s", command->name,
            json_member_text(fault, "class", "error"),
            json_member_text(fault, "desc", "no words"));
    command_finish(client, command, BERTH_ECHILD, NULL, &error);
}

static void client_message(struct qmp_client *client, const char *text, size_t size)
{
    json_t *message = NULL;
    if (size == 0 || (size == 1 && *text == '\r')) {
        return;
    }
    bool object = json_parse(text, size, &message, NULL) == 0 && json_is_object(message);
    if (object && json_object_get(message, "QMP") != NULL) {
        client_greeted(client);
    } else if (object && json_is_string(json_object_get(message, "event"))) {
        if (client->ready) { /* earlier ones are of no use to anybody */
            client->handlers.event(client->context,
                                   json_member_text(message, "event", ""),
                                   json_object_get(message, "data"));
        }
    } else if (object && (json_object_get(message, "return") != NULL ||
                          json_object_get(message, "error") != NULL)) {
        client_answered(client, message);
    } else {
        client_garbage(client);
    }
    json_decref(message);
}

/* Appends to the line under way; false when it grows over the limit. */
static bool line_append(struct qmp_client *client, const char *data, size_t size)
{
    if (size > QMP_MESSAGE_MAX - client->line_size) {
        return false;
    }
    if (client->line_size + size > client->line_capacity) {
        size_t capacity = 2 * client->line_capacity + size;
        capacity = capacity > QMP_MESSAGE_MAX ? QMP_MESSAGE_MAX : capacity;
        char *grown = realloc(client->line, capacity);
        if (grown == NULL) {
            return false;
        }
        client->line = grown;
        client->line_capacity = capacity;
    }
    if (size > 0) {
        memcpy(client->line + client->line_size, data, size);
    }
    client->line_size += size;
    return true;
}

static void client_take(struct qmp_client *client, const char *data, size_t size)
{
    while (size > 0 && !client->closed && !client->over) {
        const char *end = memchr(data, '\n', size);
        size_t part = end == NULL ? size : (size_t)(end - data);
        if (!line_append(client, data, part)) {
            client_fail_with(client, BERTH_EPROTO, "a message is too large");
            return;
        }
        if (end == NULL) {
            return;
        }
        size_t length = client->line_size;
        client->line_size = 0;
        client_message(client, client->line, length);
        data += part + 1;
        size -= part + 1;
    }
}

static void pipe_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer)
{
    struct qmp_client *client = handle->data;
    (void)suggested;
    *ret_buffer = uv_buf_init(client->chunk, sizeof(client->chunk));
}

static void pipe_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct qmp_client *client = stream->data;
    client_hold(client);
    if (count < 0) {
        client_fail_with(client, BERTH_ECLOSED, "the peer has gone");
    } else {
        client_take(client, buffer->base, (size_t)count);
    }
    client_release(client);
}

/* What is not there at once does not come any more. */
void qmp_client_hear_last(struct qmp_client *client)
{
    uv_os_fd_t peer;
    size_t heard = 0;
    ssize_t count = 1;
    if (client == NULL || !client->ready ||
        uv_fileno((uv_handle_t *)&client->pipe, &peer) != 0) {
        return;
    }
    client_hold(client);
    while (count > 0 && heard < QMP_LAST_MAX && client->ready) {
        count = recv(peer, client->chunk, sizeof(client->chunk), MSG_DONTWAIT);
        if (count > 0) {
            heard += (size_t)count;
            client_take(client, client->chunk, (size_t)count);
        }
    }
    client_release(client);
}

/* ---- connecting and deadlines ---- */

static void client_arm(struct qmp_client *client)
{
    uint64_t next_ms = client->ready || client->over ? UINT64_MAX : client->deadline_ms;
    LIST_EACH (link, &client->commands) {
        uint64_t deadline_ms = LIST_ITEM(link, struct command, link)->deadline_ms;
        next_ms = deadline_ms < next_ms ? deadline_ms : next_ms;
    }
    if (next_ms != UINT64_MAX) {
        uint64_t now_ms = uv_now(client->loop);
        loop_timer_again(client->tick, next_ms > now_ms ? next_ms - now_ms : 0, 0);
    }
}

static void commands_expire(struct qmp_client *client, uint64_t now_ms)
{
    struct list late;
    list_init(&late);
    LIST_EACH_SAFE (link, &client->commands) {
        if (now_ms >= LIST_ITEM(link, struct command, link)->deadline_ms) {
            list_remove(link);
            list_push_back(&late, link);
        }
    }
    for (struct list *link; (link = list_pop_front(&late)) != NULL;) {
        struct command *command = LIST_ITEM(link, struct command, link);
        struct err error;
        err_set(&error, BERTH_ETIMEOUT, "%s: no answer in time", command->name);
        command_finish(client, command, BERTH_ETIMEOUT, NULL, &error);
    }
}

static void client_ticked(void *context)
{
    struct qmp_client *client = context;
    uint64_t now_ms = uv_now(client->loop);
    client_hold(client);
    if (!client->ready && !client->over && now_ms >= client->deadline_ms) {
        client_fail_with(client, BERTH_ETIMEOUT,
                         client->greeted ? "no answer to qmp_capabilities"
                         : client->pipe_open && !client->pipe_closing ? "no greeting"
                                                                      : "cannot connect");
    }
    commands_expire(client, now_ms);
    if (!client->closed) {
        client_arm(client);
    }
    client_release(client);
}

static void pipe_connected(uv_connect_t *request, int status)
{
    struct qmp_client *client = request->data;
    if (client->closed || client->over) {
        return; /* the pipe is closing */
    }
    if (status != 0 ||
        uv_read_start((uv_stream_t *)&client->pipe, pipe_alloc, pipe_read) != 0) {
        client_close_pipe(client); /* tried again until the deadline */
    }
}

static void client_connect(void *context)
{
    struct qmp_client *client = context;
    if (client->over) {
        return;
    }
    REQUIRE(uv_pipe_init(client->loop, &client->pipe, 0) == 0);
    client->pipe.data = client;
    client->pipe_open = true;
    client->connect.data = client;
    uv_pipe_connect(&client->connect, &client->pipe, client->path, pipe_connected);
}

struct qmp_client *qmp_client_open(uv_loop_t *loop,
                                   const char *path,
                                   uint64_t connect_timeout_ms,
                                   const struct qmp_handlers *handlers,
                                   void *context,
                                   struct err *err)
{
    REQUIRE(handlers->ready != NULL && handlers->event != NULL);
    REQUIRE(handlers->closed != NULL);
    struct qmp_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        err_set(err, -ENOMEM, "QMP: out of memory");
        return NULL;
    }
    if (strlen(path) >= sizeof(client->path)) {
        err_set(err, -ENAMETOOLONG, "QMP: %s is too long for a socket", path);
        free(client);
        return NULL;
    }
    memcpy(client->path, path, strlen(path) + 1);
    client->loop = loop;
    client->handlers = *handlers;
    client->context = context;
    client->deadline_ms = uv_now(loop) + connect_timeout_ms;
    client->next_id = 1;
    list_init(&client->commands);
    client->retry = loop_timer_new(loop, 0, 0, client_connect, client);
    client->tick = loop_timer_new(loop, connect_timeout_ms, 0, client_ticked, client);
    if (client->retry == NULL || client->tick == NULL) {
        err_set(err, -ENOMEM, "QMP: out of memory");
        return qmp_client_close(client);
    }
    return client;
}

/* ---- what goes out ---- */

static void sent(uv_write_t *request, int status)
{
    struct sending *sending = request->data;
    (void)status; /* the reading side notices a lost peer */
    free(sending->text);
    free(sending);
}

static int client_write(struct qmp_client *client, const json_t *message)
{
    char *text = json_text(message);
    struct sending *sending = calloc(1, sizeof(*sending));
    if (text == NULL || sending == NULL) {
        free(text);
        free(sending);
        return -ENOMEM;
    }
    static char newline[] = "\n"; /* never written to */
    sending->request.data = sending;
    sending->text = text;
    uv_buf_t buffers[] = {uv_buf_init(text, (unsigned)strlen(text)),
                          uv_buf_init(newline, 1)};
    int r = uv_write(&sending->request, (uv_stream_t *)&client->pipe, buffers,
                     ARRAY_COUNT(buffers), sent);
    if (r != 0) {
        free(sending->text);
        free(sending);
        return BERTH_ECLOSED;
    }
    return 0;
}

/* libuv sends no descriptors of files. A command is far smaller than a socket's buffer:
 * all of it goes at once, or nothing does. */
static int client_write_fd(struct qmp_client *client, const json_t *message, int fd)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.space = {0}};
    static char newline[] = "\n"; /* never written to */
    CLEANUP_FREE char *text = json_text(message);
    uv_os_fd_t peer;
    if (text == NULL) {
        return -ENOMEM;
    }
    struct iovec parts[] = {{text, strlen(text)}, {newline, 1}};
    struct msghdr header = {.msg_iov = parts,
                            .msg_iovlen = ARRAY_COUNT(parts),
                            .msg_control = &control,
                            .msg_controllen = sizeof(control)};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &fd, sizeof(int));
    if (uv_stream_get_write_queue_size((uv_stream_t *)&client->pipe) > 0) {
        return BERTH_EBUSY; /* it would overtake what waits */
    }
    if (uv_fileno((uv_handle_t *)&client->pipe, &peer) != 0) {
        return BERTH_ECLOSED;
    }
    const ssize_t sent_bytes = sendmsg(peer, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent_bytes < 0) {
        return errno == EAGAIN || errno == ENOBUFS ? BERTH_EBUSY : BERTH_ECLOSED;
    }
    return (size_t)sent_bytes == parts[0].iov_len + 1 ? 0 : BERTH_EPROTO;
}

static int client_send(struct qmp_client *client,
                       const char *name,
                       json_t *take_arguments,
                       int fd,
                       uint64_t timeout_ms,
                       qmp_reply *reply,
                       void *context,
                       struct err *err)
{
    REQUIRE(strlen(name) < COMMAND_NAME_SIZE);
    struct command *command = calloc(1, sizeof(*command));
    json_t *message =
        json_pack("{s:s, s:I}", "execute", name, "id", (json_int_t)client->next_id);
    int r = command == NULL || message == NULL ? -ENOMEM : 0;
    if (r == 0 && take_arguments != NULL) {
        r = json_object_set(message, "arguments", take_arguments) == 0 ? 0 : -ENOMEM;
    }
    json_decref(take_arguments);
    if (r == 0) {
        r = fd < 0 ? client_write(client, message) : client_write_fd(client, message, fd);
    }
    json_decref(message);
    if (r != 0) {
        free(command);
        return err_sys(err, r, "%s", name);
    }
    command->id = client->next_id++;
    command->deadline_ms = uv_now(client->loop) + timeout_ms;
    memcpy(command->name, name, strlen(name) + 1);
    command->reply = reply;
    command->context = context;
    list_push_back(&client->commands, &command->link);
    client->command_count++;
    client_arm(client);
    return 0;
}

static int client_execute(struct qmp_client *client,
                          const char *command,
                          json_t *take_arguments,
                          int fd,
                          uint64_t timeout_ms,
                          qmp_reply *reply,
                          void *context,
                          struct err *err)
{
    int r = client->over                                ? BERTH_ECLOSED
            : !client->ready                            ? BERTH_EBUSY
            : client->command_count >= QMP_COMMANDS_MAX ? BERTH_EFULL
                                                        : 0;
    if (r != 0) {
        json_decref(take_arguments);
        return err_sys(err, r, "%s", command);
    }
    return client_send(client, command, take_arguments, fd, timeout_ms, reply, context,
                       err);
}

int qmp_client_execute(struct qmp_client *client,
                       const char *command,
                       json_t *take_arguments,
                       uint64_t timeout_ms,
                       qmp_reply *reply,
                       void *context,
                       struct err *err)
{
    return client_execute(client, command, take_arguments, -1, timeout_ms, reply, context,
                          err);
}

int qmp_client_execute_fd(struct qmp_client *client,
                          const char *command,
                          json_t *take_arguments,
                          int fd,
                          uint64_t timeout_ms,
                          qmp_reply *reply,
                          void *context,
                          struct err *err)
{
    REQUIRE(fd >= 0);
    return client_execute(client, command, take_arguments, fd, timeout_ms, reply, context,
                          err);
}

bool qmp_client_is_ready(const struct qmp_client *client)
{
    return client->ready;
}

struct qmp_client *qmp_client_close(struct qmp_client *client)
{
    if (client == NULL) {
        return NULL;
    }
    client->closed = true;
    client->ready = false;
    client->retry = loop_timer_close(client->retry);
    client->tick = loop_timer_close(client->tick);
    for (struct list *link; (link = list_pop_front(&client->commands)) != NULL;) {
        command_finish(client, LIST_ITEM(link, struct command, link), BERTH_ECLOSED, NULL,
                       NULL); /* closed: replies do not run */
    }
    client_close_pipe(client);
    client_free_if_done(client);
    return NULL;
}
