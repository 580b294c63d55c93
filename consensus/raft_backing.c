#include "consensus/raft_backing.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/random.h"
#include "consensus/log_files.h"
#include "consensus/log_space.h"
#include "consensus/raft_library.h"
#include "consensus/raft_pace.h"

#include <raft.h>
#include <raft/uv.h>

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ROOM               "consensus"
#define FOLDER_MAX         900                  /* the library's own bound is near 1000 */
#define RETRY_MIN_MS       100                  /* between two attempts to reach a peer */
#define RETRY_JITTER_MS    100                  /* so that peers do not call in step */
#define OPEN_SPACE_MIN     (UINT64_C(24) << 20) /* for the first segments */
#define AIO_EVENTS_PER_CPU 8                    /* what the kernel books per context */
#define AIO_CONTEXTS       4                    /* open segments at once */
#define LIBRARY_TICK_MS    (24u * 3600u * 1000u) /* its own tick, which does nothing */
#define CLOSING_TURNS      2                     /* see on_library_closed */

struct raft_backing {
    struct raft_io io;
    struct raft_uv_transport transport;
    raft_uv_accept_cb accept;
    raft_uv_transport_close_cb transport_closed;
    struct channel_hub *hub; /* NULL once closed */
    uv_loop_t *loop;
    char folder[FOLDER_MAX];
    bool io_ready; /* raft_uv_init done */
    int (*library_start)(struct raft_io *io,
                         unsigned interval_ms,
                         raft_io_tick_cb tick,
                         raft_io_recv_cb recv);
    int (*library_load)(struct raft_io *io,
                        raft_term *ret_term,
                        raft_id *ret_vote,
                        struct raft_snapshot **ret_snapshot,
                        raft_index *ret_start,
                        struct raft_entry **ret_entries,
                        size_t *ret_count);
    const struct raft *raft; /* whose io it is */
    raft_io_tick_cb tick;    /* of who starts the io */
    raft_io_recv_cb recv;    /* likewise */
    struct raft_ticker *ticker;
    void (*library_close)(struct raft_io *io, raft_io_close_cb done);
    raft_io_close_cb io_closed; /* of who closes the io */
    uv_prepare_t turn;          /* never started: it is closed to be called back */
    unsigned turns_left;        /* CLOSING_TURNS from when the library has closed */
    void (*abandoned)(void *context);
    void *abandoned_context;
};

/* ---- channels as the library's transport ---- */

/* A stream over the descriptor, in the library's memory; takes fd on success. */
static struct uv_stream_s *stream_of(struct raft_backing *backing, int fd)
{
    uv_pipe_t *pipe = raft_malloc(sizeof(*pipe));
    if (pipe == NULL || uv_pipe_init(backing->loop, pipe, 0) < 0) {
        raft_free(pipe);
        return NULL;
    }
    if (uv_pipe_open(pipe, fd) < 0) {
        uv_close((uv_handle_t *)pipe, (uv_close_cb)raft_free);
        return NULL;
    }
    return (struct uv_stream_s *)pipe;
}

static void on_accepted(void *context, uint64_t id, const char *address, int fd)
{
    struct raft_backing *backing = context;
    struct uv_stream_s *stream = stream_of(backing, fd);
    if (stream == NULL) {
        log_error(ROOM, "a peer's channel cannot be used", KV_U64("peer", id));
        close(fd);
        return;
    }
    backing->accept(&backing->transport, id, address, stream);
}

struct call {
    struct raft_backing *backing;
    struct raft_uv_connect *request;
};

static void on_called(void *context, int fd, int status)
{
    struct call *call = context;
    struct raft_uv_connect *request = call->request;
    struct uv_stream_s *stream = fd >= 0 ? stream_of(call->backing, fd) : NULL;
    if (fd >= 0 && stream == NULL) {
        close(fd);
    }
    int failure = status == BERTH_ECLOSED ? RAFT_CANCELED : RAFT_NOCONNECTION;
    free(call);
    request->cb(request, stream, stream != NULL ? 0 : failure);
}

static int transport_connect(struct raft_uv_transport *transport,
                             struct raft_uv_connect *request,
                             raft_id id,
                             const char *address,
                             raft_uv_connect_cb done)
{
    struct raft_backing *backing = transport->impl;
    struct call *call = malloc(sizeof(*call));
    if (call == NULL) {
        return RAFT_NOMEM;
    }
    *call = (struct call){.backing = backing, .request = request};
    request->cb = done;
    if (channel_hub_connect(backing->hub, id, address, on_called, call) < 0) {
        free(call);
        return RAFT_NOCONNECTION; /* the library calls again after its delay */
    }
    return 0;
}

static int
transport_init(struct raft_uv_transport *transport, raft_id id, const char *address)
{
    (void)transport;
    (void)id;
    (void)address;
    return 0;
}

static int transport_listen(struct raft_uv_transport *transport, raft_uv_accept_cb accept)
{
    struct raft_backing *backing = transport->impl;
    struct err err = {0};
    backing->accept = accept;
    if (channel_hub_listen(backing->hub, &err) < 0) {
        (void)snprintf(backing->io.errmsg, sizeof(backing->io.errmsg), "%.*s",
                       RAFT_ERRMSG_BUF_SIZE - 1, err.text);
        return RAFT_IOERR;
    }
    return 0;
}

static void on_hub_closed_for_library(void *context)
{
    struct raft_backing *backing = context;
    backing->hub = NULL;
    backing->transport_closed(&backing->transport);
}

static void transport_close(struct raft_uv_transport *transport,
                            raft_uv_transport_close_cb done)
{
    struct raft_backing *backing = transport->impl;
    backing->transport_closed = done;
    channel_hub_close(backing->hub, on_hub_closed_for_library, backing);
}

/* ---- the library's time ---- */

static struct raft_backing *backing_of(struct raft_io *io)
{
    return (struct raft_backing *)((char *)io - offsetof(struct raft_backing, io));
}

static struct raft_pace_state state_of(void *context)
{
    const struct raft_backing *backing = context;
    return (struct raft_pace_state){.leads = backing->raft->state == RAFT_LEADER,
                                    .due_ms = raft_library_election_due(backing->raft)};
}

static void on_tick(void *context)
{
    struct raft_backing *backing = context;
    backing->tick(&backing->io);
}

static void no_tick(struct raft_io *io)
{
    (void)io; /* ours comes instead (raft_pace.h) */
}

static void on_recv(struct raft_io *io, struct raft_message *message)
{
    struct raft_backing *backing = backing_of(io);
    if (message->type == RAFT_IO_APPEND_ENTRIES && backing->ticker != NULL) {
        raft_ticker_heard(backing->ticker);
    }
    backing->recv(io, message);
}

static int io_start(struct raft_io *io,
                    unsigned interval_ms,
                    raft_io_tick_cb tick,
                    raft_io_recv_cb recv)
{
    struct raft_backing *backing = backing_of(io);
    uint64_t own_ms = 0;
    backing->tick = tick;
    backing->recv = recv;
    int r = backing->library_start(io, LIBRARY_TICK_MS, no_tick, on_recv);
    if (r != 0) {
        return r;
    }
    random_secret(&own_ms, sizeof(own_ms));
    backing->ticker = raft_ticker_open(backing->loop, interval_ms, own_ms % interval_ms,
                                       state_of, on_tick, backing);
    return backing->ticker != NULL ? 0 : RAFT_NOMEM;
}

/* ---- loading ---- */

/* The library changes what it finds, and drops what it cannot read. */
static int io_load(struct raft_io *io,
                   raft_term *ret_term,
                   raft_id *ret_vote,
                   struct raft_snapshot **ret_snapshot,
                   raft_index *ret_start,
                   struct raft_entry **ret_entries,
                   size_t *ret_count)
{
    struct raft_backing *backing = backing_of(io);
    struct err err = {0};
    int loaded = 0;
    int r = log_files_check(backing->folder, &err);
    if (r == 0) {
        loaded = backing->library_load(io, ret_term, ret_vote, ret_snapshot, ret_start,
                                       ret_entries, ret_count);
        r = loaded == 0 ? log_files_mark(backing->folder, &err) : 0;
    }
    if (r < 0) {
        (void)snprintf(io->errmsg, sizeof(io->errmsg), "%.*s", RAFT_ERRMSG_BUF_SIZE - 1,
                       err.text);
        return r == -ENOMEM          ? RAFT_NOMEM
               : r == BERTH_ECORRUPT ? RAFT_CORRUPT
                                     : RAFT_IOERR;
    }
    return loaded;
}

/* ---- closing the library's io ---- */

static void on_turn(uv_handle_t *handle)
{
    struct raft_backing *backing = handle->data;
    backing->turns_left--;
    if (backing->turns_left == 0) {
        backing->io_closed(&backing->io);
        return;
    }
    (void)uv_prepare_init(backing->loop, &backing->turn); /* cannot fail */
    uv_close(handle, on_turn);
}

/* libraft (seen in 0.15 to 0.18) says that it has closed while handles of the segment it
 * wrote last are still on their way to be closed: on a disk that finalizes the segment
 * faster than the loop closes handles. Their callbacks read the io's memory, and say it
 * once more. They have been given to the loop by now, but the loop calls back the newest
 * of a turn first: ours is behind them one turn later. */
static void on_library_closed(struct raft_io *io)
{
    struct raft_backing *backing = backing_of(io);
    if (backing->turns_left != 0) {
        return; /* once more */
    }
    backing->turns_left = CLOSING_TURNS;
    (void)uv_prepare_init(backing->loop, &backing->turn); /* cannot fail */
    backing->turn.data = backing;
    uv_close((uv_handle_t *)&backing->turn, on_turn);
}

static void io_close(struct raft_io *io, raft_io_close_cb done)
{
    struct raft_backing *backing = backing_of(io);
    backing->io_closed = done;
    backing->ticker = raft_ticker_close(backing->ticker);
    backing->library_close(io, on_library_closed);
}

/* ---- opening ---- */

static uint64_t read_number(const char *path)
{
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    return fd_read_file(AT_FDCWD, path, 64, &text, &size, NULL) < 0
               ? 0
               : strtoull((const char *)text, NULL, 10);
}

/* The library's word for a used-up limit is "resource temporarily unavailable": say
 * which. */
static int check_aio(struct err *err)
{
    uint64_t max = read_number("/proc/sys/fs/aio-max-nr");
    uint64_t used = read_number("/proc/sys/fs/aio-nr");
    long cpus = sysconf(_SC_NPROCESSORS_CONF);
    uint64_t needed = (uint64_t)(cpus > 0 ? cpus : 1) * AIO_EVENTS_PER_CPU * AIO_CONTEXTS;
    if (max != 0 && max < used + needed) {
        return err_set(
            err, BERTH_EFULL,
            "the kernel's limit on asynchronous I/O is used up: fs.aio-max-nr is %llu, "
            "%llu are in use, %llu more are needed",
            (unsigned long long)max, (unsigned long long)used,
            (unsigned long long)needed);
    }
    return 0;
}

static int check_folder(const char *folder, struct err *err)
{
    struct stat info;
    struct statvfs fs;
    if (strlen(folder) >= FOLDER_MAX) {
        return err_set(err, BERTH_EINVALID, "raft folder: the path is longer than %d",
                       FOLDER_MAX);
    }
    if (stat(folder, &info) < 0 || access(folder, R_OK | W_OK | X_OK) < 0) {
        return err_sys(err, -errno, "raft folder %s", folder);
    }
    if (!S_ISDIR(info.st_mode)) {
        return err_sys(err, -ENOTDIR, "raft folder %s", folder);
    }
    if (statvfs(folder, &fs) < 0) {
        return err_sys(err, -errno, "raft folder %s", folder);
    }
    if ((uint64_t)fs.f_bavail * fs.f_frsize < OPEN_SPACE_MIN) {
        return err_set(err, BERTH_EDISKFULL, "raft folder %s: less than %lluMiB free",
                       folder, (unsigned long long)(OPEN_SPACE_MIN >> 20));
    }
    return 0;
}

static int open_hub(struct raft_backing *backing,
                    const struct consensus_config *config,
                    struct err *err)
{
    struct channel_hub_config hub = {
        .loop = backing->loop,
        .id = config->id,
        .cluster_id = config->cluster_id,
        .address = config->address,
        .bind_address = config->bind_address,
        .secret_key = config->secret_key,
        .stall_ms = (uint64_t)config->election_ms * 2,
        .context = config->key_context,
        .peer_of = config->peer_of,
        .key_of = config->key_of,
        .name_of = config->name_of,
        .accepted = on_accepted,
        .accept_context = backing,
        .screened = true,
    };
    return channel_hub_open(&hub, &backing->hub, err);
}

static int open_io(struct raft_backing *backing, struct err *err)
{
    uint8_t jitter = 0;
    backing->transport = (struct raft_uv_transport){.impl = backing,
                                                    .init = transport_init,
                                                    .listen = transport_listen,
                                                    .connect = transport_connect,
                                                    .close = transport_close};
    raft_library_fit_transport(&backing->transport);
    int r =
        raft_uv_init(&backing->io, backing->loop, backing->folder, &backing->transport);
    if (r != 0) {
        return err_set(err, r == RAFT_NOMEM ? -ENOMEM : -EIO, "raft folder %s: %s",
                       backing->folder, backing->io.errmsg);
    }
    backing->io_ready = true;
    backing->library_start = backing->io.start;
    backing->io.start = io_start;
    backing->library_load = backing->io.load;
    backing->io.load = io_load;
    backing->library_close = backing->io.close;
    backing->io.close = io_close;
    random_secret(&jitter, sizeof(jitter));
    raft_uv_set_segment_size(&backing->io, log_space_segment());
    raft_uv_set_auto_recovery(&backing->io,
                              false); /* it would drop entries that were promised */
    /* A damaged one could be unpacked without an end. That turning it off may fail is for
     * the other way. */
    (void)raft_uv_set_snapshot_compression(&backing->io, false);
    raft_uv_set_connect_retry_delay(
        &backing->io, RETRY_MIN_MS + (unsigned)jitter * RETRY_JITTER_MS / 256);
    return 0;
}

static void ignore_abandoned(void *context)
{
    raft_backing_free(context);
}

int raft_backing_open(const struct consensus_config *config,
                      uv_loop_t *loop,
                      const struct raft *raft,
                      struct raft_backing **ret_backing,
                      struct err *err)
{
    int r = check_folder(config->folder, err);
    if (r == 0) {
        r = check_aio(err);
    }
    if (r < 0) {
        return r;
    }
    struct raft_backing *backing = calloc(1, sizeof(*backing));
    if (backing == NULL) {
        return err_sys(err, -ENOMEM, "raft folder %s", config->folder);
    }
    backing->loop = loop;
    backing->raft = raft;
    (void)snprintf(backing->folder, sizeof(backing->folder), "%s", config->folder);
    r = open_hub(backing, config, err);
    if (r == 0) {
        r = open_io(backing, err);
    }
    if (r < 0) {
        raft_backing_abandon(backing, ignore_abandoned, backing);
        return r;
    }
    *ret_backing = backing;
    return 0;
}

/* ---- closing ---- */

static void on_hub_closed(void *context)
{
    struct raft_backing *backing = context;
    backing->hub = NULL;
    backing->abandoned(backing->abandoned_context);
}

void raft_backing_abandon(struct raft_backing *backing,
                          void (*done)(void *context),
                          void *context)
{
    backing->abandoned = done;
    backing->abandoned_context = context;
    if (backing->hub != NULL) {
        channel_hub_close(backing->hub, on_hub_closed, backing);
    } else {
        done(context);
    }
}

struct raft_backing *raft_backing_free(struct raft_backing *backing)
{
    if (backing != NULL) {
        if (backing->io_ready) {
            raft_uv_close(&backing->io);
        }
        free(backing);
    }
    return NULL;
}

/* ---- asking ---- */

struct raft_io *raft_backing_io(struct raft_backing *backing)
{
    return &backing->io;
}

uint64_t raft_backing_free_bytes(const struct raft_backing *backing)
{
    struct statvfs fs;
    return statvfs(backing->folder, &fs) < 0 ? UINT64_MAX
                                             : (uint64_t)fs.f_bavail * fs.f_frsize;
}

const struct channel_counters *raft_backing_channels(const struct raft_backing *backing)
{
    static const struct channel_counters none;
    return backing->hub != NULL ? channel_hub_counters(backing->hub) : &none;
}

void raft_backing_drop_peer(struct raft_backing *backing, uint64_t id)
{
    if (backing->hub != NULL) {
        channel_hub_drop(backing->hub, id);
    }
}
