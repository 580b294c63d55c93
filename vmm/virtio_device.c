#include "vmm/virtio_device.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/require.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STATUS_KNOWN                                                              \
    (VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK | VIRTIO_FEATURES_OK | \
     VIRTIO_FAILED)

void virtio_device_setup(struct virtio_device *device,
                         const struct virtio_ops *ops,
                         const struct virtio_place *place,
                         uint64_t features,
                         unsigned queue_count,
                         uint16_t queue_size_max)
{
    REQUIRE(queue_count <= VIRTIO_QUEUES_MAX);
    REQUIRE(queue_size_max <= VIRTIO_QUEUE_SIZE_MAX);
    memset(device, 0, sizeof(*device));
    device->ops = ops;
    device->name = ops->kind;
    device->place = *place;
    device->features_offered = features | VIRTIO_F_COMMON;
    device->queue_count = queue_count;
    device->again_fd = -1;
    device->again_watch = -1;
    for (unsigned i = 0; i < queue_count; i++) {
        device->queues[i].size_max = queue_size_max;
        virtio_queue_reset(&device->queues[i]);
    }
}

/* ---- for types ---- */

void virtio_device_enter(struct virtio_device *device)
{
    pthread_mutex_lock(device->lock);
}

void virtio_device_leave(struct virtio_device *device)
{
    pthread_mutex_unlock(device->lock);
}

static bool driver_ready(const struct virtio_device *device)
{
    return (device->status & (VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET)) ==
               VIRTIO_DRIVER_OK &&
           !device->resetting;
}

bool virtio_device_active(const struct virtio_device *device)
{
    return device->running && driver_ready(device);
}

bool virtio_device_has(const struct virtio_device *device, uint64_t feature)
{
    return (device->features & feature) == feature;
}

int virtio_device_next(struct virtio_device *device,
                       unsigned queue,
                       struct virtio_chain *ret_chain)
{
    REQUIRE(queue < device->queue_count);
    if (!virtio_device_active(device)) {
        return 0;
    }
    const int r =
        virtio_queue_next(&device->queues[queue], device->place.memory, ret_chain);
    if (r < 0) {
        virtio_device_fail(device, device->queues[queue].fault);
        return 0;
    }
    return r;
}

void virtio_device_give(struct virtio_device *device,
                        unsigned queue,
                        uint16_t head,
                        uint32_t written_bytes)
{
    REQUIRE(queue < device->queue_count);
    virtio_queue_give(&device->queues[queue], device->place.memory, head, written_bytes);
    if (device->queues[queue].fault != NULL) {
        virtio_device_fail(device, device->queues[queue].fault);
    }
}

void virtio_device_signal(struct virtio_device *device, unsigned queue)
{
    REQUIRE(queue < device->queue_count);
    if (driver_ready(device) &&
        virtio_queue_must_signal(&device->queues[queue], device->place.memory)) {
        counter_add(&device->interrupts, 1);
        device_line_raise(&device->queue_line, queue);
    }
}

void virtio_device_serve(struct virtio_device *device,
                         unsigned queue,
                         enum virtio_handled (*handle)(struct virtio_device *device,
                                                       unsigned queue,
                                                       struct virtio_chain *chain))
{
    struct virtio_queue *ring = &device->queues[queue];
    struct virtio_chain chain;
    unsigned budget = VIRTIO_SERVE_MAX;
    bool more = true;
    virtio_queue_disarm(ring, device->place.memory);
    while (more && budget > 0) {
        if (virtio_device_next(device, queue, &chain) == 0) {
            more = virtio_device_active(device) &&
                   virtio_queue_arm(ring, device->place.memory);
            budget--; /* an index that moves all the time is work too */
            continue;
        }
        const enum virtio_handled done = handle(device, queue, &chain);
        if (done == VIRTIO_WAIT) {
            virtio_queue_unget(ring, chain.head);
            more = false;
        } else {
            budget = done == VIRTIO_ENOUGH ? 0 : budget - 1;
        }
    }
    virtio_device_signal(device, queue);
    if (more) {
        virtio_device_again(device, queue);
    }
}

void virtio_device_again(struct virtio_device *device, unsigned queue)
{
    const uint64_t one = 1;
    REQUIRE(queue < device->queue_count);
    device->again_queues |= UINT32_C(1) << queue;
    (void)!write(device->again_fd, &one, sizeof(one)); /* it is full: it wakes anyway */
}

static void on_again(void *context, uint64_t token, unsigned events)
{
    struct virtio_device *device = context;
    uint64_t count;
    (void)token;
    (void)events;
    virtio_device_enter(device);
    (void)!read(device->again_fd, &count, sizeof(count)); /* empty: nothing was asked */
    const uint32_t queues = device->again_queues;
    device->again_queues = 0;
    for (unsigned i = 0; i < device->queue_count; i++) {
        if (queues & (UINT32_C(1) << i)) {
            virtio_device_notify(device, i);
        }
    }
    virtio_device_leave(device);
}

void virtio_device_config_changed(struct virtio_device *device)
{
    device->config_generation++;
    if ((device->status & VIRTIO_DRIVER_OK) && !device->resetting) {
        counter_add(&device->interrupts, 1);
        device_line_raise(&device->config_line, 0);
    }
}

void virtio_device_fail(struct virtio_device *device, const char *fault)
{
    if (device->status & VIRTIO_NEEDS_RESET) {
        return;
    }
    device->status |= VIRTIO_NEEDS_RESET;
    counter_add(&device->faults, 1);
    if (counter_read(&device->faults) <= VIRTIO_FAULTS_LOGGED) {
        log_warn("vmm", "a device is out of service until its driver resets it",
                 KV_STR("device", device->name), KV_STR("fault", fault));
    }
    if (device->ops->failed != NULL) {
        device->ops->failed(device);
    }
    if ((device->status & VIRTIO_DRIVER_OK) && !device->resetting) { /* 2.1.2 */
        device_line_raise(&device->config_line, 0);
    }
}

void virtio_config_read(const void *config,
                        size_t config_size,
                        uint64_t offset,
                        void *ret_data,
                        unsigned size)
{
    memset(ret_data, 0, size);
    if (offset < config_size) {
        const size_t left = config_size - (size_t)offset;
        memcpy(ret_data, (const uint8_t *)config + offset, size < left ? size : left);
    }
}

/* ---- the machine's verbs ---- */

int virtio_device_init(struct virtio_device *device, struct err *err)
{
    device->again_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (device->again_fd < 0) {
        return err_sys(err, -errno, "make an event");
    }
    device->again_watch = poller_add(device->place.poller, device->again_fd,
                                     POLLER_READABLE, on_again, device, 0);
    if (device->again_watch < 0) {
        return err_sys(err, device->again_watch, "watch an event");
    }
    return device->ops->init != NULL ? device->ops->init(device, err) : 0;
}

void virtio_device_reset(struct virtio_device *device)
{
    if (device->ops->reset != NULL) {
        device->ops->reset(device);
    }
    virtio_device_reset_end(device);
}

void virtio_device_reset_end(struct virtio_device *device)
{
    device->resetting = false;
    virtio_device_stop_end(device); /* nothing is in flight */
    device->status = 0;
    device->features = 0;
    device->again_queues = 0;
    for (unsigned i = 0; i < device->queue_count; i++) {
        virtio_queue_reset(&device->queues[i]);
    }
    device_line_raise(&device->reset_line, 0);
}

void virtio_device_start(struct virtio_device *device)
{
    device->running = true;
    device->stopping = false;
    if (device->ops->start != NULL) {
        device->ops->start(device);
    }
    for (unsigned i = 0; i < device->queue_count; i++) {
        virtio_device_notify(device, i);
    }
}

void virtio_device_stop(struct virtio_device *device)
{
    if ((device->running || device->stopping) && device->ops->stop != NULL) {
        device->ops->stop(device);
    }
    device->running = device->stopping = false;
}

bool virtio_device_stop_begin(struct virtio_device *device)
{
    if (device->ops->stop_begin == NULL) {
        virtio_device_stop(device);
    } else if (device->running) {
        device->stopping = device->ops->stop_begin(device);
        device->running = false;
    }
    return device->stopping;
}

void virtio_device_stop_end(struct virtio_device *device)
{
    if (device->stopping) {
        device->stopping = false;
        device_line_raise(&device->stop_line, 0);
    }
}

int virtio_device_may_save(struct virtio_device *device, struct err *err)
{
    REQUIRE(!device->running);
    return device->ops->may_save != NULL ? device->ops->may_save(device, err) : 0;
}

int virtio_device_sync(struct virtio_device *device, struct err *err)
{
    REQUIRE(!device->running);
    return device->ops->sync != NULL ? device->ops->sync(device, err) : 0;
}

bool virtio_device_sync_last(struct virtio_device *device,
                             const struct virtio_synced *synced)
{
    REQUIRE(!device->running);
    return device->ops->sync_last != NULL && device->ops->sync_last(device, synced);
}

void virtio_device_save(struct virtio_device *device, struct bytes_writer *writer)
{
    REQUIRE(!device->running && !device->resetting);
    bytes_write_u64(writer, device->features_offered);
    bytes_write_u64(writer, device->features);
    bytes_write_u8(writer, device->status);
    bytes_write_u32(writer, device->config_generation);
    bytes_write_u32(writer, device->queue_count);
    for (unsigned i = 0; i < device->queue_count; i++) {
        virtio_queue_save(&device->queues[i], writer);
    }
    if (device->ops->save != NULL) {
        device->ops->save(device, writer);
    }
}

/* What a status that was reached by the rules can look like. */
static bool status_sound(uint8_t status)
{
    return (status & ~(STATUS_KNOWN | VIRTIO_NEEDS_RESET)) == 0 &&
           (!(status & VIRTIO_DRIVER_OK) || (status & VIRTIO_FEATURES_OK));
}

int virtio_device_restore(struct virtio_device *device,
                          uint16_t version,
                          struct bytes_reader *reader,
                          struct err *err)
{
    REQUIRE(!device->running);
    const uint64_t offered = bytes_read_u64(reader);
    const uint64_t features = bytes_read_u64(reader);
    const uint8_t status = bytes_read_u8(reader);
    const uint32_t generation = bytes_read_u32(reader);
    const uint32_t queue_count = bytes_read_u32(reader);
    if (reader->error != 0 || !status_sound(status) || !(offered & VIRTIO_F_MODERN)) {
        return err_set(err, BERTH_ECORRUPT, "the common state makes no sense");
    }
    if (queue_count != device->queue_count) {
        return err_set(err, BERTH_EINVALID,
                       "the saved device has %" PRIu32 " queues and this one %u",
                       queue_count, device->queue_count);
    }
    if ((status & VIRTIO_FEATURES_OK) != 0 &&
        (features & ~(device->features_offered & offered)) != 0) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "the guest uses features that this device does not offer");
    }
    device->features_offered &= offered; /* what the driver has seen stays what it is */
    device->features = features;
    device->status = status;
    device->config_generation = generation;
    for (unsigned i = 0; i < device->queue_count; i++) {
        struct virtio_queue *queue = &device->queues[i];
        if (virtio_queue_restore(queue, device->place.memory, reader) < 0) {
            return err_set(err, BERTH_ECORRUPT, "the state of queue %u makes no sense",
                           i);
        }
    }
    return device->ops->restore != NULL
               ? device->ops->restore(device, version, reader, err)
               : 0;
}

void virtio_device_free(struct virtio_device *device)
{
    if (device == NULL) {
        return;
    }
    if (device->again_watch >= 0) {
        poller_remove(device->place.poller, device->again_watch);
    }
    fd_close(&device->again_fd);
    device->ops->free(device);
}

/* ---- the driver's registers ---- */

/* 3.1.1, step 6: what the driver accepted must be offered and include the one feature
 * that nobody can do without (6.1: VERSION_1). */
static bool features_sound(const struct virtio_device *device)
{
    return (device->features & ~device->features_offered) == 0 &&
           virtio_device_has(device, VIRTIO_F_MODERN);
}

static void queues_take_features(struct virtio_device *device)
{
    for (unsigned i = 0; i < device->queue_count; i++) {
        device->queues[i].event_index = virtio_device_has(device, VIRTIO_F_EVENT_IDX);
        device->queues[i].indirect = virtio_device_has(device, VIRTIO_F_INDIRECT_DESC);
    }
}

void virtio_device_write_status(struct virtio_device *device, uint8_t status)
{
    if (device->resetting) {
        return;
    }
    if (status == 0) {
        device->resetting =
            device->ops->reset_begin != NULL && device->ops->reset_begin(device);
        if (!device->resetting) {
            virtio_device_reset(device);
        }
        return;
    }
    const uint8_t known = status & STATUS_KNOWN;
    uint8_t added = known & (uint8_t)~device->status;
    if ((device->status & STATUS_KNOWN & (uint8_t)~known) != 0) {
        return; /* 2.1.1: the driver must not clear a bit */
    }
    if ((added & VIRTIO_FEATURES_OK) != 0) {
        if (!features_sound(device)) {
            added &= (uint8_t) ~(VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
        } else {
            queues_take_features(device);
        }
    }
    if (!((device->status | added) & VIRTIO_FEATURES_OK)) {
        added &= (uint8_t)~VIRTIO_DRIVER_OK;
    }
    device->status |= added;
    if ((added & VIRTIO_DRIVER_OK) != 0 && driver_ready(device)) {
        if (device->ops->activate != NULL) {
            device->ops->activate(device);
        }
        for (unsigned i = 0; i < device->queue_count; i++) {
            virtio_device_notify(device, i); /* filled before DRIVER_OK: allowed, 3.1.1 */
        }
    }
}

void virtio_device_write_features(struct virtio_device *device,
                                  uint32_t word,
                                  uint32_t bits)
{
    if ((device->status & VIRTIO_FEATURES_OK) || !(device->status & VIRTIO_DRIVER) ||
        device->resetting || word > 1) {
        return;
    }
    const unsigned shift = word * 32;
    device->features &= ~(UINT64_C(0xffffffff) << shift);
    device->features |= (uint64_t)bits << shift;
}

struct virtio_queue *virtio_device_queue_open(struct virtio_device *device,
                                              unsigned queue)
{
    const uint8_t mask = VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET;
    if (queue >= device->queue_count || device->queues[queue].enabled ||
        device->resetting || (device->status & mask) != VIRTIO_FEATURES_OK) {
        return NULL;
    }
    return &device->queues[queue];
}

void virtio_device_queue_enable(struct virtio_device *device, unsigned queue)
{
    struct virtio_queue *open = virtio_device_queue_open(device, queue);
    if (open == NULL) {
        return;
    }
    if (virtio_queue_check(open, device->place.memory) < 0) {
        virtio_device_fail(device, "a queue of a wrong size, or outside RAM");
        return;
    }
    open->enabled = true;
}

void virtio_device_notify(struct virtio_device *device, unsigned queue)
{
    counter_add(&device->notifications, 1);
    if (queue < device->queue_count && virtio_device_active(device) &&
        device->queues[queue].enabled && device->ops->notify != NULL) {
        device->ops->notify(device, queue);
    }
}
