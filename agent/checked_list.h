/* Which files of the image store were checked in this boot of the machine, for the next
 * start of berthd: one that is as it was then need not be hashed again.
 *
 * Shapes: struct file_identity is what lstat(2) says of a file, and changes with whatever
 * is done to it by way of the kernel; ino 0: there is none. struct checked_file is one
 * line of <folder>/checked, which begins with the boot's id and ends with a digest of all
 * before: of another boot, damaged, cut short or missing, it says nothing, and files are
 * checked. So it need not be durable. Threads: any; it blocks for a small file.
 * Ownership: all is borrowed. Errors: -errno. Limits: IMAGE_STORE_FILES_MAX lines.
 */
#pragma once

#include "base/digest.h"

#include <stdbool.h>
#include <stdint.h>

#define CHECKED_LIST_NAME "checked"
#define CHECKED_BOOT_SIZE 40

struct stat;

struct file_identity {
    uint64_t dev, ino, size_bytes, modified_ns, changed_ns;
};

struct checked_file {
    struct digest digest;
    struct file_identity file;
    struct file_identity unpacked; /* of a packed kernel: what was in it */
};

struct file_identity file_identity_of(const struct stat *status);
/* Of a path that may have nothing: then all of it is 0. */
struct file_identity file_identity_at(const char *path);
bool file_identity_equal(const struct file_identity *a, const struct file_identity *b);

/* "" when the kernel does not say. */
void checked_list_boot(char ret_boot[CHECKED_BOOT_SIZE]);
int checked_list_write(const char *folder,
                       const char *boot,
                       const struct checked_file *files,
                       unsigned count);
/* The count, at most max; 0 of a list that says nothing, BERTH_ECORRUPT of one that is
 * damaged. */
int checked_list_read(const char *folder,
                      const char *boot,
                      struct checked_file *ret_files,
                      unsigned max);
