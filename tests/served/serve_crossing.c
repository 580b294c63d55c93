/* An exchange crosses from the host that is asked to the one that answers, as bytes. */
#include "api/api_problem.h"
#include "base/require.h"
#include "serve_internal.h"

#include <stdlib.h>

#define CROSSING_PIECE 32768u

struct crossing {
    struct served *served;
    struct exchange *asked; /* at the host that was asked */
    struct exchange *there; /* at the host that answers; borrowed: this is its sink */
    bool lost;              /* its end does not arrive: served_lose */
};

static void crossing_head(void *sink,
                          int status,
                          const char *content_type,
                          const struct exchange_header *headers,
                          unsigned header_count)
{
    struct crossing *crossing = sink;
    exchange_head(crossing->asked, status, content_type, headers, header_count);
}

/* In pieces, as over the mesh: nobody can read between them. */
static int crossing_data(void *sink, const void *data, size_t size)
{
    struct crossing *crossing = sink;
    const struct served_knobs *knobs = &crossing->served->knobs;
    for (size_t at = 0; at < size; at += CROSSING_PIECE) {
        size_t piece = size - at < CROSSING_PIECE ? size - at : CROSSING_PIECE;
        bool lost = knobs->lost_after != 0 && at + piece > knobs->lost_after;
        int r = lost ? BERTH_ECLOSED
                     : exchange_data(crossing->asked, (const char *)data + at, piece);
        if (r < 0 && at == 0 && !lost) {
            return r; /* the writer may wait for room */
        }
        if (r < 0) {
            crossing->lost = true;
            if (crossing->served->lost == NULL) {
                crossing->served->lost = exchange_ref(crossing->asked);
            }
            return BERTH_ECLOSED;
        }
    }
    return 0;
}

static void crossing_end(void *sink)
{
    struct crossing *crossing = sink;
    exchange_on_cancel(crossing->asked, NULL, NULL);
    if (!crossing->lost) {
        exchange_end(crossing->asked);
    }
}

static void crossing_released(void *sink)
{
    struct crossing *crossing = sink;
    exchange_on_cancel(crossing->asked, NULL, NULL);
    exchange_unref(crossing->asked);
    free(crossing);
}

static const struct exchange_sink crossing_sink = {.head = crossing_head,
                                                   .data = crossing_data,
                                                   .end = crossing_end,
                                                   .released = crossing_released};

static void crossing_cancelled(void *context)
{
    struct crossing *crossing = context;
    exchange_cancel(crossing->there);
}

static void crossing_input(void *context, const void *data, size_t size)
{
    struct crossing *crossing = context;
    exchange_input(crossing->there, data, size);
}

static void crossing_room(void *context)
{
    struct crossing *crossing = context;
    exchange_room(crossing->there);
}

static uint64_t forwarder_uid(const struct served *served)
{
    const char *name = served->knobs.forwarder;
    const struct host *host =
        state_get(served->state, KIND_HOST, "", name != NULL ? name : "h1");
    REQUIRE(host != NULL);
    return host->meta.uid;
}

void serve_forward(void *context, struct exchange *exchange)
{
    struct served *served = context;
    struct crossing *crossing = calloc(1, sizeof(*crossing));
    struct exchange_request request;
    uint8_t *data = NULL;
    size_t size = 0;
    REQUIRE(crossing != NULL);
    int r = exchange_request_encode(exchange_request(exchange), &data, &size);
    REQUIRE(r == 0);
    r = exchange_request_decode(data, size, &request);
    REQUIRE(r == 0);
    free(data);
    request.credentials.forwarder = forwarder_uid(served);
    crossing->served = served;
    crossing->asked = exchange_ref(exchange);
    crossing->there = exchange_new(&request, &crossing_sink, crossing);
    REQUIRE(crossing->there != NULL);
    exchange_on_cancel(exchange, crossing_cancelled, crossing);
    exchange_on_input(exchange, crossing_input, crossing);
    exchange_on_room(exchange, crossing_room, crossing);
    served->forwarded++;
    struct exchange *there = crossing->there;
    api_handle(served->api, there, true);
    exchange_unref(there);
}
