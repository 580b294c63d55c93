/* The routes: every method and path the API knows, in one table.
 *
 * Shapes: a pattern is a path with {plural}, {tenant}, {name} and {sha256} in it, its
 * last segment perhaps with an action (":scale"). routes_match finds the row and what the
 * placeholders stand for; the first row that fits wins. Threads: pure. Errors:
 * BERTH_ENOTFOUND (no such path), BERTH_EUNSUPPORTED (the path, but not the method;
 * `allow` is filled).
 */
#pragma once

#include "api/subject.h"

#include <stdbool.h>

struct api_call;

enum route_place {
    ROUTE_LEADER = 0, /* after a read barrier on the leader */
    ROUTE_LOG,        /* on the leader; the log confirms what is written, and a read
                         barrier whatever is answered without that */
    ROUTE_VOTER,      /* where the state is, as applied there */
    ROUTE_LOCAL,      /* on the host that was asked */
};

/* Who may, before the handler looks closer. */
enum route_access {
    ROUTE_OPEN = 0,       /* anybody */
    ROUTE_ANY,            /* whoever is known; the handler judges each object */
    ROUTE_OBJECT,         /* subject_may(verb, kind, tenant, name) */
    ROUTE_CLUSTER_VIEWER, /* a role in the cluster */
    ROUTE_CLUSTER_ADMIN,
    ROUTE_HOST,    /* admin of the cluster, or root of that host */
    ROUTE_CONSOLE, /* as an object, or root of the host that the VM is on */
    ROUTE_UPLOAD,  /* operator somewhere */
};

typedef void route_handler(struct api_call *call, const struct state *state);

struct route {
    const char *method; /* GET serves HEAD too, except for streams */
    const char *pattern;
    route_handler *handler;
    enum route_place place;
    enum route_access access;
    enum access_verb verb;
    enum kind kind;    /* KIND_NONE: by {plural} */
    bool stream;       /* no HEAD */
    bool body;         /* a JSON body is read before the handler runs */
    const char *query; /* parameters it knows, with blanks between; NULL: none */
};

struct route_target {
    enum kind kind;
    char tenant[NAME_SIZE]; /* "" when there is none in the path */
    char name[NAME_SIZE];   /* "" when there is none in the path */
    struct digest sha256;
};

#define ROUTE_ALLOW_SIZE 64

const struct route *routes_table(unsigned *ret_count);
int routes_match(const char *method,
                 const char *path,
                 const struct route **ret_route,
                 struct route_target *ret_target,
                 char ret_allow[ROUTE_ALLOW_SIZE]);
