#include "base/clock.h"
#include "base/loop.h"
#include "base/require.h"
#include "scheduler/scheduler.h"
#include "serve_internal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMAGES_MAX (64 * MIB) /* small, so that tests can pass it */
#define PORT_TRIES 50

static void observe(void *context, const struct change *change)
{
    struct served *served = context;
    feed_push(served->feed, change);
}

void serve_apply(struct served *served,
                 struct command *command,
                 struct apply_result *ret_result)
{
    if (command->wall_ms == 0) {
        command->wall_ms = clock_wall_ms(clock_system());
    }
    state_apply(served->state, command, ret_result);
    command_fini(command);
}

/* ---- later ---- */

void serve_later_in(struct served *served, struct list *list, const struct later *what)
{
    struct later *later = malloc(sizeof(*later));
    REQUIRE(later != NULL);
    *later = *what;
    later->served = served;
    list_push_back(list, &later->link);
}

void serve_later(struct served *served, const struct later *what)
{
    serve_later_in(served, &served->laters, what);
    loop_post_send(served->post);
}

void serve_slow(struct served *served)
{
    list_move_all(&served->laters, &served->slow);
    served->slow_count = 0;
    loop_post_send(served->post);
}

/* What they add has its turn later. */
static void run_laters(struct list *list)
{
    struct list ready;
    list_init(&ready);
    list_move_all(&ready, list);
    LIST_EACH_SAFE (item, &ready) {
        struct later *later = LIST_ITEM(item, struct later, link);
        list_remove(item);
        later->fn(later);
        free(later);
    }
}

static void on_post(void *context)
{
    struct served *served = context;
    run_laters(&served->laters);
    (void)pthread_mutex_lock(&served->lock);
    void (*asked)(struct served * served, void *context) = served->asked;
    void *asked_context = served->asked_context;
    (void)pthread_mutex_unlock(&served->lock);
    if (asked != NULL) {
        uint64_t revision = state_revision(served->state);
        asked(served, asked_context);
        if (!served->stopping && state_revision(served->state) != revision) {
            api_feed_changed(served->api);
            serve_world_turn(served);
        }
        (void)pthread_mutex_lock(&served->lock);
        served->asked = NULL;
        (void)pthread_cond_signal(&served->changed);
        (void)pthread_mutex_unlock(&served->lock);
    }
}

/* ---- life ---- */

static struct http_server *listen_somewhere(struct served *served, struct err *err)
{
    struct http_server *server = NULL;
    struct http_server_config config = {.socket_path = served->socket_path,
                                        .key_pem = served->tls.key_pem,
                                        .certificate_pem = served->tls.certificate_pem,
                                        .request_ms = served->config.request_ms,
                                        .held_max = served->config.held_max};
    bool front = served->config.front;
    char address[32];
    for (unsigned i = 0; i < PORT_TRIES && server == NULL; i++) {
        served->port = (uint16_t)(20000 + random() % 12000);
        (void)snprintf(address, sizeof(address), "127.0.0.1:%u", served->port);
        config.listen_address = served->config.tls ? address : NULL;
        if (http_server_open(&served->loop, front ? served->front_api : served->api,
                             front ? &served->front : &served->control, &config, &server,
                             err) < 0) {
            (void)uv_run(&served->loop, UV_RUN_NOWAIT); /* what was half open closes */
        }
    }
    return server;
}

static void open_all(struct served *served)
{
    struct err err = {0};
    char folder[sizeof(served->folder) + 8];
    const struct image_limits limits = {.cache_bytes = IMAGES_MAX};
    int r = uv_loop_init(&served->loop);
    REQUIRE(r == 0);
    served->feed = feed_new(0);
    served->state = state_new(observe, served);
    served->scheduler = scheduler_new();
    served->post = loop_post_new(&served->loop, on_post, served);
    (void)snprintf(folder, sizeof(folder), "%s/images", served->folder);
    r = image_store_open(&served->loop, folder, &limits, &served->images, &err);
    if (r == 0 && served->config.tls) {
        r = tls_identity_open(served->folder, "h1", 0x7f000001,
                              clock_wall_ms(clock_system()), &served->tls, &err);
    }
    serve_plane_make(served);
    served->api = api_new(&served->loop, &served->control);
    served->front_api = api_new(&served->loop, &served->front);
    if (r == 0) {
        srandom((unsigned)clock_now_ns(clock_system()));
        served->server = listen_somewhere(served, &err);
    }
    if (served->server == NULL) {
        fprintf(stderr, "served: %s\n", err.text);
        abort();
    }
    serve_cluster_make(served);
    served->heartbeat = loop_timer_new(&served->loop, 200, 200, serve_heartbeats, served);
}

static void close_all(struct served *served)
{
    served->heartbeat = loop_timer_close(served->heartbeat);
    http_server_close(served->server);
    served->api = api_free(served->api);
    served->front_api = api_free(served->front_api);
    served->images = image_store_close(served->images);
    run_laters(&served->laters);
    run_laters(&served->slow);
    run_laters(&served->held);
    run_laters(&served->held_reads);
    served->post = loop_post_close(served->post);
}

static void *thread_main(void *context)
{
    struct served *served = context;
    open_all(served);
    (void)pthread_mutex_lock(&served->lock);
    served->started = true;
    (void)pthread_cond_signal(&served->changed);
    (void)pthread_mutex_unlock(&served->lock);
    (void)uv_run(&served->loop, UV_RUN_DEFAULT);
    int r = uv_loop_close(&served->loop);
    REQUIRE(r == 0);
    served->scheduler = scheduler_free(served->scheduler);
    served->state = state_free(served->state);
    served->feed = feed_free(served->feed);
    tls_identity_fini(&served->tls);
    return NULL;
}

struct served *served_start(const char *folder, const struct served_config *config)
{
    struct served *served = calloc(1, sizeof(*served));
    REQUIRE(served != NULL);
    served->config = config != NULL ? *config : (struct served_config){0};
    served->knobs.phase_last = PHASE_READY;
    (void)signal(SIGPIPE, SIG_IGN); /* as the daemon does */
    list_init(&served->laters);
    list_init(&served->slow);
    list_init(&served->held);
    list_init(&served->held_reads);
    (void)snprintf(served->folder, sizeof(served->folder), "%s", folder);
    (void)snprintf(served->socket_path, sizeof(served->socket_path), "%s/berthd.sock",
                   folder);
    int r = pthread_mutex_init(&served->lock, NULL);
    r = r == 0 ? pthread_cond_init(&served->changed, NULL) : r;
    r = r == 0 ? pthread_create(&served->thread, NULL, thread_main, served) : r;
    REQUIRE(r == 0);
    (void)pthread_mutex_lock(&served->lock);
    while (!served->started) {
        (void)pthread_cond_wait(&served->changed, &served->lock);
    }
    (void)pthread_mutex_unlock(&served->lock);
    return served;
}

static void stop(struct served *served, void *context)
{
    (void)context;
    served->stopping = true;
    close_all(served);
}

void served_stop(struct served *served)
{
    if (served == NULL) {
        return;
    }
    served_do(served, stop, NULL);
    (void)pthread_join(served->thread, NULL);
    (void)pthread_cond_destroy(&served->changed);
    (void)pthread_mutex_destroy(&served->lock);
    free(served);
}

void served_do(struct served *served,
               void (*fn)(struct served *served, void *context),
               void *context)
{
    (void)pthread_mutex_lock(&served->lock);
    served->asked_context = context;
    served->asked = fn;
    /* Under the lock: a turn that something else has asked for may do it at once, and
     * what it does may close the post. */
    loop_post_send(served->post);
    while (served->asked != NULL) {
        (void)pthread_cond_wait(&served->changed, &served->lock);
    }
    (void)pthread_mutex_unlock(&served->lock);
}

/* ---- what tests ask ---- */

const char *served_socket(const struct served *served)
{
    return served->socket_path;
}

uint16_t served_port(const struct served *served)
{
    return served->port;
}

const char *served_pin(const struct served *served)
{
    return served->tls.pin;
}

struct served_knobs *served_knobs(struct served *served)
{
    return &served->knobs;
}

struct state *served_state(struct served *served)
{
    return served->state;
}

void served_reset(struct served *served)
{
    feed_reset(served->feed, state_revision(served->state));
    api_feed_reset(served->api);
}

void served_arrives(struct served *served, struct exchange *exchange)
{
    api_handle(served->api, exchange, true);
}

void served_lose(struct served *served)
{
    REQUIRE(served->lost != NULL);
    exchange_end(served->lost);
    served->lost = exchange_unref(served->lost);
}

static void require_inside(const struct served *served)
{
    REQUIRE(pthread_equal(pthread_self(), served->thread));
}

unsigned served_rounds(const struct served *served)
{
    require_inside(served);
    return served->rounds;
}

unsigned served_slow_proposals(const struct served *served)
{
    require_inside(served);
    return served->slow_count;
}

void served_log_goes_on(struct served *served)
{
    served->knobs.slow_proposals = false;
    serve_slow(served);
}

void served_reads_go_on(struct served *served)
{
    served->knobs.hold_reads = false;
    list_move_all(&served->laters, &served->held_reads);
    loop_post_send(served->post);
}

unsigned served_forwarded(const struct served *served)
{
    require_inside(served);
    return served->forwarded;
}

unsigned served_forecasts(const struct served *served)
{
    require_inside(served);
    return served->forecasts;
}

unsigned served_held_consoles(const struct served *served)
{
    require_inside(served);
    return served->held_consoles;
}

struct applying {
    struct command *command;
    struct apply_result result;
};

static void do_apply(struct served *served, void *context)
{
    struct applying *applying = context;
    serve_apply(served, applying->command, &applying->result);
}

struct apply_result served_apply(struct served *served, struct command *take_command)
{
    struct applying applying = {.command = take_command};
    served_do(served, do_apply, &applying);
    return applying.result;
}

void served_token(struct served *served,
                  const char *name,
                  const char *secret,
                  enum role role_of_it,
                  const char *tenant,
                  uint64_t expires_wall_ms)
{
    struct command command;
    struct token *token = serve_make(KIND_TOKEN, "", name);
    token->spec.role = role_of_it;
    (void)snprintf(token->spec.tenant, NAME_SIZE, "%s", tenant);
    token->spec.expires_wall_ms = expires_wall_ms;
    digest_of(secret, strlen(secret), &token->spec.hash);
    command_init(&command, COMMAND_PUT);
    int r = command_set_put(&command, KIND_TOKEN, token, REVISION_ANY);
    object_free(KIND_TOKEN, token);
    REQUIRE(r == 0);
    struct apply_result result = served_apply(served, &command);
    REQUIRE(result.code == 0);
}

struct admitting {
    const char *prefix;
    unsigned count;
};

static void do_admit(struct served *served, void *context)
{
    const struct admitting *admitting = context;
    for (unsigned i = 0; i < admitting->count; i++) {
        struct command command;
        command_init(&command, COMMAND_ADMIT_VM);
        struct cmd_admit_vm *body = &command.body.admit_vm;
        (void)snprintf(body->tenant, NAME_SIZE, "%s", DEFAULT_TENANT);
        (void)snprintf(body->name, NAME_SIZE, "%.40s-%05u", admitting->prefix, i);
        (void)snprintf(body->template_name, NAME_SIZE, "plain");
        serve_must_apply(served, &command);
    }
}

void served_vms(struct served *served, const char *prefix, unsigned count)
{
    struct admitting admitting = {.prefix = prefix, .count = count};
    served_do(served, do_admit, &admitting);
}
