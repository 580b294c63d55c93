/* Descriptors: close-on-exec from birth, -1 when empty, whole reads and writes.
 *
 * Errors: -errno; BERTH_ETOOLARGE where a bound is given. Threads: any.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* open(2) with O_CLOEXEC | O_NOFOLLOW added, at a folder descriptor or AT_FDCWD; the
 * descriptor or -errno with text. */
int fd_open_at(int folder, const char *path, int flags, mode_t mode, struct err *err);
/* The same file once more, with other flags and a position of its own; O_CLOEXEC added.
 */
int fd_reopen(int fd, int flags, struct err *err);
/* Closes *fd when it is not -1 and sets it to -1. */
void fd_close(int *fd);
/* Reads until `size` bytes or end of file; the count or -errno. Retries EINTR. */
ssize_t fd_read_full(int fd, void *ret_data, size_t size);
/* Likewise, of what can be polled, such as a pipe; -ETIMEDOUT when it takes longer. */
ssize_t fd_read_within(int fd, void *ret_data, size_t size, uint64_t timeout_ms);
/* Writes everything; 0 or -errno. Retries EINTR. */
int fd_write_full(int fd, const void *data, size_t size);
/* Reads a whole file into fresh memory with one NUL after it (caller frees); over
 * size_max is BERTH_ETOOLARGE. */
int fd_read_file(int folder,
                 const char *path,
                 size_t size_max,
                 uint8_t **ret_data,
                 size_t *ret_size,
                 struct err *err);
int fd_set_nonblocking(int fd);
/* mkdir -p with mode 0700 for new folders; 0 or -errno with text. */
int fd_make_folders(const char *path, struct err *err);
/* Makes durable what was made, renamed or removed in a folder; 0 or -errno with text. */
int fd_sync_folder(const char *path, struct err *err);
/* Removes a folder and everything in it without following links, depth <= 32; missing is
 * fine. */
int fd_remove_tree(const char *path, struct err *err);
