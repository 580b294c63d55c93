#include "vmm/vhost_pair.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/require.h"

#include <errno.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Of what a driver accepts, this changes how rings and packets are to be read. */
#define RING_FEATURES  (VIRTIO_F_COMMON | MERGES_BUFFERS)
#define MERGES_BUFFERS (UINT64_C(1) << 15) /* VIRTIO_NET_F_MRG_RXBUF */
/* The kernel's headers give some names of features to their numbers. */
_Static_assert(RING_FEATURES == UINT64_C(0x130008000), "bits 15, 28, 29 and 32");

#define DESCRIPTOR_BYTES 16u
#define AVAILABLE_BYTES  2u
#define USED_BYTES       8u
#define RING_REST_BYTES  6u /* flags, index, and the other side's event */

static struct virtio_queue *queue_of(const struct vhost_pair *pair, unsigned ring)
{
    return &pair->device->queues[pair->first_queue + ring];
}

/* ---- from the kernel ---- */

/* False: nothing was in it. */
static bool drain(int fd)
{
    uint64_t count;
    return read(fd, &count, sizeof(count)) == sizeof(count);
}

static void interrupt(struct vhost_pair *pair, unsigned ring)
{
    counter_add(&pair->device->interrupts, 1);
    device_line_raise(&pair->device->queue_line, pair->first_queue + ring);
}

static void on_call(void *context, uint64_t ring, unsigned events)
{
    struct vhost_pair *pair = context;
    (void)events;
    virtio_device_enter(pair->device);
    (void)drain(pair->calls[ring]);
    if (pair->runs) {
        interrupt(pair, (unsigned)ring);
        vhost_pair_rewire(pair); /* it may have a route by now */
    }
    virtio_device_leave(pair->device);
}

static void on_fault(void *context, uint64_t token, unsigned events)
{
    struct vhost_pair *pair = context;
    (void)token;
    (void)events;
    virtio_device_enter(pair->device);
    if (drain(pair->fault) && pair->runs) {
        vhost_pair_stop(pair);
        virtio_device_fail(pair->device, "a ring that makes no sense to the kernel");
    }
    virtio_device_leave(pair->device);
}

/* ---- what the kernel is told ---- */

static int tell(const struct vhost_pair *pair, unsigned long request, const void *what)
{
    return ioctl(pair->fd, request, what) < 0 ? -errno : 0;
}

static int
tell_file(const struct vhost_pair *pair, unsigned long request, unsigned ring, int fd)
{
    const struct vhost_vring_file file = {.index = ring, .fd = fd};
    return tell(pair, request, &file);
}

static int memory_tell(const struct vhost_pair *pair)
{
    const struct guest_memory *memory = pair->device->place.memory;
    union {
        struct vhost_memory head;
        char room[sizeof(struct vhost_memory) +
                  GUEST_MEMORY_REGIONS_MAX * sizeof(struct vhost_memory_region)];
    } table = {.head = {.nregions = memory->region_count}};
    struct vhost_memory_region *regions = table.head.regions;
    for (unsigned i = 0; i < memory->region_count; i++) {
        regions[i] = (struct vhost_memory_region){
            .guest_phys_addr = memory->regions[i].address,
            .memory_size = memory->regions[i].size_bytes,
            .userspace_addr = (uint64_t)(uintptr_t)memory->regions[i].host};
    }
    return tell(pair, VHOST_SET_MEM_TABLE, &table);
}

/* Where an area is in this process; the kernel takes it as one piece. */
static int area_find(const struct vhost_pair *pair,
                     uint64_t address,
                     uint64_t size,
                     __u64 *ret_where)
{
    struct iovec piece;
    const int r =
        guest_memory_iovec(pair->device->place.memory, address, size, &piece, 1);
    if (r < 0) {
        return r;
    }
    *ret_where = (uint64_t)(uintptr_t)piece.iov_base;
    guest_memory_iovec_end(pair->device->place.memory, &piece, 1); /* none is plugged */
    return 0;
}

static int ring_tell(struct vhost_pair *pair, unsigned ring)
{
    const struct virtio_queue *queue = queue_of(pair, ring);
    const uint64_t size = queue->size;
    const struct vhost_vring_state count = {.index = ring, .num = queue->size};
    const struct vhost_vring_state next = {.index = ring, .num = queue->next_available};
    struct vhost_vring_addr address = {.index = ring};
    int r = area_find(pair, queue->descriptors, DESCRIPTOR_BYTES * size,
                      &address.desc_user_addr);
    r = r < 0
            ? r
            : area_find(pair, queue->available, RING_REST_BYTES + AVAILABLE_BYTES * size,
                        &address.avail_user_addr);
    r = r < 0 ? r
              : area_find(pair, queue->used, RING_REST_BYTES + USED_BYTES * size,
                          &address.used_user_addr);
    r = r < 0 ? r : tell(pair, VHOST_SET_VRING_NUM, &count);
    r = r < 0 ? r : tell(pair, VHOST_SET_VRING_BASE, &next);
    r = r < 0 ? r : tell(pair, VHOST_SET_VRING_ADDR, &address);
    return r < 0 ? r : tell_file(pair, VHOST_SET_VRING_ERR, ring, pair->fault);
}

/* ---- doorbells and interrupts ---- */

static void doorbell_take(struct vhost_pair *pair, unsigned ring)
{
    const struct virtio_wires *wires = &pair->device->wires;
    const int lent =
        wires->doorbell == NULL
            ? -1
            : wires->doorbell(wires->context, pair->first_queue + ring, true);
    pair->is_lent[ring] = lent >= 0;
    pair->kick_now[ring] = lent >= 0 ? lent : pair->kicks[ring];
}

static void doorbell_give(struct vhost_pair *pair, unsigned ring)
{
    const struct virtio_wires *wires = &pair->device->wires;
    if (pair->is_lent[ring]) {
        (void)wires->doorbell(wires->context, pair->first_queue + ring, false);
    }
    pair->is_lent[ring] = false;
    pair->kick_now[ring] = -1;
}

static int call_wanted(const struct vhost_pair *pair, unsigned ring)
{
    const struct virtio_wires *wires = &pair->device->wires;
    const int direct = wires->event == NULL
                           ? -1
                           : wires->event(wires->context, pair->first_queue + ring);
    return direct >= 0 ? direct : pair->calls[ring];
}

/* The kernel has the old one no more when this returns. */
static int call_tell(struct vhost_pair *pair, unsigned ring)
{
    const int wanted = call_wanted(pair, ring);
    if (wanted == pair->call_now[ring]) {
        return 0;
    }
    const int r = tell_file(pair, VHOST_SET_VRING_CALL, ring, wanted);
    pair->call_now[ring] = r < 0 ? pair->call_now[ring] : wanted;
    return r;
}

void vhost_pair_rewire(struct vhost_pair *pair)
{
    for (unsigned ring = 0; pair->runs && ring < VHOST_RINGS; ring++) {
        (void)call_tell(pair, ring); /* a descriptor that is open: cannot fail */
    }
}

void vhost_pair_kick(struct vhost_pair *pair, unsigned ring)
{
    const uint64_t one = 1;
    REQUIRE(pair->runs && ring < VHOST_RINGS);
    (void)!write(pair->kick_now[ring], &one, sizeof(one)); /* full: it rings anyway */
}

static void watch(struct vhost_pair *pair, bool on)
{
    for (unsigned ring = 0; ring < VHOST_RINGS; ring++) {
        poller_change(pair->device->place.poller, pair->call_watches[ring],
                      on ? POLLER_READABLE : 0);
    }
    poller_change(pair->device->place.poller, pair->fault_watch,
                  on ? POLLER_READABLE : 0);
}

/* ---- running ---- */

/* The kernel's table has regions, and does not ask what of them is plugged. */
static bool is_all_plugged(const struct guest_memory *memory)
{
    bool is_all = true;
    for (unsigned i = 0; is_all && i < memory->region_count; i++) {
        is_all = memory->regions[i].plug == NULL;
    }
    return is_all;
}

static bool is_possible(const struct vhost_pair *pair)
{
    struct guest_memory *memory = pair->device->place.memory;
    bool is_enabled = is_all_plugged(memory);
    for (unsigned ring = 0; ring < VHOST_RINGS; ring++) {
        is_enabled = is_enabled && queue_of(pair, ring)->enabled &&
                     queue_of(pair, ring)->fault == NULL;
    }
    return is_enabled && pair->fd >= 0 && !pair->is_refused &&
           !atomic_load(&memory->logging) && atomic_load(&memory->filler) == NULL;
}

/* Waits for what the kernel does; none of it can fail. What it found wrong is no word of
 * the rings that it is given next. */
static void backends_drop(struct vhost_pair *pair)
{
    for (unsigned ring = 0; ring < VHOST_RINGS; ring++) {
        (void)tell_file(pair, VHOST_NET_SET_BACKEND, ring, -1);
        (void)tell_file(pair, VHOST_SET_VRING_KICK, ring, -1);
    }
    (void)drain(pair->fault);
}

static int rings_start(struct vhost_pair *pair, int tap_fd)
{
    const uint64_t features = pair->device->features & RING_FEATURES;
    if ((features & ~pair->features) != 0) {
        return BERTH_EUNSUPPORTED;
    }
    int r = tell(pair, VHOST_SET_FEATURES, &features);
    r = r < 0 ? r : memory_tell(pair);
    for (unsigned ring = 0; r == 0 && ring < VHOST_RINGS; ring++) {
        pair->call_now[ring] = -1;
        r = ring_tell(pair, ring);
        r = r < 0 ? r : tell_file(pair, VHOST_SET_VRING_KICK, ring, pair->kick_now[ring]);
        r = r < 0 ? r : call_tell(pair, ring);
    }
    for (unsigned ring = 0; r == 0 && ring < VHOST_RINGS; ring++) {
        r = tell_file(pair, VHOST_NET_SET_BACKEND, ring, tap_fd);
    }
    return r;
}

/* Once: a guest may begin as often as it likes. */
static void refusal_tell(struct vhost_pair *pair, int code)
{
    if (!pair->refusal_told) {
        pair->refusal_told = true;
        log_info("vmm", "a pair of a NIC's queues is served without the kernel's help",
                 KV_U64("queue", pair->first_queue), KV_STR("why", err_sentence(code)));
    }
}

bool vhost_pair_start(struct vhost_pair *pair, int tap_fd)
{
    if (pair->runs || !is_possible(pair)) {
        return pair->runs;
    }
    for (unsigned ring = 0; ring < VHOST_RINGS; ring++) {
        doorbell_take(pair, ring);
    }
    const int r = rings_start(pair, tap_fd);
    if (r < 0) {
        refusal_tell(pair, r);
        backends_drop(pair);
        for (unsigned ring = 0; ring < VHOST_RINGS; ring++) {
            doorbell_give(pair, ring);
        }
        pair->is_refused = true;
        return false;
    }
    pair->runs = true;
    watch(pair, true);
    for (unsigned ring = 0; ring < VHOST_RINGS; ring++) {
        vhost_pair_kick(pair, ring); /* for what is in the ring already */
    }
    return true;
}

void vhost_pair_stop(struct vhost_pair *pair)
{
    if (!pair->runs) {
        return;
    }
    backends_drop(pair);
    pair->runs = false;
    watch(pair, false);
    for (unsigned ring = 0; ring < VHOST_RINGS; ring++) {
        struct vhost_vring_state state = {.index = ring};
        if (ioctl(pair->fd, VHOST_GET_VRING_BASE, &state) == 0) {
            virtio_queue_go_on(queue_of(pair, ring), (uint16_t)state.num);
        }
        doorbell_give(pair, ring);
        (void)drain(pair->calls[ring]);
        interrupt(pair, ring); /* one that nobody needs is better than one lost */
    }
}

void vhost_pair_reset(struct vhost_pair *pair)
{
    vhost_pair_stop(pair);
    pair->is_refused = false;
}

/* ---- life ---- */

void vhost_pair_setup(struct vhost_pair *pair,
                      struct virtio_device *device,
                      unsigned first_queue)
{
    *pair = (struct vhost_pair){.device = device,
                                .first_queue = first_queue,
                                .fd = -1,
                                .kicks = {-1, -1},
                                .calls = {-1, -1},
                                .call_watches = {-1, -1},
                                .kick_now = {-1, -1},
                                .call_now = {-1, -1},
                                .fault = -1,
                                .fault_watch = -1};
}

static int event_make(int *ret_fd)
{
    *ret_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return *ret_fd < 0 ? -errno : 0;
}

static int event_watch(struct vhost_pair *pair,
                       int fd,
                       poller_callback *callback,
                       uint64_t token,
                       int *ret_watch)
{
    *ret_watch = poller_add(pair->device->place.poller, fd, 0, callback, pair, token);
    return *ret_watch < 0 ? *ret_watch : 0;
}

int vhost_pair_init(struct vhost_pair *pair, int take_fd, struct err *err)
{
    pair->fd = take_fd;
    int r = tell(pair, VHOST_SET_OWNER, NULL);
    r = r < 0 ? r : tell(pair, VHOST_GET_FEATURES, &pair->features);
    r = r < 0 ? r : event_make(&pair->fault);
    r = r < 0 ? r : event_watch(pair, pair->fault, on_fault, 0, &pair->fault_watch);
    for (unsigned ring = 0; r == 0 && ring < VHOST_RINGS; ring++) {
        r = event_make(&pair->kicks[ring]);
        r = r < 0 ? r : event_make(&pair->calls[ring]);
        r = r < 0 ? r
                  : event_watch(pair, pair->calls[ring], on_call, ring,
                                &pair->call_watches[ring]);
    }
    if (r < 0) {
        vhost_pair_fini(pair);
        return err_sys(err, r, "have the kernel serve a network device");
    }
    return 0;
}

static void event_end(struct vhost_pair *pair, int *fd, int *watch_of)
{
    if (*watch_of >= 0) {
        poller_remove(pair->device->place.poller, *watch_of);
        *watch_of = -1;
    }
    fd_close(fd);
}

void vhost_pair_fini(struct vhost_pair *pair)
{
    vhost_pair_stop(pair);
    for (unsigned ring = 0; ring < VHOST_RINGS; ring++) {
        event_end(pair, &pair->calls[ring], &pair->call_watches[ring]);
        fd_close(&pair->kicks[ring]);
    }
    event_end(pair, &pair->fault, &pair->fault_watch);
    fd_close(&pair->fd);
}
