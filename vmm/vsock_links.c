#include "vmm/vsock_links.h"

#include "base/fd.h"
#include "base/require.h"

void vsock_links_init(struct vsock_links *links,
                      struct poller *poller,
                      poller_callback *callback,
                      void *context)
{
    links->poller = poller;
    links->callback = callback;
    links->context = context;
    counter_set(&links->count, 0);
    links->end = 0;
    for (unsigned i = 0; i < VSOCK_LINKS_MAX; i++) {
        links->links[i] = (struct vsock_link){.fd = -1, .watch = -1};
    }
}

struct vsock_link *vsock_links_new(struct vsock_links *links, enum vsock_link_state state)
{
    for (unsigned i = 0; i < VSOCK_LINKS_MAX; i++) {
        struct vsock_link *link = &links->links[i];
        if (link->state == LINK_FREE) {
            *link = (struct vsock_link){.state = state,
                                        .generation = link->generation + 1,
                                        .fd = -1,
                                        .watch = -1};
            vsock_stream_init(&link->stream);
            counter_add(&links->count, 1);
            links->end = links->end > i ? links->end : i + 1;
            return link;
        }
    }
    return NULL;
}

struct vsock_link *
vsock_links_find(struct vsock_links *links, uint32_t host_port, uint32_t guest_port)
{
    for (unsigned i = 0; i < links->end; i++) {
        struct vsock_link *link = &links->links[i];
        if (link->state != LINK_FREE && link->state != LINK_GREETING &&
            link->host_port == host_port && link->guest_port == guest_port) {
            return link;
        }
    }
    return NULL;
}

uint64_t vsock_link_id(const struct vsock_links *links, const struct vsock_link *link)
{
    return (uint64_t)(link - links->links) | (uint64_t)link->generation << 32;
}

struct vsock_link *vsock_links_of(struct vsock_links *links, uint64_t id)
{
    const uint64_t index = id & UINT32_MAX;
    struct vsock_link *link = index < VSOCK_LINKS_MAX ? &links->links[index] : NULL;
    return link != NULL && link->state != LINK_FREE && vsock_link_id(links, link) == id
               ? link
               : NULL;
}

int vsock_link_take(struct vsock_links *links, struct vsock_link *link, int fd)
{
    link->fd = fd;
    link->watch = poller_add(links->poller, fd, 0, links->callback, links->context,
                             vsock_link_id(links, link));
    return link->watch < 0 ? link->watch : 0;
}

unsigned vsock_link_events(const struct vsock_link *link)
{
    unsigned events = 0;
    if (link->state == LINK_GREETING ||
        (link->state == LINK_REQUESTED && !link->host_hurries) ||
        (link->state == LINK_OPEN && !link->host_ended && !link->guest_is_deaf &&
         !link->has_no_credit && (link->to_send & SEND_BYTES) == 0)) {
        events |= POLLER_READABLE;
    }
    if ((link->state == LINK_OPEN || link->state == LINK_CLOSING) &&
        vsock_stream_waiting(&link->stream) > 0) {
        events |= POLLER_WRITABLE;
    }
    return events;
}

void vsock_link_watch(struct vsock_links *links,
                      const struct vsock_link *link,
                      bool is_active)
{
    if (link->watch >= 0) {
        poller_change(links->poller, link->watch,
                      is_active ? vsock_link_events(link) : 0);
    }
}

void vsock_link_close(struct vsock_links *links, struct vsock_link *link)
{
    if (link->watch >= 0) {
        poller_remove(links->poller, link->watch);
        link->watch = -1;
    }
    fd_close(&link->fd);
    vsock_stream_fini(&link->stream);
}

void vsock_link_free(struct vsock_links *links, struct vsock_link *link)
{
    REQUIRE(link->state != LINK_FREE && counter_read(&links->count) > 0);
    vsock_link_close(links, link);
    link->state = LINK_FREE;
    link->to_send = 0;
    counter_set(&links->count, counter_read(&links->count) - 1);
    while (links->end > 0 && links->links[links->end - 1].state == LINK_FREE) {
        links->end--;
    }
}
