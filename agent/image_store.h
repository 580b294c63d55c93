/* Boot material by content: files named by their SHA-256, complete or not there.
 *
 * Shapes: struct image_store keeps <folder>/<64 hex> files, mode 0400, and <folder>/tmp/
 * for what is being written. A file enters by agent/image_writer.h (upload),
 * image_store_fetch (URL) or agent/image_part.h (pull from a peer); each is hashed as it
 * is written, synced, and renamed only when its digest is what was expected. What a crash
 * leaves in tmp/ is removed at open, parts excepted: they are resumed. Cache limit: when
 * the sum of sizes passes cache_bytes the least recently used file that is not kept goes
 * (the time of a file is its last use, to the minute, so a restart knows it, too). An
 * upload or fetch may be as large as that limit; what a VM here needs is pulled whatever
 * its size. What is in a packed kernel is kept beside it, in <folder>/unpacked/
 * (agent/kernel_unpack.h), as long as it is there, and counts with it. All of them stop
 * where less than reserve_bytes of the disk would be free: at once when their size is
 * known, else on the way. Threads: the loop's; fetching, hashing and syncing run on
 * threads of the store's own (agent/image_work.h), unpacking on others, never on libuv's,
 * which the log's disk writes need. No callback inside a call. Errors: BERTH_EDISKFULL,
 * BERTH_ECORRUPT (digest differs: both are named), BERTH_EINVALID (a disk image that is
 * not taken, agent/disk_format.h), BERTH_ETOOLARGE, BERTH_EFULL (fetches), -errno.
 * Limits: below.
 *
 * What was there at the open is hashed again before anybody gets it, unless it was in
 * this boot (agent/checked_list.h): from the beginning on, what was used last first, and
 * before all what is asked for. A file that is damaged is dropped, which is told like any
 * change; is it kept (image_store_keep), or the disk does not give it back, it stays as
 * <64 hex>.damaged until a whole one comes, for the disks of VMs may lie on it.
 */
#pragma once

#include "base/digest.h"
#include "base/err.h"

#include <uv.h>

#include <stdbool.h>
#include <stdint.h>

#define IMAGE_STORE_FILES_MAX   256 /* as many as a heartbeat can tell */
#define IMAGE_STORE_FETCHES_MAX 16  /* under way or waiting for a thread */
#define IMAGE_FETCH_TIMEOUT_S   3600
#define IMAGE_PATH_SIZE         4096

struct image_store;

struct image_limits {
    uint64_t cache_bytes;   /* all files together, and one upload or fetch */
    uint64_t reserve_bytes; /* kept free of the folder's file system, agent/disk_room.h */
};

/* Makes the folder when missing; counts what is there. limits are copied. */
int image_store_open(uv_loop_t *loop,
                     const char *folder,
                     const struct image_limits *limits,
                     struct image_store **ret_store,
                     struct err *err);
/* Aborts what is under way; callbacks of it do not run any more. Accepts NULL; returns
 * NULL. */
struct image_store *image_store_close(struct image_store *store);

bool image_store_has(const struct image_store *store,
                     const struct digest *digest,
                     uint64_t *ret_size_bytes);
/* The same of what was checked: an upload mends what was not and proves damaged. */
bool image_store_holds_whole(const struct image_store *store,
                             const struct digest *digest,
                             uint64_t *ret_size_bytes);
/* Where it is; false when it is not there, or when it is still to be checked: that is
 * told as a change. Marks it as used. */
bool image_store_path(struct image_store *store,
                      const struct digest *digest,
                      char ret_path[IMAGE_PATH_SIZE]);
/* Whether it was here at the open, was found to be damaged, and has not come since: what
 * was evicted is not lost. */
bool image_store_lost(const struct image_store *store, const struct digest *digest);
/* What is left of a damaged one that was kept, while there is no whole one. */
bool image_store_remains(const struct image_store *store,
                         const struct digest *digest,
                         char ret_path[IMAGE_PATH_SIZE]);
/* From now on these are not evicted, and what an earlier call named may be; digests not
 * here yet count, too. -ENOMEM: as before. */
int image_store_keep(struct image_store *store,
                     const struct digest *digests,
                     unsigned count,
                     struct err *err);
struct image_file {
    struct digest digest;
    uint64_t size_bytes;
    bool unchecked; /* since the open: nobody gets it yet */
};
/* All complete files, by digest; the count, at most max. */
unsigned image_store_list(const struct image_store *store,
                          struct image_file *ret_files,
                          unsigned max);
/* Runs whenever a file was added, checked, dropped or evicted (one subscriber). */
void image_store_on_change(struct image_store *store,
                           void (*fn)(void *context),
                           void *context);

/* digest is borrowed: of the content, or of what was expected when code < 0; text says
 * why then. */
typedef void image_done(void *context,
                        int code,
                        const struct digest *digest,
                        uint64_t size_bytes,
                        const char *text);

/* Fetches http(s):// into the store by berth-fetch, a process without rights
 * (agent/image_fetch.h); expected is required. done runs once. */
void image_store_fetch(struct image_store *store,
                       const char *url,
                       const struct digest *expected,
                       image_done *done,
                       void *context);

/* Another program for that than berth-fetch beside our own or in PATH; borrowed. */
void image_store_use_fetcher(struct image_store *store, const char *program);
/* The same of berth-unpack. */
void image_store_use_unpacker(struct image_store *store, const char *program);
