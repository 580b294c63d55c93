#include "net/mesh_watch.h"

#include "base/require.h"

#include <errno.h>
#include <sys/epoll.h>

#define SIGNALS_PER_WAIT 64 /* the others are told by the next wait */

int mesh_watch_set_open(void)
{
    const int set = epoll_create1(EPOLL_CLOEXEC);
    return set < 0 ? -errno : set;
}

int mesh_watch_start_fd(struct mesh_watch *watch, int set, int fd)
{
    REQUIRE(!watch->started);
    /* Edges: a socket that nobody may read now does not keep its thread awake. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = watch};
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event)) {
        return -errno;
    }
    *watch = (struct mesh_watch){.due = true, .started = true, .set = set, .fd = fd};
    return 0;
}

int mesh_watch_start(struct mesh_watch *watch, int set, zsock_t *socket)
{
    int fd = -1;
    size_t size = sizeof(fd);
    REQUIRE(zmq_getsockopt(zsock_resolve(socket), ZMQ_FD, &fd, &size) == 0);
    return mesh_watch_start_fd(watch, set, fd);
}

void mesh_watch_stop(struct mesh_watch *watch)
{
    if (watch->started) {
        REQUIRE(epoll_ctl(watch->set, EPOLL_CTL_DEL, watch->fd, NULL) == 0);
        *watch = (struct mesh_watch){0};
    }
}

void mesh_watch_wait(int set, int timeout_ms)
{
    struct epoll_event events[SIGNALS_PER_WAIT];
    const int count = epoll_wait(set, events, SIGNALS_PER_WAIT, timeout_ms);
    REQUIRE(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; i++) {
        struct mesh_watch *watch = events[i].data.ptr;
        watch->due = true;
    }
}

bool mesh_watch_writable(struct mesh_watch *watch, zsock_t *socket)
{
    int events = 0;
    size_t size = sizeof(events);
    REQUIRE(zmq_getsockopt(zsock_resolve(socket), ZMQ_EVENTS, &events, &size) == 0);
    watch->due = watch->due || (events & ZMQ_POLLIN);
    return events & ZMQ_POLLOUT;
}
