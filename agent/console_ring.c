#include "agent/console_ring.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/require.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CONNECT_RETRY_MS 20
#define READ_CHUNK       8192
#define LAST_LINE_SCAN   2048u /* bytes before the end that are searched */

struct console_ring {
    uint64_t end; /* offset of the next byte */
    struct list readers;
    unsigned reader_count;
    bool freed;    /* by its owner: goes with the last reader */
    uint8_t *data; /* byte n lives at n % CONSOLE_RING_SIZE; a mapping: pages that nothing
                      was written to cost nothing, and all go back with the VM */
};

struct console_reader {
    struct list link; /* in ring->readers, or in the local list of an append */
    struct console_ring *ring;
    void (*more)(void *context);
    void *context;
};

/* ---- ring ---- */

struct console_ring *console_ring_new(void)
{
    struct console_ring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL) {
        return NULL;
    }
    list_init(&ring->readers);
    void *data = mmap(NULL, CONSOLE_RING_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        free(ring);
        return NULL;
    }
    /* Or the first byte takes 2 MiB, where huge pages are always given; a kernel without
     * them does not know the word. */
    (void)madvise(data, CONSOLE_RING_SIZE, MADV_NOHUGEPAGE);
    ring->data = data;
    return ring;
}

static void ring_end(struct console_ring *ring)
{
    REQUIRE(munmap(ring->data, CONSOLE_RING_SIZE) == 0);
    free(ring);
}

struct console_ring *console_ring_free(struct console_ring *ring)
{
    if (ring != NULL && ring->reader_count > 0) {
        ring->freed = true;
    } else if (ring != NULL) {
        ring_end(ring);
    }
    return NULL;
}

uint64_t console_ring_end(const struct console_ring *ring)
{
    return ring->end;
}

uint64_t console_ring_begin(const struct console_ring *ring)
{
    return ring->end > CONSOLE_RING_SIZE ? ring->end - CONSOLE_RING_SIZE : 0;
}

static void store(struct console_ring *ring, const uint8_t *data, size_t size)
{
    if (size > CONSOLE_RING_SIZE) { /* the front would be overwritten at once */
        ring->end += size - CONSOLE_RING_SIZE;
        data += size - CONSOLE_RING_SIZE;
        size = CONSOLE_RING_SIZE;
    }
    size_t at = (size_t)(ring->end % CONSOLE_RING_SIZE);
    size_t first = size < CONSOLE_RING_SIZE - at ? size : CONSOLE_RING_SIZE - at;
    memcpy(ring->data + at, data, first);
    memcpy(ring->data, data + first, size - first);
    ring->end += size;
}

void console_ring_append(struct console_ring *ring, const void *data, size_t size)
{
    if (size == 0) {
        return;
    }
    store(ring, data, size);
    /* Each reader goes back before it is told: it may close itself or any other. */
    struct list pending;
    list_init(&pending);
    list_move_all(&pending, &ring->readers);
    while (!list_empty(&pending)) {
        struct console_reader *reader =
            LIST_ITEM(pending.next, struct console_reader, link);
        list_remove(&reader->link);
        list_push_back(&ring->readers, &reader->link);
        reader->more(reader->context);
    }
}

size_t console_ring_read(const struct console_ring *ring,
                         uint64_t *offset,
                         void *ret_data,
                         size_t size)
{
    uint64_t from = *offset;
    from = from < console_ring_begin(ring) ? console_ring_begin(ring) : from;
    from = from > ring->end ? ring->end : from;
    uint64_t left = ring->end - from;
    size_t count = left < size ? (size_t)left : size;
    size_t at = (size_t)(from % CONSOLE_RING_SIZE);
    size_t first = count < CONSOLE_RING_SIZE - at ? count : CONSOLE_RING_SIZE - at;
    memcpy(ret_data, ring->data + at, first);
    memcpy((uint8_t *)ret_data + first, ring->data, count - first);
    *offset = from + count;
    return count;
}

/* Steps over one escape sequence that begins at text[at]; the place after it. */
static size_t skip_escape(const char *text, size_t at, size_t size)
{
    if (++at < size && text[at] == '[') {
        at++;
        while (at < size && !(text[at] >= 0x40 && text[at] <= 0x7e)) {
            at++;
        }
    }
    return at < size ? at + 1 : size;
}

void console_ring_last_line(const struct console_ring *ring, char *ret_text, size_t size)
{
    char tail[LAST_LINE_SCAN];
    char line[LAST_LINE_SCAN];
    uint64_t offset = ring->end > LAST_LINE_SCAN ? ring->end - LAST_LINE_SCAN : 0;
    size_t count = console_ring_read(ring, &offset, tail, sizeof(tail));
    size_t used = 0;
    bool visible = false; /* line[0..used) holds more than blanks */
    REQUIRE(size > 0);
    ret_text[0] = '\0';
    for (size_t i = 0; i < count;) {
        if (tail[i] == '\x1b') {
            i = skip_escape(tail, i, count);
            continue;
        }
        if (tail[i] == '\n') {
            /* The line stays until the next visible character comes. */
            visible = false;
        } else if (isprint((unsigned char)tail[i])) {
            if (!visible && !isspace((unsigned char)tail[i])) {
                visible = true;
                used = 0;
            }
            if (visible) {
                line[used++] = tail[i];
            }
        }
        i++;
    }
    used = used < size - 1 ? used : size - 1;
    memcpy(ret_text, line, used);
    ret_text[used] = '\0';
}

struct console_reader *console_reader_open(struct console_ring *ring,
                                           void (*more)(void *context),
                                           void *context,
                                           struct err *err)
{
    REQUIRE(more != NULL);
    if (ring->reader_count == CONSOLE_READERS_MAX) {
        err_set(err, BERTH_EFULL, "console: %u readers are the most",
                CONSOLE_READERS_MAX);
        return NULL;
    }
    struct console_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL) {
        err_set(err, -ENOMEM, "console: out of memory");
        return NULL;
    }
    reader->ring = ring;
    reader->more = more;
    reader->context = context;
    list_push_back(&ring->readers, &reader->link);
    ring->reader_count++;
    return reader;
}

struct console_reader *console_reader_close(struct console_reader *reader)
{
    if (reader != NULL) {
        struct console_ring *ring = reader->ring;
        list_remove(&reader->link);
        ring->reader_count--;
        free(reader);
        if (ring->freed && ring->reader_count == 0) {
            ring_end(ring);
        }
    }
    return NULL;
}

/* ---- link ---- */

struct console_link {
    uv_pipe_t pipe;    /* data: the link */
    bool pipe_open;    /* initialised and not closing */
    bool pipe_closing; /* its close callback is still to come */
    bool connecting;
    bool connected;
    bool over;   /* the peer is gone, or never came */
    bool closed; /* by the owner: free when the pipe's close has run */
    uv_loop_t *loop;
    uv_connect_t connect;
    struct loop_timer *retry;
    uint64_t deadline_ms; /* loop time */
    struct console_ring *ring;
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    char log[PATH_MAX];      /* "": nothing to catch up with */
    uint64_t log_offset;     /* what the ring has of it */
    struct log_watch *watch; /* of the log; NULL: none */
    size_t pending_bytes;    /* handed to libuv, not written yet */
    size_t early_count;      /* typed before the link was up */
    uint8_t early[CONSOLE_INPUT_MAX];
    uint8_t chunk[READ_CHUNK];
};

/* Memory of its own: its handle may close after the link. */
struct log_watch {
    uv_fs_event_t event; /* data: the link, then this */
};

struct link_write {
    uv_write_t request; /* data: the link_write */
    struct console_link *link;
    size_t size;
    uint8_t data[];
};

static void link_try(void *context);

static void link_pipe_closed(uv_handle_t *handle)
{
    struct console_link *link = handle->data;
    link->pipe_closing = false;
    if (link->closed) {
        free(link);
    } else if (!link->over) { /* an attempt failed: once more, later */
        loop_timer_again(link->retry, CONNECT_RETRY_MS, 0);
    }
}

static void link_close_pipe(struct console_link *link)
{
    link->connected = false;
    if (link->pipe_open) {
        link->pipe_open = false;
        link->pipe_closing = true;
        uv_close((uv_handle_t *)&link->pipe, link_pipe_closed);
    }
}

static void link_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer)
{
    struct console_link *link = handle->data;
    (void)suggested;
    *ret_buffer = uv_buf_init((char *)link->chunk, sizeof(link->chunk));
}

/* The log from *offset on, or its last bytes when that is more than a ring keeps; moves
 * *offset past them. NULL when there is nothing (or it was cut meanwhile). */
static uint8_t *log_take(const char *path, uint64_t *offset, size_t *ret_size)
{
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_RDONLY, 0, NULL);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) < 0 || (uint64_t)info.st_size <= *offset) {
        return NULL;
    }
    uint64_t end = (uint64_t)info.st_size;
    uint64_t from = end - *offset > CONSOLE_RING_SIZE ? end - CONSOLE_RING_SIZE : *offset;
    CLEANUP_FREE uint8_t *data = cleanup_new(end - from, 1);
    ssize_t size = data == NULL || lseek(fd, (off_t)from, SEEK_SET) < 0
                       ? -1
                       : fd_read_full(fd, data, end - from);
    if (size <= 0) {
        return NULL;
    }
    *offset = from + (uint64_t)size;
    *ret_size = (size_t)size;
    return TAKE_PTR(data);
}

static void log_watch_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static struct log_watch *log_watch_close(struct log_watch *watch)
{
    if (watch != NULL) {
        watch->event.data = watch;
        uv_close((uv_handle_t *)&watch->event, log_watch_closed);
    }
    return NULL;
}

/* How much has come over the socket that was not read yet. */
static size_t link_waiting(const struct console_link *link)
{
    int fd = -1;
    int size = 0;
    return link->pipe_open && uv_fileno((const uv_handle_t *)&link->pipe, &fd) == 0 &&
                   ioctl(fd, FIONREAD, &size) == 0 && size > 0
               ? (size_t)size
               : 0;
}

/* What has come over the socket: the chunk that was read and what waits behind it. */
static uint8_t *link_said(const struct console_link *link,
                          const void *chunk,
                          size_t size,
                          size_t *ret_size)
{
    size_t waiting = link_waiting(link);
    uint8_t *said = malloc(size + waiting);
    int fd = -1;
    if (said == NULL) {
        return NULL;
    }
    memcpy(said, chunk, size);
    *ret_size = size;
    if (waiting > 0 && uv_fileno((const uv_handle_t *)&link->pipe, &fd) == 0) {
        ssize_t count = recv(fd, said + size, waiting, MSG_PEEK | MSG_DONTWAIT);
        *ret_size += count > 0 ? (size_t)count : 0;
    }
    return said;
}

/* The socket is all from here on. The end of the log may be the beginning of what comes
 * over it; seen after the log, that has all the log has of it. */
static void link_close_gap(struct console_link *link, const void *chunk, size_t size)
{
    size_t gained = 0;
    size_t same = 0;
    CLEANUP_FREE uint8_t *data = log_take(link->log, &link->log_offset, &gained);
    CLEANUP_FREE uint8_t *said =
        data == NULL ? NULL : link_said(link, chunk, size, &same);
    link->log[0] = '\0';
    link->watch = log_watch_close(link->watch);
    same = gained < same ? gained : same;
    while (same > 0 && memcmp(data + gained - same, said, same) != 0) {
        same--;
    }
    if (gained > same) {
        console_ring_append(link->ring, data, gained - same);
    }
}

/* What a guest says before its engine takes our connection is in the log alone, and a
 * guest that is silent then (its prompt waits) sends nothing that would close the gap. */
static void log_changed(uv_fs_event_t *event, const char *name, int events, int status)
{
    struct console_link *link = event->data;
    uint64_t offset = link->log_offset;
    size_t size = 0;
    (void)name;
    (void)events;
    (void)status; /* the log itself tells */
    CLEANUP_FREE uint8_t *data = log_take(link->log, &offset, &size);
    if (data == NULL || link_waiting(link) > 0) {
        return; /* the socket has some of it: link_read knows how much */
    }
    link->log_offset = offset;
    console_ring_append(link->ring, data, size);
}

/* NULL: what the log gains comes with the guest's next word. */
static struct log_watch *log_watch_new(struct console_link *link)
{
    struct log_watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL) {
        return NULL;
    }
    if (uv_fs_event_init(link->loop, &watch->event) != 0) {
        free(watch);
        return NULL;
    }
    watch->event.data = link;
    return uv_fs_event_start(&watch->event, log_changed, link->log, 0) == 0
               ? watch
               : log_watch_close(watch);
}

void console_link_refill(struct console_link *link, const char *log)
{
    size_t size = 0;
    if ((size_t)snprintf(link->log, sizeof(link->log), "%s", log) >= sizeof(link->log)) {
        link->log[0] = '\0'; /* nothing has such a path */
        return;
    }
    link->watch = log_watch_new(link); /* first: it tells what is not in yet */
    CLEANUP_FREE uint8_t *data = log_take(link->log, &link->log_offset, &size);
    if (size > 0) {
        console_ring_append(link->ring, data, size);
    }
}

static void link_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct console_link *link = stream->data;
    if (count < 0) {
        link->over = true;
        link_close_pipe(link);
    } else if (count > 0) {
        if (link->log[0] != '\0') {
            link_close_gap(link, buffer->base, (size_t)count);
        }
        console_ring_append(link->ring, buffer->base, (size_t)count);
    }
}

static void link_connected(uv_connect_t *request, int status)
{
    struct console_link *link = request->data;
    link->connecting = false;
    if (link->closed) {
        return;
    }
    if (status != 0) {
        link->over = uv_now(link->loop) >= link->deadline_ms;
        link_close_pipe(link);
        return;
    }
    link->connected = true;
    REQUIRE(uv_read_start((uv_stream_t *)&link->pipe, link_alloc, link_read) == 0);
    size_t early = link->early_count;
    link->early_count = 0;
    if (early > 0) {
        (void)console_link_write(link, link->early, early); /* lost typing, no more */
    }
}

static void link_try(void *context)
{
    struct console_link *link = context;
    REQUIRE(uv_pipe_init(link->loop, &link->pipe, 0) == 0);
    link->pipe.data = link;
    link->pipe_open = true;
    link->connecting = true;
    link->connect.data = link;
    uv_pipe_connect(&link->connect, &link->pipe, link->path, link_connected);
}

struct console_link *console_link_open(uv_loop_t *loop,
                                       const char *path,
                                       struct console_ring *ring,
                                       struct err *err)
{
    struct console_link *link = calloc(1, sizeof(*link));
    if (link == NULL) {
        err_set(err, -ENOMEM, "console: out of memory");
        return NULL;
    }
    if (strlen(path) >= sizeof(link->path)) {
        err_set(err, -ENAMETOOLONG, "console: %s is too long for a socket", path);
        free(link);
        return NULL;
    }
    memcpy(link->path, path, strlen(path) + 1);
    link->loop = loop;
    link->ring = ring;
    link->deadline_ms = uv_now(loop) + CONSOLE_CONNECT_MS;
    link->retry = loop_timer_new(loop, 0, 0, link_try, link);
    if (link->retry == NULL) {
        err_set(err, -ENOMEM, "console: out of memory");
        free(link);
        return NULL;
    }
    return link;
}

static void link_written(uv_write_t *request, int status)
{
    struct link_write *written = request->data;
    (void)status; /* the reading side notices a lost peer */
    written->link->pending_bytes -= written->size;
    free(written);
}

int console_link_write(struct console_link *link, const void *data, size_t size)
{
    if (link->over) {
        return BERTH_ECLOSED;
    }
    if (size > CONSOLE_INPUT_MAX - link->pending_bytes - link->early_count) {
        return BERTH_EFULL;
    }
    if (size == 0) {
        return 0;
    }
    if (!link->connected) {
        memcpy(link->early + link->early_count, data, size);
        link->early_count += size;
        return 0;
    }
    struct link_write *written = calloc(1, sizeof(*written) + size);
    if (written == NULL) {
        return -ENOMEM;
    }
    written->link = link;
    written->size = size;
    written->request.data = written;
    memcpy(written->data, data, size);
    uv_buf_t buffer = uv_buf_init((char *)written->data, (unsigned)size);
    int r =
        uv_write(&written->request, (uv_stream_t *)&link->pipe, &buffer, 1, link_written);
    if (r != 0) {
        free(written);
        return BERTH_ECLOSED;
    }
    link->pending_bytes += size;
    return 0;
}

bool console_link_connected(const struct console_link *link)
{
    return link->connected;
}

/* Written requests are cancelled and freed by libuv's close, before the pipe's own close
 * callback frees the link. */
struct console_link *console_link_close(struct console_link *link)
{
    if (link == NULL) {
        return NULL;
    }
    link->retry = loop_timer_close(link->retry);
    link->watch = log_watch_close(link->watch);
    link->closed = true;
    if (link->pipe_open) {
        link_close_pipe(link);
    } else if (!link->pipe_closing) {
        free(link); /* never tried, between two attempts, or over */
    }
    return NULL;
}
