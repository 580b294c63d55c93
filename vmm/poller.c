#include "vmm/poller.h"

#include "base/fd.h"
#include "base/require.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_PER_STEP 64
#define WAKE_KEY        UINT64_MAX /* of the descriptor that poller_end writes */

/* One watch; its generation tells a late event of an earlier owner from one of its own.
 */
struct slot {
    bool used;
    uint32_t generation;
    int fd;
    unsigned events;
    poller_callback *callback;
    void *context;
    uint64_t token;
};

struct poller {
    int epoll_fd;
    int wake_fd;
    atomic_bool ended;
    pthread_mutex_t lock; /* guards the slots */
    struct slot slots[POLLER_WATCHES_MAX];
    unsigned slot_hint; /* where the search for a free one begins */
};

/* It tells of a hang-up in any case. */
static uint32_t epoll_mask(unsigned events)
{
    return ((events & POLLER_READABLE) ? (uint32_t)EPOLLIN : 0) |
           ((events & POLLER_WRITABLE) ? (uint32_t)EPOLLOUT : 0);
}

static uint64_t key_of(const struct poller *poller, unsigned index)
{
    return (uint64_t)poller->slots[index].generation << 32 | index;
}

/* Tells epoll what the slot waits for now. A slot that waits for nothing is not there at
 * all: epoll would report its errors for ever. */
static int slot_arm(struct poller *poller, unsigned index, unsigned before)
{
    const struct slot *slot = &poller->slots[index];
    struct epoll_event event = {.events = epoll_mask(slot->events),
                                .data.u64 = key_of(poller, index)};
    const int operation = slot->events == 0 ? EPOLL_CTL_DEL
                          : before == 0     ? EPOLL_CTL_ADD
                                            : EPOLL_CTL_MOD;
    if (slot->events == before) {
        return 0;
    }
    return epoll_ctl(poller->epoll_fd, operation, slot->fd, &event) < 0 ? -errno : 0;
}

int poller_new(struct poller **ret_poller, struct err *err)
{
    struct epoll_event wake = {.events = EPOLLIN, .data.u64 = WAKE_KEY};
    struct poller *poller = calloc(1, sizeof(*poller));
    if (poller == NULL) {
        return err_sys(err, -ENOMEM, "make a poller");
    }
    poller->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    poller->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (poller->epoll_fd < 0 || poller->wake_fd < 0 ||
        epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, poller->wake_fd, &wake) < 0) {
        const int r = -errno;
        fd_close(&poller->epoll_fd);
        fd_close(&poller->wake_fd);
        free(poller);
        return err_sys(err, r, "make a poller");
    }
    pthread_mutex_init(&poller->lock, NULL); /* cannot fail without attributes */
    *ret_poller = poller;
    return 0;
}

void poller_free(struct poller *poller)
{
    if (poller == NULL) {
        return;
    }
    fd_close(&poller->epoll_fd);
    fd_close(&poller->wake_fd);
    pthread_mutex_destroy(&poller->lock);
    free(poller);
}

static int slot_take(struct poller *poller)
{
    for (unsigned i = 0; i < POLLER_WATCHES_MAX; i++) {
        const unsigned index = (poller->slot_hint + i) % POLLER_WATCHES_MAX;
        if (!poller->slots[index].used) {
            poller->slot_hint = index + 1;
            return (int)index;
        }
    }
    return BERTH_EFULL;
}

int poller_add(struct poller *poller,
               int fd,
               unsigned events,
               poller_callback *callback,
               void *context,
               uint64_t token)
{
    pthread_mutex_lock(&poller->lock);
    int index = slot_take(poller);
    if (index >= 0) {
        struct slot *slot = &poller->slots[index];
        const uint32_t generation = slot->generation + 1;
        *slot = (struct slot){.used = true,
                              .generation = generation,
                              .fd = fd,
                              .events = events,
                              .callback = callback,
                              .context = context,
                              .token = token};
        const int r = slot_arm(poller, (unsigned)index, 0);
        if (r < 0) {
            slot->used = false;
            index = r;
        }
    }
    pthread_mutex_unlock(&poller->lock);
    return index;
}

void poller_change(struct poller *poller, int watch, unsigned events)
{
    REQUIRE(watch >= 0 && watch < (int)POLLER_WATCHES_MAX);
    pthread_mutex_lock(&poller->lock);
    struct slot *slot = &poller->slots[watch];
    REQUIRE(slot->used);
    const unsigned before = slot->events;
    slot->events = events;
    (void)slot_arm(poller, (unsigned)watch, before); /* the descriptor was fine before */
    pthread_mutex_unlock(&poller->lock);
}

void poller_remove(struct poller *poller, int watch)
{
    REQUIRE(watch >= 0 && watch < (int)POLLER_WATCHES_MAX);
    pthread_mutex_lock(&poller->lock);
    struct slot *slot = &poller->slots[watch];
    REQUIRE(slot->used);
    const unsigned before = slot->events;
    slot->events = 0;
    (void)slot_arm(poller, (unsigned)watch, before); /* taking out cannot fail */
    slot->used = false;
    pthread_mutex_unlock(&poller->lock);
}

/* Fires one event unless its watch is gone or waits for something else by now. */
static bool fire(struct poller *poller, const struct epoll_event *event)
{
    const unsigned index = (uint32_t)event->data.u64;
    REQUIRE(index < POLLER_WATCHES_MAX);
    pthread_mutex_lock(&poller->lock);
    const struct slot slot = poller->slots[index];
    pthread_mutex_unlock(&poller->lock);
    unsigned events = 0;
    if (event->events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
        events |= POLLER_READABLE;
    }
    if (event->events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        events |= POLLER_WRITABLE;
    }
    if (event->events & (EPOLLERR | EPOLLHUP)) {
        events |= POLLER_HUNG_UP;
    }
    events &= slot.events;
    if (!slot.used || slot.generation != (uint32_t)(event->data.u64 >> 32) ||
        events == 0) {
        return false;
    }
    slot.callback(slot.context, slot.token, events);
    return true;
}

int poller_step(struct poller *poller, int timeout_ms)
{
    struct epoll_event events[EVENTS_PER_STEP];
    int fired = 0;
    int count;
    do { /* a ring's work is done on this thread, and interrupts it without a signal */
        count = epoll_wait(poller->epoll_fd, events, EVENTS_PER_STEP, timeout_ms);
    } while (count < 0 && errno == EINTR);
    if (count < 0) {
        return -errno;
    }
    for (int i = 0; i < count; i++) {
        if (events[i].data.u64 != WAKE_KEY && fire(poller, &events[i])) {
            fired++;
        }
    }
    return fired;
}

bool poller_is_ready(struct poller *poller, int watch)
{
    struct epoll_event events[EVENTS_PER_STEP];
    REQUIRE(watch >= 0 && watch < (int)POLLER_WATCHES_MAX);
    const int count = epoll_wait(poller->epoll_fd, events, EVENTS_PER_STEP, 0);
    for (int i = 0; i < count; i++) {
        if (events[i].data.u64 == key_of(poller, (unsigned)watch)) {
            return true;
        }
    }
    return false;
}

int poller_run(struct poller *poller)
{
    int r = 0;
    while (r >= 0 && !atomic_load(&poller->ended)) {
        r = poller_step(poller, -1);
    }
    return r < 0 ? r : 0;
}

void poller_end(struct poller *poller)
{
    const uint64_t one = 1;
    atomic_store(&poller->ended, true);
    (void)!write(poller->wake_fd, &one, sizeof(one)); /* it is full: it wakes anyway */
}
