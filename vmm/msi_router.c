#include "vmm/msi_router.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "vmm/kvm_calls.h"
#include "vmm/machine_layout.h"
#include "vmm/rate_limit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PIC_LINES 16u
#define PIC_PINS  8u
#define LINES     (PIC_LINES + IOAPIC_LINES) /* routes of KVM's own controllers */
#define FIRST_GSI 32u                        /* behind the I/O APIC's */

struct vector {
    int fd;                      /* an eventfd; -1: there is no such vector */
    struct msix_message message; /* the last one; of its device's lock */
    unsigned same_count;         /* the same: how often in a row, up to MSI_SETTLED */
    atomic_bool is_routed;       /* written under the router's lock */
};

struct msi_router {
    int vm_fd;
    const struct clock *clock;
    pthread_mutex_t lock;
    bool is_held;             /* guarded by lock */
    struct rate_limit routes; /* guarded by lock */
    unsigned count;           /* up to the last that there has been */
    struct vector vectors[MSI_VECTORS_MAX];
    int route_at[MSI_VECTORS_MAX]; /* in the table; -1: none yet */
    struct kvm_irq_routing *table; /* owned; guarded by lock: as KVM takes it */
};

static void line_add(struct msi_router *router, uint32_t gsi, uint32_t chip, uint32_t pin)
{
    router->table->entries[router->table->nr++] = (struct kvm_irq_routing_entry){
        .gsi = gsi,
        .type = KVM_IRQ_ROUTING_IRQCHIP,
        .u.irqchip = {.irqchip = chip, .pin = pin},
    };
}

/* KVM knows one table: what it had by itself is to stay. */
static void lines_add(struct msi_router *router)
{
    for (uint32_t gsi = 0; gsi < PIC_LINES; gsi++) {
        line_add(router, gsi,
                 gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
                 gsi % PIC_PINS);
    }
    for (uint32_t gsi = 0; gsi < IOAPIC_LINES; gsi++) {
        line_add(router, gsi, KVM_IRQCHIP_IOAPIC, gsi);
    }
}

int msi_router_new(int vm_fd, const struct clock *clock, struct msi_router **ret_router)
{
    const struct rate_spec routes = {MSI_ROUTES_PER_S, MSI_ROUTES_BURST};
    const struct rate_spec none = {0, 0};
    struct msi_router *router = calloc(1, sizeof(*router));
    if (router == NULL) {
        return -ENOMEM;
    }
    router->table =
        calloc(1, sizeof(*router->table) +
                      (LINES + MSI_VECTORS_MAX) * sizeof(router->table->entries[0]));
    if (router->table == NULL) {
        free(router);
        return -ENOMEM;
    }
    router->vm_fd = vm_fd;
    router->clock = clock;
    router->is_held = true;
    (void)pthread_mutex_init(&router->lock, NULL); /* cannot fail without attributes */
    rate_limit_init(&router->routes, &routes, &none, clock_now_ns(clock));
    lines_add(router);
    *ret_router = router;
    return 0;
}

struct msi_router *msi_router_free(struct msi_router *router)
{
    if (router == NULL) {
        return NULL;
    }
    for (unsigned i = 0; i < router->count; i++) {
        fd_close(&router->vectors[i].fd);
    }
    (void)pthread_mutex_destroy(&router->lock);
    free(router->table);
    free(router);
    return NULL;
}

/* ---- routes, under the lock */

static int irqfd_set(struct msi_router *router, unsigned vector, uint32_t flags)
{
    const struct kvm_irqfd irqfd = {.fd = (uint32_t)router->vectors[vector].fd,
                                    .gsi = FIRST_GSI + vector,
                                    .flags = flags};
    return kvm_call(router->vm_fd, KVM_IRQFD, &irqfd, "connect an interrupt", NULL);
}

static bool is_same(const struct msix_message *a, const struct msix_message *b)
{
    return a->address == b->address && a->data == b->data;
}

static bool entry_says(const struct kvm_irq_routing_entry *entry,
                       const struct msix_message *message)
{
    const struct msix_message routed = {
        .address = entry->u.msi.address_lo | (uint64_t)entry->u.msi.address_hi << 32,
        .data = entry->u.msi.data};
    return is_same(&routed, message);
}

/* False when KVM does not take it: the table is as it was. */
static bool
table_set(struct msi_router *router, unsigned vector, const struct msix_message *message)
{
    const int had = router->route_at[vector];
    const unsigned at = had < 0 ? router->table->nr : (unsigned)had;
    const struct kvm_irq_routing_entry before = router->table->entries[at];
    router->table->entries[at] = (struct kvm_irq_routing_entry){
        .gsi = FIRST_GSI + vector,
        .type = KVM_IRQ_ROUTING_MSI,
        .u.msi = {.address_lo = (uint32_t)message->address,
                  .address_hi = (uint32_t)(message->address >> 32),
                  .data = message->data},
    };
    router->table->nr += had < 0;
    if (kvm_call(router->vm_fd, KVM_SET_GSI_ROUTING, router->table, "route interrupts",
                 NULL) < 0) {
        router->table->entries[at] = before;
        router->table->nr -= had < 0;
        return false;
    }
    router->route_at[vector] = (int)at;
    return true;
}

static void
route_make(struct msi_router *router, unsigned vector, const struct msix_message *message)
{
    const int at = router->route_at[vector];
    if (router->is_held ||
        rate_limit_take(&router->routes, 0, clock_now_ns(router->clock)) != 0) {
        return;
    }
    if ((at < 0 || !entry_says(&router->table->entries[at], message)) &&
        !table_set(router, vector, message)) {
        return;
    }
    atomic_store(&router->vectors[vector].is_routed, irqfd_set(router, vector, 0) >= 0);
}

/* Waits for what is on its way, too. */
static void route_drop(struct msi_router *router, unsigned vector)
{
    atomic_store(&router->vectors[vector].is_routed, false);
    router->vectors[vector].same_count = 0;
    (void)irqfd_set(router, vector,
                    KVM_IRQFD_FLAG_DEASSIGN); /* it is there: we made it */
}

/* ---- vectors */

/* The first of so many in a row that are free, or MSI_VECTORS_MAX. */
static unsigned room_find(const struct msi_router *router, unsigned count)
{
    unsigned free_count = 0;
    for (unsigned i = 0; i < MSI_VECTORS_MAX; i++) {
        const bool is_free = i >= router->count || router->vectors[i].fd < 0;
        free_count = is_free ? free_count + 1 : 0;
        if (free_count == count) {
            return i + 1 - count;
        }
    }
    return MSI_VECTORS_MAX;
}

/* A route that an earlier vector had stays in the table, for this one to change. */
static int vector_make(struct msi_router *router, unsigned number)
{
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const int made = fd < 0 ? -errno : 0;
    pthread_mutex_lock(&router->lock);
    router->vectors[number] = (struct vector){.fd = fd};
    if (number >= router->count) {
        router->route_at[number] = -1;
        router->count = number + 1;
    }
    pthread_mutex_unlock(&router->lock);
    return made;
}

int msi_router_add(struct msi_router *router, unsigned count, struct err *err)
{
    const unsigned first = room_find(router, count);
    if (first == MSI_VECTORS_MAX) {
        return err_set(err, BERTH_EFULL, "MSI: more than %u vectors", MSI_VECTORS_MAX);
    }
    for (unsigned i = first; i < first + count; i++) {
        const int r = vector_make(router, i);
        if (r < 0) {
            msi_router_drop(router, first, i - first);
            return err_sys(err, r, "make an interrupt");
        }
    }
    return (int)first;
}

void msi_router_drop(struct msi_router *router, unsigned first, unsigned count)
{
    pthread_mutex_lock(&router->lock);
    for (unsigned i = first; i < first + count; i++) {
        if (atomic_load(&router->vectors[i].is_routed)) {
            route_drop(router, i);
        }
        fd_close(&router->vectors[i].fd);
    }
    pthread_mutex_unlock(&router->lock);
}

/* ---- messages */

static void
settle(struct msi_router *router, unsigned number, const struct msix_message *message)
{
    struct vector *vector = &router->vectors[number];
    const bool is_new = !is_same(&vector->message, message);
    vector->message = *message;
    vector->same_count = is_new ? 1 : vector->same_count + 1;
    if (atomic_load(&vector->is_routed) ? !is_new : vector->same_count < MSI_SETTLED) {
        return;
    }
    pthread_mutex_lock(&router->lock);
    if (atomic_load(&vector->is_routed)) {
        route_drop(router, number);
        vector->same_count = 1;
    } else {
        vector->same_count = 0; /* when it may not have one: later again */
        route_make(router, number, message);
    }
    pthread_mutex_unlock(&router->lock);
}

void msi_router_send(struct msi_router *router,
                     unsigned vector,
                     const struct msix_message *message)
{
    const uint64_t one = 1;
    settle(router, vector, message);
    if (atomic_load(&router->vectors[vector].is_routed) &&
        write(router->vectors[vector].fd, &one, sizeof(one)) == sizeof(one)) {
        return;
    }
    const struct kvm_msi msi = {.address_lo = (uint32_t)message->address,
                                .address_hi = (uint32_t)(message->address >> 32),
                                .data = message->data};
    /* A message that reaches no CPU is what the guest asked for. */
    (void)kvm_call(router->vm_fd, KVM_SIGNAL_MSI, &msi, "deliver a message", NULL);
}

int msi_router_event(const struct msi_router *router,
                     unsigned vector,
                     const struct msix_message *message)
{
    const struct vector *of = &router->vectors[vector];
    return atomic_load(&of->is_routed) && is_same(&of->message, message) ? of->fd : -1;
}

void msi_router_hold(struct msi_router *router)
{
    pthread_mutex_lock(&router->lock);
    router->is_held = true;
    for (unsigned i = 0; i < router->count; i++) {
        if (atomic_load(&router->vectors[i].is_routed)) {
            route_drop(router, i);
        }
    }
    pthread_mutex_unlock(&router->lock);
}

void msi_router_go(struct msi_router *router)
{
    pthread_mutex_lock(&router->lock);
    router->is_held = false;
    pthread_mutex_unlock(&router->lock);
}
