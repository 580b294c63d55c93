#include "vmm/virtio_balloon.h"

#include "base/cleanup.h"
#include "base/require.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PCI_CLASS_MEMORY 0x050000u
#define PAGE             VIRTIO_BALLOON_PAGE_BYTES
#define QUEUES           4u

/* 5.5.4 */
struct balloon_config {
    uint32_t num_pages;
    uint32_t actual;
    uint32_t free_page_hint_cmd_id;
    uint32_t poison_val;
};
#define ACTUAL_AT 4u

/* 5.5.6.3: a statistic on the wire. */
#define STATISTIC_BYTES 10u

struct balloon {
    struct virtio_device device;
    struct balloon_config config;
    struct virtio_balloon_state state;
    struct counter inflates; /* requests of each kind */
    struct counter deflates;
    struct counter reports;
    struct counter statistics;
    struct counter released_bytes;
    unsigned released_runs; /* in this turn, each a call of the kernel's */
    bool statistics_held;   /* the guest's buffer waits until somebody asks */
    uint16_t statistics_head;
};

static struct balloon *balloon_of(struct virtio_device *device)
{
    return (struct balloon *)device;
}

/* The kernel takes some microseconds to take a page back, and a guest may name every
 * second one, thousands at a time: other devices have a turn in between. */
#define RUNS_PER_TURN 256

static enum virtio_handled taken(const struct balloon *balloon)
{
    return balloon->released_runs < RUNS_PER_TURN ? VIRTIO_TAKEN : VIRTIO_ENOUGH;
}

/* Gives the whole pages of a range back to the host. */
static void release(struct balloon *balloon, uint64_t address, uint64_t size)
{
    const uint64_t first = (address + PAGE - 1) / PAGE * PAGE;
    const uint64_t end = (address + size) / PAGE * PAGE;
    balloon->released_runs++;
    if (first >= address && first < end &&
        guest_memory_release(balloon->device.place.memory, first, end - first) == 0) {
        counter_add(&balloon->released_bytes, end - first);
    }
}

/* ---- requests ---- */

/* 5.5.6: an array of page numbers. Those next to each other are released together. */
static enum virtio_handled
inflate(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    uint32_t pages[VIRTIO_BALLOON_PAGES_MAX];
    const size_t size =
        virtio_chain_read(chain, device->place.memory, 0, pages, sizeof(pages));
    const size_t count = size / sizeof(pages[0]);
    counter_add(&balloon_of(device)->inflates, 1);
    for (size_t i = 0; i < count;) {
        size_t run = 1;
        while (i + run < count && pages[i + run] == (uint64_t)pages[i] + run) {
            run++;
        }
        release(balloon_of(device), (uint64_t)pages[i] * PAGE, (uint64_t)run * PAGE);
        i += run;
    }
    virtio_device_give(device, queue, chain->head, 0);
    return taken(balloon_of(device));
}

/* A page that comes back needs nothing: it is there when it is touched. */
static enum virtio_handled
deflate(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    counter_add(&balloon_of(device)->deflates, 1);
    virtio_device_give(device, queue, chain->head, 0);
    return VIRTIO_TAKEN;
}

/* 5.5.6.5: the buffers themselves are what is free. */
static enum virtio_handled
report(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    counter_add(&balloon_of(device)->reports, 1);
    for (unsigned i = 0; i < chain->writable_count; i++) {
        const struct virtio_buffer *buffer = &chain->buffers[chain->readable_count + i];
        release(balloon_of(device), buffer->address, buffer->size_bytes);
    }
    virtio_device_give(device, queue, chain->head, 0);
    return taken(balloon_of(device));
}

/* Hands the guest its buffer: it fills it again (5.5.6.3). */
static void statistics_return(struct balloon *balloon)
{
    if (balloon->statistics_held) {
        balloon->statistics_held = false;
        virtio_device_give(&balloon->device, 2, balloon->statistics_head, 0);
        virtio_device_signal(&balloon->device, 2);
    }
}

/* Reads the statistics and keeps the buffer. */
static enum virtio_handled
statistics(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    struct balloon *balloon = balloon_of(device);
    uint8_t bytes[VIRTIO_BALLOON_STATISTICS_MAX * STATISTIC_BYTES];
    const size_t size =
        virtio_chain_read(chain, device->place.memory, 0, bytes, sizeof(bytes));
    for (size_t at = 0; at + STATISTIC_BYTES <= size; at += STATISTIC_BYTES) {
        uint16_t tag;
        memcpy(&tag, bytes + at, sizeof(tag));
        if (tag < VIRTIO_BALLOON_STATISTIC_COUNT) {
            memcpy(&balloon->state.statistics[tag], bytes + at + sizeof(tag),
                   sizeof(uint64_t));
        }
    }
    counter_add(&balloon->statistics, 1);
    if (balloon->statistics_held) { /* one is enough */
        virtio_device_give(device, queue, chain->head, 0);
        return VIRTIO_TAKEN;
    }
    balloon->statistics_held = true;
    balloon->statistics_head = chain->head;
    return VIRTIO_TAKEN;
}

typedef enum virtio_handled
handler(struct virtio_device *device, unsigned queue, struct virtio_chain *chain);

/* 5.5.2: queues are numbered without those whose feature was not negotiated. */
static handler *handler_of(const struct virtio_device *device, unsigned queue)
{
    const bool with_statistics = virtio_device_has(device, VIRTIO_BALLOON_F_STATS_VQ);
    const bool with_reports = virtio_device_has(device, VIRTIO_BALLOON_F_REPORTING);
    const unsigned reports_at = with_statistics ? 3 : 2;
    if (queue == 2 && with_statistics) {
        return statistics;
    }
    if (queue == reports_at && with_reports) {
        return report;
    }
    return queue == 0 ? inflate : queue == 1 ? deflate : NULL;
}

/* ---- the verbs ---- */

static void balloon_notify(struct virtio_device *device, unsigned queue)
{
    handler *handle = handler_of(device, queue);
    balloon_of(device)->released_runs = 0;
    if (handle != NULL) {
        virtio_device_serve(device, queue, handle);
    }
}

static void balloon_reset(struct virtio_device *device)
{
    struct balloon *balloon = balloon_of(device);
    balloon->statistics_held = false;
    balloon->config.actual = 0;
}

/* Nothing may be in flight in a saved machine; the guest fills its buffer again. */
static void balloon_stop(struct virtio_device *device)
{
    statistics_return(balloon_of(device));
}

static void balloon_save(struct virtio_device *device, struct bytes_writer *writer)
{
    const struct balloon *balloon = balloon_of(device);
    bytes_write_u32(writer, balloon->config.num_pages);
    bytes_write_u32(writer, balloon->config.actual);
}

static int balloon_restore(struct virtio_device *device,
                           uint16_t version,
                           struct bytes_reader *reader,
                           struct err *err)
{
    (void)version; /* the same in both */
    struct balloon *balloon = balloon_of(device);
    balloon->config.num_pages = bytes_read_u32(reader);
    balloon->config.actual = bytes_read_u32(reader);
    return reader->error != 0 ? err_set(err, BERTH_ECORRUPT, "its sizes are cut short")
                              : 0;
}

static void balloon_free(struct virtio_device *device)
{
    free(device);
}

static void balloon_config_read(struct virtio_device *device,
                                uint64_t offset,
                                void *ret_data,
                                unsigned size)
{
    virtio_config_read(&balloon_of(device)->config, sizeof(struct balloon_config), offset,
                       ret_data, size);
}

/* The driver says how much it has given; nothing else is its to write. */
static void balloon_config_write(struct virtio_device *device,
                                 uint64_t offset,
                                 const void *data,
                                 unsigned size)
{
    if (offset == ACTUAL_AT && size == sizeof(uint32_t)) {
        memcpy(&balloon_of(device)->config.actual, data, size);
    }
}

static const struct counter_row balloon_counters[] = {
    {"inflate_requests", offsetof(struct balloon, inflates)},
    {"deflate_requests", offsetof(struct balloon, deflates)},
    {"report_requests", offsetof(struct balloon, reports)},
    {"statistics_requests", offsetof(struct balloon, statistics)},
    {"released_bytes", offsetof(struct balloon, released_bytes)},
};

static const struct virtio_ops balloon_ops = {
    .kind = "virtio-balloon",
    .type = VIRTIO_TYPE_BALLOON,
    .pci_class = PCI_CLASS_MEMORY,
    .counters = balloon_counters,
    .counter_count = ARRAY_COUNT(balloon_counters),
    .notify = balloon_notify,
    .reset = balloon_reset,
    .stop = balloon_stop,
    .save = balloon_save,
    .restore = balloon_restore,
    .free = balloon_free,
    .config_read = balloon_config_read,
    .config_write = balloon_config_write,
};

int virtio_balloon_new(const struct virtio_place *place,
                       struct virtio_device **ret_device)
{
    struct balloon *balloon = calloc(1, sizeof(*balloon));
    if (balloon == NULL) {
        return -ENOMEM;
    }
    const uint64_t reports =
        guest_memory_can_release(place->memory) ? VIRTIO_BALLOON_F_REPORTING : 0;
    virtio_device_setup(&balloon->device, &balloon_ops, place,
                        VIRTIO_BALLOON_F_STATS_VQ | VIRTIO_BALLOON_F_DEFLATE_ON_OOM |
                            reports,
                        QUEUES, VIRTIO_QUEUE_SIZE_MAX);
    *ret_device = &balloon->device;
    return 0;
}

void virtio_balloon_target(struct virtio_device *device, uint64_t bytes)
{
    const uint64_t pages = bytes / PAGE;
    REQUIRE(device->ops == &balloon_ops && pages <= UINT32_MAX);
    virtio_device_enter(device);
    balloon_of(device)->config.num_pages = (uint32_t)pages;
    virtio_device_config_changed(device);
    virtio_device_leave(device);
}

void virtio_balloon_ask(struct virtio_device *device)
{
    REQUIRE(device->ops == &balloon_ops);
    virtio_device_enter(device);
    statistics_return(balloon_of(device));
    virtio_device_leave(device);
}

void virtio_balloon_state(struct virtio_device *device,
                          struct virtio_balloon_state *ret_state)
{
    REQUIRE(device->ops == &balloon_ops);
    virtio_device_enter(device);
    *ret_state = balloon_of(device)->state;
    ret_state->released_bytes = counter_read(&balloon_of(device)->released_bytes);
    ret_state->statistics_count = counter_read(&balloon_of(device)->statistics);
    ret_state->target_bytes = (uint64_t)balloon_of(device)->config.num_pages * PAGE;
    ret_state->actual_bytes = (uint64_t)balloon_of(device)->config.actual * PAGE;
    virtio_device_leave(device);
}
