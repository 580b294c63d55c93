/* The hosts as the scheduler sees them while it decides: committed use plus what this
 * step has decided.
 *
 * Shapes: structure of arrays, one dense index per host; `uid` ascending, so that equal
 * inputs give equal decisions. overlay_sync rebuilds from the state when it has moved and
 * else only drops the speculative part: it looks at hosts, never at VMs. overlay_take and
 * overlay_address change the speculative part; overlay_undo takes back everything since a
 * mark. Units: millicores, bytes; free values may be negative (an overbooked host).
 * Threads: one. Ownership: host pointers are borrowed from the state and valid for the
 * step. Errors: -ENOMEM.
 */
#pragma once

#include "model/state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct overlay {
    const struct state *state; /* it was built from; NULL: never built */
    uint64_t revision;
    uint32_t count;
    uint32_t capacity;
    const struct host **hosts;
    int64_t *free_mcpu;
    int64_t *free_bytes;
    int64_t *cap_mcpu; /* with overcommit */
    int64_t *cap_bytes;
    int64_t *free_pool; /* of huge pages */
    int64_t *cap_pool;
    int64_t *free_disk; /* INT64_MAX: not known how much there is */
    int64_t *cap_disk;
    double *cpu_unit; /* 1 / cap, for scores */
    double *byte_unit;
    uint32_t *vms;
    struct u64_map *index; /* host uid -> index + 1 */
    struct overlay_change *changes;
    uint32_t change_count;
    uint32_t change_capacity;
};

/* One speculative change, for undo. */
struct overlay_change {
    uint32_t host; /* index; UINT32_MAX: an address or a network's host entry */
    int64_t mcpu;
    int64_t bytes;
    int64_t pool;
    int64_t disk;
    uint32_t vms;
    uint64_t group;        /* uid of the VM's group, 0: none */
    uint64_t network;      /* uid */
    uint64_t network_host; /* host uid: an address of its own in the network */
    uint32_t ipv4;
};

void overlay_init(struct overlay *overlay);
void overlay_fini(struct overlay *overlay);
int overlay_sync(struct overlay *overlay, const struct state *state);
/* The next sync rebuilds, whatever the revision. */
void overlay_forget(struct overlay *overlay);

/* Index of a host, or -1 when there is none. */
int64_t overlay_index(const struct overlay *overlay, uint64_t host);
/* A VM of this size (and group, 0 for none) goes to the host at index. */
int overlay_take(struct overlay *overlay,
                 uint32_t index,
                 const struct machine_spec *machine,
                 uint64_t group);
/* Likewise, to the host that keeps its disks: they, and it, are counted there already. */
int overlay_take_kept(struct overlay *overlay,
                      uint32_t index,
                      const struct machine_spec *machine,
                      uint64_t group);
/* Mark for undo, and undo of everything after it. */
uint32_t overlay_mark(const struct overlay *overlay);
void overlay_undo(struct overlay *overlay, uint32_t mark);

/* A free address of the network that this step has not given away yet; 0: none. It is
 * taken from now on. */
int overlay_address(struct overlay *overlay,
                    const struct network *network,
                    uint32_t *ret_ipv4);
/* How many such addresses there are, counted up to `most`. */
uint32_t overlay_addresses_left(const struct overlay *overlay,
                                const struct network *network,
                                uint32_t most);
/* Notes that the host gets an address of its own in the network; true when it has one
 * already (in the state or by this step). */
bool overlay_has_network_host(const struct overlay *overlay,
                              const struct network *network,
                              uint64_t host);
int overlay_add_network_host(struct overlay *overlay,
                             const struct network *network,
                             uint64_t host);
/* Hosts with an address in the network, in the state and by this step. */
uint32_t overlay_network_hosts(const struct overlay *overlay,
                               const struct network *network);
/* Sets `bit` in marks[overlay->count] for each of them. */
void overlay_mark_network_hosts(const struct overlay *overlay,
                                const struct network *network,
                                uint8_t bit,
                                uint8_t *marks);

/* VMs of a group on each host, committed and speculative, into counts[overlay->count]. */
void overlay_group_counts(const struct overlay *overlay,
                          const struct group *group,
                          uint32_t *counts);
