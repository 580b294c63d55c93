/* The ELF kernel within a distribution's vmlinuz, unpacked once and kept beside it, so
 * that no VM has to unpack it at each boot; by berth-unpack, a process without rights.
 *
 * Shapes: of a kernel <folder>/<name> it is <folder>/unpacked/<name>: whole under that
 * name or not there, and then the kernel is booted as it came. It is made from the file
 * whose digest was checked; the digest stays what the kernel is called. Behind its last
 * byte lies the seal, a mark and the SHA-256 of all of it, KERNEL_UNPACK_SEAL bytes that
 * no ELF loader looks at: by that it is known to be whole later. Threads: blocks a thread
 * of a pool. Ownership: all is borrowed for the call. Errors, with text: BERTH_EINVALID
 * (berth-unpack refuses the file, in its words), BERTH_ECHILD (it is missing, or ended
 * otherwise), BERTH_EDISKFULL (no room for what it may be), BERTH_ECLOSED (not wanted any
 * more), -errno. Limits: KERNEL_UNPACK_MS, the room that the disk has when it begins, and
 * unpack/unpack_kernel.h's.
 */
#pragma once

#include "base/err.h"
#include "base/state_file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KERNEL_UNPACK_PROGRAM "berth-unpack"
#define KERNEL_UNPACK_FOLDER  STATE_FOLDER_UNPACKED
#define KERNEL_UNPACK_MS      30000u /* a distribution's takes one or two seconds */
#define KERNEL_UNPACK_LOOK_MS 500    /* is it still wanted? */
/* What LZ4 leaves of a kernel is a quarter of it, xz less. */
#define KERNEL_UNPACK_RATIO 8u
#define KERNEL_UNPACK_MARK  "BERTHSUM"
#define KERNEL_UNPACK_SEAL  40u /* the mark and DIGEST_SIZE */

/* Whether the file begins as one that may have something within. */
bool kernel_unpack_fits(int fd);
/* "<folder>/unpacked/<name>" of "<folder>/<name>"; false when it does not fit. */
bool kernel_unpacked_path(const char *kernel_path, char *ret_path, size_t size);

struct kernel_unpack {
    const char *program; /* NULL: ours, beside our own program or in PATH */
    int fd;              /* the kernel; its offset moves */
    const char *folder;  /* of the kernel */
    const char *name;
    const char *tmp_path;   /* of the same file system; not there before and after */
    uint64_t reserve_bytes; /* of the disk, kept free */
    bool (*is_wanted)(void *context);
    void *context;
};

/* 0 also when there is nothing to unpack. */
int kernel_unpack(const struct kernel_unpack *unpack, struct err *err);
/* Whether what was kept of folder/name is what was unpacked (no other fields but
 * is_wanted and context): 0, also when there is none; else it has been removed:
 * BERTH_ENOTFOUND (it has no seal: a host of an earlier version has made it),
 * BERTH_ECORRUPT, -errno. BERTH_ECLOSED: it is as it was. */
int kernel_unpacked_check(const struct kernel_unpack *unpack, struct err *err);
