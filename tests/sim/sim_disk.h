/* A machine's disk as the log sees it: what is durable, what is on its way, and what a
 * fault does to either.
 *
 * Shapes: durable are term and vote, a log of entries from `start` on, at most one
 * snapshot, and the seal's two blocks. Writes of the log wait in a queue and become
 * durable one after another; each ends in a callback. Term, vote and seal are written at
 * once. When the machine's process dies, a random part of what is on its way has made it
 * (the last entry of that part may be torn: then it has not, but something of it is
 * there). Faults: slow, failing or full for a while; the n-th write from now kills the
 * process before, in the middle or after it; a byte of something durable turns over.
 * Threads: one. Ownership: payloads are counted and shared. Units: bytes, ns.
 */
#pragma once

#include "base/list.h"
#include "sim_world.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_SEAL_SIZE 8192

struct raft_entry;
struct raft_configuration;

/* Bytes with a count. */
struct sim_blob {
    unsigned refs;
    size_t size;
    uint8_t data[];
};
struct sim_blob *sim_blob_new(const void *data, size_t size);
struct sim_blob *sim_blob_ref(struct sim_blob *blob);
void sim_blob_unref(struct sim_blob *blob);

struct sim_entry {
    uint64_t term;
    unsigned short type;
    uint64_t rotten; /* not 0: which of its bits has turned over */
    struct sim_blob *data;
};

struct sim_snapshot {
    uint64_t index; /* 0: none */
    uint64_t term;
    uint64_t members_index;
    struct sim_blob *members; /* encoded */
    struct sim_blob *data;
};

enum sim_write_kind { SIM_WRITE_APPEND = 0, SIM_WRITE_TRUNCATE, SIM_WRITE_SNAPSHOT };

struct sim_write {
    struct list link;
    enum sim_write_kind kind;
    struct sim_entry *entries; /* append */
    unsigned count;
    uint64_t index;               /* append: of the first; truncate: from here on */
    struct sim_snapshot snapshot; /* snapshot */
    unsigned trailing;
    int status;                                             /* what done will hear */
    void (*done)(void *context, void *request, int status); /* NULL: nobody listens */
    void *context;
    void *request;
};

enum sim_disk_death { SIM_DEATH_NONE = 0, SIM_DEATH_BEFORE, SIM_DEATH_AFTER };

struct sim_disk {
    struct world *world;
    /* durable */
    uint64_t term;
    uint64_t vote;
    uint64_t start; /* index of the first entry */
    struct sim_entry *log;
    size_t count;
    size_t capacity;
    struct sim_snapshot snapshot;
    uint8_t seal[SIM_SEAL_SIZE];
    bool has_seal;
    uint64_t torn; /* not 0: which part of a write a crash has left behind the log */
    /* on its way */
    struct list queue; /* struct sim_write */
    bool busy;
    uint64_t life; /* of the queue: a stale completion is dropped */
    /* faults */
    uint64_t slow_ns; /* more for each write */
    uint64_t free_bytes;
    unsigned fail_writes; /* so many from now end in an error */
    int fail_status;
    unsigned death_in; /* the so-manieth write from now kills; 0: none */
    enum sim_disk_death death;
    bool lies; /* says "durable" at once (a seeded fault) */
    uint64_t writes;
    void (*die)(void *context);
    void *die_context;
};

void sim_disk_init(struct sim_disk *disk, struct world *world);
void sim_disk_fini(struct sim_disk *disk);

uint64_t sim_disk_last_index(const struct sim_disk *disk);
/* Takes the write over; its done runs later, never inside the call. */
void sim_disk_write(struct sim_disk *disk, struct sim_write *take_write);
/* A write that is done at once: true when it may be carried out, and then it is durable.
 * ret_alive false: the process dies with it. */
bool sim_disk_write_now(struct sim_disk *disk, bool *ret_alive);
/* How long one write takes, by chance. */
uint64_t sim_disk_duration_ns(struct sim_disk *disk);
/* Nobody waits for what is on its way any more; it goes on. */
void sim_disk_orphan(struct sim_disk *disk);
/* The process (or the machine) has died: part of what is on its way is durable, the rest
 * is gone. */
void sim_disk_crash(struct sim_disk *disk);
/* Entries from index on vanish, as after a lost flush. */
void sim_disk_lose_tail(struct sim_disk *disk, uint64_t from);
/* For an empty disk: an entry that is durable from the beginning. */
void sim_disk_format_entry(struct sim_disk *disk,
                           uint64_t term,
                           unsigned short type,
                           const void *data,
                           size_t size);
void sim_snapshot_fini(struct sim_snapshot *snapshot);
