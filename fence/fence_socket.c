#include "fence/fence_socket.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 128 /* as many daemons in a row may ask one that hangs, and end it */

static int
address_of(const char *folder, struct sockaddr_un *ret_address, struct err *err)
{
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int length = snprintf(ret_address->sun_path, sizeof(ret_address->sun_path),
                          "%s/" FENCE_SOCKET_FILE, folder);
    return length > 0 && (size_t)length < sizeof(ret_address->sun_path)
               ? 0
               : err_set(err, -ENAMETOOLONG, "state folder %s: path too long", folder);
}

static int socket_new(struct err *err)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd >= 0 ? fd : err_sys(err, -errno, "make a socket");
}

int fence_socket_listen(const char *folder, struct err *err)
{
    struct sockaddr_un address;
    int r = address_of(folder, &address, err);
    if (r != 0) {
        return r;
    }
    CLEANUP_FD int fd = socket_new(err);
    if (fd < 0) {
        return fd;
    }
    if (unlink(address.sun_path) != 0 && errno != ENOENT) {
        return err_sys(err, -errno, "replace %s", address.sun_path);
    }
    if (bind(fd, (struct sockaddr *)(void *)&address, sizeof(address)) != 0 ||
        chmod(address.sun_path, 0600) != 0 || listen(fd, BACKLOG) != 0) {
        return err_sys(err, -errno, "listen on %s", address.sun_path);
    }
    return TAKE_FD(fd);
}

/* May this end talk to us? Root may, and who runs as we do. */
static bool peer_is_allowed(int fd, pid_t *ret_pid)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
        return false;
    }
    *ret_pid = peer.pid;
    return peer.uid == 0 || peer.uid == geteuid();
}

int fence_socket_accept(int listener)
{
    pid_t pid;
    CLEANUP_FD int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return errno == EINTR || errno == ECONNABORTED ? -EAGAIN : -errno;
    }
    return peer_is_allowed(fd, &pid) ? TAKE_FD(fd) : -EACCES;
}

int fence_socket_connect(const char *folder, pid_t *ret_pid, struct err *err)
{
    struct sockaddr_un address;
    int r = address_of(folder, &address, err);
    if (r != 0) {
        return r;
    }
    CLEANUP_FD int fd = socket_new(err);
    if (fd < 0) {
        return fd;
    }
    if (connect(fd, (struct sockaddr *)(void *)&address, sizeof(address)) != 0) {
        return err_sys(err, -errno, "connect to %s", address.sun_path);
    }
    if (!peer_is_allowed(fd, ret_pid)) {
        return err_set(err, -EACCES, "%s belongs to somebody else", address.sun_path);
    }
    return TAKE_FD(fd);
}

/* ---- messages ---- */

union control {
    struct cmsghdr header; /* for the alignment */
    char data[CMSG_SPACE(sizeof(int) * FENCE_FDS_MAX)];
};

int fence_socket_send(int fd,
                      const struct fence_message *message,
                      const int *fds,
                      unsigned fd_count)
{
    uint8_t data[FENCE_MESSAGE_SIZE_MAX];
    union control control = {0};
    size_t size = fence_wire_encode(message, data);
    struct iovec part = {.iov_base = data, .iov_len = size};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count > FENCE_FDS_MAX) {
        return -EINVAL;
    }
    if (fd_count > 0) {
        packet.msg_control = control.data;
        packet.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&packet);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd, &packet, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)size ? 0 : sent < 0 ? -errno : -EIO;
}

static void take_fds(struct msghdr *packet, int ret_fds[FENCE_FDS_MAX])
{
    unsigned count = 0;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(packet); at != NULL;
         at = CMSG_NXTHDR(packet, at)) {
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t size = at->cmsg_len - CMSG_LEN(0);
        for (size_t offset = 0; offset + sizeof(int) <= size; offset += sizeof(int)) {
            int fd;
            memcpy(&fd, CMSG_DATA(at) + offset, sizeof(fd));
            if (count < FENCE_FDS_MAX) {
                ret_fds[count++] = fd;
            } else {
                fd_close(&fd);
            }
        }
    }
}

int fence_socket_receive(int fd,
                         struct fence_message *ret_message,
                         int ret_fds[FENCE_FDS_MAX])
{
    uint8_t data[FENCE_MESSAGE_SIZE_MAX];
    union control control;
    struct iovec part = {.iov_base = data, .iov_len = sizeof(data)};
    struct msghdr packet = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.data,
        .msg_controllen = sizeof(control.data),
    };
    for (unsigned i = 0; i < FENCE_FDS_MAX; i++) {
        ret_fds[i] = -1;
    }
    ssize_t size;
    do {
        size = recvmsg(fd, &packet, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    if (size < 0) {
        return -errno;
    }
    take_fds(&packet, ret_fds);
    int r = size == 0 ? -ECONNRESET
            : (packet.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0
                ? BERTH_EPROTO
                : fence_wire_decode(data, (size_t)size, ret_message);
    for (unsigned i = 0; r != 0 && i < FENCE_FDS_MAX; i++) {
        fd_close(&ret_fds[i]);
    }
    return r;
}
