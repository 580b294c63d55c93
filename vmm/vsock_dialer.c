#include "vmm/vsock_dialer.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "vmm/vmm_rights.h"
#include "vmm/vmm_walls.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* A listener whose backlog is full refuses at once, as the socket does not block. */
static int dial(const char *path, uint32_t port)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s_%" PRIu32, path, port);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        return -errno;
    }
    return TAKE_FD(fd);
}

/* False: nobody takes it any more. */
static bool answer_send(int fd, const struct vsock_dial_answer *answer, int connected)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec piece = {(void *)(uintptr_t)answer, sizeof(*answer)};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (connected >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        struct cmsghdr *part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(part), &connected, sizeof(connected));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)sizeof(*answer);
}

void vsock_dialer_serve(int fd, const char *path)
{
    struct vsock_dial_request request;
    ssize_t size;
    while ((size = recv(fd, &request, sizeof(request), 0)) != 0) {
        if (size != (ssize_t)sizeof(request)) {
            if (size < 0 && errno != EINTR) {
                return;
            }
            continue; /* no request of ours */
        }
        CLEANUP_FD int connected = dial(path, request.port);
        const struct vsock_dial_answer answer = {.id = request.id,
                                                 .result = connected < 0 ? connected : 0};
        if (!answer_send(fd, &answer, connected)) {
            return;
        }
    }
}

/* Names are looked up in the folder, and nowhere else from now on. */
static int walls_put_up(int folder, struct err *err)
{
    /* It stays who may connect to them, and beside the process that it is for. */
    const struct vmm_walls walls = {.which = VMM_WALLS_ALL & ~VMM_WALL(VMM_WALL_USER) &
                                             ~VMM_WALL(VMM_WALL_PROCESSES),
                                    .keeps_folder = true};
    char missing[VMM_MISSING_SIZE];
    if (fchdir(folder) < 0) {
        return err_sys(err, -errno, "enter the folder of the vsock's sockets");
    }
    const int r = vmm_walls_put_up(&walls, missing, err);
    if (r == 0 && missing[0] != '\0') {
        log_warn("vmm", "some walls around who dials for the guest do not stand here",
                 KV_STR("missing", missing));
    }
    return r;
}

/* In the new process. */
static _Noreturn void dialer_be(int fd, int folder, const char *name, pid_t parent)
{
    struct err err = {0};
    (void)prctl(PR_SET_NAME, "vsock-dialer", 0, 0, 0);
    if (walls_put_up(folder, &err) < 0) {
        log_error("vmm", "nobody dials for the guest", KV_STR("why", err.text));
        _exit(1);
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* after what may clear it */
    if (getppid() != parent || dup2(fd, STDIN_FILENO) < 0 ||
        syscall(SYS_close_range, 1U, UINT32_MAX, 0U) != 0 ||
        vmm_rights_thread(VMM_ROLE_DIAL, &err) < 0) {
        _exit(1);
    }
    vsock_dialer_serve(STDIN_FILENO, name);
    _exit(0);
}

/* The folder of the path, and the name in it. */
static int folder_open(const char *path, const char **ret_name, struct err *err)
{
    char folder[VSOCK_DIAL_PATH_MAX + 1] = ".";
    const char *slash = strrchr(path, '/');
    if (slash != NULL) {
        (void)snprintf(folder, sizeof(folder), "%.*s",
                       slash == path ? 1 : (int)(slash - path), path);
    }
    *ret_name = slash != NULL ? slash + 1 : path;
    return fd_open_at(AT_FDCWD, folder, O_PATH | O_DIRECTORY, 0, err);
}

int vsock_dialer_start(const char *path, struct err *err)
{
    int ends[2];
    const char *name;
    if (strlen(path) > VSOCK_DIAL_PATH_MAX) {
        return err_set(err, BERTH_EINVALID, "%.100s...: more than %u bytes", path,
                       VSOCK_DIAL_PATH_MAX);
    }
    CLEANUP_FD int folder = folder_open(path, &name, err);
    if (folder < 0) {
        return folder;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        return err_sys(err, -errno, "make a socket pair");
    }
    CLEANUP_FD int ours = ends[0];
    CLEANUP_FD int theirs = ends[1];
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid < 0) {
        return err_sys(err, -errno, "start who dials for the guest");
    }
    if (pid == 0) {
        dialer_be(theirs, folder, name, parent);
    }
    return TAKE_FD(ours);
}
