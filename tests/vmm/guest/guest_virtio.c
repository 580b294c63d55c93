#include "guest_virtio.h"

#include "guest_cpu.h"
#include "guest_pci.h"
#include "guest_say.h"

#define RINGS_AT        UINT64_C(0x400000)
#define RING_BYTES      UINT64_C(0x4000)
#define AVAILABLE_AT    0x1000u
#define USED_AT         0x2000u
#define CAPABILITIES_AT 0x34u
#define CAPABILITY_OURS 9u
#define STATUS_NOBODY   0xffu /* all ones: no device answers there */
#define VERSION_1       (UINT64_C(1) << 32)

enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_DEVICE = 4 };

struct virtio virtios[VIRTIOS_MAX];
unsigned virtio_count;

/* ---- registers ---- */

uint64_t common_get(const struct virtio *device, enum virtio_common at, unsigned size)
{
    return memory_get(device->common + at, size);
}

void common_set(const struct virtio *device,
                enum virtio_common at,
                unsigned size,
                uint64_t value)
{
    memory_set(device->common + at, size, value);
}

uint8_t virtio_status(const struct virtio *device)
{
    return (uint8_t)common_get(device, COMMON_STATUS, 1);
}

void virtio_place(struct virtio *device)
{
    const unsigned slot = device->slot;
    const uint64_t bar = pci_bar_get(slot);
    unsigned at = (unsigned)memory_get(pci_at(slot, CAPABILITIES_AT), 1);
    while (at != 0) {
        const uint32_t head = (uint32_t)memory_get(pci_at(slot, at), 4);
        const uint64_t place = bar + memory_get(pci_at(slot, at + 8), 4);
        if ((head & 0xff) == CAPABILITY_OURS) {
            switch (head >> 24) {
            case CAP_COMMON:
                device->common = place;
                break;
            case CAP_DEVICE:
                device->config = place;
                break;
            case CAP_NOTIFY:
                device->notify = place;
                device->notify_multiplier =
                    (uint32_t)memory_get(pci_at(slot, at + 16), 4);
                break;
            default:
                break;
            }
        }
        at = head >> 8 & 0xff;
    }
    for (unsigned i = 0; i < VRINGS_MAX; i++) {
        device->rings[i].doorbell =
            device->notify + (uint64_t)i * device->notify_multiplier;
    }
}

void virtio_scan(void)
{
    for (unsigned slot = 0; slot < PCI_SLOTS && virtio_count < VIRTIOS_MAX; slot++) {
        const unsigned type = pci_virtio_type(slot);
        if (type != 0) {
            struct virtio *device = &virtios[virtio_count++];
            device->slot = slot;
            device->type = type;
            virtio_place(device);
        }
    }
}

struct virtio *virtio_find(enum virtio_type type)
{
    for (unsigned i = 0; i < virtio_count; i++) {
        if (virtios[i].type == (unsigned)type) {
            return &virtios[i];
        }
    }
    return NULL;
}

const char *virtio_name(const struct virtio *device)
{
    switch (device->type) {
    case VIRTIO_NET:
        return "net";
    case VIRTIO_BLOCK:
        return "block";
    case VIRTIO_CONSOLE:
        return "console";
    case VIRTIO_ENTROPY:
        return "rng";
    case VIRTIO_BALLOON:
        return "balloon";
    case VIRTIO_VSOCK:
        return "vsock";
    case VIRTIO_MEMORY:
        return "mem";
    default:
        return "?";
    }
}

/* ---- to work ---- */

void virtio_reset(const struct virtio *device)
{
    uint8_t status;
    common_set(device, COMMON_STATUS, 1, 0);
    do {
        status = virtio_status(device);
    } while (status != 0 && status != STATUS_NOBODY);
}

void virtio_negotiate(struct virtio *device, uint64_t features)
{
    virtio_reset(device);
    common_set(device, COMMON_STATUS, 1, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    common_set(device, COMMON_DEVICE_SELECT, 4, 0);
    device->offered = common_get(device, COMMON_DEVICE_FEATURE, 4);
    common_set(device, COMMON_DEVICE_SELECT, 4, 1);
    device->offered |= common_get(device, COMMON_DEVICE_FEATURE, 4) << 32;
    features = (features | VERSION_1) & device->offered;
    common_set(device, COMMON_DRIVER_SELECT, 4, 0);
    common_set(device, COMMON_DRIVER_FEATURE, 4, (uint32_t)features);
    common_set(device, COMMON_DRIVER_SELECT, 4, 1);
    common_set(device, COMMON_DRIVER_FEATURE, 4, features >> 32);
    common_set(device, COMMON_STATUS, 1,
               STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    device->queue_count = (unsigned)common_get(device, COMMON_QUEUES, 2);
    if (device->queue_count > VRINGS_MAX) {
        device->queue_count = VRINGS_MAX;
    }
}

void vring_setup(struct virtio *device, unsigned queue, uint16_t size)
{
    struct vring *ring = &device->rings[queue];
    const uint64_t at =
        RINGS_AT + (device->slot * VRINGS_MAX + (uint64_t)queue) * RING_BYTES;
    ring->descriptors = (struct vdescriptor *)at;
    ring->available = (volatile uint16_t *)(at + AVAILABLE_AT);
    ring->used = (volatile uint8_t *)(at + USED_AT);
    ring->posted = ring->seen = ring->next = 0;
    memory_set(at + AVAILABLE_AT, 4, 0);
    memory_set(at + USED_AT, 4, 0);
    common_set(device, COMMON_QUEUE_SELECT, 2, queue);
    common_set(device, COMMON_QUEUE_SIZE, 2, size);
    common_set(device, COMMON_QUEUE_DESCRIPTORS, 8, at);
    common_set(device, COMMON_QUEUE_DRIVER, 8, at + AVAILABLE_AT);
    common_set(device, COMMON_QUEUE_DEVICE, 8, at + USED_AT);
}

void virtio_drive(struct virtio *device, uint64_t features)
{
    virtio_negotiate(device, features);
    for (unsigned i = 0; i < device->queue_count; i++) {
        vring_setup(device, i, VRING_SIZE);
        common_set(device, COMMON_QUEUE_ENABLE, 2, 1);
    }
    common_set(device, COMMON_STATUS, 1,
               STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK |
                   STATUS_DRIVER_OK);
}

/* ---- rings ---- */

void vring_descriptor(struct vring *ring, uint16_t index, const struct vdescriptor *is)
{
    ring->descriptors[index] = *is;
}

void vring_offer(struct vring *ring, uint16_t head)
{
    ring->available[2 + ring->posted % VRING_SIZE] = head;
    memory_fence();
    ring->posted++;
    ring->available[1] = ring->posted;
    memory_fence();
}

void vring_kick(const struct virtio *device, unsigned queue)
{
    memory_set(device->rings[queue].doorbell, 2, queue);
}

void vring_post(struct vring *ring, const struct vbuffer *buffers, unsigned count)
{
    const uint16_t head = ring->next;
    for (unsigned i = 0; i < count; i++) {
        const uint16_t index = ring->next;
        ring->next = (uint16_t)((index + 1) % VRING_SIZE);
        ring->descriptors[index] =
            (struct vdescriptor){buffers[i].address, buffers[i].size,
                                 (uint16_t)((buffers[i].writable ? VRING_WRITE : 0) |
                                            (i + 1 < count ? VRING_NEXT : 0)),
                                 ring->next};
    }
    vring_offer(ring, head);
}

bool vring_used(struct vring *ring, uint32_t *ret_size)
{
    const volatile uint16_t *index = (const volatile uint16_t *)(ring->used + 2);
    if (*index == ring->seen) {
        return false;
    }
    memory_fence();
    *ret_size =
        *(const volatile uint32_t *)(ring->used + 4 + 8 * (ring->seen % VRING_SIZE) + 4);
    ring->seen++;
    return true;
}

uint32_t vring_await(struct virtio *device, unsigned queue)
{
    struct vring *ring = &device->rings[queue];
    uint32_t size;
    while (!vring_used(ring, &size)) {
        if ((virtio_status(device) & STATUS_NEEDS_RESET) != 0) {
            return UINT32_MAX;
        }
    }
    return size;
}

/* ---- what shows that a device works ---- */

#define HEADER_AT (SCRATCH_AT + 0x10000)
#define ANSWER_AT (SCRATCH_AT + 0x11000)
#define DATA_AT   (SCRATCH_AT + 0x12000)

/* A request by type: the queue, what it reads (the head of it, the rest is zero), what it
 * may write, and how much of that it has to. */
struct sound {
    unsigned type;
    unsigned queue;
    uint32_t header_bytes;
    uint32_t data_bytes;
    uint32_t answer_bytes;
    uint32_t used_min;
    uint32_t header[12];
};

static const struct sound sounds[] = {
    {VIRTIO_NET, 1, 12 + 60, 0, 0, 0, {0}},
    {VIRTIO_BLOCK, 0, 16, 512, 1, 513, {0}},
    {VIRTIO_CONSOLE, 1, 5, 0, 0, 0, {0x65726568, 0x0a}},
    {VIRTIO_ENTROPY, 0, 0, 16, 0, 1, {0}},
    {VIRTIO_BALLOON, 0, 4, 0, 0, 0, {0x1000}},
    {VIRTIO_VSOCK, 1, 44, 0, 0, 0, {3, 0, 2, 0, 77, 78, 0, 0x30001, 0, 0, 0}},
    {VIRTIO_MEMORY, 0, 24, 0, 16, 10, {3, 0, 0, 1, 1, 0}},
};

static const struct sound *sound_of(const struct virtio *device)
{
    for (unsigned i = 0; i < ARRAY_COUNT(sounds); i++) {
        if (sounds[i].type == device->type) {
            return &sounds[i];
        }
    }
    return &sounds[0];
}

unsigned
virtio_sound(struct virtio *device, struct vbuffer ret_buffers[3], unsigned *ret_count)
{
    const struct sound *sound = sound_of(device);
    unsigned count = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(sound->header); i++) {
        memory_set(HEADER_AT + 4 * (uint64_t)i, 4, sound->header[i]);
    }
    if (sound->header_bytes > 0) {
        ret_buffers[count++] = (struct vbuffer){HEADER_AT, sound->header_bytes, false};
    }
    if (sound->data_bytes > 0) {
        ret_buffers[count++] = (struct vbuffer){DATA_AT, sound->data_bytes, true};
    }
    if (sound->answer_bytes > 0) {
        memory_set(ANSWER_AT, 8, 0xffff);
        ret_buffers[count++] = (struct vbuffer){ANSWER_AT, sound->answer_bytes, true};
    }
    *ret_count = count;
    return sound->queue;
}

const char *virtio_serves(struct virtio *device)
{
    const struct sound *sound = sound_of(device);
    struct vbuffer buffers[3];
    unsigned count;
    virtio_drive(device, 0);
    const unsigned queue = virtio_sound(device, buffers, &count);
    vring_post(&device->rings[queue], buffers, count);
    vring_kick(device, queue);
    const uint32_t size = vring_await(device, queue);
    if (size == UINT32_MAX || size < sound->used_min) {
        return wrong("a sound request was not served; written", size);
    }
    if (sound->answer_bytes > 0 && memory_get(ANSWER_AT, 1) != 0 &&
        device->type == VIRTIO_BLOCK) {
        return wrong("a sound read has the status", memory_get(ANSWER_AT, 1));
    }
    return NULL;
}

const char *virtio_all_serve(void)
{
    for (unsigned i = 0; i < virtio_count; i++) {
        const char *why = virtio_serves(&virtios[i]);
        if (why != NULL) {
            say(virtio_name(&virtios[i]));
            say("\n");
            return why;
        }
    }
    return NULL;
}

const char *virtio_disk_page(uint32_t type, uint64_t sector, uint64_t at)
{
    struct virtio *device = virtio_find(VIRTIO_BLOCK);
    const struct vbuffer buffers[] = {
        {HEADER_AT, 16, false}, {at, 4096, type == 0}, {ANSWER_AT, 1, true}};
    memory_set(HEADER_AT, 8, type);
    memory_set(HEADER_AT + 8, 8, sector);
    memory_set(ANSWER_AT, 1, 0xff);
    vring_post(&device->rings[0], buffers, 3);
    vring_kick(device, 0);
    if (vring_await(device, 0) == UINT32_MAX || memory_get(ANSWER_AT, 1) != 0) {
        return wrong("a disk request failed:", memory_get(ANSWER_AT, 1));
    }
    return NULL;
}
