/* A file on its way into the image store, off the loop: fetched, hashed, checked, synced
 * and given its name; and hashed again when it lay there at a start.
 *
 * Shapes: struct image_work is what a thread needs to know and what it has found; the
 * store (image_store_work.c) fills it, submits its job (base/work_pool.h) and takes the
 * result. Threads: the jobs run on a thread of a pool while nobody else touches
 * the work; they give up soon when the job was cancelled (BERTH_ECLOSED). Ownership: the
 * work owns its url and its descriptor; image_work_fini gives both back. Errors: in code,
 * with text: BERTH_EDISKFULL, BERTH_ETOOLARGE, BERTH_EINVALID (a
 * disk image that is not taken, agent/disk_format.h), BERTH_ECORRUPT (digest differs:
 * both are named), BERTH_ENOTFOUND, BERTH_EUNREACHABLE, BERTH_ECHILD,
 * -errno. Limits: IMAGE_FETCH_TIMEOUT_S.
 */
#pragma once

#include "agent/checked_list.h"
#include "agent/image_store.h"
#include "base/work_pool.h"

struct image_work {
    struct work_job job;
    char tmp_path[IMAGE_PATH_SIZE];
    char final_folder[IMAGE_PATH_SIZE];
    char *url;            /* for image_work_fetch */
    const char *unpacker; /* agent/kernel_unpack.h's program; borrowed */
    const char *fetcher;  /* likewise: the program, agent/image_fetch.h; borrowed */
    bool expects;
    struct digest expected;
    bool keep_bad;          /* a part: a wrong digest removes it, other faults keep it */
    int fd;                 /* of tmp_path */
    uint64_t size_max;      /* of a fetch */
    uint64_t reserve_bytes; /* of the disk, kept free */
    bool is_idle;           /* a check for which nobody waits: the disk's idle time */
    atomic_bool hurry;      /* somebody waits by now; set from outside */
    bool uncache;           /* for image_work_clean: it need not stay in memory */
    char drop_path[IMAGE_PATH_SIZE]; /* for image_work_clean; "": none */
    /* results */
    uint64_t needs_bytes; /* of a fetch that met a full disk: as announced, or 0 */
    int code;
    struct digest digest;
    uint64_t size_bytes;
    struct file_identity identity; /* with its name; of a check: no other meanwhile */
    bool is_packed;                /* a kernel that may have another one in it */
    char text[256];
};

/* Fetches the url into the file, from its beginning, by a process of its own. */
void image_work_fetch(struct work_job *job);
/* Hashes the file; when it is what was expected and no disk image that is not taken, it
 * gets its name in final_folder. */
void image_work_finish(struct work_job *job);
/* Then, of a packed kernel: what is in it is kept as well (agent/kernel_unpack.h). One
 * that cannot be unpacked is as good as it came: that is logged, and no fault. */
void image_work_unpack(struct work_job *job);
void image_work_unpack_missed(const struct image_work *work, const char *why);
/* Of a file that has its name, `expected`: hashes it, and looks whether what was in it is
 * what was kept; if not, that is removed, and is_packed says to unpack anew. */
void image_work_check(struct work_job *job);
/* Removes what is at drop_path, which takes a while when it is large, and closes the
 * file.
 */
void image_work_clean(struct work_job *job);
/* Closes the file; removes it when it did not become what it should and is not to be
 * kept. */
void image_work_fini(struct image_work *work);
