#include "vmm/virtio_mem.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/require.h"
#include "vmm/rate_gate.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PCI_CLASS_MEMORY 0x050000u
#define QUEUES           1u
#define TELLINGS_PER_S   1u /* as of QEMU's event */

/* 5.15.4 */
struct mem_config {
    uint64_t block_size;
    uint16_t node_id;
    uint8_t padding[6];
    uint64_t addr;
    uint64_t region_size;
    uint64_t usable_region_size;
    uint64_t plugged_size;
    uint64_t requested_size;
};

struct mem {
    struct virtio_device device;
    unsigned region; /* of the memory */
    uint64_t block_bytes;
    uint64_t requested_bytes;
    struct counter answers[4];      /* by enum virtio_mem_answer_type */
    void (*resized)(void *context); /* NULL: nobody listens */
    void *resized_context;
    uint64_t told_bytes; /* plugged when it was called last */
    int changed_fd;      /* has the poller look whether it is to be called */
    int changed_watch;
    struct rate_gate telling;
};

static struct mem *mem_of(struct virtio_device *device)
{
    return (struct mem *)device;
}

static const struct guest_region *region_of(const struct mem *mem)
{
    return &mem->device.place.memory->regions[mem->region];
}

static uint64_t plugged_bytes(const struct mem *mem)
{
    return ram_plug_plugged(region_of(mem)->plug) * mem->block_bytes;
}

/* ---- who listens ---- */

/* Any thread may have served the request; it is told from the poller. */
static void changed(struct mem *mem)
{
    const uint64_t one = 1;
    (void)!write(mem->changed_fd, &one, sizeof(one)); /* it is full: it wakes anyway */
}

static void tell(struct mem *mem)
{
    virtio_device_enter(&mem->device);
    const uint64_t bytes = plugged_bytes(mem);
    const bool is_told = mem->resized != NULL && bytes != mem->told_bytes &&
                         rate_gate_pass(&mem->telling, 0);
    mem->told_bytes = is_told ? bytes : mem->told_bytes;
    virtio_device_leave(&mem->device);
    if (is_told) {
        mem->resized(mem->resized_context);
    }
}

static void on_changed(void *context, uint64_t token, unsigned events)
{
    struct mem *mem = context;
    uint64_t count;
    (void)token;
    (void)events;
    (void)!read(mem->changed_fd, &count, sizeof(count)); /* empty: nothing was asked */
    tell(mem);
}

static void on_telling_due(void *context, uint64_t token, unsigned events)
{
    struct mem *mem = context;
    (void)token;
    (void)events;
    rate_gate_due(&mem->telling);
    tell(mem);
}

/* ---- requests ---- */

/* The blocks that a request names; false when they are none of ours. */
static bool blocks_of(const struct mem *mem,
                      const struct virtio_mem_request *request,
                      uint32_t *ret_first)
{
    const struct guest_region *region = region_of(mem);
    const uint64_t offset = request->address - region->address;
    const uint64_t blocks = ram_plug_blocks(region->plug);
    if (request->address < region->address || offset % mem->block_bytes != 0 ||
        request->block_count == 0 || offset / mem->block_bytes >= blocks ||
        request->block_count > blocks - offset / mem->block_bytes) {
        return false;
    }
    *ret_first = (uint32_t)(offset / mem->block_bytes);
    return true;
}

/* How many of them are plugged. */
static uint32_t plugged_among(const struct mem *mem, uint32_t first, uint32_t count)
{
    uint32_t plugged = 0;
    for (uint32_t i = first; i < first + count; i++) {
        plugged += ram_plug_has(region_of(mem)->plug, i) ? 1 : 0;
    }
    return plugged;
}

static enum virtio_mem_answer_type
plug(struct mem *mem, const struct virtio_mem_request *request, uint16_t *ret_state)
{
    const uint32_t count = request->block_count;
    uint32_t first;
    (void)ret_state;
    if (!blocks_of(mem, request, &first) || plugged_among(mem, first, count) > 0) {
        return VIRTIO_MEM_ERROR;
    }
    if (plugged_bytes(mem) + count * mem->block_bytes > mem->requested_bytes) {
        return VIRTIO_MEM_NACK;
    }
    return guest_memory_plug(mem->device.place.memory, mem->region, first, count) < 0
               ? VIRTIO_MEM_BUSY
               : VIRTIO_MEM_ACK;
}

static enum virtio_mem_answer_type
unplug(struct mem *mem, const struct virtio_mem_request *request, uint16_t *ret_state)
{
    const uint32_t count = request->block_count;
    uint32_t first;
    (void)ret_state;
    if (!blocks_of(mem, request, &first) || plugged_among(mem, first, count) < count) {
        return VIRTIO_MEM_ERROR;
    }
    return guest_memory_unplug(mem->device.place.memory, mem->region, first, count) < 0
               ? VIRTIO_MEM_BUSY
               : VIRTIO_MEM_ACK;
}

static enum virtio_mem_answer_type
unplug_all(struct mem *mem, const struct virtio_mem_request *request, uint16_t *ret_state)
{
    (void)request;
    (void)ret_state;
    return guest_memory_unplug(mem->device.place.memory, mem->region, 0,
                               ram_plug_blocks(region_of(mem)->plug)) < 0
               ? VIRTIO_MEM_BUSY
               : VIRTIO_MEM_ACK;
}

static enum virtio_mem_answer_type
tell_state(struct mem *mem, const struct virtio_mem_request *request, uint16_t *ret_state)
{
    const uint32_t count = request->block_count;
    uint32_t first;
    if (!blocks_of(mem, request, &first)) {
        return VIRTIO_MEM_ERROR;
    }
    const uint32_t plugged = plugged_among(mem, first, count);
    *ret_state = plugged == count ? VIRTIO_MEM_PLUGGED
                 : plugged == 0   ? VIRTIO_MEM_UNPLUGGED
                                  : VIRTIO_MEM_MIXED;
    return VIRTIO_MEM_ACK;
}

static enum virtio_handled
serve(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    static enum virtio_mem_answer_type (*const handlers[])(
        struct mem * mem, const struct virtio_mem_request *request,
        uint16_t *ret_state) = {
        [VIRTIO_MEM_PLUG] = plug,
        [VIRTIO_MEM_UNPLUG] = unplug,
        [VIRTIO_MEM_UNPLUG_ALL] = unplug_all,
        [VIRTIO_MEM_STATE] = tell_state,
    };
    struct mem *mem = mem_of(device);
    struct virtio_mem_request request;
    struct virtio_mem_answer answer = {.type = VIRTIO_MEM_ERROR};
    if (virtio_chain_read(chain, device->place.memory, 0, &request, sizeof(request)) !=
        sizeof(request)) {
        virtio_device_fail(device, "a request for memory is cut short");
        virtio_device_give(device, queue, chain->head, 0);
        return VIRTIO_TAKEN;
    }
    if (request.type < ARRAY_COUNT(handlers) &&
        virtio_device_has(device, VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE)) {
        answer.type = (uint16_t)handlers[request.type](mem, &request, &answer.state);
        changed(mem);
    }
    counter_add(&mem->answers[answer.type], 1);
    /* One that has unplugged where the answer is to be gets none. */
    const size_t written = virtio_chain_write(chain, device->place.memory, 0, &answer,
                                              VIRTIO_MEM_ANSWER_BYTES);
    virtio_device_give(device, queue, chain->head, (uint32_t)written);
    return VIRTIO_TAKEN;
}

/* ---- the verbs ---- */

static int mem_init(struct virtio_device *device, struct err *err)
{
    struct mem *mem = mem_of(device);
    struct poller *poller = device->place.poller;
    mem->changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mem->changed_fd < 0) {
        return err_sys(err, -errno, "make an event");
    }
    mem->changed_watch =
        poller_add(poller, mem->changed_fd, POLLER_READABLE, on_changed, mem, 0);
    if (mem->changed_watch < 0) {
        return err_sys(err, mem->changed_watch, "watch an event");
    }
    const int r = rate_gate_init(&mem->telling, poller, on_telling_due, mem, 0);
    return r < 0 ? err_sys(err, r, "make a timer") : 0;
}

static void mem_notify(struct virtio_device *device, unsigned queue)
{
    virtio_device_serve(device, queue, serve);
}

/* A machine that begins anew has lost what it had. */
static void mem_start(struct virtio_device *device)
{
    changed(mem_of(device));
}

/* Which blocks are plugged is the memory's; here it is written for both. */
static void mem_save(struct virtio_device *device, struct bytes_writer *writer)
{
    const struct mem *mem = mem_of(device);
    const struct guest_region *region = region_of(mem);
    const uint32_t blocks = ram_plug_blocks(region->plug);
    bytes_write_u64(writer, region->address);
    bytes_write_u64(writer, region->size_bytes);
    bytes_write_u64(writer, mem->requested_bytes);
    for (uint32_t i = 0; i < blocks; i += 8) {
        uint8_t byte = 0;
        for (uint32_t bit = 0; bit < 8 && i + bit < blocks; bit++) {
            byte |= (uint8_t)(ram_plug_has(region->plug, i + bit) << bit);
        }
        bytes_write_u8(writer, byte);
    }
}

/* One run after the other, so that few mappings are made. */
static int blocks_restore(struct mem *mem, struct bytes_reader *reader)
{
    struct guest_memory *memory = mem->device.place.memory;
    const uint32_t blocks = ram_plug_blocks(region_of(mem)->plug);
    uint32_t first = 0; /* of the run */
    uint8_t byte = 0;
    int r = 0;
    for (uint32_t i = 0; i <= blocks; i++) {
        byte = i < blocks && i % 8 == 0 ? bytes_read_u8(reader) : byte;
        if (i < blocks && (byte >> i % 8 & 1) != 0) {
            continue;
        }
        if (r == 0 && i > first) {
            r = guest_memory_plug(memory, mem->region, first, i - first);
        }
        first = i + 1;
    }
    return r;
}

static int mem_restore(struct virtio_device *device,
                       uint16_t version,
                       struct bytes_reader *reader,
                       struct err *err)
{
    (void)version; /* there is one */
    struct mem *mem = mem_of(device);
    const struct guest_region *region = region_of(mem);
    const uint64_t address = bytes_read_u64(reader);
    const uint64_t size_bytes = bytes_read_u64(reader);
    const uint64_t requested = bytes_read_u64(reader);
    if (reader->error != 0) {
        return err_set(err, BERTH_ECORRUPT, "its sizes are cut short");
    }
    if (address != region->address || size_bytes != region->size_bytes) {
        return err_set(err, BERTH_EINVALID,
                       "the saved machine may have %" PRIu64
                       "MiB plugged and this one %" PRIu64 "MiB",
                       size_bytes >> 20, region->size_bytes >> 20);
    }
    if (requested > size_bytes || requested % mem->block_bytes != 0) {
        return err_set(err, BERTH_ECORRUPT, "its sizes do not fit together");
    }
    int r = guest_memory_unplug_all(device->place.memory);
    mem->requested_bytes = requested;
    r = r < 0 ? r : blocks_restore(mem, reader);
    if (reader->error != 0) {
        return err_set(err, BERTH_ECORRUPT, "its blocks are cut short");
    }
    mem->told_bytes = plugged_bytes(mem); /* whoever saved it knows */
    return r < 0 ? err_sys(err, r, "plug RAM") : 0;
}

static void mem_free(struct virtio_device *device)
{
    struct mem *mem = mem_of(device);
    if (mem->changed_watch >= 0) {
        poller_remove(device->place.poller, mem->changed_watch);
    }
    fd_close(&mem->changed_fd);
    rate_gate_fini(&mem->telling);
    free(mem);
}

static void mem_config_read(struct virtio_device *device,
                            uint64_t offset,
                            void *ret_data,
                            unsigned size)
{
    const struct mem *mem = mem_of(device);
    const struct guest_region *region = region_of(mem);
    const struct mem_config config = {.block_size = mem->block_bytes,
                                      .addr = region->address,
                                      .region_size = region->size_bytes,
                                      .usable_region_size = region->size_bytes,
                                      .plugged_size = plugged_bytes(mem),
                                      .requested_size = mem->requested_bytes};
    virtio_config_read(&config, sizeof(config), offset, ret_data, size);
}

static const struct counter_row mem_counters[] = {
    {"acknowledged_requests", offsetof(struct mem, answers[VIRTIO_MEM_ACK])},
    {"refused_requests", offsetof(struct mem, answers[VIRTIO_MEM_NACK])},
    {"busy_requests", offsetof(struct mem, answers[VIRTIO_MEM_BUSY])},
    {"invalid_requests", offsetof(struct mem, answers[VIRTIO_MEM_ERROR])},
};

static const struct virtio_ops mem_ops = {
    .kind = "virtio-mem",
    .type = VIRTIO_TYPE_MEM,
    .pci_class = PCI_CLASS_MEMORY,
    .counters = mem_counters,
    .counter_count = ARRAY_COUNT(mem_counters),
    .init = mem_init,
    .notify = mem_notify,
    .start = mem_start,
    .save = mem_save,
    .restore = mem_restore,
    .free = mem_free,
    .config_read = mem_config_read,
};

int virtio_mem_new(const struct virtio_place *place, struct virtio_device **ret_device)
{
    const struct rate_spec telling = {TELLINGS_PER_S, TELLINGS_PER_S};
    const struct rate_spec none = {0, 0};
    unsigned region = 0;
    while (region < place->memory->region_count &&
           place->memory->regions[region].plug == NULL) {
        region++;
    }
    if (region == place->memory->region_count) {
        return BERTH_EUNSUPPORTED;
    }
    struct mem *mem = calloc(1, sizeof(*mem));
    if (mem == NULL) {
        return -ENOMEM;
    }
    mem->region = region;
    mem->changed_fd = mem->changed_watch = -1;
    rate_gate_setup(&mem->telling, &telling, &none);
    mem->block_bytes = ram_plug_block_bytes(place->memory->regions[region].size_bytes);
    virtio_device_setup(&mem->device, &mem_ops, place,
                        VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE, QUEUES,
                        VIRTIO_QUEUE_SIZE_MAX);
    *ret_device = &mem->device;
    return 0;
}

int virtio_mem_want(struct virtio_device *device, uint64_t bytes, struct err *err)
{
    struct mem *mem = mem_of(device);
    REQUIRE(device->ops == &mem_ops);
    if (bytes % mem->block_bytes != 0 || bytes > region_of(mem)->size_bytes) {
        return err_set(err, BERTH_EINVALID,
                       "requested-size: not 0 to %" PRIu64 " bytes in steps of %" PRIu64,
                       region_of(mem)->size_bytes, mem->block_bytes);
    }
    virtio_device_enter(device);
    mem->requested_bytes = bytes;
    virtio_device_config_changed(device);
    virtio_device_leave(device);
    return 0;
}

void virtio_mem_state(struct virtio_device *device, struct virtio_mem_state *ret_state)
{
    const struct mem *mem = mem_of(device);
    REQUIRE(device->ops == &mem_ops);
    virtio_device_enter(device);
    *ret_state = (struct virtio_mem_state){.address = region_of(mem)->address,
                                           .max_bytes = region_of(mem)->size_bytes,
                                           .block_bytes = mem->block_bytes,
                                           .plugged_bytes = plugged_bytes(mem),
                                           .requested_bytes = mem->requested_bytes};
    virtio_device_leave(device);
}

void virtio_mem_listen(struct virtio_device *device,
                       void (*resized)(void *context),
                       void *context)
{
    struct mem *mem = mem_of(device);
    REQUIRE(device->ops == &mem_ops && !device->running);
    mem->resized = resized;
    mem->resized_context = context;
}
