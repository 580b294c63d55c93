/* The inside of the image store, for image_store*.c, image_writer.c and image_part.c
 * only.
 *
 * Shapes: struct image_store; struct store_work, a file on its way in, which belongs to a
 * writer or part while that is open, then to the store's threads until its end is told.
 * Files: image_store.c (what is there, and room for more), image_store_work.c (the end of
 * each way in), image_store_check.c (what was there at the open), image_store_trust.c
 * (what of it need not be checked), image_store_fetch.c, image_writer.c and image_part.c
 * (the three ways). Threads: the loop's; of a work its threads touch `file` alone. Errors
 * and limits: those of agent/image_store.h.
 */
#pragma once

#include "agent/checked_list.h"
#include "agent/image_store.h"
#include "agent/image_work.h"
#include "base/list.h"
#include "base/loop.h"

#define IMAGE_PART_SUFFIX    ".part"
#define IMAGE_DAMAGED_SUFFIX ".damaged"
/* One for what was used last, one that is left to what somebody waits for. */
#define IMAGE_CHECK_THREADS 2u

struct stored {
    struct image_file file;
    uint64_t unpacked_bytes; /* of what was in it */
    uint64_t used;           /* counts up with each use: the smallest is the oldest */
    uint64_t touched_ms;  /* loop time at which the file's time was set; 0: not by us */
    bool checking;        /* a thread hashes it */
    bool waited_for;      /* it was asked for before it was checked */
    int check_code;       /* why it could not be read, last */
    unsigned read_faults; /* in a row: -EIO */
    uint64_t again_ms;    /* loop time: not read again before */
    uint64_t backoff_ms;
    /* As they were when they were checked; ino 0: not known. */
    struct file_identity identity;
    struct file_identity unpacked; /* what was in it */
};

struct image_store {
    uv_loop_t *loop;
    char *folder;
    struct image_limits limits;
    uint64_t promised_bytes; /* announced by uploads and parts, not written yet */
    uint64_t use_clock;
    struct stored files[IMAGE_STORE_FILES_MAX];
    unsigned file_count;
    struct digest *kept; /* not to be evicted */
    unsigned kept_count;
    struct digest lost[IMAGE_STORE_FILES_MAX]; /* dropped as damaged, not here again */
    unsigned lost_count;
    unsigned writer_count;
    unsigned fetch_count;
    struct work_pool *fetching;
    const char *fetcher;  /* NULL: ours */
    const char *unpacker; /* the same */
    struct work_pool *finishing;
    struct work_pool *checking;
    unsigned checking_count;
    struct loop_timer *check_timer; /* NULL: nothing has failed yet */
    struct work_pool *listing;      /* one thread */
    struct work_job list_job;
    char boot[CHECKED_BOOT_SIZE];
    struct checked_file
        list_files[IMAGE_STORE_FILES_MAX]; /* the thread's while it runs */
    unsigned list_count;
    int list_code; /* likewise */
    bool list_running;
    bool list_stale;
    bool list_failed;
    struct work_pool *unpacking; /* of its own: a kernel that is slow holds up kernels */
    struct list works;           /* on the threads */
    struct list parts;           /* open parts */
    void (*changed)(void *context);
    void *changed_context;
};

struct store_work {
    struct image_work file; /* first: image_work.c knows only this part */
    struct list link;
    struct image_store *store; /* NULL: the store has been closed */
    bool is_writer;            /* counts among the uploads until its end is told */
    bool was_again;            /* a fetch: room was made for it */
    bool is_check;             /* hashes what is there */
    bool is_over;              /* and has */
    bool is_part;              /* of its digest there may be no second one meanwhile */
    image_done *done;
    void *context;
};

/* ---- image_store.c ---- */
struct stored *image_store_find(const struct image_store *store,
                                const struct digest *digest);
/* Cut where they do not fit, and then they fail to open. */
void image_store_file_path(const struct image_store *store,
                           const struct digest *digest,
                           char ret_path[IMAGE_PATH_SIZE]);
void image_store_unpacked_path(const struct image_store *store,
                               const struct digest *digest,
                               char ret_path[IMAGE_PATH_SIZE]);
uint64_t image_store_unpacked_bytes(const struct image_store *store,
                                    const struct digest *digest);
bool image_store_is_kept(const struct image_store *store, const struct digest *digest);
/* Off the list; its files are the caller's. */
void image_store_unlist(struct image_store *store, struct stored *stored);
void image_store_changed(struct image_store *store);
/* <64 hex>.damaged. */
void image_store_damaged_path(const struct image_store *store,
                              const struct digest *digest,
                              char ret_path[IMAGE_PATH_SIZE]);
/* It is dropped as damaged. */
void image_store_lose(struct image_store *store, const struct digest *digest);
/* Room on the disk for size_bytes beside what is promised to others; files that nobody
 * keeps go for it. BERTH_EDISKFULL says how much there is. */
int image_store_room(struct image_store *store,
                     uint64_t size_bytes,
                     uint64_t promised_bytes,
                     struct err *err);
/* BERTH_ETOOLARGE: no upload and no fetch may be that large. */
int image_store_size_check(const struct image_store *store,
                           uint64_t size_bytes,
                           struct err *err);
/* A complete file has its name: takes it into the list; BERTH_EFULL: removed again. */
int image_store_enter(struct image_store *store,
                      const struct digest *digest,
                      uint64_t size_bytes,
                      const struct file_identity *identity);

/* ---- image_store_trust.c ---- */
/* Of what lies there at the open: it is in the list, and as it was. */
void image_store_trust(const struct image_store *store,
                       const struct checked_file *list,
                       unsigned count,
                       struct stored *stored);
/* It was checked, and was that file then. */
void image_store_trust_vouch(struct image_store *store,
                             struct stored *stored,
                             const struct file_identity *identity);
/* The list is to be written. */
void image_store_trust_stale(struct image_store *store);

/* ---- image_store_check.c ---- */
/* Gives the threads what is to be checked next. */
void image_store_check(struct image_store *store);
/* It is asked for: before what is not. */
void image_store_check_soon(struct image_store *store, struct stored *stored);

/* ---- image_store_work.c ---- */
struct store_work *store_work_of(struct work_job *job);
/* Without a file yet; expected, done and context may be NULL. NULL: no memory. */
struct store_work *store_work_new(struct image_store *store,
                                  const struct digest *expected,
                                  image_done *done,
                                  void *context);
/* A file for it in tmp/: the descriptor or an error. */
int store_work_tmp_open(struct image_store *store,
                        char ret_path[IMAGE_PATH_SIZE],
                        struct err *err);
/* More of its file. BERTH_EDISKFULL, -errno. */
int store_work_write(struct store_work *work,
                     const void *data,
                     size_t size,
                     struct err *err);
/* Consumes it: to be hashed, checked and named on a thread, a packed kernel unpacked on
 * another, then told. */
void store_work_finish(struct store_work *work);
/* The same of one that is in the store's list of works already. */
void store_work_name(struct store_work *work);
/* Consumes it, in the store's list of works: what is told is its code or this one. */
void store_work_finished(struct work_job *job, int code);
