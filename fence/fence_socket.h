/* The fence's socket: <folder>/fence.sock, SOCK_SEQPACKET, messages of fence_wire.h.
 *
 * Both ends are non-blocking: whoever does not read is left behind, never waited for.
 * Only root and the user that runs the other end may talk (peer credentials). Threads:
 * any, one per socket. Errors: -errno with text; -EAGAIN without. Ownership: a received
 * descriptor is the caller's. Limits: FENCE_FDS_MAX descriptors beside a message; a
 * packet over FENCE_MESSAGE_SIZE_MAX is malformed.
 */
#pragma once

#include "base/err.h"
#include "fence/fence_wire.h"

#include <sys/types.h>

#define FENCE_SOCKET_FILE "fence.sock"
#define FENCE_LOCK_FILE   "fence.lock" /* held by the one fence of a state folder */

/* The listening socket; an old file is replaced: hold the lock. */
int fence_socket_listen(const char *folder, struct err *err);
/* A connection of the listener, or -EAGAIN, or -EACCES: refused and closed. */
int fence_socket_accept(int listener);
/* The other end's pid in *ret_pid. -ENOENT, -ECONNREFUSED: there is none. */
int fence_socket_connect(const char *folder, pid_t *ret_pid, struct err *err);

/* fds: borrowed, up to FENCE_FDS_MAX. 0, -EAGAIN (it does not read), or another -errno.
 */
int fence_socket_send(int fd,
                      const struct fence_message *message,
                      const int *fds,
                      unsigned fd_count);
/* 0 with the message and descriptors (-1 where there is none); -EAGAIN; -ECONNRESET at
 * the end; BERTH_EPROTO, BERTH_EUNSUPPORTED. With a fault no descriptor is left open. */
int fence_socket_receive(int fd,
                         struct fence_message *ret_message,
                         int ret_fds[FENCE_FDS_MAX]);
