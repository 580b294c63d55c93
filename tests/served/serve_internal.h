/* The inside of a served API (support/served_api.h), for serve*.c only.
 *
 * Shapes: struct served; struct later, which is what the loop does at its next turn.
 * Files: serve.c (life, and what tests ask), serve_plane.c (what the API asks of this
 * host), serve_crossing.c (the way between two hosts), serve_cluster.c (hosts that are
 * played, and the cluster it begins with). Threads: the loop's, but for what says
 * otherwise. Errors: abort.
 */
#pragma once

#include "agent/image_store.h"
#include "agent/tls_identity.h"
#include "api/http_server.h"
#include "base/list.h"
#include "model/feed.h"
#include "support/served_api.h"

#include <uv.h>

#include <pthread.h>

/* One thing that is done at the loop's next turn. */
struct later {
    struct list link;
    void (*fn)(struct later *later);
    struct served *served;
    struct command command;
    struct err refusal; /* of a command that is none of the cluster's level */
    uint32_t index;
    void (*proposed)(void *context,
                     uint32_t index,
                     int code,
                     const struct apply_result *result);
    control_readable *readable;
    void *context;
};

struct served {
    struct served_knobs knobs;
    struct served_config config;
    char folder[256];
    char socket_path[300];
    uint16_t port;
    uv_loop_t loop;
    struct state *state;
    struct feed *feed;
    struct scheduler *scheduler;
    struct image_store *images;
    struct tls_identity tls;
    struct control_plane control; /* of the host that leads */
    struct control_plane front;   /* of the one that does not */
    struct api *api;
    struct api *front_api;
    struct http_server *server;
    struct list laters;
    struct list held; /* what the knobs keep from being answered, until the end */
    struct list held_reads;
    struct list slow; /* what the log has not got to yet */
    unsigned slow_count;
    unsigned rounds;
    struct loop_post *post;
    struct loop_timer *heartbeat;
    unsigned forwarded;
    unsigned held_consoles;
    unsigned forecasts;
    struct exchange *lost; /* the first one whose answer came in part */
    /* the test's thread asks */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*asked)(struct served *served, void *context); /* under lock, likewise below */
    void *asked_context;
    bool started;
    bool stopping;
};

/* ---- serve.c ---- */
/* Does it at the loop's next turn; copies. Takes the command in it. */
void serve_later(struct served *served, const struct later *what);
/* Into a list of things to be done another time. */
void serve_later_in(struct served *served, struct list *list, const struct later *what);
/* What the log has not got to yet is for its next turn, before anything else. */
void serve_slow(struct served *served);
/* Consumes the command. */
void serve_apply(struct served *served,
                 struct command *command,
                 struct apply_result *ret_result);

/* ---- serve_plane.c ---- */
void serve_plane_make(struct served *served);

/* ---- serve_crossing.c ---- */
/* control_plane.forward of the host that does not lead. */
void serve_forward(void *context, struct exchange *exchange);

/* ---- serve_cluster.c ---- */
/* Three hosts, an image and a template; the scheduler leads. */
void serve_cluster_make(struct served *served);
/* The hosts are heard, and the world turns; a timer's function. */
void serve_heartbeats(void *context);
/* Agents and scheduler take a step, and another while anything moves. */
void serve_world_turn(struct served *served);
/* Consumes the command. */
void serve_must_apply(struct served *served, struct command *command);
/* A new object of that name; the caller's. */
void *serve_make(enum kind kind, const char *tenant, const char *name);
