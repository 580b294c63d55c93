/* Clients of a rack under faults: they write, read and watch objects and have VMs, and
 * note all of it (chaos_history.h).
 *
 * Shapes: writers put values into a few templates, some on condition of what they have
 * read (If-Match); readers read them; watches follow templates, groups and VMs, leave and
 * come back elsewhere; users make, stop, start and delete VMs and scale a group. Each has
 * a thread, a token and a wire of its own. A request that got no clear answer is
 * repeated, at any host, with its Idempotency-Key. When stdin ends so do the faults: from
 * then on everything that is wanted has to become true (chaos_settle.h). Errors: REQUIRE.
 */
#pragma once

#include "base/random.h"
#include "chaos_history.h"
#include "chaos_http.h"

#include <pthread.h>
#include <stdatomic.h>

#define CHAOS_WRITERS    4
#define CHAOS_READERS    2
#define CHAOS_WATCHES    3
#define CHAOS_USERS      3
#define CHAOS_REGISTERS  6
#define CHAOS_VMS_MAX    4 /* of a user */
#define CHAOS_CLIENTS    (CHAOS_WRITERS + CHAOS_READERS + CHAOS_WATCHES + CHAOS_USERS + 1)
#define CHAOS_TOKEN_SIZE 128

struct chaos_load {
    struct chaos_rack rack;
    char tokens[CHAOS_CLIENTS][CHAOS_TOKEN_SIZE];
    uint64_t seed;
    FILE *history;
    atomic_bool over;         /* no new requests */
    atomic_bool settled;      /* watches end, too */
    atomic_uint acknowledged; /* writes */
};

/* What a user of VMs wants to be so, by what it was told: read once it has ended. */
enum chaos_wish { WISH_NONE = 0, WISH_GONE, WISH_STOPPED, WISH_RUNNING };

struct chaos_client {
    struct chaos_load *load;
    struct chaos_wire *wire;
    struct random random;
    pthread_t thread;
    unsigned actor;
    uint64_t count; /* of its requests, for keys and values */
    enum chaos_wish wishes[CHAOS_VMS_MAX];
    unsigned replicas; /* of its group */
    /* a watch's */
    _Atomic uint64_t reached; /* behind this revision */
};

uint64_t chaos_now_ns(void);
void chaos_pause_ms(uint64_t ms);
/* A host by chance. */
unsigned chaos_any_host(struct chaos_client *client);
/* Puts a value into a register and notes it. OK with the revision, or how it ended. */
enum record_outcome chaos_write(struct chaos_client *client, unsigned index);
/* Reads a register, and notes it; 0 when nothing came. */
uint64_t chaos_read(struct chaos_client *client, unsigned index);
/* The main part of each kind of client, on its thread. */
void *chaos_write_on(void *client);
void *chaos_read_on(void *client);
void *chaos_watch_on(void *client);
void *chaos_use_on(void *client);
