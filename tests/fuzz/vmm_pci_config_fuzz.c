/* Configuration space of a bus with three functions, by ECAM and by ports, in accesses of
 * any width anywhere, between resets, saves and accesses to where the BARs are by then.
 * Whatever the guest writes: who a function is does not change, its capabilities end, and
 * no two things answer at one address. Steps of eight bytes: what, how wide, where
 * (four), two of a value. */
#include "base/bytes.h"
#include "base/require.h"
#include "vmm/machine_layout.h"
#include "vmm/pci_bus.h"
#include "vmm/virtio_random.h"

#include <string.h>

#define STEP_BYTES       8u
#define FUNCTIONS        3u
#define CAPABILITIES_MAX 48u
#define AT_CAPABILITIES  0x34u
#define AT_BAR           (0x10u + 4 * VIRTIO_PCI_BAR_INDEX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step {
    STEP_READ = 0,
    STEP_WRITE,
    STEP_PORT_ADDRESS,
    STEP_PORT_READ,
    STEP_PORT_WRITE,
    STEP_BAR_READ,
    STEP_BAR_WRITE,
    STEP_BAR_MOVE,
    STEP_RESET,
    STEP_SAVE,
    STEP_COUNT
};

struct board {
    struct io_bus bus;
    struct poller *poller;
    struct guest_memory memory;
    struct pci_bus *pci;
    struct virtio_pci *functions[FUNCTIONS];
};

static void range_add(struct board *board,
                      enum io_space space,
                      uint64_t start,
                      uint64_t size,
                      unsigned region)
{
    const struct io_range range = {.space = space,
                                   .start = start,
                                   .size = size,
                                   .device = &board->pci->device,
                                   .region = region};
    REQUIRE(io_bus_add(&board->bus, &range, NULL) == 0);
}

static void board_init(struct board *board)
{
    io_bus_init(&board->bus);
    guest_memory_init(&board->memory);
    REQUIRE(poller_new(&board->poller, NULL) == 0);
    REQUIRE(pci_bus_new(&board->bus, -1, board->poller, &board->pci) == 0);
    range_add(board, IO_MEMORY, ECAM_AT, ECAM_SIZE, PCI_BUS_ECAM);
    range_add(board, IO_PORTS, PCI_PORT, PCI_PORT_SIZE, PCI_BUS_PORTS);
    const struct virtio_place place = {&board->memory, board->poller};
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        struct virtio_device *random;
        char name[] = "rng0";
        name[3] = (char)('0' + i);
        REQUIRE(virtio_random_new(&place, &random) == 0);
        REQUIRE(virtio_pci_new(random, name, &board->functions[i]) == 0);
        REQUIRE(pci_bus_plug(board->pci, i + 1, board->functions[i], NULL) == 0);
        REQUIRE(device_init(&board->functions[i]->device, NULL) == 0);
    }
    pci_bus_place_all(board->pci);
}

static void board_fini(struct board *board)
{
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        device_free(&board->functions[i]->device);
    }
    device_free(&board->pci->device);
    poller_free(board->poller);
    guest_memory_fini(&board->memory);
    io_bus_fini(&board->bus);
}

static uint32_t config_get(struct board *board, unsigned device, unsigned offset)
{
    uint32_t value = 0;
    io_bus_read(&board->bus, IO_MEMORY, ECAM_AT + (device << 15 | offset), &value,
                sizeof(value));
    return value;
}

/* Each link leads on, inside the space. */
static void capabilities_check(struct board *board, unsigned device)
{
    unsigned count = 0;
    uint32_t at = config_get(board, device, AT_CAPABILITIES) & 0xff;
    while (at != 0) {
        REQUIRE(at >= 0x40 && at % 4 == 0 && ++count <= CAPABILITIES_MAX);
        at = config_get(board, device, at) >> 8 & 0xff;
    }
    REQUIRE(count == (device == 0 ? 0 : count) && (device == 0 || count > 0));
}

static void board_check(struct board *board)
{
    REQUIRE(config_get(board, 0, 0) == 0x00081b36);
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        const struct pci_slot *slot = &board->pci->slots[i + 1];
        REQUIRE(config_get(board, i + 1, 0) == 0x10441af4);
        REQUIRE((config_get(board, i + 1, AT_BAR) & (VIRTIO_PCI_BAR_BYTES - 1)) == 0);
        capabilities_check(board, i + 1);
        if (!slot->is_mapped) {
            continue;
        }
        REQUIRE(slot->mapped_at >= ECAM_AT + ECAM_SIZE ||
                slot->mapped_at + VIRTIO_PCI_BAR_BYTES <= ECAM_AT);
        for (unsigned other = 0; other < i; other++) {
            const struct pci_slot *with = &board->pci->slots[other + 1];
            REQUIRE(!with->is_mapped || with->mapped_at != slot->mapped_at);
        }
    }
}

static void save_step(struct board *board)
{
    struct device *devices[FUNCTIONS + 1] = {&board->pci->device};
    struct bytes_writer writer;
    struct bytes_reader reader;
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        devices[i + 1] = &board->functions[i]->device;
    }
    for (unsigned i = 0; i <= FUNCTIONS; i++) {
        bytes_writer_init(&writer, 1u << 16);
        device_save(devices[i], &writer);
        bytes_reader_init(&reader, writer.data, writer.size);
        REQUIRE(device_restore(devices[i], &reader, NULL) == 0);
        bytes_writer_fini(&writer);
    }
}

static void reset_step(struct board *board)
{
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        device_reset(&board->functions[i]->device);
    }
    device_reset(&board->pci->device);
    pci_bus_place_all(board->pci);
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        REQUIRE(board->pci->slots[i + 1].is_mapped);
    }
}

static void step_do(struct board *board, const uint8_t *step)
{
    struct virtio_pci *function = board->functions[step[2] % FUNCTIONS];
    const unsigned width = 1 + step[1] % DEVICE_ACCESS_MAX;
    uint8_t bytes[DEVICE_ACCESS_MAX];
    uint64_t bar = 0;
    uint32_t where;
    memcpy(&where, step + 2, sizeof(where));
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = step[6 + i % 2];
    }
    const uint64_t ecam = ECAM_AT + where % ECAM_SIZE;
    const bool has_bar =
        pci_function_bar(&function->function, VIRTIO_PCI_BAR_INDEX, &bar);
    switch (step[0] % STEP_COUNT) {
    case STEP_READ:
        io_bus_read(&board->bus, IO_MEMORY, ecam, bytes, width);
        break;
    case STEP_WRITE:
        io_bus_write(&board->bus, IO_MEMORY, ecam, bytes, width);
        break;
    case STEP_PORT_ADDRESS:
        io_bus_write(&board->bus, IO_PORTS, PCI_PORT, &where, sizeof(where));
        break;
    case STEP_PORT_READ:
        io_bus_read(&board->bus, IO_PORTS, PCI_PORT + where % 10, bytes, width);
        break;
    case STEP_PORT_WRITE:
        io_bus_write(&board->bus, IO_PORTS, PCI_PORT + where % 10, bytes, width);
        break;
    case STEP_BAR_READ:
        if (has_bar) {
            io_bus_read(&board->bus, IO_MEMORY, bar + where % VIRTIO_PCI_BAR_BYTES, bytes,
                        width);
        }
        break;
    case STEP_BAR_WRITE:
        if (has_bar) {
            io_bus_write(&board->bus, IO_MEMORY, bar + where % VIRTIO_PCI_BAR_BYTES,
                         bytes, width);
        }
        break;
    case STEP_BAR_MOVE:
        io_bus_write(&board->bus, IO_MEMORY,
                     ECAM_AT + ((1 + step[1] % FUNCTIONS) << 15 | AT_BAR), &where,
                     sizeof(where));
        break;
    case STEP_RESET:
        reset_step(board);
        break;
    case STEP_SAVE:
    default:
        save_step(board);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct board board = {.poller = NULL};
    board_init(&board);
    for (size_t at = 0; at + STEP_BYTES <= size; at += STEP_BYTES) {
        step_do(&board, data + at);
        board_check(&board);
    }
    board_fini(&board);
    return 0;
}
