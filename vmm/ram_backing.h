/* What RAM is made of: which pages of the host, and of which of its NUMA nodes.
 *
 * Plain pages come one by one. Transparent huge pages are plain ones that the kernel
 * makes huge where it can and may (shmem_enabled); they split again when a part is given
 * back. Pages of 2 MiB and 1 GiB come out of a pool that the host's owner has filled, are
 * reserved as a whole before the guest starts, so that none is missing later, and for the
 * same reason never given back while it lives. A reservation is not one of a node: RAM
 * that has to be of one is filled at once.
 *
 * Shapes: `struct ram_backing`, a plain value; all zeros is what a host does by itself.
 * Units: bytes. Threads: any; make and apply before the jail and before anybody touches
 * the RAM. Ownership: the file is the caller's. Errors: BERTH_EINVALID for what does not
 * fit together, BERTH_EFULL when a pool has too few pages, -errno. Limits:
 * RAM_NODES_MAX.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define RAM_NODES_MAX 64u /* one word of a mask; Linux on x86 knows at most 1024 */

enum ram_pages {
    RAM_PAGES_PLAIN = 0,
    RAM_PAGES_TRANSPARENT,
    RAM_PAGES_2M,
    RAM_PAGES_1G,
    RAM_PAGES_COUNT
};

enum ram_policy {
    RAM_POLICY_NONE = 0,
    RAM_POLICY_BIND,       /* of this node alone */
    RAM_POLICY_PREFER,     /* of this node while it has any */
    RAM_POLICY_INTERLEAVE, /* of all nodes in turn */
    RAM_POLICY_COUNT
};

struct ram_backing {
    enum ram_pages pages;
    enum ram_policy policy;
    unsigned node; /* of the first two policies */
};

/* "off", "thp", "2M", "1G"; "bind", "prefer", "interleave". */
int ram_pages_parse(const char *text, enum ram_pages *ret_pages, struct err *err);
int ram_policy_parse(const char *text, enum ram_policy *ret_policy, struct err *err);
/* The page that is given to RAM as a whole, at least: 4096 for the first two. */
uint64_t ram_pages_bytes(enum ram_pages pages);
/* Whether they come out of a pool. */
bool ram_pages_pooled(enum ram_pages pages);
/* Whether all of it is to be had, before any is taken. `sys` is where sysfs is. */
int ram_backing_check(const struct ram_backing *backing,
                      uint64_t size_bytes,
                      const char *sys,
                      struct err *err);
/* Why transparent huge pages do not come here; NULL when they do, or may. */
const char *ram_backing_lack(const struct ram_backing *backing, const char *sys);
/* A file of that size, all zeros, as yet without pages. */
int ram_backing_make(const struct ram_backing *backing,
                     uint64_t size_bytes,
                     struct err *err);
/* Says to the kernel what it is to be made of, where it is mapped; fills what must be. */
int ram_backing_apply(const struct ram_backing *backing,
                      void *host,
                      uint64_t size_bytes,
                      struct err *err);
