/* The mesh over loopback with CURVE: round trips per second and their latency, one-way
 * control messages per second, bulk MB/s, and round trips while bulk runs. Two meshes in
 * one process on one loop, so a host's own share is about half of what is measured.
 *
 * Usage: net_mesh_bench [seconds per part, default 3]
 */
#include "net/mesh.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_PING = MESH_TYPE_USER_MIN, TYPE_PONG, TYPE_NOTE, TYPE_CHUNK };

#define CHUNK_SIZE   (256 * 1024)
#define CHUNK_WINDOW 8
#define SAMPLES_MAX  (1 << 20)

struct side {
    struct mesh *mesh;
    const struct side *peer;
    struct mesh_key secret;
    bool up;
};

static struct side sides[2];
static uv_loop_t loop;
static bool pinging;
static bool noting;
static bool chunking;
static uint64_t ping_ns;
static double samples_us[SAMPLES_MAX];
static size_t sample_count;
static uint64_t note_count;
static uint64_t chunk_count;

static void
send_to_peer(struct side *side, enum mesh_lane lane, uint16_t type, size_t size)
{
    static char body[CHUNK_SIZE];
    (void)mesh_send(side->mesh, mesh_public_key(side->peer->mesh), lane, type, body,
                    size);
}

static void notes_send(void)
{
    char body[64] = {0};
    while (noting && mesh_send(sides[0].mesh, mesh_public_key(sides[1].mesh),
                               MESH_CONTROL, TYPE_NOTE, body, sizeof(body)) == 0) {
    }
}

static void ping_send(void)
{
    ping_ns = uv_hrtime();
    send_to_peer(&sides[0], MESH_CONTROL, TYPE_PING, 64);
}

static void on_message(void *context,
                       const struct mesh_peer_id *from,
                       uint16_t type,
                       const void *body,
                       size_t size)
{
    struct side *side = context;
    (void)from;
    (void)body;
    switch (type) {
    case TYPE_PING:
        send_to_peer(side, MESH_CONTROL, TYPE_PONG, size);
        break;
    case TYPE_PONG:
        if (sample_count < SAMPLES_MAX) {
            samples_us[sample_count++] = (double)(uv_hrtime() - ping_ns) / 1000.0;
        }
        if (pinging) {
            ping_send();
        }
        break;
    case TYPE_CHUNK:
        chunk_count++;
        if (chunking) {
            send_to_peer(&sides[0], MESH_BULK, TYPE_CHUNK,
                         CHUNK_SIZE); /* a credit back */
        }
        break;
    default:
        note_count++;
        break;
    }
}

static void on_up(void *context, const struct mesh_peer_id *peer)
{
    (void)peer;
    ((struct side *)context)->up = true;
}

static void on_room(void *context, const struct mesh_peer_id *peer, enum mesh_lane lane)
{
    (void)context;
    (void)peer;
    (void)lane;
    notes_send();
}

static void timer_fired(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

static double run_for(double seconds)
{
    static uv_timer_t timer;
    bool fired = false;
    if (!timer.loop) {
        uv_timer_init(&loop, &timer);
    }
    timer.data = &fired;
    const uint64_t start_ns = uv_hrtime();
    uv_timer_start(&timer, timer_fired, (uint64_t)(seconds * 1000), 0);
    while (!fired) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    return (double)(uv_hrtime() - start_ns) / 1e9;
}

static int sample_compare(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void pings_print(const char *what, double seconds)
{
    qsort(samples_us, sample_count, sizeof(samples_us[0]), sample_compare);
    if (sample_count == 0) {
        printf("%-28s none\n", what);
        return;
    }
    printf("%-28s %9.0f /s   p50 %.0f us  p99 %.0f us  max %.0f us\n", what,
           (double)sample_count / seconds, samples_us[sample_count / 2],
           samples_us[sample_count * 99 / 100], samples_us[sample_count - 1]);
}

static void pings_measure(const char *what, double seconds)
{
    sample_count = 0;
    pinging = true;
    ping_send();
    const double took = run_for(seconds);
    pinging = false;
    pings_print(what, took);
    (void)run_for(0.2); /* the last one comes home */
}

static int sides_open(void)
{
    const struct mesh_events events = {
        .on_message = on_message, .on_peer_up = on_up, .on_peer_room = on_room};
    struct mesh_key keys[2];
    struct err err = {0};
    for (unsigned i = 0; i < 2; i++) {
        mesh_key_generate(&sides[i].secret);
        const struct mesh_config config = {.secret_key = sides[i].secret,
                                           .bind = "127.0.0.1:0"};
        sides[i].peer = &sides[1 - i];
        sides[i].mesh = mesh_open(&loop, &config, &events, &sides[i], &err);
        if (!sides[i].mesh) {
            (void)fprintf(stderr, "%s\n", err.text);
            return -1;
        }
        keys[i] = *mesh_public_key(sides[i].mesh);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (mesh_members_set(sides[i].mesh, keys, 2, &err)) {
            (void)fprintf(stderr, "%s\n", err.text);
            return -1;
        }
    }
    return mesh_peer_add(sides[0].mesh, &keys[1], mesh_bind_address(sides[1].mesh), &err);
}

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? strtod(argv[1], NULL) : 3;
    uv_loop_init(&loop);
    if (sides_open()) {
        return 1;
    }
    while (!sides[0].up || !sides[1].up) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    pings_measure("round trips, one at a time", seconds);

    noting = true;
    notes_send();
    double took = run_for(seconds);
    noting = false;
    printf("%-28s %9.0f /s\n", "messages one way, 64 bytes", (double)note_count / took);
    (void)run_for(0.5);

    chunking = true;
    for (unsigned i = 0; i < CHUNK_WINDOW; i++) {
        send_to_peer(&sides[0], MESH_BULK, TYPE_CHUNK, CHUNK_SIZE);
    }
    took = run_for(seconds);
    printf("%-28s %9.0f MB/s   (%d KiB chunks, %d in flight)\n", "bulk one way",
           (double)chunk_count * CHUNK_SIZE / 1e6 / took, CHUNK_SIZE / 1024,
           CHUNK_WINDOW);
    pings_measure("round trips beside bulk", seconds);
    chunking = false;

    struct mesh_stats stats;
    mesh_stats_get(sides[1].mesh, &stats);
    printf("receiver dropped: %llu malformed, %llu out of order, %llu inbox\n",
           (unsigned long long)stats.dropped_malformed,
           (unsigned long long)stats.dropped_order,
           (unsigned long long)stats.dropped_inbox);
    mesh_close(sides[0].mesh, NULL, NULL);
    mesh_close(sides[1].mesh, NULL, NULL);
    (void)run_for(0.5);
    return 0;
}
