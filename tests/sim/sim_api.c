/* The API of a voter, as far as watches go: the real one, whose answers travel as
 * packets.
 *
 * A stream is one watch of one client. What the API says of it goes out piece by piece,
 * numbered, so that its client notices a loss; a few pieces may be under way at a time,
 * and then the API has to wait, as for a slow reader.
 */
#include "api/exchange.h"
#include "api/router.h"
#include "base/loop.h"
#include "base/require.h"
#include "sim.h"
#include "sim_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW 12 /* pieces under way */

struct stream {
    struct list link; /* in the process; removed when the API is through with it */
    struct sim_process *process;
    struct exchange *exchange;
    unsigned watcher;
    uint64_t connection;
    uint64_t sent, acked; /* pieces */
};

/* ---- what the API asks of the control plane ---- */

static void role(void *context, struct control_role *ret_role)
{
    const struct sim_process *process = context;
    *ret_role = (struct control_role){.leader = sim_process_leads(process),
                                      .voter = sim_host_has_part(process),
                                      .host_name = process->identity.name,
                                      .leader_name = ""};
}

static const struct state *state(void *context)
{
    const struct sim_process *process = context;
    return process->control != NULL ? control_state(process->control) : NULL;
}

static const struct feed *feed(void *context)
{
    const struct sim_process *process = context;
    return process->control != NULL ? control_feed(process->control) : NULL;
}

static json_t *vm_live(void *context, const struct vm *vm)
{
    (void)context;
    (void)vm;
    return NULL;
}

static json_t *host_live(void *context, const struct host *host)
{
    (void)context;
    (void)host;
    return NULL;
}

static bool
vm_waits(void *context, const struct vm *vm, unsigned *looks, char *ret_text, size_t size)
{
    (void)context;
    (void)vm;
    (void)looks;
    (void)ret_text;
    (void)size;
    return false;
}

static bool vm_lacks(void *context,
                     const struct vm *vm,
                     char ret_missing[NAME_SIZE],
                     char *ret_text,
                     size_t size)
{
    (void)context;
    (void)vm;
    (void)ret_missing;
    (void)ret_text;
    (void)size;
    return false;
}

static void forward(void *context, struct exchange *exchange)
{
    (void)context;
    exchange_end(exchange); /* asked of a host without a log: ask another one */
}

/* ---- a stream ---- */

static void say(struct stream *stream, bool end, const void *data, size_t size)
{
    struct sim_process *process = stream->process;
    if (!process->doomed) {
        sim_watch_piece(process, stream->watcher, stream->connection, stream->sent++, end,
                        data, size);
    }
}

static void sink_head(void *sink,
                      int status,
                      const char *content_type,
                      const struct exchange_header *headers,
                      unsigned header_count)
{
    (void)sink; /* what is no stream ends at once */
    (void)status;
    (void)content_type;
    (void)headers;
    (void)header_count;
}

static int sink_data(void *sink, const void *data, size_t size)
{
    struct stream *stream = sink;
    if (stream->sent - stream->acked >= WINDOW) {
        return BERTH_EFULL;
    }
    say(stream, false, data, size);
    return 0;
}

static void sink_end(void *sink)
{
    say(sink, true, NULL, 0);
}

static void sink_released(void *sink)
{
    struct stream *stream = sink;
    list_remove(&stream->link);
    free(stream);
}

static const struct exchange_sink sink_ops = {.head = sink_head,
                                              .data = sink_data,
                                              .end = sink_end,
                                              .released = sink_released};

static struct stream *
find(struct sim_process *process, unsigned watcher, uint64_t connection)
{
    LIST_EACH (link, &process->streams) {
        struct stream *stream = LIST_ITEM(link, struct stream, link);
        if (stream->watcher == watcher && stream->connection == connection) {
            return stream;
        }
    }
    return NULL;
}

void sim_api_watch(struct sim_process *process,
                   unsigned watcher,
                   uint64_t connection,
                   const char *query,
                   uint64_t last_id)
{
    struct exchange_request request = {.method = "GET",
                                       .path = strdup("/v1/watch"),
                                       .query = strdup(query),
                                       .credentials = {.local_root = true}};
    char id[24];
    if (process->api == NULL || find(process, watcher, connection) != NULL) {
        exchange_request_fini(&request);
        return;
    }
    if (last_id != 0) {
        (void)snprintf(id, sizeof(id), "%llu", (unsigned long long)last_id);
        request.last_event_id = strdup(id);
    }
    struct stream *stream = calloc(1, sizeof(*stream));
    REQUIRE(stream != NULL);
    *stream =
        (struct stream){.process = process, .watcher = watcher, .connection = connection};
    list_push_back(&process->streams, &stream->link);
    stream->exchange = exchange_new(&request, &sink_ops, stream);
    REQUIRE(stream->exchange != NULL);
    struct exchange *exchange = stream->exchange;
    api_handle(process->api, exchange, false);
}

void sim_api_taken(struct sim_process *process,
                   unsigned watcher,
                   uint64_t connection,
                   uint64_t pieces)
{
    struct stream *stream = find(process, watcher, connection);
    if (stream != NULL && pieces > stream->acked) {
        stream->acked = pieces;
        exchange_room(stream->exchange);
    }
}

static void drop(struct stream *stream)
{
    struct exchange *exchange = stream->exchange;
    exchange_cancel(exchange);
    exchange_unref(exchange);
}

void sim_api_leave(struct sim_process *process, unsigned watcher, uint64_t connection)
{
    struct stream *stream = find(process, watcher, connection);
    if (stream != NULL) {
        drop(stream);
    }
}

/* ---- as berthd wires it ---- */

static void on_feed(void *context)
{
    const struct sim_process *process = context;
    api_feed_changed(process->api);
}

void sim_api_prepare(struct sim_process *process)
{
    list_init(&process->streams);
}

void sim_api_open(struct sim_process *process)
{
    uv_loop_t *loop = (uv_loop_t *)(void *)process;
    process->plane = (struct control_plane){.context = process,
                                            .role = role,
                                            .state = state,
                                            .feed = feed,
                                            .vm_live = vm_live,
                                            .host_live = host_live,
                                            .vm_waits = vm_waits,
                                            .vm_lacks = vm_lacks,
                                            .forward = forward};
    process->api = api_new(loop, &process->plane);
    process->feed_post = loop_post_new(loop, on_feed, process);
    REQUIRE(process->api != NULL);
}

void sim_api_changed(struct sim_process *process)
{
    if (process->feed_post != NULL) {
        loop_post_send(process->feed_post);
    }
}

void sim_api_reset(struct sim_process *process)
{
    if (process->api != NULL) {
        api_feed_reset(process->api);
    }
}

void sim_api_close(struct sim_process *process)
{
    process->feed_post = loop_post_close(process->feed_post);
    process->api = process->api != NULL ? api_free(process->api) : NULL;
    LIST_EACH_SAFE (link, &process->streams) {
        drop(LIST_ITEM(link, struct stream, link));
    }
}
