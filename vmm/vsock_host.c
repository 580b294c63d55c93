#include "base/clock.h"
#include "base/fd.h"
#include "vmm/vsock_device.h"
#include "vmm/vsock_dialer.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* ---- clients ---- */

/* A port of the host's that this port of the guest is not connected with. */
static uint32_t port_choose(struct vsock *vsock, uint32_t guest_port)
{
    do { /* at most once for each link */
        vsock->next_port =
            vsock->next_port == UINT32_MAX ? VSOCK_HOST_PORT_FIRST : vsock->next_port + 1;
    } while (vsock_links_find(&vsock->links, vsock->next_port, guest_port) != NULL);
    return vsock->next_port;
}

void vsock_host_greet(struct vsock *vsock, struct vsock_link *link)
{
    uint32_t port = 0;
    const int r = vsock_greeting_take(&link->greeting, link->fd, &port);
    if (r < 0) {
        counter_add(&vsock->counters.refused, 1);
        vsock_device_free_link(vsock, link); /* the guest has not heard of it */
    } else if (r > 0) {
        link->host_port = port_choose(vsock, port);
        link->guest_port = port;
        link->state = LINK_REQUESTED;
        link->to_send = SEND_REQUEST;
    }
}

/* A client that waits for the guest's answer has gone, or cannot wait. */
void vsock_host_look(struct vsock *vsock, struct vsock_link *link)
{
    char byte;
    const ssize_t there = recv(link->fd, &byte, sizeof(byte), MSG_PEEK);
    if (there > 0) {
        link->host_hurries = true; /* what it says is read when there is an answer */
    } else if (there == 0 || (errno != EAGAIN && errno != EINTR)) {
        vsock_device_reset_link(vsock, link);
    }
}

/* The timer is of the client that came first of those that have not greeted; without one
 * it rests. */
static void greeting_timer_set(struct vsock *vsock)
{
    uint64_t first_ms = 0;
    for (unsigned i = 0; i < vsock->links.end; i++) {
        const struct vsock_link *link = &vsock->links.links[i];
        if (link->state == LINK_GREETING &&
            (first_ms == 0 || link->greet_by_ms < first_ms)) {
            first_ms = link->greet_by_ms;
        }
    }
    const struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(first_ms / MS_PER_S),
                     .tv_nsec = (long)(first_ms % MS_PER_S * NS_PER_MS)}};
    (void)timerfd_settime(vsock->timer, TFD_TIMER_ABSTIME, &when,
                          NULL); /* in range: cannot fail */
}

/* Who has not greeted by now makes room. */
void vsock_host_end_late(struct vsock *vsock)
{
    uint64_t count;
    const uint64_t now_ms = clock_now_ms(clock_system());
    (void)!read(vsock->timer, &count, sizeof(count)); /* empty: it was set anew */
    for (unsigned i = 0; i < vsock->links.end; i++) {
        struct vsock_link *link = &vsock->links.links[i];
        const bool is_late = link->state == LINK_GREETING && link->greet_by_ms <= now_ms;
        if (is_late) {
            vsock_host_greet(vsock, link); /* we may be what was slow */
        }
        if (is_late && link->state == LINK_GREETING) {
            counter_add(&vsock->counters.refused, 1);
            vsock_device_free_link(vsock, link);
        } else if (is_late && link->state != LINK_FREE) {
            vsock_device_watch(vsock, link);
        }
    }
    greeting_timer_set(vsock);
}

/* A machine that stood still has read nothing: they have their time anew. */
void vsock_host_begin_anew(struct vsock *vsock)
{
    const uint64_t by_ms = clock_now_ms(clock_system()) + vsock->greeting_ms;
    for (unsigned i = 0; i < vsock->links.end; i++) {
        vsock->links.links[i].greet_by_ms = by_ms;
    }
    greeting_timer_set(vsock);
}

void vsock_host_listen(struct vsock *vsock)
{
    const bool wanted = virtio_device_active(&vsock->device) && !vsock->listener_rests &&
                        counter_read(&vsock->links.count) < VSOCK_LINKS_MAX;
    if (vsock->listener_watch >= 0) {
        poller_change(vsock->device.place.poller, vsock->listener_watch,
                      wanted ? POLLER_READABLE : 0);
    }
}

void vsock_host_accept(struct vsock *vsock)
{
    struct vsock_link *link = vsock_links_new(&vsock->links, LINK_GREETING);
    const int fd =
        link == NULL ? -1
                     : accept4(vsock->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (link == NULL) {
        return;
    }
    const bool is_full =
        fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED;
    if (fd < 0 || vsock_link_take(&vsock->links, link, fd) < 0) {
        vsock_device_free_link(vsock, link);
        vsock->listener_rests = is_full; /* the client stays there: it would be tried
                                          * again without an end */
        return; /* it left again; or this process has no room for it now */
    }
    link->greet_by_ms = clock_now_ms(clock_system()) + vsock->greeting_ms;
    greeting_timer_set(vsock);
    vsock_device_watch(vsock, link);
}

/* ---- who dials ---- */

static void dialer_forget(struct vsock *vsock)
{
    poller_remove(vsock->device.place.poller, vsock->dialer_watch);
    vsock->dialer_watch = -1;
    fd_close(&vsock->dialer);
    for (unsigned i = 0; i < VSOCK_LINKS_MAX; i++) {
        if (vsock->links.links[i].state == LINK_DIALING) {
            vsock_device_reset_link(vsock, &vsock->links.links[i]);
        }
    }
}

static void
answer_take(struct vsock *vsock, const struct vsock_dial_answer *answer, int fd)
{
    struct vsock_link *link = vsock_links_of(&vsock->links, answer->id);
    if (link == NULL || link->state != LINK_DIALING) {
        fd_close(&fd); /* the guest has given up meanwhile */
        return;
    }
    if (fd < 0 || answer->result < 0) {
        fd_close(&fd);
        vsock_device_reset_link(vsock, link);
        return;
    }
    if (vsock_link_take(&vsock->links, link, fd) < 0) {
        vsock_device_reset_link(vsock, link);
        return;
    }
    link->state = LINK_OPEN;
    link->to_send = SEND_RESPONSE;
    counter_add(&vsock->counters.opened, 1);
    vsock_device_watch(vsock, link);
}

void vsock_host_take_dialed(struct vsock *vsock)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct vsock_dial_answer answer;
    struct iovec piece = {&answer, sizeof(answer)};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    const ssize_t size =
        recvmsg(vsock->dialer, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    int fd = -1;
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    const struct cmsghdr *part = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (part != NULL && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS &&
        part->cmsg_len == CMSG_LEN(sizeof(int))) {
        memcpy(&fd, CMSG_DATA(part), sizeof(fd));
    }
    if (size == (ssize_t)sizeof(answer)) {
        answer_take(vsock, &answer, fd);
    } else {
        fd_close(&fd);
        dialer_forget(vsock); /* it has ended, or talks of something else */
    }
}
