#include "consensus/raft_channel.h"

#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/require.h"
#include "consensus/channel_address.h"
#include "consensus/channel_patience.h"
#include "consensus/message_screen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOM             "consensus"
#define BACKLOG          128
#define KEEPALIVE_S      5
#define LOG_INTERVAL_MS  60000 /* who has left the log knocks as long as it runs */
#define SEALED_SIZE      (CHANNEL_PREFIX_SIZE + CHANNEL_FRAME_MAX)
#define HANDSHAKE_BUFFER 512

_Static_assert(CHANNEL_HELLO_SIZE <= HANDSHAKE_BUFFER &&
                   CHANNEL_CONFIRM_SIZE <= HANDSHAKE_BUFFER,
               "handshake messages fit");

/* A called channel:  CONNECTING -> WAIT_ANSWER -> OPEN -> CLOSING, or -> REFUSED
 * an accepted one:   WAIT_HELLO -> WAIT_CONFIRM -> OPEN -> CLOSING; any may go to
 * CLOSING. */
enum channel_state {
    CHANNEL_CONNECTING = 1,
    CHANNEL_WAIT_ANSWER,
    CHANNEL_WAIT_HELLO,
    CHANNEL_WAIT_CONFIRM,
    CHANNEL_OPEN,
    CHANNEL_REFUSED, /* whoever wanted it hears so when the peer may be called again */
    CHANNEL_CLOSING,
};

struct channel {
    struct list link;
    struct channel_hub *hub;
    enum channel_state state;
    bool called; /* we called; else we were called */
    uint64_t peer_id;
    uv_tcp_t tcp;
    uv_pipe_t pipe; /* our end of the pair */
    uv_timer_t timer;
    unsigned handles; /* still to be closed */
    bool pipe_ready;
    uv_connect_t connect;
    uv_write_t write;
    bool writing; /* one write at a time; the other side waits meanwhile */
    int status;   /* why it closes */
    struct channel_handshake handshake;
    struct channel_stream stream;
    size_t have;                       /* bytes in message or sealed */
    uint8_t message[HANDSHAKE_BUFFER]; /* handshake, both directions */
    uint8_t reply[HANDSHAKE_BUFFER];
    uint8_t *plain;                /* CHANNEL_PLAIN_MAX, once open */
    uint8_t *sealed;               /* SEALED_SIZE, once open */
    struct message_screen *screen; /* NULL: any bytes may pass */
    void (*done)(void *context, int fd, int status);
    void *done_context;
};

struct channel_hub {
    uv_loop_t *loop;
    uint64_t id;
    uint64_t cluster_id;
    char address[CHANNEL_ADDRESS_SIZE];
    char bind_address[CHANNEL_ADDRESS_SIZE];
    struct channel_identity identity;
    uint64_t stall_ms;
    void *context;
    bool (*peer_of)(void *context,
                    const uint8_t public_key[CHANNEL_KEY_SIZE],
                    uint64_t *ret_id);
    bool (*key_of)(void *context, uint64_t id, uint8_t ret_public_key[CHANNEL_KEY_SIZE]);
    const char *(*name_of)(void *context, uint64_t id);
    bool screened;
    void *accept_context;
    void (*accepted)(void *context, uint64_t id, const char *address, int fd);
    uv_tcp_t listener;
    bool listener_live;
    struct list channels;
    struct channel_patience patience;
    struct channel_counters counters;
    uint64_t logged_ms;
    uint64_t unlogged;
    bool closing;
    void (*closed)(void *context);
    void *closed_context;
};

/* ---- ending ---- */

static void hub_maybe_closed(struct channel_hub *hub)
{
    if (!hub->closing || hub->listener_live || !list_empty(&hub->channels)) {
        return;
    }
    void (*closed)(void *context) = hub->closed;
    void *context = hub->closed_context;
    sodium_memzero(&hub->identity, sizeof(hub->identity));
    free(hub);
    closed(context);
}

static void channel_free(struct channel *channel)
{
    channel_handshake_fini(&channel->handshake);
    sodium_memzero(&channel->stream, sizeof(channel->stream));
    free(channel->plain);
    free(channel->sealed);
    message_screen_free(channel->screen);
    free(channel);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct channel *channel = handle->data;
    struct channel_hub *hub = channel->hub;
    if (--channel->handles > 0) {
        return;
    }
    list_remove(&channel->link);
    void (*done)(void *context, int fd, int status) = channel->done;
    void *context = channel->done_context;
    int status = channel->status;
    channel_free(channel);
    if (done != NULL) {
        done(context, -1, status);
    }
    hub_maybe_closed(hub);
}

static const char *host_of(const struct channel_hub *hub, uint64_t id)
{
    return hub->name_of != NULL ? hub->name_of(hub->context, id) : NULL;
}

/* Says why a peer was dropped, once a second at most: the port is open to strangers. */
static void log_drop(struct channel *channel, const char *why)
{
    struct channel_hub *hub = channel->hub;
    uint64_t now_ms = uv_now(hub->loop);
    if (hub->logged_ms != 0 && now_ms - hub->logged_ms < LOG_INTERVAL_MS) {
        hub->unlogged++;
        return;
    }
    log_warn(ROOM, "raft channel dropped", KV_STR("why", why),
             KV_STR("host", host_of(hub, channel->peer_id)),
             KV_U64("peer", channel->peer_id), KV_BOOL("called", channel->called),
             KV_U64("not_logged", hub->unlogged));
    hub->logged_ms = now_ms;
    hub->unlogged = 0;
}

static void channel_end(struct channel *channel, int status)
{
    if (channel->state == CHANNEL_CLOSING) {
        return;
    }
    channel->hub->counters.broken += channel->state == CHANNEL_OPEN;
    channel->state = CHANNEL_CLOSING;
    channel->status = status;
    uv_close((uv_handle_t *)&channel->tcp, on_handle_closed);
    uv_close((uv_handle_t *)&channel->timer, on_handle_closed);
    if (channel->pipe_ready) {
        uv_close((uv_handle_t *)&channel->pipe, on_handle_closed);
    }
}

static void
channel_drop(struct channel *channel, int status, uint64_t *counter, const char *why)
{
    if (channel->state == CHANNEL_CLOSING) {
        return;
    }
    (*counter)++;
    log_drop(channel, why);
    channel_end(channel, status);
}

static void on_timer(uv_timer_t *timer)
{
    struct channel *channel = timer->data;
    if (channel->state == CHANNEL_REFUSED) {
        channel_end(channel, BERTH_EUNREACHABLE);
        return;
    }
    channel_drop(channel, BERTH_ETIMEOUT, &channel->hub->counters.timed_out,
                 channel->state == CHANNEL_OPEN ? "stalled" : "handshake timed out");
}

/* ---- making ---- */

static struct channel *
channel_new(struct channel_hub *hub, bool called, enum channel_state state)
{
    struct channel *channel = calloc(1, sizeof(*channel));
    if (channel == NULL) {
        return NULL;
    }
    channel->hub = hub;
    channel->called = called;
    channel->state = state;
    channel->handles = 2;
    channel->tcp.data = channel->timer.data = channel->pipe.data = channel;
    channel->connect.data = channel->write.data = channel;
    if (uv_tcp_init(hub->loop, &channel->tcp) < 0) {
        free(channel);
        return NULL;
    }
    REQUIRE(uv_timer_init(hub->loop, &channel->timer) == 0);
    REQUIRE(uv_timer_start(&channel->timer, on_timer, CHANNEL_HANDSHAKE_MS, 0) == 0);
    list_push_back(&hub->channels, &channel->link);
    return channel;
}

/* Small messages leave at once, and a silent peer is noticed by the kernel. */
static void tune_socket(struct channel *channel)
{
    uv_os_fd_t fd = -1;
    unsigned user_timeout_ms = (unsigned)channel->hub->stall_ms;
    (void)uv_tcp_nodelay(&channel->tcp, 1); /* slower, not wrong, without */
    (void)uv_tcp_keepalive(&channel->tcp, 1, KEEPALIVE_S); /* likewise */
    if (uv_fileno((uv_handle_t *)&channel->tcp, &fd) == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms,
                         sizeof(user_timeout_ms)); /* the stall timer stands behind it */
    }
}

static bool over_pair_limit(struct channel_hub *hub)
{
    unsigned open = 0;
    LIST_EACH (link, &hub->channels) {
        const struct channel *channel = LIST_ITEM(link, struct channel, link);
        open += channel->state == CHANNEL_OPEN && !channel->called;
    }
    return open >= CHANNEL_OPEN_MAX;
}

/* Makes the socket pair and the frame buffers; the far end or a negative code. */
static int make_pair(struct channel *channel)
{
    int fds[2];
    channel->plain = malloc(CHANNEL_PLAIN_MAX);
    channel->sealed = malloc(SEALED_SIZE);
    bool screened = channel->hub->screened && !channel->called;
    channel->screen = screened ? message_screen_new() : NULL;
    if (channel->plain == NULL || channel->sealed == NULL ||
        (screened && channel->screen == NULL)) {
        return -ENOMEM;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
        return -errno;
    }
    int r = uv_pipe_init(channel->hub->loop, &channel->pipe, 0);
    if (r == 0) {
        channel->pipe_ready = true;
        channel->handles++;
        r = uv_pipe_open(&channel->pipe, fds[0]);
    }
    if (r < 0) {
        fd_close(&fds[0]);
        fd_close(&fds[1]);
        return r;
    }
    return fds[1];
}

/* ---- writing: what does not go out at once waits, and with it the other side ---- */

static void pump_resume(struct channel *channel);

static void on_written(uv_write_t *write, int status)
{
    struct channel *channel = write->data;
    channel->writing = false;
    if (channel->state == CHANNEL_CLOSING) {
        return;
    }
    if (status < 0) {
        channel_end(channel, BERTH_EUNREACHABLE);
        return;
    }
    if (channel->state == CHANNEL_OPEN) {
        (void)uv_timer_stop(&channel->timer); /* cannot fail */
        pump_resume(channel);
    }
}

/* Sends all bytes; memory must stay until `writing` is false again. */
static int
write_all(struct channel *channel, uv_stream_t *stream, uint8_t *data, size_t size)
{
    REQUIRE(!channel->writing);
    uv_buf_t buf = uv_buf_init((char *)data, (unsigned)size);
    int sent = uv_try_write(stream, &buf, 1);
    if (sent == UV_EAGAIN) {
        sent = 0;
    }
    if (sent < 0) {
        return sent;
    }
    if ((size_t)sent == size) {
        return 0;
    }
    buf = uv_buf_init((char *)data + sent, (unsigned)(size - (size_t)sent));
    int r = uv_write(&channel->write, stream, &buf, 1, on_written);
    if (r < 0) {
        return r;
    }
    channel->writing = true;
    if (channel->state == CHANNEL_OPEN) {
        REQUIRE(uv_timer_start(&channel->timer, on_timer, channel->hub->stall_ms, 0) ==
                0);
    }
    return 0;
}

/* ---- open, called: pair -> network ---- */

static void give_plain(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct channel *channel = handle->data;
    (void)suggested;
    *ret_buf = uv_buf_init((char *)channel->plain, CHANNEL_PLAIN_MAX);
}

static void on_pair_bytes(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct channel *channel = stream->data;
    (void)buf;
    if (count == 0) {
        return;
    }
    if (count < 0) {
        channel_end(channel, BERTH_ECLOSED); /* our own side has closed it */
        return;
    }
    size_t size = channel_frame_seal(&channel->stream, channel->plain, (size_t)count,
                                     channel->sealed);
    if (write_all(channel, (uv_stream_t *)&channel->tcp, channel->sealed, size) < 0) {
        channel_end(channel, BERTH_EUNREACHABLE);
        return;
    }
    if (channel->writing) {
        (void)uv_read_stop(stream); /* cannot fail */
    }
}

/* The called side never speaks after its answer: whatever comes is an end or an offence.
 */
static void give_scrap(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct channel *channel = handle->data;
    (void)suggested;
    *ret_buf = uv_buf_init((char *)channel->message, HANDSHAKE_BUFFER);
}

static void on_unexpected(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct channel *channel = stream->data;
    (void)buf;
    if (count > 0) {
        channel_drop(channel, BERTH_EPROTO, &channel->hub->counters.refused_text,
                     "bytes where none are due");
    } else if (count < 0) {
        channel_end(channel, BERTH_EUNREACHABLE);
    }
}

/* ---- open, accepted: network -> pair ---- */

static void give_sealed(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct channel *channel = handle->data;
    (void)suggested;
    *ret_buf = uv_buf_init((char *)channel->sealed + channel->have,
                           (unsigned)(SEALED_SIZE - channel->have));
}

/* Opens and delivers one frame that starts at `from`; how many bytes it took, 0: not
 * complete yet. */
static ssize_t deliver_frame(struct channel *channel, size_t from)
{
    const uint8_t *frame = channel->sealed + from;
    size_t left = channel->have - from;
    size_t length = 0;
    size_t size = 0;
    if (left < CHANNEL_PREFIX_SIZE) {
        return 0;
    }
    int r = channel_frame_length(frame, &length);
    if (r < 0) {
        return r;
    }
    if (left - CHANNEL_PREFIX_SIZE < length) {
        return 0;
    }
    r = channel_frame_open(&channel->stream, frame, length, channel->plain, &size);
    if (r < 0) {
        return r;
    }
    r = channel->screen != NULL
            ? message_screen_feed(channel->screen, channel->plain, size)
            : 0;
    if (r < 0) {
        return r;
    }
    if (write_all(channel, (uv_stream_t *)&channel->pipe, channel->plain, size) < 0) {
        return BERTH_ECLOSED;
    }
    return (ssize_t)(CHANNEL_PREFIX_SIZE + length);
}

static void deliver_frames(struct channel *channel)
{
    size_t from = 0;
    while (!channel->writing) {
        ssize_t took = deliver_frame(channel, from);
        if (took == BERTH_ECLOSED) {
            channel_end(channel, BERTH_ECLOSED);
            return;
        }
        if (took < 0) {
            channel_drop(channel, (int)took, &channel->hub->counters.refused_text,
                         "a frame or message is not valid");
            return;
        }
        if (took == 0) {
            break;
        }
        from += (size_t)took;
    }
    memmove(channel->sealed, channel->sealed + from, channel->have - from);
    channel->have -= from;
}

static void on_sealed_bytes(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct channel *channel = stream->data;
    (void)buf;
    if (count < 0) {
        channel_end(channel, BERTH_EUNREACHABLE);
        return;
    }
    channel->have += (size_t)count;
    deliver_frames(channel);
    if (channel->state == CHANNEL_OPEN && channel->writing) {
        (void)uv_read_stop(stream); /* cannot fail */
    }
}

static void pump_resume(struct channel *channel)
{
    int r = 0;
    if (channel->called) {
        r = uv_read_start((uv_stream_t *)&channel->pipe, give_plain, on_pair_bytes);
    } else {
        deliver_frames(channel);
        if (channel->state == CHANNEL_OPEN && !channel->writing) {
            r = uv_read_start((uv_stream_t *)&channel->tcp, give_sealed, on_sealed_bytes);
        }
    }
    if (r < 0) {
        channel_end(channel, r);
    }
}

/* ---- handshake ---- */

static size_t wanted_size(const struct channel *channel)
{
    switch (channel->state) {
    case CHANNEL_WAIT_HELLO:
        return CHANNEL_HELLO_SIZE;
    case CHANNEL_WAIT_ANSWER:
        return CHANNEL_ANSWER_SIZE;
    default:
        return CHANNEL_CONFIRM_SIZE;
    }
}

static void give_message(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct channel *channel = handle->data;
    (void)suggested;
    *ret_buf = uv_buf_init((char *)channel->message + channel->have,
                           (unsigned)(wanted_size(channel) - channel->have));
}

static void refuse_text(struct channel *channel)
{
    channel_drop(channel, BERTH_EAUTH, &channel->hub->counters.refused_text,
                 "handshake does not verify");
}

static void refuse_key(struct channel *channel, const char *why)
{
    channel_drop(channel, BERTH_EAUTH, &channel->hub->counters.refused_key, why);
}

/* The last step on both sides: from here on the handshake's keys are not needed. */
static int channel_now_open(struct channel *channel)
{
    int fd = make_pair(channel);
    if (fd < 0) {
        channel_drop(channel, fd, &channel->hub->counters.connect_failed,
                     "no socket pair");
        return fd;
    }
    channel_handshake_fini(&channel->handshake);
    channel_patience_welcome(&channel->hub->patience, channel->peer_id);
    channel->state = CHANNEL_OPEN;
    channel->have = 0;
    (void)uv_timer_stop(&channel->timer);             /* cannot fail */
    (void)uv_read_stop((uv_stream_t *)&channel->tcp); /* cannot fail */
    int r = channel->called
                ? uv_read_start((uv_stream_t *)&channel->tcp, give_scrap, on_unexpected)
                : uv_read_start((uv_stream_t *)&channel->pipe, give_scrap, on_unexpected);
    if (r < 0) {
        close(fd);
        channel_end(channel, r);
        return r;
    }
    return fd;
}

static void end_older_from(struct channel *channel)
{
    LIST_EACH_SAFE (link, &channel->hub->channels) {
        struct channel *other = LIST_ITEM(link, struct channel, link);
        if (other != channel && !other->called && other->state == CHANNEL_OPEN &&
            other->peer_id == channel->peer_id) {
            channel_end(other, BERTH_ECLOSED);
        }
    }
}

static void on_confirm(struct channel *channel)
{
    struct channel_hub *hub = channel->hub;
    uint64_t id = 0;
    char address[CHANNEL_ADDRESS_SIZE];
    if (channel_confirm_read(&channel->stream, &channel->handshake, channel->message, &id,
                             address) < 0) {
        refuse_text(channel);
        return;
    }
    if (id != channel->peer_id) {
        refuse_key(channel, "the confirmed id is not the key's");
        return;
    }
    end_older_from(channel);
    if (over_pair_limit(hub)) {
        channel_drop(channel, BERTH_EFULL, &hub->counters.evicted, "too many channels");
        return;
    }
    int fd = channel_now_open(channel);
    if (fd < 0) {
        return;
    }
    hub->counters.accepted++;
    log_debug(ROOM, "raft channel accepted", KV_STR("host", host_of(hub, id)),
              KV_U64("peer", id), KV_STR("address", address));
    hub->accepted(hub->accept_context, id, address, fd);
    if (channel->state == CHANNEL_OPEN) {
        pump_resume(channel);
    }
}

static void on_hello(struct channel *channel)
{
    struct channel_hub *hub = channel->hub;
    uint8_t public_key[CHANNEL_KEY_SIZE];
    uint64_t caller_id = 0;
    uint64_t called_id = 0;
    channel_handshake_listen(&channel->handshake, &hub->identity, hub->cluster_id);
    if (channel_hello_open(&channel->handshake, channel->message, public_key) < 0) {
        refuse_text(channel);
        return;
    }
    if (!hub->peer_of(hub->context, public_key, &channel->peer_id)) {
        refuse_key(channel, "the key is no member's");
        return;
    }
    if (channel_hello_finish(&channel->handshake, channel->message, &caller_id,
                             &called_id) < 0) {
        refuse_text(channel);
        return;
    }
    if (caller_id != channel->peer_id || caller_id == hub->id || called_id != hub->id) {
        refuse_key(channel, "the claimed id is not the key's");
        return;
    }
    if (channel_answer_write(&channel->handshake, hub->id, channel->reply) < 0 ||
        write_all(channel, (uv_stream_t *)&channel->tcp, channel->reply,
                  CHANNEL_ANSWER_SIZE) < 0) {
        channel_end(channel, BERTH_EUNREACHABLE);
        return;
    }
    channel->state = CHANNEL_WAIT_CONFIRM;
}

static void on_answer(struct channel *channel)
{
    struct channel_hub *hub = channel->hub;
    uint64_t id = 0;
    if (channel_answer_read(&channel->handshake, channel->message, &id) < 0) {
        refuse_text(channel);
        return;
    }
    if (id != channel->peer_id) {
        refuse_key(channel, "another member answered");
        return;
    }
    channel_confirm_write(&channel->stream, &channel->handshake, hub->id, hub->address,
                          channel->reply);
    if (channel->writing || write_all(channel, (uv_stream_t *)&channel->tcp,
                                      channel->reply, CHANNEL_CONFIRM_SIZE) < 0) {
        channel_end(channel, BERTH_EUNREACHABLE);
        return;
    }
    int fd = channel_now_open(channel);
    if (fd < 0) {
        return;
    }
    hub->counters.called++;
    void (*done)(void *context, int fd, int status) = channel->done;
    channel->done = NULL;
    if (!channel->writing) {
        pump_resume(channel);
    }
    done(channel->done_context, fd, 0);
}

/* The peer does not say why: a stranger would learn from it. */
static void on_refused(struct channel *channel)
{
    struct channel_hub *hub = channel->hub;
    unsigned wait_ms = channel_patience_refused(&hub->patience, channel->peer_id);
    hub->counters.refused_text++;
    log_drop(channel, "closed during the handshake");
    if (wait_ms == 0) {
        channel_end(channel, BERTH_EUNREACHABLE);
        return;
    }
    hub->counters.held++;
    channel->state = CHANNEL_REFUSED;
    (void)uv_read_stop((uv_stream_t *)&channel->tcp); /* cannot fail */
    REQUIRE(uv_timer_start(&channel->timer, on_timer, wait_ms, 0) == 0);
}

static void on_message_bytes(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct channel *channel = stream->data;
    (void)buf;
    if (count < 0 && channel->called) {
        on_refused(channel);
        return;
    }
    if (count < 0) {
        channel_drop(channel, BERTH_EUNREACHABLE, &channel->hub->counters.refused_text,
                     "closed during the handshake");
        return;
    }
    channel->have += (size_t)count;
    if (channel->have < wanted_size(channel)) {
        return;
    }
    channel->have = 0;
    if (channel->state == CHANNEL_WAIT_HELLO) {
        on_hello(channel);
    } else if (channel->state == CHANNEL_WAIT_CONFIRM) {
        on_confirm(channel);
    } else {
        on_answer(channel);
    }
}

/* ---- calling ---- */

static void on_connected(uv_connect_t *request, int status)
{
    struct channel *channel = request->data;
    struct channel_hub *hub = channel->hub;
    if (channel->state == CHANNEL_CLOSING) {
        return;
    }
    if (status < 0) {
        hub->counters.connect_failed++;
        channel_end(channel, BERTH_EUNREACHABLE);
        return;
    }
    tune_socket(channel);
    channel->state = CHANNEL_WAIT_ANSWER;
    if (channel_hello_write(&channel->handshake, hub->id, channel->peer_id,
                            channel->reply) < 0) {
        refuse_key(channel, "the member's key is not usable");
        return;
    }
    if (write_all(channel, (uv_stream_t *)&channel->tcp, channel->reply,
                  CHANNEL_HELLO_SIZE) < 0 ||
        uv_read_start((uv_stream_t *)&channel->tcp, give_message, on_message_bytes) < 0) {
        channel_end(channel, BERTH_EUNREACHABLE);
    }
}

int channel_hub_connect(struct channel_hub *hub,
                        uint64_t id,
                        const char *address,
                        void (*done)(void *context, int fd, int status),
                        void *context)
{
    struct sockaddr_storage to;
    uint8_t public_key[CHANNEL_KEY_SIZE];
    if (hub->closing) {
        return BERTH_ECLOSED;
    }
    int r = channel_parse_address(address, &to, NULL);
    if (r < 0) {
        return r;
    }
    if (!hub->key_of(hub->context, id, public_key)) {
        hub->counters.refused_key++;
        return BERTH_EAUTH;
    }
    struct channel *channel = channel_new(hub, true, CHANNEL_CONNECTING);
    if (channel == NULL) {
        return -ENOMEM;
    }
    channel->peer_id = id;
    channel_handshake_call(&channel->handshake, &hub->identity, hub->cluster_id,
                           public_key);
    r = uv_tcp_connect(&channel->connect, &channel->tcp, (const struct sockaddr *)&to,
                       on_connected);
    if (r < 0) {
        channel_end(channel, BERTH_EUNREACHABLE); /* done is not set: it will not run */
        return r;
    }
    channel->done = done;
    channel->done_context = context;
    return 0;
}

/* ---- listening ---- */

/* Strangers may fill the waiting room, but only the oldest of them pays for it. */
static void evict_oldest_pending(struct channel_hub *hub)
{
    struct channel *oldest = NULL;
    unsigned pending = 0;
    LIST_EACH (link, &hub->channels) {
        struct channel *channel = LIST_ITEM(link, struct channel, link);
        if (channel->state == CHANNEL_WAIT_HELLO ||
            channel->state == CHANNEL_WAIT_CONFIRM) {
            oldest = oldest == NULL ? channel : oldest;
            pending++;
        }
    }
    if (pending > CHANNEL_PENDING_MAX) {
        channel_drop(oldest, BERTH_EFULL, &hub->counters.evicted, "too many handshakes");
    }
}

static void on_caller(uv_stream_t *listener, int status)
{
    struct channel_hub *hub = listener->data;
    if (status < 0 || hub->closing) {
        return;
    }
    struct channel *channel = channel_new(hub, false, CHANNEL_WAIT_HELLO);
    if (channel == NULL) {
        log_error(ROOM, "no memory for a raft channel");
        return;
    }
    if (uv_accept(listener, (uv_stream_t *)&channel->tcp) < 0 ||
        uv_read_start((uv_stream_t *)&channel->tcp, give_message, on_message_bytes) < 0) {
        channel_end(channel, BERTH_EUNREACHABLE);
        return;
    }
    tune_socket(channel);
    evict_oldest_pending(hub);
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct channel_hub *hub = handle->data;
    hub->listener_live = false;
    hub_maybe_closed(hub);
}

int channel_hub_listen(struct channel_hub *hub, struct err *err)
{
    struct sockaddr_storage at;
    int r = channel_parse_address(hub->bind_address, &at, err);
    if (r < 0) {
        return r;
    }
    r = uv_tcp_bind(&hub->listener, (const struct sockaddr *)&at, 0);
    if (r == 0) {
        r = uv_listen((uv_stream_t *)&hub->listener, BACKLOG, on_caller);
    }
    if (r < 0) {
        return err_sys(err, r, "listen for raft on %s", hub->bind_address);
    }
    return 0;
}

int channel_hub_open(const struct channel_hub_config *config,
                     struct channel_hub **ret_hub,
                     struct err *err)
{
    struct sockaddr_storage address;
    int r = channel_parse_address(config->address, &address, err);
    if (r < 0) {
        return r;
    }
    if (sodium_init() < 0) {
        return err_set(err, BERTH_EBUG, "libsodium does not start");
    }
    struct channel_hub *hub = calloc(1, sizeof(*hub));
    if (hub == NULL) {
        return err_sys(err, -ENOMEM, "open the raft port");
    }
    const char *bind_to =
        config->bind_address != NULL ? config->bind_address : config->address;
    (void)snprintf(hub->address, sizeof(hub->address), "%s", config->address);
    (void)snprintf(hub->bind_address, sizeof(hub->bind_address), "%s", bind_to);
    hub->loop = config->loop;
    hub->id = config->id;
    hub->cluster_id = config->cluster_id;
    hub->stall_ms = config->stall_ms;
    hub->context = config->context;
    hub->peer_of = config->peer_of;
    hub->key_of = config->key_of;
    hub->name_of = config->name_of;
    hub->screened = config->screened;
    hub->accept_context = config->accept_context;
    hub->accepted = config->accepted;
    channel_identity_of(&hub->identity, config->secret_key);
    list_init(&hub->channels);
    r = uv_tcp_init(hub->loop, &hub->listener);
    if (r < 0) {
        free(hub);
        return err_sys(err, r, "open the raft port");
    }
    hub->listener.data = hub;
    hub->listener_live = true;
    *ret_hub = hub;
    return 0;
}

const struct channel_counters *channel_hub_counters(const struct channel_hub *hub)
{
    return &hub->counters;
}

void channel_hub_drop(struct channel_hub *hub, uint64_t id)
{
    LIST_EACH_SAFE (link, &hub->channels) {
        struct channel *channel = LIST_ITEM(link, struct channel, link);
        if (channel->peer_id == id) {
            channel_end(channel, BERTH_EAUTH);
        }
    }
}

void channel_hub_close(struct channel_hub *hub,
                       void (*done)(void *context),
                       void *context)
{
    REQUIRE(!hub->closing);
    hub->closing = true;
    hub->closed = done;
    hub->closed_context = context;
    LIST_EACH_SAFE (link, &hub->channels) {
        channel_end(LIST_ITEM(link, struct channel, link), BERTH_ECLOSED);
    }
    uv_close((uv_handle_t *)&hub->listener, on_listener_closed);
}
