#include "vmm/virtio_random.h"

#include "base/cleanup.h"
#include "base/random.h"
#include "vmm/planted_fault.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#define PCI_CLASS_OTHER 0xff0000u

struct entropy {
    struct virtio_device device;
    struct counter requests;
    struct counter bytes;
};

static enum virtio_handled
fill(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    struct entropy *entropy = (struct entropy *)(void *)device;
    uint8_t bytes[VIRTIO_RANDOM_BYTES_MAX];
    const size_t wanted =
        chain->writable_bytes < sizeof(bytes) || PLANTED(PLANTED_RANDOM_UNCAPPED)
            ? (size_t)chain->writable_bytes
            : sizeof(bytes);
    random_secret(bytes, wanted);
    const size_t written =
        virtio_chain_write(chain, device->place.memory, 0, bytes, wanted);
    counter_add(&entropy->requests, 1);
    counter_add(&entropy->bytes, written);
    virtio_device_give(device, queue, chain->head, (uint32_t)written);
    return VIRTIO_TAKEN;
}

static void random_notify(struct virtio_device *device, unsigned queue)
{
    virtio_device_serve(device, queue, fill);
}

static void random_free(struct virtio_device *device)
{
    free(device);
}

static const struct counter_row random_counters[] = {
    {"requests", offsetof(struct entropy, requests)},
    {"bytes", offsetof(struct entropy, bytes)},
};

static const struct virtio_ops random_ops = {
    .kind = "virtio-random",
    .type = VIRTIO_TYPE_RANDOM,
    .pci_class = PCI_CLASS_OTHER,
    .counters = random_counters,
    .counter_count = ARRAY_COUNT(random_counters),
    .notify = random_notify,
    .free = random_free,
};

int virtio_random_new(const struct virtio_place *place, struct virtio_device **ret_device)
{
    struct entropy *entropy = calloc(1, sizeof(*entropy));
    if (entropy == NULL) {
        return -ENOMEM;
    }
    virtio_device_setup(&entropy->device, &random_ops, place, 0, 1,
                        VIRTIO_QUEUE_SIZE_MAX);
    *ret_device = &entropy->device;
    return 0;
}
