#include "vmm/console_port.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NO_WATCH     (-1)
#define INPUT_AT_ONE 128u /* bytes read at a time */
/* How long an end waits for a reader that takes nothing: one that is alive has run by
 * then. */
#define LAST_WORDS_MS 1000u

struct console_port {
    struct poller *poller;
    struct serial_port *serial;
    int listener; /* -1: one client for ever */
    int listener_watch;
    int input; /* of the client; -1: none. A socket is both. */
    int input_watch;
    int output;
    bool is_socket; /* the output, and then the input is the same but for stdio */
    bool is_stdio;  /* both are borrowed, and blocking, as others that have them want */
    /* Of stdio that can be waited for: what is written is no more than it takes at once.
     */
    int output_watch;
    size_t output_room;
    int wake_fd; /* an eventfd: there is output, or room for input */
    int wake_watch;
    /* Input that the port had no room for; the client is not read meanwhile. */
    uint8_t pending[INPUT_AT_ONE];
    size_t pending_size;
    pthread_mutex_t lock; /* the ring's */
    uint8_t ring[CONSOLE_KEEP_MAX];
    /* Bytes are counted from the first one ever: begin <= next <= end. */
    uint64_t begin; /* the oldest that is kept */
    uint64_t next;  /* what the client is to have next */
    uint64_t end;
};

static void wake(struct console_port *console)
{
    const uint64_t one = 1;
    (void)!write(console->wake_fd, &one, sizeof(one)); /* full means: woken already */
}

/* From a vCPU. */
static void on_output(void *context, uint8_t byte)
{
    struct console_port *console = context;
    pthread_mutex_lock(&console->lock);
    bool was_read = console->next == console->end;
    console->ring[console->end % CONSOLE_KEEP_MAX] = byte;
    console->end++;
    if (console->end - console->begin > CONSOLE_KEEP_MAX) {
        console->begin++;
    }
    if (console->next < console->begin) {
        console->next = console->begin; /* lost to a client that does not read */
    }
    pthread_mutex_unlock(&console->lock);
    if (was_read) {
        wake(console);
    }
}

static void on_drained(void *context)
{
    wake(context);
}

static void input_watch_set(struct console_port *console, unsigned events)
{
    if (console->input_watch != NO_WATCH) {
        poller_change(console->poller, console->input_watch, events);
    }
}

static void client_drop(struct console_port *console)
{
    if (console->input_watch != NO_WATCH) {
        poller_remove(console->poller, console->input_watch);
        console->input_watch = NO_WATCH;
    }
    if (!console->is_stdio) {
        fd_close(&console->input);
        console->output = -1;
    }
    console->input = -1;
    console->pending_size = 0;
}

static void output_watch_set(struct console_port *console, unsigned events)
{
    if (console->output_watch != NO_WATCH) {
        poller_change(console->poller, console->output_watch, events);
    } else {
        input_watch_set(console,
                        events | (console->pending_size > 0 ? 0u : POLLER_READABLE));
    }
}

/* Nobody will read any more. */
static void output_drop(struct console_port *console)
{
    if (console->output_watch != NO_WATCH) {
        poller_remove(console->poller, console->output_watch);
        console->output_watch = NO_WATCH;
    }
    client_drop(console);
    console->output = -1;
}

/* Copies out what the client is to have next, from *ret_from on. */
static size_t ring_peek(struct console_port *console,
                        uint8_t *ret_data,
                        size_t size,
                        uint64_t *ret_from)
{
    pthread_mutex_lock(&console->lock);
    *ret_from = console->next;
    const uint64_t left = console->end - console->next;
    size_t count = left < size ? (size_t)left : size;
    for (size_t i = 0; i < count; i++) {
        ret_data[i] = console->ring[(console->next + i) % CONSOLE_KEEP_MAX];
    }
    pthread_mutex_unlock(&console->lock);
    return count;
}

/* The client has all before this; the guest may have pushed it further already. */
static void ring_sent(struct console_port *console, uint64_t before)
{
    pthread_mutex_lock(&console->lock);
    if (console->next < before) {
        console->next = before;
    }
    pthread_mutex_unlock(&console->lock);
}

/* For another client. */
static void ring_again(struct console_port *console)
{
    pthread_mutex_lock(&console->lock);
    console->next = console->begin;
    pthread_mutex_unlock(&console->lock);
}

static ssize_t client_send(struct console_port *console, const void *data, size_t size)
{
    return console->is_socket
               ? send(console->output, data, size, MSG_NOSIGNAL | MSG_DONTWAIT)
               : write(console->output, data, size);
}

/* The next piece: true when there may be room for another. */
static bool piece_send(struct console_port *console)
{
    uint8_t piece[PIPE_BUF];
    uint64_t from;
    const size_t size = ring_peek(console, piece, console->output_room, &from);
    if (size == 0) {
        output_watch_set(console, 0);
        return false;
    }
    const ssize_t sent = client_send(console, piece, size);
    if (sent > 0) {
        ring_sent(console, from + (uint64_t)sent);
        return true;
    }
    if (sent < 0 && errno == EAGAIN) {
        output_watch_set(console, POLLER_WRITABLE);
        return false;
    }
    if (sent == 0 || errno != EINTR) {
        output_drop(console);
        return false;
    }
    return true;
}

/* What would block is left to on_writable. */
static void output_flush(struct console_port *console)
{
    if (console->output_watch != NO_WATCH) {
        output_watch_set(console, POLLER_WRITABLE);
        return;
    }
    while (console->output >= 0 && piece_send(console)) {
    }
}

static void on_writable(void *context, uint64_t token, unsigned events)
{
    struct console_port *console = context;
    (void)token;
    (void)events;
    if (console->output >= 0) {
        (void)piece_send(console);
    }
}

/* Hands on what waits; true when all of it is gone. */
static bool input_flush(struct console_port *console)
{
    size_t taken =
        serial_port_receive(console->serial, console->pending, console->pending_size);
    memmove(console->pending, console->pending + taken, console->pending_size - taken);
    console->pending_size -= taken;
    return console->pending_size == 0;
}

static void on_client(void *context, uint64_t token, unsigned events)
{
    struct console_port *console = context;
    (void)token;
    if (console->input < 0) {
        return;
    }
    if ((events & POLLER_READABLE) != 0 && console->pending_size == 0) {
        ssize_t got = read(console->input, console->pending, sizeof(console->pending));
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
            client_drop(console);
            return;
        }
        console->pending_size = got > 0 ? (size_t)got : 0;
        if (!input_flush(console)) {
            input_watch_set(console, 0); /* until the guest has read */
        }
    }
    if ((events & POLLER_WRITABLE) != 0) {
        output_flush(console);
    }
}

static void on_wake(void *context, uint64_t token, unsigned events)
{
    struct console_port *console = context;
    uint64_t ignored;
    (void)token;
    (void)events;
    (void)!read(console->wake_fd, &ignored, sizeof(ignored)); /* empties it */
    if (console->pending_size > 0 && input_flush(console)) {
        input_watch_set(console, POLLER_READABLE);
    }
    output_flush(console);
}

static void on_connection(void *context, uint64_t token, unsigned events)
{
    struct console_port *console = context;
    (void)token;
    (void)events;
    int client = accept4(console->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) {
        return; /* it went away again */
    }
    client_drop(console);
    console->input_watch =
        poller_add(console->poller, client, POLLER_READABLE, on_client, console, 0);
    if (console->input_watch < 0) {
        console->input_watch = NO_WATCH;
        fd_close(&client);
        return;
    }
    console->input = console->output = client;
    ring_again(console);
    output_flush(console);
}

static int console_new(struct poller *poller,
                       struct serial_port *serial,
                       struct console_port **ret_console,
                       struct err *err)
{
    struct console_port *console = calloc(1, sizeof(*console));
    if (console == NULL) {
        return err_sys(err, -ENOMEM, "console");
    }
    console->poller = poller;
    console->serial = serial;
    console->listener = console->input = console->output = -1;
    console->listener_watch = console->input_watch = NO_WATCH;
    console->output_watch = NO_WATCH;
    console->output_room = PIPE_BUF;
    (void)pthread_mutex_init(&console->lock, NULL); /* cannot fail without attributes */
    console->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    console->wake_watch =
        console->wake_fd < 0
            ? -errno
            : poller_add(poller, console->wake_fd, POLLER_READABLE, on_wake, console, 0);
    if (console->wake_watch < 0) {
        int r = console->wake_watch;
        console->wake_watch = NO_WATCH;
        console_port_close(console);
        return err_sys(err, r, "console");
    }
    serial->context = console;
    serial->output = on_output;
    serial->drained = on_drained;
    *ret_console = console;
    return 0;
}

int console_port_listen(struct poller *poller,
                        struct serial_port *serial,
                        int take_listener,
                        struct console_port **ret_console,
                        struct err *err)
{
    struct console_port *console = NULL;
    int r = console_new(poller, serial, &console, err);
    if (r < 0) {
        return r;
    }
    console->is_socket = true;
    console->listener_watch =
        poller_add(poller, take_listener, POLLER_READABLE, on_connection, console, 0);
    if (console->listener_watch < 0) {
        r = console->listener_watch;
        console->listener_watch = NO_WATCH;
        console_port_close(console);
        return err_sys(err, r, "console: watch its socket");
    }
    console->listener = take_listener;
    *ret_console = console;
    return 0;
}

/* Standard output blocks whoever writes more than it has room for, and this is the thread
 * that serves all devices. One that can be waited for is: a pipe then takes PIPE_BUF
 * bytes, a terminal one, a socket says itself what it takes. A file has always room. */
static int output_connect(struct console_port *console, int fd, struct err *err)
{
    struct stat status;
    console->output = fd;
    console->is_stdio = true;
    if (fstat(fd, &status) < 0) {
        return err_sys(err, -errno, "console: its output");
    }
    if (S_ISREG(status.st_mode)) {
        return 0;
    }
    console->is_socket = S_ISSOCK(status.st_mode);
    console->output_room = S_ISFIFO(status.st_mode) || console->is_socket ? PIPE_BUF : 1;
    const int watch =
        poller_add(console->poller, fd, POLLER_WRITABLE, on_writable, console, 0);
    if (watch < 0 && watch != -EPERM) {
        return err_sys(err, watch, "console: watch its output");
    }
    console->output_watch =
        watch < 0 ? NO_WATCH : watch; /* /dev/null is not waited for */
    return 0;
}

/* The last words: for a reader that is behind, not for one that does not read. */
static void output_end(struct console_port *console)
{
    static const struct timespec nap = {.tv_nsec = 1000000};
    unsigned naps = 0;
    output_flush(console);
    while (console->output_watch != NO_WATCH && console->next != console->end &&
           naps < LAST_WORDS_MS) {
        if (poller_is_ready(console->poller, console->output_watch)) {
            naps = 0;
            (void)piece_send(console);
        } else {
            naps++;
            (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL); /* shorter is fine */
        }
    }
    if (console->output_watch != NO_WATCH) {
        poller_remove(console->poller, console->output_watch);
        console->output_watch = NO_WATCH;
    }
}

int console_port_connect(struct poller *poller,
                         struct serial_port *serial,
                         int input_fd,
                         int output_fd,
                         struct console_port **ret_console,
                         struct err *err)
{
    struct console_port *console = NULL;
    int r = console_new(poller, serial, &console, err);
    if (r < 0) {
        return r;
    }
    r = output_connect(console, output_fd, err);
    if (r < 0) {
        console_port_close(console);
        return r;
    }
    if (input_fd >= 0) {
        /* A plain file is always ready and cannot be watched: it is no console. */
        int watch = poller_add(poller, input_fd, POLLER_READABLE, on_client, console, 0);
        console->input_watch = watch < 0 ? NO_WATCH : watch;
        console->input = watch < 0 ? -1 : input_fd;
    }
    *ret_console = console;
    return 0;
}

struct console_port *console_port_close(struct console_port *console)
{
    if (console == NULL) {
        return NULL;
    }
    output_end(console);
    if (console->serial->context == console) {
        console->serial->output = NULL;
        console->serial->drained = NULL;
    }
    client_drop(console);
    if (console->listener_watch != NO_WATCH) {
        poller_remove(console->poller, console->listener_watch);
    }
    if (console->wake_watch != NO_WATCH) {
        poller_remove(console->poller, console->wake_watch);
    }
    fd_close(&console->listener);
    fd_close(&console->wake_fd);
    (void)pthread_mutex_destroy(&console->lock);
    free(console);
    return NULL;
}
