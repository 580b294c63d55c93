/* Rows of two CPUs: what one has the device look at the other changes meanwhile. Nobody
 * waits for an answer then, for there may be none; what counts is that there is a monitor
 * afterwards, and that its devices work. */
#include "guest_cpu.h"
#include "guest_pci.h"
#include "guest_rows.h"
#include "guest_say.h"
#include "guest_virtio.h"

#define SECOND_AT      UINT64_C(0x8000)
#define SECOND_VECTOR  8u
#define LAPIC_SPURIOUS 0xf0u
#define LAPIC_COMMAND  0x300u
#define ROUNDS         200u
#define BLOCK_ROUNDS   100u
/* In what may become an address: a device that writes there spoils nothing of ours. */
#define NOT_OURS (UINT64_C(1) << 24)
#define DATA_AT  (SCRATCH_AT + 0xa0000)
#define TABLE_AT (SCRATCH_AT + 0xb0000)

extern const uint8_t second_start[];
extern const uint8_t second_end[];
void second_main(void) __attribute__((noreturn));

/* What the second CPU does again and again; NULL: nothing. */
static void (*volatile second_act)(uint32_t random);
static volatile bool second_is_idle;
static bool second_runs;

void second_main(void)
{
    uint32_t random = 1;
    for (;;) {
        void (*act)(uint32_t) = second_act;
        second_is_idle = act == NULL;
        random = random * 1664525 + 1013904223;
        if (act != NULL) {
            act(random >> 8);
        }
    }
}

static void second_wake(void)
{
    if (second_runs) {
        return;
    }
    for (uint64_t i = 0; i < (uint64_t)(second_end - second_start); i++) {
        memory_set(SECOND_AT + i, 1, second_start[i]);
    }
    memory_set(PCI_LAPIC_AT + LAPIC_SPURIOUS, 4, 0x1ff);
    memory_set(PCI_LAPIC_AT + LAPIC_COMMAND + 0x10, 4, 1u << 24);
    memory_set(PCI_LAPIC_AT + LAPIC_COMMAND, 4, 0x4500);
    memory_set(PCI_LAPIC_AT + LAPIC_COMMAND + 0x10, 4, 1u << 24);
    memory_set(PCI_LAPIC_AT + LAPIC_COMMAND, 4, 0x4600 | SECOND_VECTOR);
    while (!second_is_idle) {
    }
    second_runs = true;
}

static void second_begin(void (*act)(uint32_t random))
{
    second_wake();
    second_is_idle = false;
    second_act = act;
}

static void second_end_act(void)
{
    second_act = NULL;
    memory_fence();
    while (!second_is_idle) {
    }
}

/* The device that both are at. */
static struct virtio *shared;
static uint32_t shared_home;

/* One CPU asks for what is sound, without waiting. */
static void requests(unsigned rounds)
{
    struct vbuffer buffers[3];
    unsigned count;
    uint32_t size;
    for (unsigned round = 0; round < rounds; round++) {
        if (round % 16 == 0) {
            common_set(shared, COMMON_STATUS, 1, 0);
            virtio_negotiate(shared, 0);
            for (unsigned i = 0; i < shared->queue_count; i++) {
                vring_setup(shared, i, VRING_SIZE);
                common_set(shared, COMMON_QUEUE_ENABLE, 2, 1);
            }
            common_set(shared, COMMON_STATUS, 1,
                       STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK |
                           STATUS_DRIVER_OK);
        }
        const unsigned queue = virtio_sound(shared, buffers, &count);
        vring_post(&shared->rings[queue], buffers, count);
        vring_kick(shared, queue);
        (void)vring_used(&shared->rings[queue], &size);
    }
}

static const char *with_each_device(void (*act)(uint32_t random))
{
    for (unsigned i = 0; i < virtio_count; i++) {
        shared = &virtios[i];
        shared_home = pci_bar_get(shared->slot);
        virtio_drive(shared, 0);
        second_begin(act);
        requests(ROUNDS);
        second_end_act();
        pci_bar_set(shared->slot, shared_home);
        pci_command_set(shared->slot, PCI_ON);
        const char *why = virtio_serves(shared);
        if (why != NULL) {
            return why;
        }
    }
    return NULL;
}

/* Registers, a reset now and then. */
static void write_registers(uint32_t random)
{
    static const struct {
        enum virtio_common at;
        unsigned size;
    } writes[] = {
        {COMMON_STATUS, 1},       {COMMON_QUEUE_SELECT, 2},  {COMMON_QUEUE_SIZE, 2},
        {COMMON_QUEUE_ENABLE, 2}, {COMMON_QUEUE_DRIVER, 8},  {COMMON_QUEUE_DEVICE, 8},
        {COMMON_QUEUE_VECTOR, 2}, {COMMON_CONFIG_VECTOR, 2}, {COMMON_DRIVER_FEATURE, 4}};
    const unsigned i = random % ARRAY_COUNT(writes);
    common_set(shared, writes[i].at, writes[i].size,
               random % 3 == 0 ? 0 : (uint64_t)random * random | NOT_OURS);
    memory_set(shared->notify + 4 * (random % 8), 2, random % 8);
}

static const char *registers_while_it_works(void)
{
    return with_each_device(write_registers);
}

/* Where the device is; a BAR that is decoded or is not. */
static void move_bars(uint32_t random)
{
    static const uint32_t places[] = {0xd0000000, 0xe0000000, 0xdfff8000, 0xfee00000};
    const unsigned slot = shared->slot;
    if (random % 4 == 0) {
        pci_bar_set(slot, places[random / 4 % ARRAY_COUNT(places)]);
    }
    pci_command_set(slot, random % 8 == 1 ? 0 : PCI_ON);
    pci_bar_set(slot, shared_home);
    (void)memory_get(shared->common + random % 64, 4);
}

static const char *bars_while_it_works(void)
{
    return with_each_device(move_bars);
}

/* What is in the rings: descriptors, tables, indexes, heads, and the requests. */
static void write_rings(uint32_t random)
{
    const struct vring *ring = &shared->rings[random % 2];
    const unsigned index = random / 2 % VRING_SIZE;
    volatile struct vdescriptor *descriptor = &ring->descriptors[index];
    switch (random / 128 % 8) {
    case 0:
        descriptor->address = (uint64_t)random << (random % 40) | NOT_OURS;
        break;
    case 1:
        descriptor->size = random << (random % 9);
        break;
    case 2:
        descriptor->flags = (uint16_t)random;
        break;
    case 3:
        descriptor->next = (uint16_t)(random % (VRING_SIZE + 2));
        break;
    case 4:
        ring->available[2 + index] = (uint16_t)(random % (VRING_SIZE + 2));
        break;
    case 5:
        ring->available[1] = (uint16_t)(ring->available[1] + random % 3);
        break;
    case 6:
        memory_set(SCRATCH_AT + 0x10000 + random % 64, 1, random >> 4);
        break;
    default:
        descriptor->address = RAM_BYTES - random % 64;
        break;
    }
}

static const char *rings_while_it_works(void)
{
    return with_each_device(write_rings);
}

/* Blocks of memory, while a device writes there. */
static uint64_t plug_at;

static void plug_and_unplug(uint32_t random)
{
    struct virtio *device = virtio_find(VIRTIO_MEMORY);
    const struct vbuffer buffers[] = {{DATA_AT, 24, false}, {TABLE_AT, 16, true}};
    memory_set(DATA_AT, 8, random % 8 == 0 ? 2 : random % 2);
    memory_set(DATA_AT + 8, 8, plug_at);
    memory_set(DATA_AT + 16, 8, 1);
    vring_post(&device->rings[0], buffers, 2);
    vring_kick(device, 0);
    (void)vring_await(device, 0);
}

static const char *blocks_while_a_device_is_there(void)
{
    struct virtio *memory = virtio_find(VIRTIO_MEMORY);
    struct virtio *rng = virtio_find(VIRTIO_ENTROPY);
    virtio_drive(memory, 2);
    plug_at = memory_get(memory->config + 16, 8);
    (void)ask("plug");
    second_begin(plug_and_unplug);
    for (unsigned round = 0; round < BLOCK_ROUNDS; round++) {
        const struct vbuffer buffer = {plug_at + 0x1000 * (uint64_t)(round % 64), 4096,
                                       true};
        if (round == 0 || (virtio_status(rng) & STATUS_NEEDS_RESET) != 0) {
            virtio_drive(rng, 0);
        }
        vring_post(&rng->rings[0], &buffer, 1);
        vring_kick(rng, 0);
        (void)vring_await(rng, 0); /* it was there, or was not */
    }
    second_end_act();
    return virtio_all_serve();
}

const struct row_group rows_pair = {
    "pair",
    {{"registers", registers_while_it_works},
     {"bars", bars_while_it_works},
     {"rings", rings_while_it_works},
     {"blocks", blocks_while_a_device_is_there}},
};
